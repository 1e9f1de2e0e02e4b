"""Continuous mechanisms against closed forms: counterfactuals, tails, the lattice, the inverse.

The slow tests measure the accuracy of long fits; each has a small one in the fast suite.
"""

import numpy as np
import pytest
import torch
from scipy import stats

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Variable
from causalcxr.mechanisms import build
from causalcxr.mechanisms.cells import log_mass, truncated_normal
from causalcxr.mechanisms.cnf import CNFKernel
from causalcxr.mechanisms.quantile import QuantileNormal, Standard, is_skewed
from causalcxr.mechanisms.spline import SplineMap

PARENT = Variable("A", "continuous")


def draws(n, seed=0):
    return Draws(np.arange(n, dtype=np.uint64), seed=seed, stream="X")


def child(**fields):
    return build(Variable("X", "continuous", parents=["A"], **fields), [PARENT])


FAST = {"kind": "flow", "epochs": 8, "bins": 4, "hidden": 8}
LATTICE = {"kind": "flow", "epochs": 1, "bins": 4, "hidden": 4}


def fitted(f, n=20_000, **fields):
    rng = np.random.default_rng(0)
    a, u = torch.tensor(rng.normal(size=n)), torch.tensor(rng.normal(size=n))
    mechanism = child(**fields)
    mechanism.fit(f(a, u), {"A": a}, seed=0)
    return mechanism, a[:2000], u[:2000]


def rmse(mechanism, f, a, u, shift=1.0):
    """The error of the twin under do(A = a + shift), over the standard deviation of x."""
    with torch.no_grad():
        noise = mechanism({"A": a}).abduct(f(a, u), draws(len(a)))
        twin = mechanism({"A": a + shift}).predict(noise)
    truth = f(a + shift, u)
    return ((twin - truth).square().mean().sqrt() / f(a, u).std()).item()


def linear(a, u):
    return 2 * a + u


@pytest.fixture(scope="module")
def skewed_flow():
    """Return a flow fitted to 1,500 records of a skewed variable."""
    return fitted(skewed, n=1500, mechanism=FAST)


def skewed(a, u):
    return torch.exp(0.5 * a + 0.8 * u)


@pytest.mark.parametrize(
    ("n", "options"),
    [(1500, FAST), pytest.param(20_000, "flow", marks=pytest.mark.slow)],
    ids=["small", "large"],
)
def test_linear_gaussian_counterfactual_is_the_closed_form(n, options):
    mechanism, a, u = fitted(linear, n=n, mechanism=options)
    inner = (a + 1).abs() < 2.5
    assert rmse(mechanism, linear, a[inner], u[inner]) < 0.03
    noise = mechanism({"A": a}).abduct(linear(a, u), draws(len(a)))
    assert (noise - u).square().mean().sqrt().item() < 0.08
    logp = mechanism({"A": a}).log_prob(linear(a, u)).mean().item()
    truth = -0.5 * np.log(2 * np.pi) - 0.5 * u.square().mean().item()
    assert logp == pytest.approx(truth, abs=0.02)


def test_skewed_variable_is_fitted(skewed_flow):
    mechanism, a, u = skewed_flow
    common = ((a + 1).abs() < 2) & (u.abs() < 1.5)
    assert rmse(mechanism, skewed, a[common], u[common]) < 0.08


@pytest.mark.slow  # 20,000 records
def test_tail_of_a_skewed_variable_is_fitted():
    mechanism, a, u = fitted(skewed)
    inner = (a + 1).abs() < 2.5
    common = inner & (u.abs() < 2)
    assert rmse(mechanism, skewed, a[common], u[common]) < 0.08
    assert rmse(mechanism, skewed, a[inner], u[inner]) < 0.25  # one patient in 2,000 makes this
    tail = u.abs() > 1.645
    noise = mechanism({"A": a}).abduct(skewed(a, u), draws(len(a)))
    assert (noise - u)[tail].square().mean().sqrt().item() < 0.15


