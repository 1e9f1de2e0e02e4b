"""Intervals of the audit, against statsmodels, scipy and DeLong's published example."""

import numpy as np
import pytest
from scipy.stats import bootstrap as scipy_bootstrap
from scipy.stats import chi2
from sklearn.metrics import roc_auc_score
from statsmodels.stats.proportion import proportion_confint

from causalcxr.audit.intervals import (
    auroc_interval,
    bca,
    clopper_pearson,
    compare_independent,
    compare_paired,
    delong,
    wilson,
)
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import percentile_interval

# Ovarian cancer with obstruction: albumin, total protein, K-G score, benefit of surgery. Data and
# figures: DeLong, DeLong & Clarke-Pearson (1988), as in the SAS/STAT User's Guide, The LOGISTIC
# Procedure, "Comparing Receiver Operating Characteristic Curves".
OVARIAN = """
3.0 5.8 10 0  3.2 6.3 5 1  3.9 6.8 3 1  2.8 4.8 6 0  3.2 5.8 3 1  0.9 4.0 5 0  2.5 5.7 8 0
1.6 5.6  5 1  3.8 5.7 5 1  3.7 6.7 6 1  3.2 5.4 4 1  3.8 6.6 6 1  4.1 6.6 5 1  3.6 5.7 5 1
4.3 7.0  4 1  3.6 6.7 4 0  2.3 4.4 6 1  4.2 7.6 4 0  4.0 6.6 6 0  3.5 5.8 6 1  3.8 6.8 7 1
3.0 4.7  8 0  4.5 7.4 5 1  3.7 7.4 5 1  3.1 6.6 6 1  4.1 8.2 6 1  4.3 7.0 5 1  4.3 6.5 4 1
3.2 5.1  5 1  2.6 4.7 6 1  3.3 6.8 6 0  1.7 4.0 7 0  3.7 6.1 5 1  3.3 6.3 7 1  4.2 7.7 6 1
3.5 6.2  5 1  2.9 5.7 9 0  2.1 4.8 7 1  2.8 6.2 8 0  4.0 7.0 7 1  3.3 5.7 6 1  3.7 6.9 5 1
3.6 6.6  5 1
"""
ALBUMIN, PROTEIN, KG, BENEFIT = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4).T
KG = 10 - KG


