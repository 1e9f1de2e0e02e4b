"""Paired tests of the audit, against enumeration, scipy and statsmodels."""

from itertools import product

import numpy as np
import pytest
from scipy.stats import permutation_test, wilcoxon
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from causalcxr.audit.bootstrap import patient_counts
from causalcxr.audit.paired_tests import (
    bootstrap_mean,
    mcnemar,
    patient_means,
    sign_flip,
    signed_rank,
)
from causalcxr.common.errors import CausalCXRError

SIDES = ["two-sided", "greater", "less"]


def test_each_patient_has_one_mean():
    effects = [1.0, 5.0, 3.0, np.nan, np.nan]
    patients = ["b", "a", "b", "a", "c"]
    assert patient_means(effects, patients)[:2].tolist() == [2.0, 5.0]
    assert np.isnan(patient_means(effects, patients)[2])
    test = sign_flip(effects, patients)
    assert (test.patients, test.estimate) == (2, 3.5)
    # More rows of one patient move neither the estimate nor p.
    more = sign_flip(effects + [5.0] * 50, patients + ["a"] * 50)
    assert (more.estimate, more.p) == (test.estimate, test.p)


@pytest.mark.parametrize("side", SIDES)
def test_sign_flip_of_few_patients_is_exact(side):
    effects = np.random.default_rng(3).normal(0.3, 1, 9).round(1)
    great = {"two-sided": abs, "greater": float, "less": lambda x: -x}[side]
    every = [great(float(np.dot(s, effects))) for s in product([1, -1], repeat=9)]
    expected = np.mean([x >= great(effects.sum()) - 1e-9 for x in every])
    found = sign_flip(np.append(effects, [0.0, np.nan]), alternative=side)
    assert found.exact
    assert found.p == pytest.approx(expected, abs=1e-12)
    assert found.patients == 10
    scipys = permutation_test(
        (effects, np.zeros(9)),
        lambda a, b, axis: np.mean(a - b, axis=axis),
        permutation_type="samples",
        alternative=side,
        vectorized=True,
        n_resamples=2**9,
    )
    if side != "two-sided":  # scipy's is twice the smaller side
        assert found.p == pytest.approx(scipys.pvalue, abs=1e-12)


def test_sign_flip_of_many_patients_is_near_exact():
    effects = np.random.default_rng(0).normal(0.25, 1, 15)
    all_signs = 1 - 2 * ((np.arange(2**15)[:, None] >> np.arange(15)) & 1)
    exact = (np.abs(all_signs @ effects) >= abs(effects.sum()) - 1e-9).mean()
    found = sign_flip(effects, draws=9999, seed=4)
    assert not found.exact
    assert abs(found.p - exact) < 4 * np.sqrt(exact * (1 - exact) / 9999)
    assert found.p == sign_flip(effects, draws=9999, seed=4).p != sign_flip(effects, seed=5).p
    assert sign_flip(np.full(40, 1.0), draws=99).p == 1 / 100  # never zero


def test_clustered_rows_keep_the_test_level():
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(12), 5)
    tests = [
        (sign_flip(e, patients).p, signed_rank(e, patients).p, sign_flip(e, draws=199, seed=1).p)
        for e in (rng.normal(size=(400, 12))[:, patients] + 0.2 * rng.normal(size=(400, 60)))
    ]
    clustered, ranked, naive = (np.array(tests) < 0.05).mean(0)
    bound = 4 * np.sqrt(0.05 * 0.95 / 400)
    assert abs(clustered - 0.05) < bound
    assert abs(ranked - 0.05) < bound
    assert naive > 0.25  # rows taken for patients


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("n", [8, 80])
def test_signed_rank_equals_scipy(n, side):
    effects = np.random.default_rng(n).normal(0.2, 1, n)
    found = signed_rank(effects, alternative=side)
    assert found.p == pytest.approx(wilcoxon(effects, alternative=side).pvalue, abs=1e-10)
    assert found.exact == (n == 8)
    tied = effects.round(0)
    assert signed_rank(tied, alternative=side).p == pytest.approx(
        wilcoxon(tied[tied != 0], alternative=side, method="asymptotic").pvalue, abs=1e-10
    )


