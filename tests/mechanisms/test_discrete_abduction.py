"""Discrete abduction against closed forms: flip rates, posteriors, a naive inverse."""

import numpy as np
import pytest
import torch

from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Variable
from causalcxr.mechanisms.discrete import DiscreteMechanism, GumbelEquation, MonotoneEquation

N = 100_000
KINDS = {"monotone": MonotoneEquation, "gumbel": GumbelEquation}


def draws(n=N, seed=0):
    return Draws(np.arange(n, dtype=np.uint64), seed=seed, stream="X")


def equation(kind, probabilities):
    levels = tuple("abcdef"[: len(probabilities)])
    variable = Variable("X", "ordinal", levels=levels)
    log_probs = torch.tensor([probabilities], dtype=torch.float64).log()
    return KINDS[kind](DiscreteMechanism(variable, [], coupling=kind), log_probs)


def constant(level, n=N):
    return torch.full((n,), float(level), dtype=torch.float64)


def joint(kind, p, q, seed=0):
    """Return the joint distribution of (x, twin) under a coupling."""
    before, after = equation(kind, p), equation(kind, q)
    x = before.predict(before.sample_noise(draws(seed=seed + 1)))
    twin = after.predict(before.abduct(x, draws(seed=seed)))
    k = len(p)
    return torch.bincount((x * k + twin).long(), minlength=k * k).reshape(k, k) / N


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("p", "q"), [(0.2, 0.5), (0.5, 0.2), (0.01, 0.02), (0.9, 0.95)])
def test_flips_of_a_binary_follow_the_closed_form(kind, p, q):
    before, after = equation(kind, [1 - p, p]), equation(kind, [1 - q, q])
    up = after.predict(before.abduct(constant(0), draws())).mean().item()
    down = 1 - after.predict(before.abduct(constant(1), draws())).mean().item()
    tolerance = 4 * 0.5 / N**0.5
    assert up == pytest.approx(max(0, q - p) / (1 - p), abs=tolerance)
    assert down == pytest.approx(max(0, p - q) / p, abs=tolerance)


def test_naive_inverse_returns_the_level_but_never_flips():
    """A single noise per level passes the null intervention, but gives wrong twins."""
    before, after = equation("monotone", [0.8, 0.2]), equation("monotone", [0.5, 0.5])
    x = before.predict(before.sample_noise(draws()))
    naive = torch.where(x == 0, 0.4, 0.9).double()
    assert torch.equal(before.predict(naive), x)
    assert after.predict(naive)[x == 0].mean() == 0.0
    assert after.predict(naive).mean().item() == pytest.approx(0.2, abs=0.006)
    exact = after.predict(before.abduct(x, draws(seed=5)))
    assert exact[x == 0].mean().item() == pytest.approx(0.375, abs=0.007)
    assert exact.mean().item() == pytest.approx(0.5, abs=0.007)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("p", [[0.5, 0.5], [0.6, 0.3, 0.1], [0.998998, 1e-3, 1e-6, 1e-6]])
def test_noise_predicts_its_level(kind, p):
    x = constant(0)
    for level in range(len(p)):
        bound = equation(kind, p)
        u = bound.abduct(x + level, draws(seed=level))
        assert torch.isfinite(u).all()
        assert torch.equal(bound.predict(u), x + level)


@pytest.mark.parametrize("kind", KINDS)
def test_last_digits_do_not_move_a_level(kind):
    p = torch.tensor([0.999, 0.000999, 1e-6], dtype=torch.float64)
    bound, perturbed = equation(kind, p.tolist()), equation(kind, p.tolist())
    perturbed.log_probs = (p * (1 + torch.tensor([1, -1, 1]) * 1e-14)).log()[None]
    for level in range(3):
        u = bound.abduct(constant(level), draws(seed=level))
        assert torch.equal(perturbed.predict(u), constant(level))


def test_gumbel_noise_has_standard_margins():
    bound = equation("gumbel", [0.6, 0.3, 0.1])
    x = bound.predict(bound.sample_noise(draws(seed=1)))
    u = bound.abduct(x, draws(seed=2))
    mean, variance = np.euler_gamma, np.pi**2 / 6
    for column in u.T:
        assert column.mean().item() == pytest.approx(mean, abs=4 * (variance / N) ** 0.5)
        assert column.var().item() == pytest.approx(variance, rel=0.03)
    correlation = torch.corrcoef(u.T)
    assert (correlation - torch.eye(3)).abs().max() < 4.5 / N**0.5


def test_monotone_noise_is_uniform_on_its_cell():
    bound = equation("monotone", [0.6, 0.3, 0.1])
    u = bound.abduct(constant(1), draws()).sort().values
    assert 0.6 < u[0] < u[-1] < 0.9
    cdf = torch.linspace(0, 1, N, dtype=torch.float64)
    assert ((u - 0.6) / 0.3 - cdf).abs().max() < 1.95 / N**0.5


@pytest.mark.parametrize(
    ("kind", "expected"), [("monotone", 0.0), ("gumbel", 0.230)], ids=["comonotone", "gumbel"]
)
def test_joint_of_three_levels_depends_on_the_coupling(kind, expected):
    p, q = [0.6, 0.3, 0.1], [0.3, 0.3, 0.4]
    table = joint(kind, p, q)
    assert table[0, 2].item() == pytest.approx(expected, abs=0.006)
    assert table.sum(1).tolist() == pytest.approx(p, abs=0.007)
    assert table.sum(0).tolist() == pytest.approx(q, abs=0.007)


def test_gumbel_of_two_levels_is_monotone():
    p, q = [0.7, 0.3], [0.45, 0.55]
    monotone, gumbel = joint("monotone", p, q), joint("gumbel", p, q)
    assert (monotone - gumbel).abs().max().item() < 0.008
    assert gumbel[1, 0].item() == 0.0


@pytest.mark.parametrize("kind", KINDS)
def test_unseen_level_is_improbable_but_possible(kind):
    variable = Variable("X", "ordinal", levels=("a", "b", "c"))
    mechanism = DiscreteMechanism(variable, [], coupling=kind)
    x = torch.arange(1000, dtype=torch.float64) % 2
    history = mechanism.fit(x, {}, seed=0)
    assert history.validation == []
    bound = mechanism({})
    assert bound.log_probs.exp()[0].tolist() == pytest.approx([0.5, 0.5, 1e-5], abs=2e-5)
    assert 0 < bound.log_probs.exp()[0, 2] < 1e-4
    u = bound.abduct(constant(2, 100), draws(100))
    assert torch.equal(bound.predict(u), constant(2, 100))
