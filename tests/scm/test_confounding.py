"""Hidden common causes: the corrected effect against worlds with a planted one."""

import copy

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import norm

from causalcxr import SCM, Cohort, Graph, Shift, do
from causalcxr.common.errors import InterventionError
from causalcxr.mechanisms import build
from causalcxr.scm.fitting import Fitted
from causalcxr.scm.questions.confounded_pairs import Pair
from causalcxr.scm.questions.confounded_twins import ConfoundedTwins
from causalcxr.scm.support import count_support

LINEAR = """
variables:
  C: {type: continuous}
  X: {type: continuous, parents: [C]}
  Y: {type: continuous, parents: [C, X]}
  Z: {type: continuous, parents: [Y]}
"""
LEVELS = """
variables:
  C: {type: binary, levels: [N, P]}
  X: {type: binary, levels: [N, P], parents: [C]}
  Y: {type: binary, levels: [N, P], parents: [C, X]}
  Z: {type: binary, levels: [N, P], parents: [Y], mechanism: {kind: discrete, epochs: 4}}
  A: {type: categorical, levels: [a, b, c], parents: [X], mechanism: {kind: discrete, epochs: 1}}
  R: {type: binary, levels: [N, P], parents: [Y, Z], mechanism: {kind: derived, rule: any_of}}
"""
RHO = 0.42  # of the planted hidden cause


