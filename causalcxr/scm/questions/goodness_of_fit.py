"""Goodness of fit: tests of noise, calibration and coverage, with effect sizes beside p-values.

Every function takes plain arrays and the effective number of independent records, as records of
one patient are correlated.
"""

from typing import NamedTuple

import numpy as np
from numpy.polynomial import legendre
from scipy import stats

__all__ = [
    "FitTest",
    "calibration",
    "calibration_bins",
    "coverage",
    "design_effect",
    "independence",
    "mean_and_error",
    "same_distribution",
]

_BINS = 10
_SMALLEST = 20  # smaller groups of records have no feature of their own
_INTERVALS = (0.5, 0.9)


class FitTest(NamedTuple):
    """The result of a test.

    Args:
        effect: The effect size, between 0 and 1, whatever the number of records.
        p: The p-value.
    """

    effect: float
    p: float


def design_effect(values: np.ndarray, groups: np.ndarray) -> float:
    """Return the factor by which groups inflate the variance of a mean; 1 for groups of one.

    Args:
        values: Shape (n,).
        groups: The group of each, shape (n,), integers from 0.

    Example:
        >>> design_effect(np.array([1.0, 1.0, -1.0, -1.0]), np.array([0, 0, 1, 1]))
        2.0
    """
    centred = values - values.mean() if len(values) else values
    total = float(np.square(centred).sum())
    if total == 0:
        return 1.0
    sums = np.bincount(groups, centred)
    return max(1.0, float(np.square(sums).sum()) / total)


def mean_and_error(values: np.ndarray, groups: np.ndarray) -> tuple[float, float]:
    """Return a mean and its standard error, for independent groups of dependent members."""
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return (float(values.mean()) if n else np.nan), np.nan
    scale = np.sqrt(design_effect(values, groups) / n)
    return float(values.mean()), float(values.std(ddof=1) * scale)


def same_distribution(a: np.ndarray, b: np.ndarray, effective: float) -> FitTest:
    """Return the largest Kolmogorov-Smirnov distance of two samples over their columns.

    Args:
        a: Shape (n, k), of `effective` independent records.
        b: A large sample of independent rows, shape (m, k).
        effective: The number of independent records in `a`.
    """
    results = [FitTest(0.0, 1.0)]
    for one, two in zip(a.T, b.T, strict=True):
        distance = float(stats.ks_2samp(one, two, method="asymp").statistic)
        n = effective * len(two) / (effective + len(two))
        results.append(FitTest(distance, float(stats.kstwobign.sf(distance * np.sqrt(n)))))
    return _strongest(results[1:], results[0])


def independence(
    residual: np.ndarray, parent: np.ndarray, levels: int, effective: float
) -> FitTest:
    """Test whether a residual depends on a parent: its location, its scale and its shape.

    Smooth functions of the residual (Legendre polynomials up to the fourth) are correlated with
    functions of the parent: one per level, or polynomials of its rank; a missing value is a level
    of its own. Under independence the sum of the squared canonical correlations is chi-squared.

    Args:
        residual: Uniform on (0, 1) where the equation is right, shape (n,).
        parent: Positions of levels, or numbers; NaN where missing; shape (n,).
        levels: The number of levels of the parent; 0 for numbers.
        effective: The number of independent records.

    Returns:
        The p-value, and as effect the shift of the residual's rank per standard deviation of the
        parent: the largest canonical correlation, corrected for chance, times the standard
        deviation of a uniform number.

    Example:
        >>> grid = (np.arange(1000) + 0.5) / 1000
        >>> independence(grid, np.arange(1000) % 2.0, 2, 1000).p > 0.9
        True
        >>> independence(grid, np.floor(grid * 2), 2, 1000).p < 1e-9
        True
    """
    # Four orthogonal functions of the residual, against functions of the parent.
    smooth = legendre.legvander(2 * residual - 1, 4)[:, 1:]
    one, two = _basis(smooth), _basis(_features(parent, levels))
    if not one.shape[1] * two.shape[1]:
        return FitTest(0.0, 1.0)
    # Canonical correlations: Pillai's trace, chi-squared under independence.
    correlations = np.linalg.svd(one.T @ two, compute_uv=False)
    statistic = effective * float(np.square(correlations).sum())
    p = float(stats.chi2.sf(statistic, one.shape[1] * two.shape[1]))
    # What the largest correlation would be by chance, removed from the effect.
    chance = (one.shape[1] ** 0.5 + two.shape[1] ** 0.5) ** 2 / effective
    moved = np.sqrt(max(0.0, float(correlations[0]) ** 2 - chance) / 12)
    return FitTest(float(moved), p)


