"""Shares as two ends each, tests against chance, paired differences, power."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom, binomtest

from causalcxr.audit import intervals

__all__ = [
    "PairedDifference",
    "against_chance",
    "clopper_pearson",
    "detectable",
    "paired_difference",
    "wilson",
]


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share; of no trial, that of no knowledge, 0 to 1.

    Example:
        >>> [round(end, 4) for end in clopper_pearson(49, 100)]
        [0.3886, 0.592]
    """
    found = intervals.clopper_pearson(k, n, level)
    return (float(found.low), float(found.high)) if n else (0.0, 1.0)


def wilson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share; of no trial, that of no knowledge, 0 to 1.

    Example:
        >>> [round(end, 4) for end in wilson(49, 100)]
        [0.3942, 0.5865]
    """
    found = intervals.wilson(k, n, level)
    return (float(found.low), float(found.high)) if n else (0.0, 1.0)


def against_chance(k: int, n: int, chance: float = 0.5) -> float:
    """Return the two-sided exact p-value of k successes in n trials under pure chance.

    Example:
        >>> round(against_chance(60, 100), 4)
        0.0569
    """
    return float(binomtest(k, n, chance).pvalue) if n else float("nan")


@dataclass(frozen=True)
class PairedDifference:
    """Hold a difference of two shares on the same trials.

    Args:
        value: Second minus first.
        low: The lower end of the interval.
        high: The upper end.
        gained: Trials wrong at first and right then.
        lost: Trials right at first and wrong then.
        p: The exact p-value of McNemar's test.
        n: Trials answered twice.
    """

    value: float
    low: float
    high: float
    gained: int
    lost: int
    p: float
    n: int


def paired_difference(
    first: np.ndarray, second: np.ndarray, level: float = 0.95
) -> PairedDifference:
    """Return how the share of right answers differs between two rounds of the same trials.

    The test is McNemar's, exact: of the trials that changed, half change either way. The interval
    is Wald's on one more change either way, d~ -+ z sqrt((g~ + l~ - (g~ - l~)^2) / (n + 2)) with
    g~ = (gained + 1) / (n + 2) and l~ = (lost + 1) / (n + 2).

    References:
        Adjusted Wald confidence interval for a difference of binomial proportions based on paired
        data (Bonett & Price, 2012), doi:10.3102/1076998611411915

    Args:
        first: Right or wrong, (n,).
        second: The same of the second round.
        level: Of the interval.

    Example:
        >>> found = paired_difference(np.array([1, 0, 0, 0]), np.array([1, 1, 1, 0]))
        >>> found.value, found.gained, found.lost, found.p
        (0.5, 2, 0, 0.5)
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n = len(first)
    gained, lost = int((second & ~first).sum()), int((first & ~second).sum())
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(ndtri(1 - (1 - level) / 2)) * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    value = (gained - lost) / n if n else float("nan")
    changed = gained + lost
    p = float(binomtest(gained, changed).pvalue) if changed else 1.0
    low, high = float(max(up - down - half, -1)), float(min(up - down + half, 1))
    return PairedDifference(value, low, high, gained, lost, p if n else float("nan"), n)


def detectable(n: int, power: float = 0.8, level: float = 0.95) -> float:
    """Return the smallest accuracy above one half that the exact test finds with this power.

    Args:
        n: Trials.
        power: How often the test is to find it.
        level: One minus the size of the two-sided test.

    Returns:
        The accuracy to two decimals, rounded up; NaN where no accuracy would be found.

    Example:
        >>> detectable(100)
        0.65
    """
    k = np.arange(n + 1)
    tail = np.minimum(binom.cdf(k, n, 0.5), binom.sf(k - 1, n, 0.5))
    refused = 2 * tail <= 1 - level
    shares = np.arange(51, 101) / 100
    found = (binom.pmf(k, n, shares[:, None]) * refused).sum(axis=1) >= power
    return float(shares[found.argmax()]) if found.any() else float("nan")
