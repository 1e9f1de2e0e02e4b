"""Multiple testing, against statsmodels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.multitest import multipletests

from causalcxr.audit.multiple_testing import benjamini_hochberg, holm
from causalcxr.common.errors import CausalCXRError

BOTH = [(holm, "holm"), (benjamini_hochberg, "fdr_bh")]


@pytest.mark.parametrize(("ours", "method"), BOTH)
@pytest.mark.parametrize("n", [1, 12, 80])
def test_adjusted_p_equals_statsmodels(ours, method, n):
    rng = np.random.default_rng(n)
    p = (rng.random(n) ** 3).round(2 if n < 80 else 6)  # with ties and zeros
    reject, adjusted, *_ = multipletests(p, method=method)
    found = ours(p)
    assert found.size == n
    assert np.abs(found.adjusted - adjusted).max() < 1e-10
    assert (found.rejected() == reject).all()
    holes = np.sort(rng.integers(0, n + 1, 5))
    more = ours(np.insert(p, holes, np.nan))
    assert more.size == n
    assert np.array_equal(more.adjusted, np.insert(found.adjusted, holes, np.nan), True)
    assert more.rejected().sum() == reject.sum()


# Cubes of sixtieths: ties are common, and many are small; -1 is undefined.
@settings(deadline=None)
@given(st.lists(st.integers(-1, 60), max_size=25), st.randoms(use_true_random=False))
def test_adjusted_p_keeps_order_and_holm_is_stricter(p, random):
    p = np.array([np.nan if x < 0 else (x / 60) ** 3 for x in p], dtype=float)
    known, order = ~np.isnan(p), np.argsort(p, kind="stable")[: (~np.isnan(p)).sum()]
    strict, loose = holm(p).adjusted, benjamini_hochberg(p).adjusted
    for adjusted in (strict, loose):
        assert (np.isnan(adjusted) == ~known).all()
        assert (adjusted[known] >= p[known]).all()
        assert (np.diff(adjusted[order]) >= 0).all()
        assert (adjusted[known] <= 1).all()
    assert (strict[known] >= loose[known] - 1e-15).all()  # rounding
    shuffled = np.array(random.sample(range(len(p)), len(p)), dtype=int)
    assert np.array_equal(holm(p[shuffled]).adjusted, strict[shuffled], equal_nan=True)


@pytest.mark.parametrize("ours", [holm, benjamini_hochberg])
def test_p_value_outside_0_and_1_is_refused(ours):
    with pytest.raises(CausalCXRError, match=r"number 1 is 1\.2"):
        ours([0.1, 1.2])


def test_holm_bounds_the_familywise_error():
    p = np.random.default_rng(0).random((4000, 8))
    false = np.mean([holm(row).rejected().any() for row in p])
    assert abs(false - (1 - (1 - 0.05 / 8) ** 8)) < 4 * np.sqrt(0.05 * 0.95 / 4000)


def test_benjamini_hochberg_bounds_the_false_discovery_rate():
    rng = np.random.default_rng(1)
    p = rng.random((3000, 20))
    p[:, :10] = p[:, :10] ** 6
    rejected = np.array([benjamini_hochberg(row).rejected(0.2) for row in p])
    share = rejected[:, 10:].sum(1) / np.maximum(rejected.sum(1), 1)
    assert rejected[:, :10].mean() > 0.5
    assert share.mean() == pytest.approx(0.1, abs=4 * share.std() / np.sqrt(3000))
