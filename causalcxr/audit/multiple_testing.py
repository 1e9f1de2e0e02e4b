"""Multiple testing: p-values adjusted for the number of tests in a family."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import false_discovery_control

from causalcxr.common.errors import CausalCXRError

__all__ = ["Family", "benjamini_hochberg", "holm"]


@dataclass(frozen=True, eq=False)
class Family:
    """Hold the adjusted p-values of a family.

    Args:
        adjusted: In the order given, shape (n,); NaN where the test was undefined.
        size: How many tests the family has: the defined ones.
        method: "Holm" or "Benjamini-Hochberg".
    """

    adjusted: np.ndarray
    size: int
    method: str

    def rejected(self, level: float = 0.05) -> np.ndarray:
        """Return which hypotheses are rejected, shape (n,); undefined ones never are."""
        return self.adjusted <= level


def holm(p: np.ndarray | Sequence[float]) -> Family:
    r"""Adjust by Holm's steps: the probability of any false rejection is at most the level.

    $\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) p_{(j)})$.

    References:
        A simple sequentially rejective multiple test procedure (Holm, 1979).

    Args:
        p: p-values, shape (n,); NaN stays NaN and is not counted.

    Raises:
        CausalCXRError: If a p-value lies outside [0, 1].

    Example:
        >>> holm([0.01, np.nan, 0.04]).adjusted.tolist()
        [0.02, nan, 0.04]
    """
    return _family(p, _holm_steps, "Holm")


def benjamini_hochberg(p: np.ndarray | Sequence[float]) -> Family:
    r"""Adjust by Benjamini-Hochberg: the expected share of false rejections is at most the level.

    $\tilde p_{(i)} = \min_{j \ge i} \min(1, m p_{(j)} / j)$.

    References:
        Controlling the false discovery rate (Benjamini & Hochberg, 1995).

    Example:
        >>> benjamini_hochberg([0.01, np.nan, 0.04]).adjusted.tolist()
        [0.02, nan, 0.04]
    """
    return _family(p, false_discovery_control, "Benjamini-Hochberg")


def _holm_steps(p: np.ndarray) -> np.ndarray:
    order = np.argsort(p, kind="stable")
    # A hypothesis is never adjusted below one with a smaller p.
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty(len(p))
    # Back in the order given.
    adjusted[order] = np.minimum(steps, 1)
    return adjusted


def _family(
    p: np.ndarray | Sequence[float], adjust: Callable[[np.ndarray], np.ndarray], method: str
) -> Family:
    """Return the family of the defined p-values, adjusted."""
    p = np.asarray(p, dtype=float)
    defined = ~np.isnan(p)
    outside = defined & ~((p >= 0) & (p <= 1))
    if outside.any():
        row = int(outside.argmax())
        raise CausalCXRError(f"p-values: number {row} is {p[row]:g}, not in [0, 1]; correct it")
    adjusted = np.full(p.shape, np.nan)
    # Undefined p-values keep NaN and do not count in the size of the family.
    if defined.any():
        adjusted[defined] = adjust(p[defined])
    return Family(adjusted, int(defined.sum()), method)
