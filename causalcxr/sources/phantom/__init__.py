"""The phantom cohort: three-dimensional thoraces whose variables, noise and true counterfactuals are known.

This first thorax shows sex, age, view, cardiomegaly, an enlarged mediastinum, pleural effusion, support devices and the
exposure of the data set. The other findings are variables of the population and do not reach the picture yet.
"""

from causalcxr.sources.phantom.cohort import PhantomImages, load, recognises, truth

__all__ = ["PhantomImages", "load", "recognises", "truth"]