def test_tests_without_effects_or_patients():
    for test in (sign_flip, signed_rank):
        assert test([0.0, 0.0, np.nan]).p == 1
        assert np.isnan(test([np.nan]).p)
        assert np.isnan(test([]).estimate)
        with pytest.raises(CausalCXRError, match="alternative 'up'"):
            test([1.0], alternative="up")
        with pytest.raises(CausalCXRError, match="3 rows"):
            test([1.0, 2.0, 3.0], [1, 2])
        with pytest.raises(CausalCXRError, match="row 1 has no patient"):
            test([1.0, 2.0], ["a", None])


@pytest.mark.parametrize("seed", range(5))
def test_mcnemar_equals_statsmodels(seed):
    rng = np.random.default_rng(seed)
    before, after = rng.random((2, 60)) < [[0.3], [0.45]]
    cross = np.array([[np.sum((before == i) & (after == j)) for j in (0, 1)] for i in (0, 1)])
    found = mcnemar(before, after)
    assert (found.up, found.down) == (cross[0, 1], cross[1, 0])
    assert found.p == pytest.approx(statsmodels_mcnemar(cross, exact=True).pvalue, abs=1e-10)
    bounds = proportion_confint(found.up, found.up + found.down, method="beta")
    assert (found.low, found.high) == pytest.approx(bounds, abs=1e-10)


def test_mcnemar_gives_each_patient_one_vote():
    before = np.array([0, 0, 1, 0, 1, 0, 1, np.nan, 1])
    after = np.array([1, 1, 0, 1, 0, 0, 1, 1, 0])
    patients = ["a", "a", "a", "b", "b", "c", "c", "c", "d"]
    found = mcnemar(before, after, patients)
    assert (found.up, found.down, found.tied, found.patients) == (1, 1, 1, 4)
    assert (found.records_up, found.records_down, found.p) == (3, 3, 1)


def test_mcnemar_without_flips_or_pairs():
    still = mcnemar([0, 1], [0, 1])
    assert (still.p, still.patients) == (1, 2)
    assert np.isnan(still.share_up)
    assert np.isnan(mcnemar([np.nan], [1]).p)
    one_way = mcnemar([0, 0, 0], [1, 1, 1])
    assert (one_way.share_up, one_way.high, one_way.p) == (1, 1, 0.25)
    with pytest.raises(CausalCXRError, match="neither 0 nor 1"):
        mcnemar([0.3], [1])
    with pytest.raises(CausalCXRError, match="give pairs"):
        mcnemar([0, 1], [1])


def test_bootstrap_mean_equals_that_of_the_drawn_patients():
    rng = np.random.default_rng(0)
    patients, effects = rng.integers(0, 30, 200), rng.normal(size=(200, 2))
    effects[:5] = np.nan
    found = bootstrap_mean(effects, patients, draws=40, seed=3)
    means = patient_means(effects, patients)
    for draw, counts in zip(found.draws, patient_counts(len(means), range(40), 3), strict=True):
        assert draw == pytest.approx(np.repeat(means, counts, axis=0).mean(0), abs=1e-12)
    assert found.estimate == pytest.approx(means.mean(0), abs=1e-12)
    single = bootstrap_mean(effects[:, 0], patients, draws=40, seed=3)
    assert single.draws == pytest.approx(found.draws[:, 0], abs=1e-12)
    assert np.isnan(bootstrap_mean([np.nan, np.nan], draws=3).estimate)


def test_interval_of_a_clustered_mean_covers():
    rng = np.random.default_rng(1)
    patients, hits = np.repeat(np.arange(60), 4), 0
    for seed in range(120):
        effects = 0.5 + rng.normal(size=60)[patients] + 0.3 * rng.normal(size=240)
        interval = bootstrap_mean(effects, patients, draws=200, seed=seed).interval()
        hits += interval.low <= 0.5 <= interval.high
    assert 0.89 < hits / 120 < 0.985
