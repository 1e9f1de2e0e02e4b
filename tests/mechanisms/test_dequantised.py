"""The dequantised flow between levels: distribution of noise and twins, and exact return."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from causalcxr import SCM, Cohort, Graph
from causalcxr.common.errors import GraphError, MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Variable
from causalcxr.mechanisms import build
from causalcxr.mechanisms import dequantised as flow
from causalcxr.mechanisms.contract import check_mechanism
from causalcxr.mechanisms.couplings import DequantisedEquation
from causalcxr.mechanisms.discrete import DiscreteMechanism

N = 10_000
P, Q = [0.6, 0.3, 0.1], [0.3, 0.3, 0.4]


def draws(n=N, seed=0):
    return Draws(np.arange(n, dtype=np.uint64), seed=seed, stream="X")


def log_probs(probabilities):
    return torch.tensor([probabilities], dtype=torch.float64).log()


def equation(probabilities):
    variable = Variable("X", "ordinal", levels=tuple("abcdefgh"[: len(probabilities)]))
    return DequantisedEquation(DiscreteMechanism(variable, []), log_probs(probabilities))


def constant(level, n=N):
    return torch.full((n,), float(level), dtype=torch.float64)


def sigma(p, n=N):
    return 4 * (p * (1 - p) / n) ** 0.5 + 5e-4  # the second is the solver's


@pytest.mark.parametrize(("p", "q"), [(0.2, 0.5), (0.5, 0.2), (0.01, 0.02), (0.9, 0.95)])
def test_flips_of_a_binary_are_the_closed_form(p, q):
    before, after = equation([1 - p, p]), equation([1 - q, q])
    up = after.predict(before.abduct(constant(0), draws())).mean().item()
    down = 1 - after.predict(before.abduct(constant(1), draws())).mean().item()
    assert up == pytest.approx(max(0, q - p) / (1 - p), abs=sigma(max(0, q - p) / (1 - p)))
    assert down == pytest.approx(max(0, p - q) / p, abs=sigma(max(0, p - q) / p))


@pytest.mark.parametrize(
    "p", [[0.5, 0.5], P, [0.997, 1e-3, 1e-3, 1e-3], [0.99999, 5e-6, 5e-6], [1 / 6] * 6]
)
def test_noise_predicts_its_level(p):
    bound, perturbed = equation(p), equation(p)
    perturbed.log_probs = perturbed.log_probs + torch.linspace(-1, 1, len(p)).double() * 1e-14
    for level in range(len(p)):
        u = bound.abduct(constant(level, 1000), draws(1000, seed=level))
        assert torch.isfinite(u).all()
        assert torch.equal(bound.predict(u), constant(level, 1000))
        assert torch.equal(perturbed.predict(u), constant(level, 1000))


@pytest.mark.parametrize("p", [P, [0.98, 0.01, 0.01], [0.25] * 4])
def test_prior_noise_gives_the_probabilities(p):
    x = equation(p).predict(equation(p).sample_noise(draws()))
    for level, mass in enumerate(p):
        assert (x == level).double().mean().item() == pytest.approx(mass, abs=sigma(mass))


def test_lifts_follow_the_distribution_that_abduction_uses():
    u = torch.from_numpy(draws(seed=5).normal(3))
    y = flow.to_lift(u, log_probs(P))
    for level in range(3):
        cell = y[y.argmax(1) == level]
        for size in cell.abs().T:
            assert stats.kstest(size.numpy(), "halfnorm").pvalue > 1e-4
        signs = cell > 0  # the solver leaves a few in the gap between two cells
        assert (signs.sum(1) == 1).double().mean() > 0.995


def test_noise_is_standard_normal_and_independent():
    bound = equation(P)
    x = bound.predict(bound.sample_noise(draws(seed=1)))
    u = bound.abduct(x, draws(seed=2))
    for column in (*u.T, u.sum(1) / 3**0.5, (u[:, 0] - u[:, 1]) / 2**0.5):
        assert stats.kstest(column.numpy(), "norm").pvalue > 1e-4
    assert stats.kstest(u.square().sum(1).numpy(), stats.chi2(3).cdf).pvalue > 1e-4
    assert (torch.corrcoef(u.T) - torch.eye(3)).abs().max() < 4.5 / N**0.5


def test_posterior_agrees_with_rejection():
    bound = equation(P)
    prior = bound.sample_noise(draws(40_000, seed=3))
    kept = prior[bound.predict(prior) == 2]
    u = bound.abduct(constant(2, len(kept)), draws(len(kept), seed=4))
    for one, two in zip([*kept.T, kept.sum(1)], [*u.T, u.sum(1)], strict=True):
        assert stats.ks_2samp(one.numpy(), two.numpy()).pvalue > 1e-4


def test_joint_of_three_levels_is_that_of_the_cells():
    """The twin's distribution, compared with a sum over quasi-random noise."""
    before, after = equation(P), equation(Q)
    facts = constant(0)
    twin = after.predict(before.abduct(facts, draws()))
    sobol = torch.quasirandom.SobolEngine(3, scramble=True, seed=3).draw(2**15)
    u = torch.special.ndtri(sobol.double().clamp(1e-9, 1 - 1e-9))
    x, y = before.predict(u), after.predict(u)
    for level in range(3):
        summed = ((y == level) & (x == 0)).double().sum().item() / (x == 0).sum().item()
        assert (twin == level).double().mean().item() == pytest.approx(summed, abs=0.014)
    assert 0.6 * (twin == 2).double().mean().item() == pytest.approx(0.2223, abs=0.009)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.lists(st.floats(-5.0, 0.0), min_size=2, max_size=5), st.data())
