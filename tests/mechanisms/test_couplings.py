"""Optimal transport and independence between levels, against closed forms; flows over levels."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Graph, Variable
from causalcxr.mechanisms import build
from causalcxr.mechanisms.contract import check_mechanism
from causalcxr.mechanisms.couplings import IndependentEquation, TransportEquation
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.mechanisms.flow import FlowMechanism
from causalcxr.mechanisms.flow_equation import FlowEquation
from causalcxr.mechanisms.transport import draw_winner, heights, masses

N = 20_000
P, Q = [0.6, 0.3, 0.1], [0.3, 0.3, 0.4]


def draws(n=N, seed=0):
    return Draws(np.arange(n, dtype=np.uint64), seed=seed, stream="X")


def log_probs(probabilities):
    return torch.tensor([probabilities], dtype=torch.float64).log()


def equation(kind, probabilities, parents=None):
    variable = Variable("X", "ordinal", levels=tuple("abcdefgh"[: len(probabilities)]))
    return kind(DiscreteMechanism(variable, []), log_probs(probabilities), parents)


def transport(probabilities):
    return equation(TransportEquation, probabilities)


def constant(level, n=N):
    return torch.full((n,), float(level), dtype=torch.float64)


def table(before, after, k=3):
    """Return the joint distribution of (x, twin)."""
    x = before.predict(before.sample_noise(draws(seed=1)))
    twin = after.predict(before.abduct(x, draws()))
    return torch.bincount((x * k + twin).long(), minlength=k * k).reshape(k, k) / N


def sigma(p, n=N):
    return 4 * math.sqrt(p * (1 - p) / n) + 1e-9


def test_heights_of_two_levels_are_the_closed_form():
    p = torch.tensor([[0.9, 0.1], [0.5, 0.5], [0.001, 0.999]], dtype=torch.float64)
    b = heights(p.log())
    expected = math.sqrt(2) * torch.special.ndtri(p[:, 1])
    assert (b[:, 1] - b[:, 0] - expected).abs().max() < 1e-9


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-13.0, 0.0), min_size=2, max_size=8))
def test_masses_of_the_cells_are_the_probabilities(logits):
    k = len(logits)
    p = torch.softmax(torch.tensor([logits], dtype=torch.float64), 1) * (1 - k * 1e-6) + 1e-6
    b = heights(p.log())
    assert abs(b.max().item()) < 1e-9
    s = torch.linspace(-10, 12, 1101, dtype=torch.float64)  # a plain sum, by other nodes
    z = (s - b[0][:, None]).numpy()
    for level in range(k):
        rest = np.delete(stats.norm.cdf(z), level, axis=0).prod(0)
        mass = (stats.norm.pdf(z[level]) * rest).sum() * 0.02
        assert mass == pytest.approx(p[0, level].item(), rel=1e-7)
        assert masses(b)[0, level].item() == pytest.approx(mass, rel=1e-7)


def test_each_distribution_is_solved_independently():
    generator = torch.Generator().manual_seed(0)
    logp = torch.randn(300, 4, generator=generator, dtype=torch.float64).log_softmax(1)
    logp = logp[torch.arange(600) % 300]
    alone = torch.cat([heights(logp[i : i + 1]) for i in range(0, 600, 60)])
    assert (heights(logp)[::60] - alone).abs().max() < 1e-9


def test_winner_of_equal_levels_is_the_maximum_of_normals():
    b = heights(log_probs([0.25] * 4))
    v = (torch.arange(999, dtype=torch.float64) + 1) / 1000
    s = draw_winner(b.expand(999, -1), torch.zeros(999, dtype=torch.long), v)
    assert (torch.special.ndtr(s) ** 4 - v).abs().max() < 1e-9


@pytest.mark.parametrize(("p", "q"), [(0.2, 0.5), (0.5, 0.2), (0.01, 0.02), (0.9, 0.95)])
def test_transport_flips_a_binary_by_the_closed_form(p, q):
    before, after = transport([1 - p, p]), transport([1 - q, q])
    up = after.predict(before.abduct(constant(0), draws())).mean().item()
    down = 1 - after.predict(before.abduct(constant(1), draws())).mean().item()
    assert up == pytest.approx(max(0, q - p) / (1 - p), abs=sigma(max(0, q - p) / (1 - p)))
    assert down == pytest.approx(max(0, p - q) / p, abs=sigma(max(0, p - q) / p))


def test_transport_has_its_own_joint_of_three_levels():
    joint = table(transport(P), transport(Q))
    assert joint[0, 2].item() == pytest.approx(0.2241, abs=sigma(0.2241))
    assert joint.sum(1).tolist() == pytest.approx(P, abs=sigma(0.5))
    assert joint.sum(0).tolist() == pytest.approx(Q, abs=sigma(0.5))
    assert joint[2, 0] == joint[2, 1] == joint[1, 0] == 0  # never left


@pytest.mark.parametrize("p", [[0.5, 0.5], P, [0.998998, 1e-3, 1e-6, 1e-6]])
def test_transport_noise_predicts_its_level(p):
    bound, perturbed = transport(p), transport(p)
    perturbed.log_probs = perturbed.log_probs + torch.linspace(-1, 1, len(p)).double() * 1e-14
    for level in range(len(p)):
        u = bound.abduct(constant(level), draws(seed=level))
        assert torch.isfinite(u).all()
        assert torch.equal(bound.predict(u), constant(level))
        assert torch.equal(perturbed.predict(u), constant(level))


def test_transport_noise_is_standard_normal_and_uncorrelated():
    bound = transport(P)
    x = bound.predict(bound.sample_noise(draws(seed=1)))
    u = bound.abduct(x, draws(seed=2))
    for column in u.T:
        assert stats.kstest(column.numpy(), "norm").pvalue > 1e-4
    products = torch.stack([u[:, 0] * u[:, 1], u[:, 0] * u[:, 2], u[:, 1] * u[:, 2]])
    assert products.mean(1).abs().max() < 4.5 / N**0.5
    squares = (u**2 - 1)[:, :2].prod(1)  # dependence that a correlation would not see
    assert squares.mean().abs() < 4.5 * 2 / N**0.5


def test_transport_posterior_agrees_with_rejection():
    bound = transport(P)
    prior = bound.sample_noise(draws(60_000, seed=3))
    kept = prior[bound.predict(prior) == 2]
    u = bound.abduct(constant(2, len(kept)), draws(len(kept), seed=4))
    for one, two in zip([*kept.T, kept.sum(1)], [*u.T, u.sum(1)], strict=True):
        assert stats.ks_2samp(one.numpy(), two.numpy()).pvalue > 1e-4


def test_independent_twin_ignores_the_facts_under_other_parents():
    facts, other = ({"A": torch.full((N,), a).double()} for a in (0.0, 1.0))
    before = equation(IndependentEquation, P, facts)
    joint = table(before, equation(IndependentEquation, Q, other))
    expected = torch.outer(torch.tensor(P), torch.tensor(Q))
    assert (joint - expected).abs().max() < 4 * 0.45 / N**0.5
    x = before.predict(before.sample_noise(draws(seed=1)))
    u = before.abduct(x, draws())
    assert torch.equal(before.predict(u), x)
    assert torch.equal(equation(IndependentEquation, P, facts).predict(u), x)
    minus = {"A": torch.full((N,), -0.0).double()}  # one number, whatever its sign bit
    assert torch.equal(equation(IndependentEquation, P, minus).predict(u), x)
    lost = {"A": torch.full((N,), torch.nan).double()}
    again = equation(IndependentEquation, P, lost).predict(u)
    assert (again == x).double().mean().item() == pytest.approx(0.46, abs=sigma(0.46))


def test_independent_noise_is_uniform_on_the_square():
    parents = {"A": torch.arange(N).double() % 3}
    bound = equation(IndependentEquation, P, parents)
    x = bound.predict(bound.sample_noise(draws(seed=1)))
    u = bound.abduct(x, draws(seed=2))
    counts = np.histogram2d(*u.T.numpy(), bins=8, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(counts.flatten()).pvalue > 1e-4


@pytest.fixture(scope="module")
def flow_over_levels():
    rng = np.random.default_rng(0)
    sex = torch.tensor(rng.integers(0, 2, 3000) * 1.0)
    drive = torch.tensor(rng.normal(size=3000)) + 3 * sex
    grade = torch.bucketize(drive, torch.tensor([0.5, 1.5, 2.5], dtype=torch.float64)).double()
    graph = Graph.parse("""
