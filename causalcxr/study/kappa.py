"""Agreement beyond chance: Cohen's kappa, with intervals by resampling trials."""

from dataclasses import dataclass

import numpy as np

from causalcxr.errors import CausalCXRError

__all__ = ["Kappa", "cohen_kappa"]

_DRAWS = 10_000


@dataclass(frozen=True)
class Kappa:
    """Hold a kappa and how well it is known.

    Args:
        value: The kappa; NaN where both gave one and the same answer throughout.
        low: The lower end of the interval; NaN where over 5 % of resamples have no kappa.
        high: The upper end.
        agreement: The share of trials with the same answer.
        n: The number of trials that both answered.
    """

    value: float
    low: float
    high: float
    agreement: float
    n: int


def cohen_kappa(
    first: np.ndarray,
    second: np.ndarray,
    *,
    level: float = 0.95,
    draws: int = _DRAWS,
    seed: int = 0,
) -> Kappa:
    """Return Cohen's kappa of two ratings of the same trials, with a percentile interval.

    kappa = (p_o - p_e) / (1 - p_e), where p_o is the share of equal answers and p_e the share that
    independent raters with the same frequencies would have. The interval resamples trials; the
    raters stay who they are.

    References:
        A coefficient of agreement for nominal scales (Cohen, 1960), doi:10.1177/001316446002000104

    Args:
        first: One rater's answers, (n,), of any kind; NaN where there is none.
        second: The other's, (n,).
        level: Of the interval.
        draws: How many resamples.
        seed: Of the resamples.

    Raises:
        CausalCXRError: If there is not one answer of each for every trial.

    Example:
        >>> kappa = cohen_kappa([0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 1])
        >>> round(kappa.value, 6), kappa.n
        (0.333333, 6)
    """
    first, second = np.asarray(first), np.asarray(second)
    if first.ndim != 1 or first.shape != second.shape:
        raise CausalCXRError(
            f"kappa: answers of shapes {first.shape} and {second.shape}; give one of each a trial"
        )
    # Only NaN differs from itself.
    both = (first == first) & (second == second)
    first, second = first[both], second[both]
    n = len(first)
    if n == 0:
        return Kappa(*[float("nan")] * 4, 0)
    levels, codes = np.unique(np.concatenate([first, second]), return_inverse=True)
    k = len(levels)
    cells = np.bincount(codes[:n] * k + codes[n:], minlength=k * k)
    value = float(_kappa(cells[None] / n, k)[0])
    # Resampling trials with replacement is drawing the cells of the table: a multinomial.
    tables = np.random.default_rng(seed).multinomial(n, cells / n, size=draws) / n
    low, high = _interval(_kappa(tables, k), level)
    agreement = float(np.trace(cells.reshape(k, k)) / n)
    return Kappa(value, low, high, agreement, n)


def _kappa(tables: np.ndarray, k: int) -> np.ndarray:
    """Return the kappa of each table of shares, (draws, k * k); NaN where p_e is 1."""
    tables = tables.reshape(-1, k, k)
    observed = np.trace(tables, axis1=1, axis2=2)
    expected = (tables.sum(axis=1) * tables.sum(axis=2)).sum(axis=1)
    room = 1 - expected
    defined = room > 1e-12
    return np.where(defined, (observed - expected) / np.where(defined, room, 1.0), np.nan)


def _interval(values: np.ndarray, level: float) -> tuple[float, float]:
    known = values[~np.isnan(values)]
    if len(known) < 0.95 * len(values):
        return float("nan"), float("nan")
    tail = (1 - level) / 2
    low, high = np.quantile(known, [tail, 1 - tail])
    return float(low), float(high)