def calibration_bins(p: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return predicted mean, observed mean, number, and variance of each bin, shape (b, 4).

    Bins hold about equally many records; equal probabilities share a bin.

    Args:
        p: Predicted probabilities, shape (n,).
        y: Outcomes, 0 or 1, shape (n,).
    """
    p = np.round(p, 9)  # the last digits of equal records can depend on the rows beside them
    cuts = np.unique(np.quantile(p, np.linspace(0, 1, _BINS + 1)[1:-1], method="higher"))
    place = np.searchsorted(cuts, p, side="left")
    count = np.bincount(place)
    kept = count > 0
    sums = [np.bincount(place, w)[kept] for w in (p, y, p * (1 - p))]
    count = count[kept]
    return np.stack([sums[0] / count, sums[1] / count, count, sums[2]], axis=1)


def calibration(p: np.ndarray, y: np.ndarray, effective: float) -> FitTest:
    """Return the debiased calibration error of probabilities, root mean square over bins.

    A bin's squared gap is too large by its own variance, y (1 - y) / (n - 1), which is subtracted.
    The p-value is that of the chi-squared sum over the bins, given the probabilities.

    Args:
        p: Predicted probabilities, shape (n,).
        y: Outcomes, 0 or 1, shape (n,).
        effective: The number of independent records.

    Example:
        >>> y = np.tile([1.0, 0.0, 0.0, 0.0], 250)
        >>> calibration(np.full(1000, 0.25), y, 1000)
        FitTest(effect=0.0, p=1.0)
        >>> round(calibration(np.full(1000, 0.35), y, 1000).effect, 2)
        0.1
    """
    mean, observed, count, variance = calibration_bins(p, y).T
    # The sampling noise of each bin, subtracted below, as it would count as miscalibration.
    noise = observed * (1 - observed) / np.maximum(count - 1, 1)
    gap = np.sum(count * (np.square(observed - mean) - noise)) / len(p)
    enough = variance >= 5  # with less, a bin's sum is far from normal
    if not enough.any():
        return FitTest(float(np.sqrt(max(0.0, gap))), 1.0)
    # Hosmer and Lemeshow's statistic over the bins.
    squares = np.square(count * (observed - mean))[enough] / variance[enough]
    statistic = float(squares.sum()) * effective / len(p)
    return FitTest(float(np.sqrt(max(0.0, gap))), float(stats.chi2.sf(statistic, enough.sum())))


def coverage(residual: np.ndarray, effective: float) -> tuple[FitTest, str]:
    """Return how far the coverage of the central 50 % and 90 % intervals is from nominal.

    Args:
        residual: The rank of each value in its predicted distribution, shape (n,), in (0, 1).
        effective: The number of independent records.
    """
    results, words = [], []
    for share in _INTERVALS:
        covered = float((np.abs(residual - 0.5) < share / 2).mean())
        z = (covered - share) / np.sqrt(share * (1 - share) / effective)
        results.append(FitTest(abs(covered - share), float(2 * stats.norm.sf(abs(z)))))
        words.append(f"{share:.0%} intervals hold {covered:.1%}")
    return _strongest(results, results[0]), ", ".join(words)


def _strongest(results: list[FitTest], default: FitTest) -> FitTest:
    """Return the largest effect and the smallest p-value, Bonferroni-corrected."""
    if not results:
        return default
    p = min(each.p for each in results) * len(results)
    return FitTest(max(each.effect for each in results), min(1.0, p))


def _features(parent: np.ndarray, levels: int) -> np.ndarray:
    """Return functions of a parent, shape (n, d)."""
    missing = np.isnan(parent)
    if levels:
        hot = parent[:, None] == np.arange(levels)
    else:
        rank = np.zeros(len(parent))
        observed = parent[~missing]
        # Ranks in (-1, 1): the test does not depend on the parent's units.
        rank[~missing] = 2 * (stats.rankdata(observed) - 0.5) / max(len(observed), 1) - 1
        hot = legendre.legvander(rank, 3)[:, 1:] * ~missing[:, None]
    features = np.column_stack([hot, missing]).astype(np.float64)
    # Drop a level or flag that only a few records have.
    frequent = (np.abs(features) > 0).sum(axis=0) >= _SMALLEST
    return features[:, frequent]


def _basis(features: np.ndarray) -> np.ndarray:
    """Return an orthonormal basis of centred columns, shape (n, rank)."""
    if not features.size:
        return np.zeros((len(features), 0))
    u, s, _ = np.linalg.svd(features - features.mean(axis=0), full_matrices=False)
    return u[:, s > 1e-9 * max(s[0], 1.0)]
