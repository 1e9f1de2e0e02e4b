"""The model as a Pyro program: its distributions, its inference, its interventions."""

import ast
from pathlib import Path

import numpy as np
import pandas as pd
import pyro
import pytest
import torch
from pyro import poutine
from pyro.infer import MCMC, NUTS, SVI, Importance, Trace_ELBO
from pyro.infer.autoguide import AutoNormal
from pyro.infer.importance import vectorized_importance_weights

import causalcxr as cx
from causalcxr import Cohort, Graph
from causalcxr.common.errors import InterventionError, ModelError
from causalcxr.scm.posterior import complete_observed
from causalcxr.scm.questions.pyro_program import to_pyro

GRAPH = """
defaults:
  continuous: {mechanism: flow, bins: 4, epochs: 2}
variables:
  A: {type: binary, levels: [a0, a1]}
  B: {type: categorical, levels: [b0, b1, b2], parents: [A]}
  X: {type: continuous, parents: [A]}
  Y: {type: continuous, parents: [X]}
  C: {type: binary, levels: [c0, c1], parents: [B, X]}
  R: {type: binary, levels: [r0, r1], parents: [A, C], mechanism: {kind: derived, rule: any_of}}
  T: {type: continuous, resolution: 1, range: [0, 20], parents: [A]}
"""


@pytest.fixture(autouse=True)
def seeded():
    pyro.clear_param_store()
    pyro.set_rng_seed(0)


@pytest.fixture(scope="module")
def cohort():
    rng, n = np.random.default_rng(0), 2000
    a = rng.integers(0, 2, n)
    b = (rng.random(n) < 0.3 + 0.3 * a).astype(int) + (rng.random(n) < 0.4)
    x = rng.normal(a, 1.0)
    y = rng.normal(1.5 * x, 0.8)
    c = (rng.random(n) < 1 / (1 + np.exp(1 - x - 0.5 * b))).astype(int)
    t = rng.normal(8 + 4 * a, 2).round().clip(0, 20)
    codes = {"a": a, "b": b, "c": c, "r": a | c}
    table = {key.upper(): [f"{key}{v}" for v in column] for key, column in codes.items()}
    return Cohort(pd.DataFrame({**table, "X": x, "Y": y, "T": t}))


@pytest.fixture(scope="module")
def model(cohort):
    return cx.SCM(Graph.parse(GRAPH)).fit(cohort)


def tensors(model, cohort):
    return {name: torch.from_numpy(c) for name, c in cohort.columns(model.graph).items()}


def test_sites_have_the_log_probabilities_of_the_model(model, cohort):
    few = cohort.head(50)
    data = tensors(model, few)
    for program, arguments in (
        (pyro.condition(to_pyro(model), data), (50,)),
        (to_pyro(model), (50, few)),
        (to_pyro(model), (1, data)),
    ):
        trace = poutine.trace(program).get_trace(*arguments)
        trace.compute_log_prob()
        own = model.log_prob(few)
        for name in model.graph.order:
            site = trace.nodes[name]["log_prob"]
            assert np.allclose(site, own[name], atol=1e-9), name


@pytest.mark.parametrize("noise", [False, True])
def test_pyro_do_has_the_marginals_of_the_model(model, noise):
    program, n = to_pyro(model, noise=noise), 20_000
    with torch.no_grad():
        made = pyro.do(program, program.coded(x=1.0, a="a0"))(n)
    own = tensors(model, model.do(x=1.0, a="a0").sample(n, seed=1))
    assert (made["X"] == 1.0).all()
    assert (made["A"] == 0.0).all()
    for name in ("B", "C", "R", "Y", "T"):
        one, two = made[name], own[name]
        assert one.shape == (n,)
        spread = ((one.var() + two.var()) / n).sqrt().item()
        assert abs(one.mean() - two.mean()).item() < 4.5 * spread, name
        assert one.std().item() == pytest.approx(two.std().item(), rel=0.05), name


