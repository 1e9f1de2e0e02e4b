"""Families of tests: p-values adjusted for how many there are."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

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
        """Return which hypotheses are rejected, shape (n,); undefined ones never."""
        return self.adjusted <= level


def holm(p: np.ndarray | Sequence[float]) -> Family:
    r"""Adjust by Holm's steps: the chance of any false rejection is at most the level.

    $\tilde p_{(i)} = \max_{j \le i} \min(1, (m - j + 1) p_{(j)})$.

    References:
        A simple sequentially rejective multiple test procedure (Holm, 1979).

    Args:
        p: p-values, shape (n,); NaN stays NaN and is not counted.

    Raises:
        CausalCXRError: If one lies outside [0, 1].

    Example:
        >>> holm([0.01, np.nan, 0.04]).adjusted.tolist()
        [0.02, nan, 0.04]
    """
    p, order = _ordered(p)
    m = len(order)
    stepped = np.maximum.accumulate(p[order] * np.arange(m, 0, -1))
    return _family(p, order, np.minimum(stepped, 1), "Holm")


def benjamini_hochberg(p: np.ndarray | Sequence[float]) -> Family:
    r"""Adjust by Benjamini-Hochberg: the expected share of false rejections is at most the level.

    $\tilde p_{(i)} = \min_{j \ge i} \min(1, m p_{(j)} / j)$.

    References:
        Controlling the false discovery rate (Benjamini & Hochberg, 1995).

    Args:
        p: p-values, shape (n,); NaN stays NaN and is not counted.

    Raises:
        CausalCXRError: If one lies outside [0, 1].

    Example:
        >>> benjamini_hochberg([0.01, np.nan, 0.04]).adjusted.tolist()
        [0.02, nan, 0.04]
    """
    p, order = _ordered(p)
    m = len(order)
    stepped = np.minimum.accumulate((p[order] * (m / np.arange(1, m + 1)))[::-1])[::-1]
    return _family(p, order, np.minimum(stepped, 1), "Benjamini-Hochberg")


def _ordered(p: np.ndarray | Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """Return p-values, and the positions of the defined ones by rising p."""
    p = np.asarray(p, dtype=float)
    wrong = ~np.isnan(p) & ~((p >= 0) & (p <= 1))
    if wrong.any():
        row = int(wrong.argmax())
        raise CausalCXRError(f"p-values: number {row} is {p[row]:g}, not in [0, 1]; correct it")
    known = np.flatnonzero(~np.isnan(p))
    return p, known[np.argsort(p[known], kind="stable")]


def _family(p: np.ndarray, order: np.ndarray, stepped: np.ndarray, method: str) -> Family:
    adjusted = np.full(p.shape, np.nan)
    adjusted[order] = stepped
    return Family(adjusted, len(order), method)
