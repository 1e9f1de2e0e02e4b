"""Intervals: of proportions, of bootstrap draws, and of areas under the ROC curve (DeLong)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import rankdata

from causalcxr.audit.checked_arrays import ratio, read_labels, read_scores
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError

__all__ = [
    "AurocTest",
    "Bounds",
    "auroc_interval",
    "bca",
    "clopper_pearson",
    "compare_independent",
    "compare_paired",
    "delong",
    "percentile",
    "wilson",
]

Values = np.ndarray | Sequence[float]


@dataclass(frozen=True, eq=False)
class Bounds:
    """Hold the bounds of one interval or many.

    Args:
        low: Lower bounds, shape (...); NaN where undefined.
        high: Upper bounds.
        level: The nominal coverage.
        undefined: How many draws were undefined and left out, shape (...); 0 without draws.
    """

    low: np.ndarray
    high: np.ndarray
    level: float
    undefined: np.ndarray


def wilson(successes: Values, trials: Values, level: float = 0.95) -> Bounds:
    r"""Return the Wilson score interval of proportions.

    With $\hat p = k / n$ and the normal quantile z, the interval is
    $(\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}) / (1 + z^2 / n)$.

    References:
        Probable inference, the law of succession, and statistical inference (Wilson, 1927).

    Args:
        successes: k, shape (...).
        trials: n, shape (...); effective numbers need not be whole.
        level: Coverage.

    Example:
        >>> round(float(wilson(0, 10).high), 4)
        0.2775
    """
    k, n, z = *_counts(successes, trials), ndtri(0.5 + _checked(level) / 2)
    p = ratio(k, n)
    safe = np.where(n > 0, n, 1)
    middle = p + z**2 / (2 * safe)
    half = z * np.sqrt(p * (1 - p) / safe + z**2 / (4 * safe**2))
    scale = 1 + z**2 / safe
    low, high = np.maximum((middle - half) / scale, 0), np.minimum((middle + half) / scale, 1)
    # The bounds at no and at all successes are 0 and 1; subtraction leaves 1e-17 there.
    low, high = np.where(k == 0, p, low), np.where(k == n, p, high)
    return Bounds(low, high, level, np.zeros(n.shape, dtype=int))


def clopper_pearson(successes: Values, trials: Values, level: float = 0.95) -> Bounds:
    """Return the Clopper-Pearson interval of proportions, by quantiles of the beta distribution.

    It covers at least at its level, whatever the proportion.

    References:
        The use of confidence or fiducial limits illustrated in the case of the binomial (Clopper &
        Pearson, 1934).

    Args:
        successes: k, shape (...).
        trials: n, shape (...).
        level: Coverage.

    Example:
        >>> round(float(clopper_pearson(0, 10).high), 4)
        0.3085
    """
    k, n = _counts(successes, trials)
    tail = (1 - _checked(level)) / 2
    low = np.where(k > 0, betaincinv(np.maximum(k, 1e-300), n - k + 1, tail), 0.0)
    high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1e-300), 1 - tail), 1.0)
    empty = n == 0
    low, high = (np.where(empty, np.nan, bound) for bound in (low, high))
    return Bounds(low, high, level, np.zeros(n.shape, dtype=int))


def percentile(draws: np.ndarray, level: float = 0.95) -> Bounds:
    """Return the percentile interval of bootstrap draws.

    Args:
        draws: Shape (draws, ...); NaN draws are left out and counted.
        level: Coverage.

    Example:
        >>> round(float(percentile(np.arange(101.0), 0.9).low), 9)
        5.0
    """
    tail = (1 - _checked(level)) / 2
    draws = np.asarray(draws, dtype=float)
    low, high = (_quantile(draws, np.full(draws.shape[1:], q)) for q in (tail, 1 - tail))
    return Bounds(low, high, level, np.isnan(draws).sum(0))


def bca(
    draws: np.ndarray,
    estimate: Values | float,
    jackknife: np.ndarray | None = None,
    level: float = 0.95,
) -> Bounds:
    r"""Return the bias-corrected and accelerated interval of bootstrap draws.

    Its bounds are quantiles of the draws at
    $\Phi(z_0 + (z_0 + z_\alpha) / (1 - a (z_0 + z_\alpha)))$, where $z_0$ is the normal quantile
    of the share of draws below the estimate, and a is a sixth of the skewness of the jackknife.
    It corrects figures whose draws are not centred at the estimate, such as debiased ones.

    References:
        Better bootstrap confidence intervals (Efron, 1987).

    Args:
        draws: Shape (draws, ...); NaN draws are left out and counted.
        estimate: The figure of the data, shape (...).
        jackknife: The figure without each block of patients, shape (blocks, ...); without it the
            acceleration is 0.
        level: Coverage.

    Example:
        >>> draws = np.random.default_rng(0).exponential(size=(999, 20)).mean(1)
        >>> bool(bca(draws, 1.0).low > percentile(draws).low)
        True
    """
    tail = (1 - _checked(level)) / 2
    draws, estimate = np.asarray(draws, dtype=float), np.asarray(estimate, dtype=float)
    known = (~np.isnan(draws)).sum(0)
    below = (draws < estimate).sum(0) + (draws == estimate).sum(0) / 2  # NaN is neither
    # With no draw on one side the bias would be infinite: as if half a draw were there.
    share = ratio(np.clip(below, 0.5, np.maximum(known - 0.5, 0.5)), known)
    bias, speed = ndtri(share), 0.0 if jackknife is None else _acceleration(jackknife)
    bounds = []
    for z in (ndtri(tail), ndtri(1 - tail)):
        moved = bias + z
        bounds.append(_quantile(draws, ndtr(bias + moved / np.maximum(1 - speed * moved, 1e-3))))
    low, high = (np.where(np.isnan(estimate), np.nan, bound) for bound in bounds)
    return Bounds(low, high, level, np.isnan(draws).sum(0))


@dataclass(frozen=True)
class AurocTest:
    """Hold the comparison of two areas under the ROC curve.

    Args:
        first: The first area.
        second: The second.
        difference: First less second.
        se: Its standard error.
        z: Difference over standard error.
        p: Two-sided; 1 where neither the scores nor anything else differ, NaN where undefined.
        low: Lower bound of the difference.
        high: Upper bound.
    """

    first: float
    second: float
    difference: float
    se: float
    z: float
    p: float
    low: float
    high: float


@rows_by_id("scores", "labels")
def delong(scores: np.ndarray, labels: Values) -> tuple[np.ndarray, np.ndarray]:
    r"""Return areas under ROC curves of the same records, and their covariance.

    The placement of a positive is the share of negatives below it, ties half; of a negative, the
    share of positives above it. The area is their mean, and the covariance
    $S_{10} / m + S_{01} / n$ with the covariances of the placements of m positives, n negatives.
    Placements are differences of mid-ranks: sorting, no pairs.

    References:
        Comparing the areas under two or more correlated receiver operating characteristic curves
        (DeLong, DeLong & Clarke-Pearson, 1988). Fast implementation of DeLong's algorithm (Sun &
        Xu, 2014).

    Args:
        scores: Shape (k, n) of k classifiers, or (n,).
        labels: Shape (n,), 0 or 1; rows with NaN are left out.

    Returns:
        Areas (k,) and covariance (k, k). NaN without both classes; the covariance needs two of
        each.

    Example:
        >>> areas, covariance = delong([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> areas, covariance
        (array([0.75]), array([[0.125]]))
    """
    labels = read_labels(labels)
    known = ~np.isnan(labels)
    rows = [read_scores(each, len(labels), known)[known] for each in np.atleast_2d(scores)]
    ill = labels[known] == 1
    m, n = int(ill.sum()), int((~ill).sum())
    if m == 0 or n == 0:
        return np.full(len(rows), np.nan), np.full((len(rows), len(rows)), np.nan)
    above, below = [], []
    for each in rows:
        ranks = rankdata(each)
        above.append((ranks[ill] - rankdata(each[ill])) / n)
        below.append(1 - (ranks[~ill] - rankdata(each[~ill])) / m)
    areas = np.mean(above, axis=1)
    if m < 2 or n < 2:
        return areas, np.full((len(rows), len(rows)), np.nan)
    covariance = np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n
    return areas, covariance


@rows_by_id("scores", "labels")
def auroc_interval(scores: Values, labels: Values, level: float = 0.95) -> Bounds:
    """Return DeLong's interval of an area, symmetric on the logit scale so that it stays inside.

    Records count as independent: with several a patient, use the bootstrap over patients.
    Undefined at areas of 0 and 1, where the standard error says nothing.
    """
    areas, covariance = delong(np.asarray(scores, dtype=float), labels)
    area, z = areas[0], ndtri(0.5 + _checked(level) / 2)
    bounds = np.full(2, np.nan)
    if 0 < area < 1:
        half = z * np.sqrt(covariance[0, 0]) / (area * (1 - area))
        bounds = 1 / (1 + np.exp(-(np.log(area / (1 - area)) + np.array([-half, half]))))
    return Bounds(bounds[0], bounds[1], level, np.zeros((), dtype=int))


@rows_by_id("first", "second", "labels")
def compare_paired(
    first: Values, second: Values, labels: Values, level: float = 0.95
) -> AurocTest:
    """Return DeLong's test of two classifiers on the same records.

    Args:
        first: Scores of one classifier, shape (n,).
        second: Scores of the other.
        labels: Shape (n,), 0, 1 or NaN.
        level: Coverage of the interval of the difference.
    """
    areas, covariance = delong(np.stack([np.asarray(first), np.asarray(second)]), labels)
    variance = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    return _tested(areas[0], areas[1], variance, level)


def compare_independent(
    first: tuple[Values, Values], second: tuple[Values, Values], level: float = 0.95
) -> AurocTest:
    """Return DeLong's test of two groups of different patients.

    Args:
        first: (scores, labels) of one group.
        second: (scores, labels) of the other.
        level: Coverage of the interval of the difference.
    """
    (a, va), (b, vb) = (delong(np.asarray(s, dtype=float), y) for s, y in (first, second))
    return _tested(a[0], b[0], va[0, 0] + vb[0, 0], level)


def _tested(first: float, second: float, variance: float, level: float) -> AurocTest:
    difference = first - second
    se = float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else np.nan
    if se < 1e-9:  # what rounding leaves of scores that rank alike
        z, p = (0.0, 1.0) if abs(difference) < 1e-12 else (np.nan, np.nan)
    else:
        z = difference / se
        p = 2 * ndtr(-abs(z))
    half = ndtri(0.5 + _checked(level) / 2) * se
    figures = (first, second, difference, se, z, p, difference - half, difference + half)
    return AurocTest(*(float(figure) for figure in figures))


def _counts(successes: Values, trials: Values) -> tuple[np.ndarray, np.ndarray]:
    k, n = np.broadcast_arrays(np.asarray(successes, float), np.asarray(trials, float))
    if ((k < 0) | (k > n)).any():
        raise CausalCXRError("interval: successes are not between 0 and the trials; swap them?")
    return k, n


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise CausalCXRError(f"interval: level {level} is not between 0 and 1; give 0.95")
    return level


def _quantile(draws: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Return a quantile of its own for each figure, linear between draws; NaN without draws."""
    ordered = np.sort(draws, axis=0)  # NaN at the end
    known = (~np.isnan(draws)).sum(0)
    place = np.nan_to_num(q) * np.maximum(known - 1, 0)
    lower = np.floor(place).astype(int)
    upper = np.minimum(lower + 1, np.maximum(known - 1, 0))
    a, b = (np.take_along_axis(ordered, i[None], axis=0)[0] for i in (lower, upper))
    return np.where((known == 0) | np.isnan(q), np.nan, a + (b - a) * (place - lower))


def _acceleration(jackknife: np.ndarray) -> np.ndarray:
    """Return a sixth of the skewness of what leaving out does; undefined figures left out."""
    jackknife = np.asarray(jackknife, dtype=float)
    known = ~np.isnan(jackknife)
    many = np.maximum(known.sum(0), 1)
    mean = np.where(known, jackknife, 0).sum(0) / many
    pull = np.where(known, mean - jackknife, 0)
    return np.nan_to_num(ratio((pull**3).sum(0), 6 * (pull**2).sum(0) ** 1.5))