def test_values_far_outside_the_training_range_return(skewed_flow):
    mechanism, _, _ = skewed_flow
    x = torch.tensor([-1e4, -50.0, 1e-3, 700.0, 1e5], dtype=torch.float64)
    bound = mechanism({"A": torch.zeros(5, dtype=torch.float64)})
    u = bound.abduct(x, draws(5))
    assert torch.isfinite(u).all()
    assert (u.diff() > 0).all()
    assert torch.allclose(bound.predict(u), x, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("transform", ["spline", "cnf"])
def test_lattice_values_return_bit_for_bit(transform):
    spec = {"kind": "flow", "transform": transform, "epochs": 2, "hidden": 8}
    fields = {"n": 1000, "resolution": 0.1, "range": (0.0, 20.0), "mechanism": spec}
    mechanism, *_ = fitted(lambda a, u: (8 + a + u).mul(10).round().div(10).clamp(0, 20), **fields)
    x = torch.arange(201, dtype=torch.float64) / 10
    bound = mechanism({"A": torch.linspace(-4, 4, 201, dtype=torch.float64)})
    u = bound.abduct(x, draws(201))
    assert torch.equal(bound.predict(u), x)
    assert not torch.equal(u, bound.abduct(x, draws(201, seed=1)))


def test_lattice_masses_sum_to_one():
    fields = {"n": 1000, "resolution": 1.0, "range": (0.0, 12.0), "mechanism": LATTICE}
    mechanism, *_ = fitted(lambda a, u: (6 + a + 2 * u).round().clamp(0, 12), **fields)
    x = torch.arange(13, dtype=torch.float64)
    total = mechanism({"A": torch.full((13,), 0.7).double()}).log_prob(x).exp().sum().item()
    assert total == pytest.approx(1.0, abs=1e-12)


def test_density_integrates_to_one(skewed_flow):
    mechanism, *_ = skewed_flow
    x = torch.linspace(-30, 150, 400_001, dtype=torch.float64)
    with torch.no_grad():
        p = mechanism({"A": torch.full_like(x, 0.3)}).log_prob(x).exp()
    assert torch.trapezoid(p, x).item() == pytest.approx(1.0, abs=2e-3)


def test_truncated_normal_in_both_tails():
    v = torch.linspace(0.001, 0.999, 500, dtype=torch.float64)
    for low, high in ((-9.0, -8.5), (8.5, 9.0), (-0.1, 0.2), (-np.inf, -6.0), (30.0, 30.1)):
        ends = [torch.full_like(v, end) for end in (low, high)]
        u = truncated_normal(*ends, v)
        assert (u > low).all()
        assert (u < high).all()
        expected = torch.tensor(stats.truncnorm(low, high).ppf(v.numpy()))
        assert (u - expected).abs().max().item() < 2e-4
        mass = log_mass(*ends)[0].item()
        assert mass == pytest.approx(
            stats.norm.logsf(-high)
            + np.log1p(-np.exp(stats.norm.logcdf(low) - stats.norm.logcdf(high)))
            if high < 0
            else stats.norm.logsf(low)
            + np.log1p(-np.exp(stats.norm.logsf(high) - stats.norm.logsf(low))),
            abs=1e-9,
        )


def test_spline_inverts_to_the_last_digits():
    generator = torch.Generator().manual_seed(0)
    theta = torch.randn(4000, 49, generator=generator, dtype=torch.float64)
    z = 4 * torch.randn(4000, generator=generator, dtype=torch.float64)
    bound = SplineMap(theta)
    u, ladj = bound.call_and_ladj(z.requires_grad_())
    (slope,) = torch.autograd.grad(u.sum(), z)
    assert torch.allclose(slope.log(), ladj, atol=1e-9)
    assert (bound.inverse(u) - z).abs().max().item() < 1e-11


def test_ode_inverts_to_the_last_digits():
    kernel = CNFKernel(2, hidden=16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        kernel.out.weight.normal_(0, 0.5, generator=generator)
    context = torch.randn(300, 2, generator=generator, dtype=torch.float64)
    z = torch.linspace(-30, 30, 300, dtype=torch.float64)
    with torch.no_grad():
        bound = kernel.bind(context)
        u, ladj = bound.call_and_ladj(z)
        assert (bound.inverse(u) - z).abs().max().item() < 1e-9
        h = 1e-5
        slope = (bound(z + h) - bound(z - h)) / (2 * h)
    assert torch.allclose(slope.log(), ladj, atol=1e-5)


def test_ode_without_inverse_returns_no_value():
    kernel = CNFKernel(0, hidden=4)
    with torch.no_grad():
        kernel.out.bias.fill_(torch.nan)
        with pytest.raises(MechanismError, match="could not be inverted in 3 of 3 rows"):
            kernel.bind(torch.zeros(1, 0).double()).inverse(torch.zeros(3).double())


@pytest.mark.parametrize(
    ("n", "hidden", "epochs", "tolerance"),
    [(1000, 8, 8, 0.3), pytest.param(8000, 24, 30, 0.12, marks=pytest.mark.slow)],
    ids=["small", "large"],
)
def test_ode_counterfactual_is_that_of_the_spline(n, hidden, epochs, tolerance):
    spec = {"kind": "flow", "transform": "cnf", "hidden": hidden, "epochs": epochs}
    mechanism, a, u = fitted(linear, n=n, mechanism=spec)
    inner = ((a + 1).abs() < 2.0).nonzero()[:300, 0]
    assert rmse(mechanism, linear, a[inner], u[inner]) < tolerance
    x = linear(a, u)[:300]
    bound = mechanism({"A": a[:300]})
    assert (bound.predict(bound.abduct(x, draws(300))) - x).abs().max().item() < 1e-8


@pytest.mark.parametrize(
    "column",
    [[3.5] * 50, [0.0] * 50, [0.0, 1.0] * 50, [1.0], [1e6, 1e6 + 1e-7] * 20],
    ids=["constant", "zero", "two values", "one row", "nearly constant"],
)
def test_quantile_map_of_a_degenerate_column_is_invertible(column):
    x = torch.tensor(column, dtype=torch.float64)
    quantile = QuantileNormal()
    quantile.fit(x)
    z = quantile(x)
    assert torch.isfinite(z).all()
    assert (quantile.slope > 0).all()
    assert torch.allclose(quantile.inverse(z), x, rtol=1e-13, atol=1e-13)
    root = build(Variable("X", "continuous"), [])
    root.fit(x, {}, seed=0)
    assert torch.allclose(root({}).predict(root({}).abduct(x, draws(len(x)))), x, rtol=1e-9)


def test_quantile_map_of_a_heavy_tail_is_normal_and_exact():
    x = torch.tensor(np.random.default_rng(0).standard_t(2, 20_000))
    quantile = QuantileNormal()
    quantile.fit(x)
    z = quantile(x)
    assert z.mean().item() == pytest.approx(0, abs=0.02)
    assert torch.quantile(z, 0.95).item() == pytest.approx(1.645, abs=0.03)
    assert (quantile.inverse(z) - x).abs().max().item() < 1e-10
    h = 1e-7
    slope = ((quantile(x + h) - quantile(x - h)) / (2 * h)).log()
    assert (slope - quantile.log_derivative(x)).abs().median().item() < 1e-6


@pytest.mark.parametrize("form", ["line", "log"])
def test_plain_forms_are_the_closed_form(form):
    x = torch.tensor(np.random.default_rng(0).lognormal(1.0, 0.5, 5000))
    y = x.log() if form == "log" else x
    quantile = QuantileNormal()
    quantile.fit(x, form=form)
    z = quantile(x)
    assert torch.allclose(z, (y - y.mean()) / y.std(correction=0), atol=1e-12)
    assert torch.allclose(quantile.inverse(z), x, rtol=1e-12)
    slope = -y.std(correction=0).log() - (x.log() if form == "log" else 0.0)
    assert torch.allclose(quantile.log_derivative(x), slope.expand_as(x), atol=1e-12)


def test_log_form_keeps_twins_positive_and_returns_negative_values():
    x = torch.tensor(np.random.default_rng(0).lognormal(1.0, 0.5, 5000))
    quantile = QuantileNormal()
    quantile.fit(x, form="log")
    z = torch.linspace(-15, 15, 1001, dtype=torch.float64)
    assert (quantile.inverse(z) > 0).all()
    odd = torch.tensor([-2.0, -1e-3, 0.0, 1e-9, 1e9], dtype=torch.float64)
    assert (quantile(odd).diff() > 0).all()
    assert torch.allclose(quantile.inverse(quantile(odd)), odd, rtol=1e-9, atol=1e-9)
    h = 1e-9
    slope = ((quantile(odd[:3] + h) - quantile(odd[:3] - h)) / (2 * h)).log()
    assert torch.allclose(quantile.log_derivative(odd[:3]), slope, atol=1e-4)


def test_skewed_parent_enters_as_its_standardised_logarithm():
    normal = torch.tensor(np.random.default_rng(0).normal(size=5000))
    for x, y in ((normal, normal), ((normal / 2).exp(), normal / 2)):
        assert is_skewed(x) == (y is not x)
        standard = Standard()
        standard.fit(torch.cat((x, torch.tensor([torch.nan]))))
        expected = (y - y.mean()) / y.std(correction=0)
        assert torch.allclose(standard(x), expected, atol=1e-12)
    constant = Standard()
    constant.fit(torch.full((5,), 3.0, dtype=torch.float64))
    assert constant(torch.tensor([3.0, 6.0]).double()).tolist() == [0.0, 1.0]


@pytest.mark.parametrize("additive", [True, False])
def test_parents_move_only_the_location_under_additive_noise(additive):
    scale = (lambda a: 1.0) if additive else torch.exp
    spec = {"kind": "flow", "epochs": 6, "bins": 4, "hidden": 8}
    mechanism, *_ = fitted(lambda a, u: 2 * a + scale(a) * u, n=1000, mechanism=spec)
    conditioner = mechanism.kernel.conditioner
    assert conditioner.straight.weight[0].any()
    assert bool(conditioner.out.weight[1:].any()) is not additive
    value = mechanism.encoder.flags.logical_not()
    assert bool(conditioner.straight.weight[1:, value].any()) is not additive
