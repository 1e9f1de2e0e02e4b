"""Correlated normal scores: conditional distributions, and scores under another cause."""

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal, norm

from causalcxr.scm.questions.confounding_bounds import level_bounds, reweighted
from causalcxr.scm.questions.correlated_noise import conditional_probability, moved_scores

INTERVALS = [(-np.inf, 0.3), (0.3, np.inf), (-0.5, 0.2), (1.5, np.inf), (-np.inf, -2.5)]


def column(value: float, n: int = 1) -> torch.Tensor:
    return torch.full((n,), value, dtype=torch.float64)


@pytest.mark.parametrize("rho", [0.2, -0.6, 0.9, -0.95])
@pytest.mark.parametrize("interval", INTERVALS)
def test_conditional_probability_equals_that_of_scipy(rho, interval):
    def joint(h: float, k: float) -> float:
        ends = [h, float(np.clip(k, -9, 9))]
        return multivariate_normal.cdf(ends, cov=[[1, rho], [rho, 1]], abseps=1e-12)

    low, high = interval
    for u in (-2.5, 0.0, 1.2):
        expected = (joint(u, high) - joint(u, low)) / (norm.cdf(high) - norm.cdf(low))
        p = conditional_probability(column(u), column(low), column(high), rho)
        assert p.item() == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("rho", [0.4, -0.95])
@pytest.mark.parametrize("interval", INTERVALS)
def test_scores_return_if_the_cause_returns(rho, interval):
    v, other = torch.linspace(-7, 7, 141, dtype=torch.float64), INTERVALS[0]
    ends = tuple(column(end, 141) for end in interval)
    assert torch.allclose(moved_scores(v, ends, ends, rho), v, atol=1e-7)
    there = moved_scores(v, ends, tuple(column(end, 141) for end in other), rho)
    assert (there.diff() >= 0).all()


def test_zero_correlation_returns_the_same_bits():
    v, one = torch.randn(20, dtype=torch.float64), column(1.0, 20)
    assert moved_scores(v, (-one, one), (one, 2 * one), 0.0) is v


def test_two_numbers_have_the_closed_form():
    v, s = torch.randn(9, dtype=torch.float64), torch.randn(9, dtype=torch.float64)
    moved = moved_scores(v, (s, s), (s + 1, s + 1), 0.6)
    assert torch.allclose(moved, v - 0.6 / 0.8, atol=1e-12)


def test_outcome_under_a_set_cause_has_its_own_marginal_distribution():
    """Given a binary cause and rho, P(Y under x) is that of the noise without selection."""
    rho, n, threshold = 0.42, 4001, 0.3
    v = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    cells = [(column(-np.inf, n), column(threshold, n)), (column(threshold, n), column(np.inf, n))]
    share = [norm.cdf(threshold), norm.sf(threshold)]
    for x, cut in ((0, 0.8), (1, 0.2)):
        # The learned P(y = 0 | x), which selection by the hidden cause has moved.
        observed = conditional_probability(column(cut), *(end[:1] for end in cells[x]), rho)
        learned = torch.special.ndtri(observed)
        after = [moved_scores(v, cells[fact], cells[x], rho) for fact in (0, 1)]
        p = sum(w * (each > learned).double().mean() for w, each in zip(share, after, strict=True))
        assert p.item() == pytest.approx(norm.sf(cut), abs=3e-4)
        assert abs((1 - observed).item() - norm.sf(cut)) > 0.05


def test_reweighted_mean_is_the_sharp_bound_of_a_normal_variable():
    n = 200_000
    v = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)
    assert reweighted(v, 1.0) is v
    for odds in (1.5, 4.0):
        density = norm.pdf(norm.ppf(odds / (odds + 1)))
        expected = odds * density - density / odds
        assert reweighted(v, odds).mean().item() == pytest.approx(expected, abs=1e-4)


def test_bounds_of_levels_are_those_of_the_marginal_sensitivity_model():
    p = torch.tensor([0.2, 0.7], dtype=torch.float64)
    lower, upper = level_bounds(p, 2.0)
    assert lower.tolist() == pytest.approx([0.1, 0.4])
    assert upper.tolist() == pytest.approx([0.4, 0.85])
    assert torch.equal(torch.stack(level_bounds(p, 1.0)), torch.stack((p, p)))
    assert [side.tolist() for side in level_bounds(p, np.inf)] == [[0.0, 0.0], [1.0, 1.0]]
