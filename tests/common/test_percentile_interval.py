"""Percentile intervals of draws, against numpy; undefined draws are left out, counted, limited."""

import numpy as np
import pytest

from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import draw_quantile, percentile_interval


@pytest.mark.parametrize("level", [0.5, 0.8, 0.95, 0.99])
@pytest.mark.parametrize("n", [1, 2, 7, 2000])
def test_bounds_are_bit_exact_with_numpy(n, level):
    draws = np.random.default_rng(n).exponential(size=(n, 4, 3))
    interval = percentile_interval(draws, level)
    ends = np.quantile(draws, [(1 - level) / 2, (1 + level) / 2], axis=0)
    assert np.array_equal([interval.low, interval.high], ends)
    assert not interval.undefined.any()


def test_undefined_draws_up_to_5_percent_are_left_out_and_counted():
    draws = np.random.default_rng(0).normal(size=(1000, 2))
    draws[:50, 1] = np.nan
    interval = percentile_interval(draws)
    ends = np.nanquantile(draws, [(1 - 0.95) / 2, (1 + 0.95) / 2], axis=0)
    assert np.array_equal([interval.low, interval.high], ends)
    assert interval.undefined.tolist() == [0, 50]


def test_more_undefined_draws_give_no_interval():
    draws = np.random.default_rng(0).normal(size=(1000, 3))
    draws[:51, 1], draws[:, 2] = np.nan, np.nan
    interval = percentile_interval(draws)
    assert np.isnan([interval.low, interval.high]).tolist() == [[False, True, True]] * 2
    assert interval.undefined.tolist() == [0, 51, 1000]


@pytest.mark.parametrize(("positives", "has_interval"), [(2, False), (3, True)])
def test_sensitivity_has_an_interval_from_three_positive_patients_on(positives, has_interval):
    # Samples of 100 patients without a positive have no sensitivity: 0.98^100 = 13 % of them with
    # two positives, 0.97^100 = 4.8 % with three.
    random = np.random.default_rng(0)
    counts = random.multinomial(100, np.full(100, 0.01), size=20_000)[:, :positives]
    with np.errstate(invalid="ignore"):
        draws = counts[:, 0] / counts.sum(1)
    assert np.isnan(draws).mean() == pytest.approx((1 - positives / 100) ** 100, abs=0.01)
    assert np.isfinite(percentile_interval(draws).low) == has_interval


def test_no_draws_give_no_interval():
    interval = percentile_interval(np.empty((0, 2)))
    assert np.isnan([interval.low, interval.high]).all()


def test_each_figure_has_its_own_probability():
    draws = np.random.default_rng(0).normal(size=(500, 3))
    draws[:20, 2] = np.nan
    q = np.array([0.1, np.nan, 0.9])
    expected = [np.quantile(draws[:, 0], 0.1), np.nan, np.nanquantile(draws[:, 2], 0.9)]
    assert np.array_equal(draw_quantile(draws, q), expected, equal_nan=True)


@pytest.mark.parametrize("level", [0, 1, 95])
def test_a_level_outside_0_and_1_is_refused(level):
    with pytest.raises(CausalCXRError, match=f"level {level} is not above 0 and below 1"):
        percentile_interval(np.ones(3), level)