variables:
  Sex: {type: binary, levels: [F, M]}
  Grade:
    {type: ordinal, levels: ["0", "1", "2", "3"], parents: [Sex],
     mechanism: {kind: flow, epochs: 10, bins: 4, hidden: 8}}
""")
    mechanism = build(graph["Grade"], [graph["Sex"]])
    mechanism.fit(grade, {"Sex": sex}, seed=0)
    return mechanism, grade, {"Sex": sex}


def test_flow_over_levels_has_the_mass_of_the_levels(flow_over_levels):
    mechanism, grade, parents = flow_over_levels
    part = {"Sex": torch.tensor([0.0, 1.0]).double()}
    for level in range(4):
        mass = mechanism(part).log_prob(constant(level, 2)).exp().tolist()
        for sex in (0, 1):
            seen = (grade[parents["Sex"] == sex] == level).double().mean().item()
            assert mass[sex] == pytest.approx(seen, abs=0.03)
    with pytest.raises(MechanismError, match="positions 0 to 3"):
        mechanism(part).log_prob(torch.tensor([1.0, 4.0]).double())


def test_uniform_lift_fails_the_contract(
    flow_over_levels,
):
    """A uniform lift inside the cell returns every level, but is not a posterior sample."""

    class Lifted(FlowEquation):
        def abduct(self, x, draws):
            lift = torch.from_numpy(draws.uniform()[:, 0])
            inner = 0.98 * (lift - 0.5)
            return self._bind(slice(None))(self.mechanism.quantile(x + inner))

    class Naive(FlowMechanism):
        def forward(self, parents):
            return Lifted(self, self.encode(parents))

    mechanism, grade, parents = flow_over_levels
    men = {"Sex": torch.ones(len(grade)).double()}
    check_mechanism(mechanism, grade, parents, men, calibrated=True)
    naive = Naive(mechanism.variable, mechanism.parents, **mechanism.options)
    naive.load_state_dict(mechanism.state_dict())
    assert torch.equal(naive(parents).predict(naive(parents).abduct(grade, draws(3000))), grade)
    with pytest.raises(MechanismError, match=r"fails the rule: (counterfactual|the pooled)"):
        check_mechanism(naive, grade, parents, men)


def test_flow_refuses_levels_without_an_order():
    with pytest.raises(MechanismError, match="use kind 'discrete'"):
        FlowMechanism(Variable("V", "categorical", levels=("a", "b", "c")), [])


def test_flow_over_levels_returns_an_unseen_level():
    spec = {"kind": "flow", "epochs": 3, "bins": 4, "hidden": 4}
    variable = Variable("X", "ordinal", levels=("a", "b", "c", "d"), mechanism=spec)
    mechanism = build(variable, [])
    mechanism.fit(torch.arange(1000, dtype=torch.float64) % 2, {}, seed=0)
    for level in range(4):
        bound = mechanism({})
        u = bound.abduct(constant(level, 500), draws(500))
        assert torch.isfinite(u).all()
        assert torch.equal(bound.predict(u), constant(level, 500))
        assert bound.log_prob(constant(level, 1)).isfinite().all()
