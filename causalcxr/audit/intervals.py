"""Intervals of proportions, of bootstrap draws (BCa) and of areas under the ROC curve (DeLong)."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, ndtr, ndtri
from scipy.stats import rankdata

from causalcxr.audit.checked_arrays import ratio, read_labels, read_scores
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import Bounds, draw_quantile

__all__ = [
    "AurocTest",
    "auroc_interval",
    "bca",
    "clopper_pearson",
    "compare_independent",
    "compare_paired",
    "delong",
    "wilson",
]

Values = np.ndarray | Sequence[float]


def wilson(successes: Values, trials: Values, level: float = 0.95) -> Bounds:
    r"""Return the Wilson score interval of proportions.

    With $\hat p = k / n$ and the normal quantile z, the interval is
    $(\hat p + z^2 / 2n \pm z \sqrt{\hat p (1 - \hat p) / n + z^2 / 4n^2}) / (1 + z^2 / n)$.

    References:
        Probable inference, the law of succession, and statistical inference (Wilson, 1927).

    Args:
        successes: k, shape (...).
        trials: n, shape (...); effective numbers need not be integers.
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
    # At 0 and at n successes a bound is exactly 0 or 1; subtraction would leave 1e-17.
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
        draws: Shape (draws, ...); undefined (NaN) draws are treated as in `percentile_interval`.
        estimate: The figure of the data, shape (...).
        jackknife: The figure without each block of patients, shape (blocks, ...); without it the
            acceleration is 0.
        level: Coverage.

    Example:
        >>> from causalcxr.common.percentile_interval import percentile_interval
        >>> draws = np.random.default_rng(0).exponential(size=(999, 20)).mean(1)
        >>> bool(bca(draws, 1.0).low > percentile_interval(draws).low)
        True
    """
    tail = (1 - _checked(level)) / 2
    draws, estimate = np.asarray(draws, dtype=float), np.asarray(estimate, dtype=float)
    # Bias: with no draw on one side it would be infinite, so count half a draw there.
    n_defined = (~np.isnan(draws)).sum(0)
    below = (draws < estimate).sum(0) + (draws == estimate).sum(0) / 2  # NaN counts as neither
    share = ratio(np.clip(below, 0.5, np.maximum(n_defined - 0.5, 0.5)), n_defined)
    bias, acceleration = ndtri(share), 0.0 if jackknife is None else _acceleration(jackknife)
    # Bounds: quantiles of the draws at the corrected probabilities.
    bounds = []
    for z in (ndtri(tail), ndtri(1 - tail)):
        shifted = bias + z
        probability = ndtr(bias + shifted / np.maximum(1 - acceleration * shifted, 1e-3))
        bounds.append(draw_quantile(draws, probability))
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
        p: Two-sided; 1 where the scores rank alike, NaN where undefined.
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
    labelled = ~np.isnan(labels)
    rows = [read_scores(each, len(labels), labelled)[labelled] for each in np.atleast_2d(scores)]
    positive = labels[labelled] == 1
    m, n = int(positive.sum()), int((~positive).sum())
    if m == 0 or n == 0:
        return np.full(len(rows), np.nan), np.full((len(rows), len(rows)), np.nan)
    # Placements: the share of the other class that each score exceeds, ties counting half.
    above, below = [], []
    for each in rows:
        ranks = rankdata(each)
        above.append((ranks[positive] - rankdata(each[positive])) / n)
        below.append(1 - (ranks[~positive] - rankdata(each[~positive])) / m)
    areas = np.mean(above, axis=1)
    # One record has no variance.
    if m < 2 or n < 2:
        return areas, np.full((len(rows), len(rows)), np.nan)
    covariance = np.atleast_2d(np.cov(above)) / m + np.atleast_2d(np.cov(below)) / n
    return areas, covariance


@rows_by_id("scores", "labels")
def auroc_interval(scores: Values, labels: Values, level: float = 0.95) -> Bounds:
    """Return DeLong's interval of an area, symmetric on the logit scale, so within 0 and 1.

    Records are assumed independent: with several per patient, use the bootstrap over patients.
    The interval is undefined at areas of 0 and 1, where the standard error is 0.
    """
    areas, covariance = delong(np.asarray(scores, dtype=float), labels)
    area, z = areas[0], ndtri(0.5 + _checked(level) / 2)
    bounds = np.full(2, np.nan)
    if 0 < area < 1:
        # The delta method: d logit(a) / da = 1 / (a (1 - a)).
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
    return _auroc_test(areas[0], areas[1], variance, level)


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
    return _auroc_test(a[0], b[0], va[0, 0] + vb[0, 0], level)


def _auroc_test(first: float, second: float, variance: float, level: float) -> AurocTest:
    difference = first - second
    se = float(np.sqrt(max(variance, 0.0))) if np.isfinite(variance) else np.nan
    if se < 1e-9:  # scores that rank alike: only rounding errors are left
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
        raise CausalCXRError("interval: successes must lie between 0 and the number of trials")
    return k, n


def _checked(level: float) -> float:
    if not 0 < level < 1:
        raise CausalCXRError(f"interval: level {level} is not between 0 and 1; give 0.95")
    return level


def _acceleration(jackknife: np.ndarray) -> np.ndarray:
    """Return a sixth of the skewness of the jackknife; undefined figures are left out."""
    jackknife = np.asarray(jackknife, dtype=float)
    defined = ~np.isnan(jackknife)
    n_defined = np.maximum(defined.sum(0), 1)
    mean = np.where(defined, jackknife, 0).sum(0) / n_defined
    # Undefined jackknife figures pull neither way.
    pull = np.where(defined, mean - jackknife, 0)
    return np.nan_to_num(ratio((pull**3).sum(0), 6 * (pull**2).sum(0) ** 1.5))
