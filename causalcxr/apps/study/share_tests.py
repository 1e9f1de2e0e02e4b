"""Tests of shares: against chance, between two rounds, and the power of the test."""

from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri
from scipy.stats import binom, binomtest

from causalcxr.audit.paired_tests import mcnemar

__all__ = ["PairedDifference", "against_chance", "detectable", "paired_difference"]


def against_chance(k: int, n: int, chance: float = 0.5) -> float:
    """Return the two-sided exact p-value of k successes in n trials under chance.

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
        gained: Trials that were wrong first and right second.
        lost: Trials that were right first and wrong second.
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
    """Return the difference of the share of right answers between two rounds of the same trials.

    The test is McNemar's exact one: of the trials that changed, half change in either direction.
    The interval is Wald's with one change added in either direction,
    d~ -+ z sqrt((g~ + l~ - (g~ - l~)^2) / (n + 2)) with g~ = (gained + 1) / (n + 2) and
    l~ = (lost + 1) / (n + 2).

    References:
        Adjusted Wald confidence interval for a difference of binomial proportions based on paired
        data (Bonett & Price, 2012), doi:10.3102/1076998611411915

    Args:
        first: Right or wrong, (n,).
        second: The same in the second round.
        level: Of the interval.

    Example:
        >>> change = paired_difference(np.array([1, 0, 0, 0]), np.array([1, 1, 1, 0]))
        >>> change.value, change.gained, change.lost, change.p
        (0.5, 2, 0, 0.5)
    """
    first, second = np.asarray(first, dtype=bool), np.asarray(second, dtype=bool)
    n, test = len(first), mcnemar(first, second)
    gained, lost = test.up, test.down
    # Shares with one change added in either direction, for the interval only.
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = float(ndtri(1 - (1 - level) / 2)) * np.sqrt((up + down - (up - down) ** 2) / (n + 2))
    low, high = float(max(up - down - half, -1)), float(min(up - down + half, 1))
    value = (gained - lost) / n if n else float("nan")
    return PairedDifference(value, low, high, gained, lost, test.p, n)


def detectable(n: int, power: float = 0.8, level: float = 0.95) -> float:
    """Return the smallest accuracy above one half that the exact test detects with this power.

    Args:
        n: Trials.
        power: The probability that the test rejects chance.
        level: One minus the size of the two-sided test.

    Returns:
        The accuracy to two decimals, rounded up; NaN if no accuracy reaches the power.

    Example:
        >>> detectable(100)
        0.65
    """
    k = np.arange(n + 1)
    # Reject where twice the smaller tail is at most the size of the test.
    tail = np.minimum(binom.cdf(k, n, 0.5), binom.sf(k - 1, n, 0.5))
    is_rejected = 2 * tail <= 1 - level
    accuracies = np.arange(51, 101) / 100
    # Power: the probability of a rejected count under each accuracy.
    powers = (binom.pmf(k, n, accuracies[:, None]) * is_rejected).sum(axis=1)
    has_power = powers >= power
    return float(accuracies[has_power.argmax()]) if has_power.any() else float("nan")
