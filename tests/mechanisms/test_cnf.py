"""The continuous flow: exact inverses, exact densities, and fits of known distributions."""

import numpy as np
import pytest
import torch
from scipy import stats

from causalcxr.common.errors import GraphError, MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Graph, Variable
from causalcxr.mechanisms import build
from causalcxr.mechanisms.cnf import OPTIONS, CNFKernel
from causalcxr.mechanisms.contract import check_mechanism
from causalcxr.radit.solvers import on_lattice

PARENT = Variable("A", "continuous")
SOLVERS = OPTIONS["solver"]


def draws(n, seed=0):
    return Draws(np.arange(n, dtype=np.uint64), seed=seed, stream="X")


def child(parents=(PARENT,), **options):
    fields = {key: options.pop(key) for key in ("resolution", "range") if key in options}
    spec = {"kind": "flow", "transform": "cnf", "hidden": 16, **options}
    names = [p.name for p in parents]
    return build(Variable("X", "continuous", parents=names, mechanism=spec, **fields), parents)


def bent(a, u):
    """A curved mean and a growing spread: no affine equation has this distribution."""
    return torch.sin(2 * a) + (0.3 + 0.4 * a.abs()) * u


def sample(n, seed=0):
    rng = np.random.default_rng(seed)
    return tuple(torch.tensor(rng.normal(size=n)) for _ in range(2))


def random_map(solver, steps, seed=0):
    """A map with weights drawn at random, far from the identity."""
    kernel = CNFKernel(2, hidden=16, solver=solver, ode_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        kernel.out.weight.normal_(0, 0.25, generator=generator)
    context = torch.randn(200, 2, generator=generator, dtype=torch.float64)
    return kernel.bind(context)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 3, 16])
def test_untrained_solver_is_the_identity(solver, steps):
    kernel = CNFKernel(0, hidden=4, solver=solver, ode_steps=steps)
    z = torch.linspace(-50, 50, 101, dtype=torch.float64)
    with torch.no_grad():
        assert torch.equal(kernel.bind(torch.zeros(1, 0).double())(z), z)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("steps", [1, 2, 5, 24])
def test_every_solver_inverts_to_ten_digits(solver, steps):
    z = torch.linspace(-30, 30, 200, dtype=torch.float64)
    with torch.no_grad():
        bound = random_map(solver, steps)
        assert (bound(z) - z).abs().max() > 0.3
        assert (bound.inverse(bound(z)) - z).abs().max().item() < 1e-10


@pytest.mark.parametrize("steps", [1, 2, 5, 24])
def test_reversible_solver_returns_bit_for_bit(steps):
    bound = random_map("reversible", steps)
    z = torch.linspace(-30, 30, 200, dtype=torch.float64)
    pair = bound.carry(z)
    assert torch.equal(bound.carry_back(pair), on_lattice(z))
    assert (pair[:, 0] - bound(z)).abs().max() < 1e-6


def test_gap_of_a_pair_falls_with_the_square_of_the_steps():
    z = torch.linspace(-3, 3, 200, dtype=torch.float64)
    gaps = []
    for steps in (16, 32, 64):
        pair = random_map("reversible", steps).carry(z)
        gaps.append((pair[:, 0] - pair[:, 1]).abs().mean().item())
    assert gaps[0] / gaps[1] == pytest.approx(4, rel=0.3)
    assert gaps[1] / gaps[2] == pytest.approx(4, rel=0.3)


@pytest.mark.parametrize("solver", SOLVERS)
def test_slope_is_that_of_the_discretised_map(solver):
    bound = random_map(solver, 2)
    z = torch.linspace(-4, 4, 200, dtype=torch.float64).requires_grad_()
    u, ladj = bound.call_and_ladj(z)
    (slope,) = torch.autograd.grad(bound(z).sum(), z)
    assert torch.equal(u, bound(z))
    assert torch.allclose(ladj.exp(), slope, rtol=1e-10)


@pytest.mark.parametrize("solver", ["euler", "reversible"])
def test_density_integrates_to_one_with_two_steps(solver):
    a, u = sample(600)
    mechanism = child(solver=solver, ode_steps=2, epochs=3, hidden=8)
    mechanism.fit(bent(a, u), {"A": a}, seed=0)
    x = torch.linspace(-25, 25, 40_001, dtype=torch.float64)
    with torch.no_grad():
        p = mechanism({"A": torch.full_like(x, 0.7)}).log_prob(x).exp()
    assert torch.trapezoid(p, x).item() == pytest.approx(1.0, abs=2e-3)


MATCHING = {"training": "matching", "solver": "rk4", "ode_steps": 8, "epochs": 60}


@pytest.mark.parametrize(
    ("n", "options", "lost"),
    [
        (800, {"epochs": 12}, 0.25),
        pytest.param(4000, {}, 0.06, marks=pytest.mark.slow),
        pytest.param(4000, MATCHING, 0.12, marks=pytest.mark.slow),
    ],
    ids=["small", "likelihood", "matching"],
)
def test_likelihood_and_twins_are_near_the_truth(n, options, lost):
    a, u = sample(n)
    mechanism = child(**options)
    mechanism.fit(bent(a, u), {"A": a}, seed=0)
    b, w = sample(5000, seed=1)
    spread = 0.3 + 0.4 * b.abs()
    with torch.no_grad():
        logp = mechanism({"A": b}).log_prob(bent(b, w)).mean().item()
    truth = stats.norm.logpdf(w.numpy()).mean() - spread.log().mean().item()
    assert truth - lost < logp < truth + 0.02
    b, w = (t[b.abs() < 1.5][:1000] for t in (b, w))
    x = bent(b, w)
    noise = mechanism({"A": b}).abduct(x, draws(len(b)))
    twin = mechanism({"A": b + 0.5}).predict(noise)
    error = (twin - bent(b + 0.5, w)).square().mean().sqrt() / x.std()
    assert error.item() < (0.3 if n < 4000 else 0.12)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"solver": "reversible", "ode_steps": 16},
        {"resolution": 0.25, "range": (-8.0, 8.0)},
        {"resolution": 0.25, "solver": "reversible", "ode_steps": 16},
        {"training": "matching", "solver": "rk4", "ode_steps": 8, "resolution": 0.25},
    ],
    ids=["default", "pair", "lattice", "pair on a lattice", "matching on a lattice"],
)
@pytest.mark.parametrize(
    "n", [400, pytest.param(1500, marks=pytest.mark.slow)], ids=["small", "calibrated"]
)
def test_every_solver_fulfils_the_contract(options, n):
    a, u = sample(n)
    a[::19] = torch.nan
    x = bent(a.nan_to_num(), u)
    if "resolution" in options:
        x = (4 * x).round() / 4
    x[::17] = torch.nan
    mechanism = child(**options, epochs=5, hidden=16 if n == 1500 else 8)
    mechanism.fit(x, {"A": a}, seed=0)
    check_mechanism(mechanism, x, {"A": a}, {"A": a + 0.5}, calibrated=n == 1500)


def test_invalid_option_names_the_remedy():
    with pytest.raises(GraphError, match="option of transform: cnf; add transform: cnf"):
        Graph.parse("variables: {X: {type: continuous, mechanism: {kind: flow, solver: rk4}}}")
    with pytest.raises(GraphError, match="did you mean 'rk4'"):
        child(solver="rk5")
    with pytest.raises(MechanismError, match="ode_steps is 300; expected 1 to 256"):
        child(ode_steps=300)