def noises(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two standard normal noises with a hidden common cause, correlated by `RHO`."""
    random = np.random.default_rng(seed)
    hidden, one, other = random.normal(size=(3, n))
    return 0.6 * hidden + 0.8 * one, 0.7 * hidden + np.sqrt(0.51) * other


@pytest.fixture(scope="module")
def linear() -> tuple[SCM, Cohort]:
    """Y = X / 2 + 0.4 C + noise, Z = 2 Y + noise; the equations are regressions, not trained."""
    n, random, (u, v) = 4000, np.random.default_rng(1), noises(4000)
    c = random.normal(size=n)
    x = 0.5 * c + u
    y = 0.5 * x + 0.4 * c + v
    columns = {"C": c, "X": x, "Y": y, "Z": 2 * y + random.normal(size=n)}
    graph, cohort = Graph.parse(LINEAR), Cohort(pd.DataFrame(columns))
    return _regressions(graph, cohort), cohort


def _regressions(graph: Graph, cohort: Cohort) -> SCM:
    """Return a model of normal linear regressions: where the training of flows starts."""
    columns = {k: torch.from_numpy(column) for k, column in cohort.columns(graph).items()}
    fitted = {}
    for name in graph.order:
        mechanism = build(graph[name], [graph[p] for p in graph.parents(name)])
        parents = {p: columns[p] for p in graph.parents(name)}
        mechanism.take("line")
        mechanism.prepare(columns[name], parents)
        mechanism.reset(torch.Generator().manual_seed(0))
        mechanism.start(columns[name], mechanism.encode(parents))
        fitted[name] = Fitted(mechanism, graph.equation_hash(name), name, 0, 0)
    return SCM(graph)._with(fitted=fitted, support=count_support(graph, columns))


def levels_world(n: int = 4000) -> tuple[Graph, Cohort, float]:
    """Return a graph, records with a hidden cause of X and Y, and the true effect of X on Y."""
    random, (u, v) = np.random.default_rng(1), noises(n)
    c = random.integers(0, 2, n)
    x = (u > 0.3 - 0.5 * c).astype(int)
    under = [(v > 0.8 - 0.6 * k - 0.4 * c).astype(int) for k in (0, 1)]
    y = np.where(x == 1, under[1], under[0])
    z = (random.random(n) < 0.2 + 0.5 * y).astype(int)
    words = {k: np.where(v == 1, "P", "N") for k, v in {"C": c, "X": x, "Y": y, "Z": z}.items()}
    words |= {"A": random.choice(["a", "b", "c"], n), "R": np.where(y | z, "P", "N")}
    p = [norm.sf(0.8 - 0.6 * k - 0.4 * np.array([0, 1])).mean() for k in (0, 1)]
    graph = Graph.parse(LEVELS)
    return graph, Cohort(pd.DataFrame(words)), float(p[1] - p[0])


@pytest.fixture(scope="module")
def levels() -> tuple[SCM, Cohort, float]:
    graph, cohort, truth = levels_world()
    return SCM(graph).fit(cohort), cohort, truth


def change(result, variable: str, level: str = "P", rho: float = 0.0) -> float:
    table = result.table.xs((rho, variable, level), level=("rho", "variable", "level"))
    return float(table["change"].iloc[0])


# Planted worlds


def test_effect_on_numbers_is_the_truth_at_the_planted_correlation(linear):
    model, cohort = linear
    result = model.confounding(cohort, do(x=Shift(1)), rho=RHO)
    assert change(result, "Y", "") == pytest.approx(0.5 + RHO, abs=0.05)
    assert change(result, "Y", "", RHO) == pytest.approx(0.5, abs=0.05)
    assert change(result, "Z", "", RHO) == pytest.approx(1.0, abs=0.1)


def test_effect_on_levels_is_the_truth_at_the_planted_correlation(levels):
    model, cohort, truth = levels
    result = model.confounding(cohort, do(x="P"), do(x="N"), between=("X", "Y"), rho=RHO)
    assert change(result, "Y") > truth + 0.2
    # Four standard errors of the fit.
    assert change(result, "Y", rho=RHO) == pytest.approx(truth, abs=0.05)
    assert change(result, "Z", rho=RHO) == pytest.approx(truth / 2, abs=0.04)
    assert change(result, "R", rho=RHO) == pytest.approx(0.8 * truth, abs=0.05)


def test_bounds_contain_the_truth_once_the_odds_ratio_allows_for_the_hidden_cause(levels):
    model, cohort, truth = levels
    bounds = model.confounding(cohort, do(x="P"), do(x="N"), between=("X", "Y")).bounds
    rows = bounds.xs("P", level="level").droplevel(["cause", "outcome"])
    assert rows["lower"].is_monotonic_decreasing
    assert rows["upper"].is_monotonic_increasing
    assert rows.loc[1.0, "lower"] == rows.loc[1.0, "upper"]
    assert rows.loc[1.0, "lower"] > truth + 0.2
    assert rows.loc[5.0, "lower"] < truth < rows.loc[5.0, "upper"]
    # Without a limit: what is not observed may be anything.
    table = cohort.table
    both = {k: ((table["X"] == k) & (table["Y"] == "P")).mean() for k in "NP"}
    share = (table["X"] == "P").mean()
    assert rows.loc[np.inf, "lower"] == pytest.approx(both["P"] - both["N"] - share, abs=1e-9)
    assert rows.loc[np.inf, "upper"] == pytest.approx(both["P"] - both["N"] + 1 - share, abs=1e-9)


@pytest.mark.parametrize("coupling", ["gumbel", "ot"])
def test_two_levels_have_the_same_answer_under_couplings_that_agree(levels, coupling):
    model, cohort, _ = levels
    fitted = copy.deepcopy(dict(model.fitted))
    fitted["Y"].mechanism.options["coupling"] = coupling
    other = model._with(fitted=fitted)
    asked = {"between": ("X", "Y"), "rho": [-0.5, RHO], "draws": 4}
    one, two = (m.confounding(cohort, do(x="P"), do(x="N"), **asked) for m in (model, other))
    for rho in (-0.5, 0.0, RHO):
        # Other posterior samples of the same distributions.
        assert change(one, "Y", rho=rho) == pytest.approx(change(two, "Y", rho=rho), abs=0.015)


# What stays as it is


def test_zero_correlation_is_the_answer_of_effect_bit_for_bit(levels, linear):
    for (model, cohort), action in ((linear, do(x=Shift(1))), (levels[:2], do(x="P"))):
        some = cohort.head(300)
        result = model.confounding(some, action, rho=[-0.3, 0.5], draws=2, seed=3).table
        effect = model.effect(some, action, draws=2, seed=3).table.set_index(["variable", "level"])
        own = result.xs(0.0, level="rho").droplevel(["cause", "outcome"])
        for name in ("baseline", "active", "change", "se"):
            assert (own[name] == effect.loc[own.index, name]).all(), name


def test_answers_of_a_record_depend_on_no_other_record_and_no_other_correlation(levels, linear):
    cases = ((linear, do(x=Shift(1)), "X > 1"), (levels[:2], do(x="P"), "X == 'N'"))
    for (model, cohort), action, where in cases:
        pair, bound = Pair("X", "Y", True, False), action.bind(model.graph)
        many = ConfoundedTwins(model, model.abduct(cohort.head(500)), bound)
        chosen = cohort.head(500).select(where).head(7)
        few = ConfoundedTwins(model, model.abduct(chosen), bound)
        rows = [list(cohort.index).index(record) for record in chosen.index]
        whole, part = many.under(pair, [-0.4, 0.0, RHO]), few.under(pair, [RHO])
        for name in ("Y", "Z"):
            assert torch.equal(whole[2][name][rows], part[0][name]), name


def test_records_that_have_the_value_already_keep_their_facts(levels):
    model, cohort, _ = levels
    twins = ConfoundedTwins(model, model.abduct(cohort), do(x="P").bind(model.graph))
    under = twins.under(Pair("X", "Y", True, True), [0.9])[0]
    kept = ~twins.moved("X")
    assert torch.equal(under["Y"][kept], twins.noise.columns["Y"][kept])
    assert not torch.equal(under["Y"], twins.columns["Y"])


def test_missing_values_stay_missing(levels):
    model, cohort, _ = levels
    table = cohort.table.head(600).copy()
    table.loc[table.index[::3], "X"] = None
    table.loc[table.index[::5], "Y"] = None
    result = model.confounding(Cohort(table), do(x="P"), between=("X", "Y"), rho=0.5)
    rows = result.table.xs(("Y", "P"), level=("variable", "level"))
    assert (rows["n"] == table["Y"].notna().sum()).all()
    assert np.isfinite(rows["change"]).all()


# How strong is that


def test_benchmark_is_the_correlation_that_leaving_out_a_parent_induces(linear):
    model, cohort = linear
    row = model.confounding(cohort, do(x=Shift(1)), rho=0.1).strengths.loc[("X", "Y", "C")]
    # X without C: slope 0.5 beside noise of variance 1.
    assert row["share_of_cause"] == pytest.approx(0.2, abs=0.03)
    assert row["share_of_outcome"] == pytest.approx(0.04, abs=0.02)
    # A model that does not know C: with this correlation, it has the effect of the one that does.
    text = LINEAR.replace("parents: [C]", "parents: []").replace("[C, X]", "[X]")
    without = _regressions(Graph.parse(text), cohort)
    asked = without.confounding(cohort.head(300), do(x=Shift(1)), rho=row["rho"])
    with_c = change(model.confounding(cohort.head(300), do(x=Shift(1)), rho=0), "Y", "")
    assert change(asked, "Y", "") > with_c + 0.05
    assert change(asked, "Y", "", row["rho"]) == pytest.approx(with_c, abs=0.01)


def test_tipping_points_are_where_the_change_is_zero(levels):
    model, cohort, _ = levels
    result = model.confounding(cohort, do(x="P"), do(x="N"), between=("X", "Y"), draws=2)
    row = result.tipping.loc[("X", "Y", "Y", "P")]
    assert 0.5 < row["rho"] < 0.9
    assert 0 < row["rho_interval"] < row["rho"]
    again = model.confounding(
        cohort, do(x="P"), do(x="N"), between=("X", "Y"), draws=2, rho=row["rho"],
        odds_ratio=row["odds_ratio"],
    )  # fmt: skip
    assert change(again, "Y", rho=row["rho"]) == pytest.approx(0.0, abs=0.005)
    bound = again.bounds.loc[("X", "Y", row["odds_ratio"], "P"), "lower"]
    assert bound == pytest.approx(0.0, abs=0.02)
    assert row["parent"] == "C"
    assert row["times"] == pytest.approx(row["rho"] / abs(row["parent_rho"]))


def test_categories_have_bounds_and_no_correlation(levels):
    model, cohort, _ = levels
    result = model.confounding(cohort.head(500), do(x="P"), rho=0.3)
    assert {pair[:2] for pair in result.table.index} == {("X", "Y")}
    assert {pair[:2] for pair in result.bounds.index} == {("X", "Y"), ("X", "A")}
    assert ("X", "A", "A", "a") in result.tipping.index
    assert result.plot().axes


# What is refused


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"between": ("X", "Lungs")}, "Lungs"),
        ({"between": ("X", "Z")}, "no edge joins them"),
        ({"between": ("C", "Y")}, "leaves its total effect unchanged"),
        ({"between": ("Y", "R")}, "leaves its total effect unchanged"),
        ({"between": ("X", "Y"), "hold": "Y"}, "is set or held"),
        ({"between": "X"}, "give two names"),
        ({"rho": 1.0}, "from -0.95 to 0.95"),
        ({"odds_ratio": 0.5}, "at least 1"),
        ({"between": ("X", "Y"), "variables": "C"}, "is no descendant"),
    ],
)
def test_what_cannot_be_asked_is_refused_in_one_line(levels, asked, words):
    model, cohort, _ = levels
    with pytest.raises(InterventionError, match=words) as error:
        model.confounding(cohort.head(5), do(x="P"), **asked)
    assert "\n" not in str(error.value)


def test_no_action_is_refused(levels):
    model, cohort, _ = levels
    with pytest.raises(InterventionError, match="no action"):
        model.confounding(cohort.head(5))