def test_pyro_do_with_abducted_noise_gives_the_twins(model, cohort):
    few = cohort.head(200)
    noise = model.abduct(few, seed=4)
    program = to_pyro(model, noise=True)
    given = pyro.condition(program, {f"u_{name}": u for name, u in noise.values.items()})
    with torch.no_grad():
        facts, twins = given(200), pyro.do(given, program.coded(a="a1"))(200)
    own = tensors(model, model.do(a="a1").predict(noise, recompute=True))
    for name, column in tensors(model, few).items():
        assert torch.allclose(facts[name], column, atol=1e-6), name
        assert torch.allclose(twins[name], own[name], atol=1e-6), name


SEEN = {"X": 0.7, "C": "c1"}


def enumerated(model):
    """The exact posterior of A and B given C and X, (2, 3), from the model's own log-masses."""
    every = pd.MultiIndex.from_product([["a0", "a1"], ["b0", "b1", "b2"]], names=["A", "B"])
    own = model.log_prob(Cohort(every.to_frame(index=False).assign(**SEEN)))
    mass = np.exp(own[["A", "B", "X", "C"]].sum(axis=1)).to_numpy().reshape(2, 3)
    return mass / mass.sum()


def test_importance_sampling_finds_the_posterior(model):
    program, n = to_pyro(model), 40_000
    given = pyro.condition(program, program.coded(**SEEN))
    guide = poutine.block(
        given, hide=list(SEEN)
    )  # each site from its distribution given its parents
    with torch.no_grad():
        log_weights, _, trace = vectorized_importance_weights(
            given, guide, num_samples=n, max_plate_nesting=1
        )
    a, b = (trace.nodes[name]["value"].reshape(n).long() for name in "AB")
    result = torch.zeros(6).double().index_add(0, a * 3 + b, log_weights.softmax(0))
    assert 0.5 * np.abs(result.reshape(2, 3).numpy() - enumerated(model)).sum() < 0.02


def test_importance_weights_are_likelihoods(model):
    program = to_pyro(model)
    with torch.no_grad():
        posterior = Importance(
            pyro.condition(program, program.coded(**SEEN)), num_samples=20
        ).run()
    for weight, trace in zip(posterior.log_weights, posterior.exec_traces, strict=True):
        a, b = (int(trace.nodes[name]["value"]) for name in "AB")
        row = Cohort(pd.DataFrame([{"A": f"a{a}", "B": f"b{b}", **SEEN}]))
        assert weight == pytest.approx(model.log_prob(row)[["X", "C"]].sum(axis=1)[0], abs=1e-9)


def test_abduction_finds_the_same_posterior(model):
    cohort = Cohort(pd.DataFrame([SEEN], index=["p"]))
    drawn = complete_observed(model, cohort, draws=40_000).cohort.table
    result = drawn.groupby(["A", "B"]).size().to_numpy().reshape(2, 3) / 40_000
    assert 0.5 * np.abs(result - enumerated(model)).sum() < 0.01


def grid_posterior(model, a, y):
    """The mean and deviation of X given A and Y by quadrature."""
    x = np.linspace(-6, 7, 2001)
    own = model.log_prob(Cohort(pd.DataFrame({"A": a, "X": x, "Y": y})))
    mass = np.exp((own["X"] + own["Y"]).to_numpy())
    mean = (mass * x).sum() / mass.sum()
    return mean, np.sqrt((mass * (x - mean) ** 2).sum() / mass.sum())


def test_continuous_posterior_equals_quadrature(model):
    mean, spread = grid_posterior(model, "a1", 3.0)
    table = pd.DataFrame({"A": ["a1"], "Y": [3.0]}, index=["p"])
    x = complete_observed(model, Cohort(table), draws=20_000).cohort.table["X"]
    assert x.mean() == pytest.approx(mean, abs=0.02)
    assert x.std() == pytest.approx(spread, rel=0.04)
    # The data are linear with Gaussian noise, so the closed form is near: that tests the fit.
    gain = 1.5 / (1.5**2 + 0.8**2)
    assert mean == pytest.approx(1 + gain * (3.0 - 1.5), abs=0.1)
    assert spread == pytest.approx((1 - 1.5 * gain) ** 0.5, rel=0.15)


def chain(model):
    """The part of the model that is A -> X -> Y, as a separate program."""
    graph = model.graph
    for name in ("R", "C", "B", "T"):
        graph = graph.without_variable(name)
    return to_pyro(model.with_graph(graph))