@pytest.mark.parametrize("level", [0.8, 0.95, 0.99])
@pytest.mark.parametrize(("ours", "method"), [(wilson, "wilson"), (clopper_pearson, "beta")])
def test_intervals_of_proportions_equal_statsmodels(ours, method, level):
    k, n = np.array([(k, n) for n in (1, 2, 7, 60, 5000) for k in {0, 1, n // 3, n - 1, n}]).T
    found = ours(k, n, level)
    low, high = proportion_confint(k, n, alpha=1 - level, method=method)
    assert np.abs(found.low - low).max() < 1e-10
    assert np.abs(found.high - high).max() < 1e-10
    assert (found.low[k == 0] == 0).all()
    assert (found.high[k == n] == 1).all()


def test_impossible_counts_are_undefined_or_refused():
    for ours in (wilson, clopper_pearson):
        assert np.isnan([ours(0, 0).low, ours(0, 0).high]).all()
        with pytest.raises(CausalCXRError, match="successes"):
            ours(3, 2)
        with pytest.raises(CausalCXRError, match="level 95"):
            ours(1, 2, 95)


def test_intervals_of_proportions_cover():
    k = np.arange(31)
    for p in (0.02, 0.1, 0.35):
        mass = np.array([chance(30, i, p) for i in k])
        covered = [mass[(i.low <= p) & (p <= i.high)].sum() for i in
                   (clopper_pearson(k, 30), wilson(k, 30))]  # fmt: skip
        assert covered[0] >= 0.95
        assert 0.88 < covered[1] < 0.99


def chance(n: int, k: int, p: float) -> float:
    return float(np.prod([(n - i) / (i + 1) for i in range(k)])) * p**k * (1 - p) ** (n - k)


# Draws


def test_percentile_and_bca_equal_scipy():
    x = np.random.default_rng(0).exponential(size=35)
    index = np.random.default_rng(1).integers(0, 35, (2999, 35))
    draws = x[index].mean(1)
    left_out = np.array([np.delete(x, i).mean() for i in range(35)])
    for method, found in (
        ("percentile", percentile_interval(draws, 0.9)),
        ("BCa", bca(draws, x.mean(), left_out, 0.9)),
    ):
        rng = np.random.default_rng(1)  # scipy draws the same indices from it
        theirs = scipy_bootstrap(
            (x,),
            np.mean,
            n_resamples=2999,
            confidence_level=0.9,
            method=method,
            rng=rng,
            vectorized=True,
        )
        assert np.abs(np.sort(theirs.bootstrap_distribution) - np.sort(draws)).max() < 1e-12
        expected = theirs.confidence_interval
        assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=1e-10)


def test_bca_treats_undefined_draws_as_the_percentile_interval_does():
    draws = np.random.default_rng(0).normal(size=(500, 3))
    draws[:25, 1], draws[:26, 2] = np.nan, np.nan
    interval = bca(draws, [0.0, 0.0, 0.0])
    assert interval.undefined.tolist() == [0, 25, 26]
    assert np.isnan(interval.low).tolist() == [False, False, True]
    assert interval.low[1] == bca(draws[25:, 1], 0.0).low
    assert np.isnan(bca(draws, [np.nan, 0, 0]).low[0])
    assert bca(np.ones(9), 0.0).high == 1  # every draw on one side of the estimate


# DeLong


def test_delong_equals_the_published_example():
    areas, covariance = delong(np.stack([KG, ALBUMIN, PROTEIN]), BENEFIT)
    assert areas.round(4).tolist() == [0.7258, 0.7366, 0.6478]
    assert np.sqrt(np.diag(covariance)).round(4).tolist() == [0.1028, 0.0927, 0.1000]
    contrast = np.array([[-1, 1, 0], [-1, 0, 1]])
    gap = contrast @ areas
    statistic = gap @ np.linalg.solve(contrast @ covariance @ contrast.T, gap)
    assert statistic.round(4) == 2.5340
    assert chi2.sf(statistic, 2).round(4) == 0.2817
    albumin, protein = (compare_paired(x, KG, BENEFIT) for x in (ALBUMIN, PROTEIN))
    assert (round(albumin.difference, 4), round(albumin.se, 4)) == (0.0108, 0.0953)
    assert (round(albumin.p, 4), round(protein.p, 4)) == (0.9102, 0.4561)
    assert (round(protein.difference, 4), round(protein.se, 4)) == (-0.0780, 0.1046)


def pairs(scores, labels):
    """Return areas and covariance by looking at every pair."""
    above, below = [], []
    for s in scores:
        a, b = s[labels == 1][:, None], s[labels == 0][None]
        psi = (a > b) + (a == b) / 2
        above.append(psi.mean(1))
        below.append(psi.mean(0))
    m, n = len(above[0]), len(below[0])
    return np.mean(above, 1), np.cov(above) / m + np.cov(below) / n


@pytest.mark.parametrize("decimals", [1, 12])
def test_delong_with_ties_equals_all_pairs(decimals):
    rng = np.random.default_rng(decimals)
    labels = (rng.random(400) < 0.2).astype(float)
    scores = (rng.normal(size=(3, 400)) + labels).round(decimals)
    areas, covariance = delong(scores, labels)
    expected = pairs(scores, labels)
    assert np.abs(areas - expected[0]).max() < 1e-12
    assert np.abs(covariance - expected[1]).max() < 1e-12
    assert areas[0] == pytest.approx(roc_auc_score(labels, scores[0]), abs=1e-12)
    hidden = np.where(rng.random(400) < 0.3, np.nan, labels)
    kept = ~np.isnan(hidden)
    assert (delong(scores, hidden)[1] == delong(scores[:, kept], labels[kept])[1]).all()


def test_delong_of_too_few_records_is_undefined():
    areas, covariance = delong([0.1, 0.2], [1, 1])
    assert np.isnan(areas).all()
    assert np.isnan(covariance).all()
    areas, covariance = delong([0.1, 0.2, 0.3], [0, 1, 0])
    assert areas == 0.5
    assert np.isnan(covariance).all()
    assert np.isnan(compare_paired([0.1, 0.2], [0.3, 0.2], [1, 1]).p)
    assert np.isnan(auroc_interval([0.1, 0.2, 0.3, 0.4], [0, 0, 1, 1]).low)  # an area of 1


def test_scores_of_equal_ranks_do_not_differ():
    rng = np.random.default_rng(0)
    labels, x = rng.integers(0, 2, 200), rng.normal(size=200)
    same = compare_paired(x, np.exp(x), labels)
    assert (same.difference, same.p) == (0, 1)


def test_delong_tests_and_intervals_hold_their_level():
    rng, repeats = np.random.default_rng(0), 600
    labels = (np.arange(150) < 50).astype(float)
    true = 0.7602499389065233  # of a shift of 1 in normal scores
    rejected, covered = np.zeros(2), 0
    for _ in range(repeats):
        common = rng.normal(size=150)
        a, b = (common + rng.normal(size=150) + labels * 2**0.5 for _ in range(2))
        other = rng.normal(size=150) * 2**0.5 + labels * 2**0.5
        rejected += [
            compare_paired(a, b, labels).p < 0.05,
            compare_independent((a, labels), (other, labels)).p < 0.05,
        ]
        interval = auroc_interval(a, labels)
        covered += interval.low <= true <= interval.high
    # Binomial bounds of 5 % and 95 % in 600 repeats, four standard errors wide.
    assert (np.abs(rejected / repeats - 0.05) < 0.036).all()
    assert abs(covered / repeats - 0.95) < 0.036
