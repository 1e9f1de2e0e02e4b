"""The structural causal model: fit, sample, abduct, act, predict; and its questions."""

from causalcxr.scm.prediction import Noise
from causalcxr.scm.scm import SCM

__all__ = ["SCM", "Noise"]
