"""Shares: exact and Wilson intervals, tests against chance, paired differences, power."""

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtri
from scipy.stats import binom, binomtest

__all__ = [
    "PairedDifference",
    "against_chance",
    "clopper_pearson",
    "detectable",
    "holm",
    "paired_difference",
    "wilson",
]


def clopper_pearson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a share: at least `level` whatever the share.

    low = B(a / 2; k, n - k + 1), high = B(1 - a / 2; k + 1, n - k), quantiles of beta laws.

    References:
        The use of confidence or fiducial limits (Clopper & Pearson, 1934),
        doi:10.1093/biomet/26.4.404

    Args:
        k: Successes.
        n: Trials; with none, the interval is that of no knowledge, 0 to 1.
        level: Of the interval.

    Example:
        >>> [round(end, 4) for end in clopper_pearson(49, 100)]
        [0.3886, 0.592]
    """
    tail = (1 - level) / 2
    low = float(betaincinv(k, n - k + 1, tail)) if k > 0 else 0.0
    high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
    return low, high


def wilson(k: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return the score interval of a share, whose coverage is near `level` on average.

    The ends solve |k / n - p| = z sqrt(p (1 - p) / n).

    References:
        Probable inference, the law of succession, and statistical inference (Wilson, 1927),
        doi:10.1080/01621459.1927.10502953

    Args:
        k: Successes.
        n: Trials; with none, the interval is 0 to 1.
        level: Of the interval.

    Example:
        >>> [round(end, 4) for end in wilson(49, 100)]
        [0.3942, 0.5865]
    """
    if n == 0:
        return 0.0, 1.0
    z = float(ndtri(1 - (1 - level) / 2))
    share, room = k / n, z * z / n
    centre = (share + room / 2) / (1 + room)
    half = z * np.sqrt(share * (1 - share) / n + room / (4 * n)) / (1 + room)
    low = 0.0 if k == 0 else float(centre - half)
    high = 1.0 if k == n else float(centre + half)
    return low, high


def against_chance(k: int, n: int, chance: float = 0.5) -> float:
    """Return the two-sided exact p-value of k successes in n trials under pure chance.

    Example:
        >>> round(against_chance(60, 100), 4)
        0.0569
    """
    return float(binomtest(k, n, chance).pvalue) if n else float("nan")


def holm(p: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for how many there are; NaN stays and does not count.

    References:
        A simple sequentially rejective multiple test procedure (Holm, 1979)

    Example:
        >>> holm(np.array([0.01, 0.04, np.nan])).round(6).tolist()
        [0.02, 0.04, nan]
    """
    p = np.asarray(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    adjusted = np.full(p.shape, np.nan)
    steps = p[order] * (len(order) - np.arange(len(order)))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


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