@pytest.mark.slow  # SVI needs the same gradients
def test_nuts_finds_the_posterior(model):
    program = chain(model)
    given = pyro.condition(program, program.coded(a="a1", y=3.0))
    mcmc = MCMC(
        NUTS(given, max_tree_depth=3), num_samples=120, warmup_steps=40, disable_progbar=True
    )
    mcmc.run(1)
    x = mcmc.get_samples()["X"]
    mean, spread = grid_posterior(model, "a1", 3.0)
    assert x.mean().item() == pytest.approx(mean, abs=4.5 * spread / 60**0.5)
    assert x.std().item() == pytest.approx(spread, rel=0.35)


def test_svi_finds_the_posterior(model):
    program = chain(model)
    given = pyro.condition(program, program.coded(a="a1", y=3.0))
    guide = AutoNormal(given, init_scale=0.5)
    elbo = Trace_ELBO(num_particles=16, vectorize_particles=True)
    svi = SVI(given, guide, pyro.optim.Adam({"lr": 0.05}), elbo)
    for _ in range(150):
        svi.step()
    mean, spread = grid_posterior(model, "a1", 3.0)
    assert guide.median()["X"].item() == pytest.approx(mean, abs=0.15)
    scale = pyro.param("AutoNormal.scales.X").item()
    assert scale == pytest.approx(spread, rel=0.3)


def test_spline_samples_have_a_gradient(model):
    distribution = poutine.trace(chain(model)).get_trace(1).nodes["Y"]["fn"]
    x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)

    def sampled(x):
        torch.manual_seed(3)
        return type(distribution)(distribution.mechanism, {"X": x}, torch.Size([1])).rsample()

    (slope,) = torch.autograd.grad(sampled(x).sum(), x)
    with torch.no_grad():
        rise = (sampled(x + 1e-6) - sampled(x - 1e-6)) / 2e-6
    assert slope.item() == pytest.approx(rise.item(), rel=1e-4)
    assert 1.0 < slope.item() < 2.0
    assert distribution.has_rsample


def test_program_conditions_on_partly_observed_columns(model, cohort):
    data = tensors(model, cohort.head(4))
    data["C"][1] = torch.nan
    data["Y"][:] = torch.nan
    trace = poutine.trace(to_pyro(model)).get_trace(1, data)
    kept = torch.tensor([True, False, True, True])
    assert torch.equal(trace.nodes["_RETURN"]["value"]["C"][kept], data["C"][kept])
    assert not trace.nodes["_RETURN"]["value"]["C"].isnan().any()
    assert not trace.nodes["Y"]["is_observed"]
    assert trace.nodes["A"]["is_observed"]
    trace.compute_log_prob()
    seen = trace.nodes["C_observed"]["log_prob"]
    own = model.log_prob(cohort.head(4))["C"].to_numpy()
    assert np.allclose(seen, np.where(kept, own, 0.0), atol=1e-9)


def test_program_refuses_unusable_models(model, cohort):
    with pytest.raises(ModelError, match=r"under do\(A=a1\); give the model before it"):
        to_pyro(model.do(a="a1"))
    with pytest.raises(ModelError, match="has not been fitted"):
        to_pyro(cx.SCM(model.graph))
    blind = cx.SCM(Graph.parse(GRAPH)).fit(Cohort(cohort.table[["A"]].head(40)))
    with pytest.raises(ModelError, match="was never observed in training"):
        to_pyro(blind)
    with pytest.raises(ModelError, match="takes no observed values"):
        to_pyro(model, noise=True)(1, cohort.head(2))
    with pytest.raises(InterventionError, match="no such variable"):
        to_pyro(model).coded(z=1.0)


def test_only_one_module_imports_pyro():
    """Pyro takes seconds to import, so that other modules import it inside functions."""
    result = set()
    for file in Path(cx.__file__).parent.rglob("*.py"):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in getattr(node, "names", [])]
            names += [getattr(node, "module", None) or ""]
            if any(name.split(".")[0] == "pyro" or "pyro_program" in name for name in names):
                result.add(file.name)
    assert result == {"pyro_program.py"}