def test_level_that_rises_most_is_never_left(logits, data):
    k = len(logits)
    p = torch.softmax(torch.tensor(logits, dtype=torch.float64), 0)
    j = data.draw(st.integers(0, k - 1))
    factor = data.draw(st.floats(1.1, 5.0))
    q = p.clone()
    q[j] = q[j] * factor
    before, after = equation(p.tolist()), equation((q / q.sum()).tolist())
    twin = after.predict(before.abduct(constant(j, 500), draws(500)))
    assert (twin == j).double().mean() > 0.995


def test_repeated_draws_depend_on_their_record_alone():
    p = log_probs([0.99998, 1e-5, 1e-5]).expand(600, -1)
    level = torch.arange(600) % 3
    everything = flow.draw_noise(level, p, draws(600))
    part = flow.draw_noise(level[200:300], p[200:300], draws(600).rows(slice(200, 300)))
    assert torch.equal(everything[200:300], part)


def test_distribution_that_is_not_finite_is_refused():
    with pytest.raises(MechanismError, match="does not return the level in 4 of 4 rows"):
        flow.draw_noise(torch.zeros(4).long(), log_probs([0.5, float("nan")]), draws(4))


@pytest.fixture(scope="module")
def views():
    rng = np.random.default_rng(0)
    n = 3000
    a, s = rng.normal(size=n), rng.integers(0, 2, n) * 1.0
    x = np.argmax(np.stack([0 * a, a + s, 0.5 - a], 1) + rng.gumbel(size=(n, 3)), 1) * 1.0
    x[::17] = np.nan
    s[::11] = np.nan
    spec = {"kind": "discrete", "coupling": "dequantised"}
    parents = [Variable("A", "continuous"), Variable("S", "binary")]
    variable = Variable(
        "X", "categorical", levels=("p", "q", "r"), parents=["A", "S"], mechanism=spec
    )
    mechanism = build(variable, parents)
    columns = {"A": torch.tensor(a), "S": torch.tensor(s)}
    mechanism.fit(torch.tensor(x), columns, seed=0)
    return mechanism, torch.tensor(x), columns


def test_fitted_equation_fulfils_the_contract(views):
    mechanism, x, parents = views
    shifted = {**parents, "A": parents["A"] + 1}
    check_mechanism(mechanism, x, parents, shifted, calibrated=True)


def test_sensitivity_samples_and_bounds_the_coupling():
    yaml = """
variables:
  S: {type: binary, levels: [F, M]}
  V: {type: categorical, levels: [a, b, c], parents: [S],
      mechanism: {kind: discrete, coupling: dequantised}}
"""
    rng = np.random.default_rng(0)
    s = np.repeat(["F", "M"], 150)
    v = np.concatenate([rng.choice(list("abc"), 150, p=p) for p in (P, Q)])
    cohort = Cohort(pd.DataFrame({"S": s, "V": v}))
    model = SCM(Graph.parse(yaml)).fit(cohort)
    result = model.sensitivity(cohort, {"S": "M"}, draws=50)
    row = result.changes.loc["V"]
    assert row["method"] == "draws"
    assert row["lower"] - 0.005 < row["model"] < row["upper"]
    assert row["model"] == pytest.approx(row["ot"], abs=0.02)
    twins = model.counterfactual(cohort, {"S": "M"}, draws=50)
    moved = (twins.table["V"] != cohort.repeat(50).table["V"]).mean()
    assert row["model"] == pytest.approx(moved, abs=0.01)


def test_misspelt_coupling_names_the_nearest():
    text = "variables: {V: {type: binary, mechanism: {kind: discrete, coupling: dequantized}}}"
    with pytest.raises(GraphError, match="did you mean 'dequantised'"):
        Graph.parse(text)
