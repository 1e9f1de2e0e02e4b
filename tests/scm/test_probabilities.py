"""Counterfactual probabilities against enumeration by hand, closed forms and posterior draws."""

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch

import causalcxr.scm.questions.exact_distributions
from causalcxr import SCM, Cohort, Graph, Shift, Variable, do
from causalcxr.common.errors import InterventionError, ModelError
from causalcxr.scm.prediction import bind
from causalcxr.scm.questions.probabilities import probabilities
from causalcxr.scm.questions.transition_probabilities import MOST_TRANSPORTED, gumbel, monotone

YAML = """
name: chain
schema: 1
variables:
  A: {type: binary, levels: [n, p]}
  W: {type: continuous, parents: [A], mechanism: {kind: flow, bins: 4, epochs: 1}}
  B: {type: ordinal, levels: [x, y, z], parents: [A]}
  C: {type: categorical, levels: [r, s, t], parents: [A, B]}
  D: {type: binary, levels: [n, p], parents: [B, C]}
  E: {type: binary, levels: [n, p], parents: [W, D]}
  Any: {type: binary, levels: [n, p], parents: [A, D], mechanism: {kind: derived, rule: any_of}}
"""


def records(n=1200, seed=0):
    rng = np.random.default_rng(seed)
    a = rng.integers(0, 2, n)
    w = a + rng.normal(size=n)
    b = (rng.uniform(size=n) * 2 + a * 0.9).astype(int)
    c = (a + b + rng.integers(0, 2, n)) % 3
    d = (rng.uniform(size=n) < 0.15 + 0.2 * b + 0.2 * (c == 2)).astype(int)
    e = (rng.uniform(size=n) < 1 / (1 + np.exp(-w - d))).astype(int)
    data = {"A": a, "W": w, "B": b, "C": c, "D": d, "E": e, "Any": a | d}
    levels = {"A": "np", "B": "xyz", "C": "rst", "D": "np", "E": "np", "Any": "np"}
    for name, words in levels.items():
        data[name] = np.array(list(words), dtype=object)[data[name]]
    for name, start in (("B", 5), ("D", 8)):
        data[name][start::30] = None
    data["Any"][pd.isna(data["D"])] = None
    return Cohort(pd.DataFrame(data))


@pytest.fixture(scope="module")
def cohort():
    return records()


@pytest.fixture(scope="module")
def model(cohort):
    return SCM(Graph.parse(YAML)).fit(cohort)


def distribution(model, name, **values):
    """The distribution of a variable for one setting of its parents, (1, K)."""
    columns = {n: torch.tensor([float(v)], dtype=torch.float64) for n, v in values.items()}
    return bind(model.fitted[name].mechanism, columns).log_probs.exp().detach()


def move(closed, model, name, fact, before, after):
    same = before == after
    k = len(model.graph[name].levels)
    if same:
        return np.eye(k)[int(fact)]
    both = (distribution(model, name, **parents) for parents in (before, after))
    return closed(*both, torch.tensor([int(fact)]))[0].numpy()


def test_probabilities_of_a_chain_equal_the_sum_over_paths(model, cohort):
    result = probabilities(model, cohort.head(60), do(a="p"))
    assert result.method["D"] == result.method["Any"] == "exact"
    facts = cohort.head(60).columns(model.graph)
    rows = [r for r in range(60) if facts["A"][r] == 0 and not np.isnan(facts["B"][r])]
    rows = [r for r in rows if not np.isnan(facts["D"][r])][:12]
    assert len(rows) == 12
    for r in rows:
        a, b, c, d = (facts[name][r] for name in "ABCD")
        to_b = move(monotone, model, "B", b, {"A": a}, {"A": 1.0})
        total = np.zeros(2)
        for i, j in product(range(3), range(3)):
            to_c = move(gumbel, model, "C", c, {"A": a, "B": b}, {"A": 1.0, "B": float(i)})
            after = {"B": float(i), "C": float(j)}
            total += to_b[i] * to_c[j] * move(monotone, model, "D", d, {"B": b, "C": c}, after)
        assert result["D"].iloc[r].to_numpy() == pytest.approx(total, abs=1e-9)
        assert result["B"].iloc[r].to_numpy() == pytest.approx(to_b, abs=1e-12)
        assert result["Any"].iloc[r].tolist() == pytest.approx([0.0, 1.0])


def test_probabilities_equal_frequencies_of_draws(model, cohort):
    few, draws = cohort.head(40), 2000
    result = probabilities(model, few, do(a="p"), draws=300, seed=4)
    assert result.method == dict.fromkeys("BCD", "exact") | {"E": "draws", "Any": "exact"}
    twins = model.counterfactual(few, do(a="p"), draws=draws, seed=1).table
    for name in "BCDE":
        for level in model.graph[name].levels:
            seen = (twins[name] == level).groupby("record", sort=False).mean()
            known = result[name, level].notna().to_numpy()
            gap = (seen.to_numpy() - result[name, level].to_numpy())[known]
            error = result.standard_error[name]
            assert np.abs(gap).max() < 4.5 * (0.25 / draws + error**2) ** 0.5
            assert known.sum() == twins[name].notna().sum() / draws


@pytest.mark.slow
@pytest.mark.parametrize("coupling", ["ot", "independent"])
def test_every_coupling_agrees_with_its_draws(cohort, coupling):
    kind = f"C: {{type: categorical, mechanism: {{kind: discrete, coupling: {coupling}}},"
    graph = Graph.parse(YAML.replace("C: {type: categorical,", kind)).without_variable("Any")
    other = SCM(graph).fit(cohort)
    few, draws = cohort.head(25), 1500
    result = probabilities(other, few, do(a="p"), variables=["C", "D"])
    twins = other.counterfactual(few, do(a="p"), draws=draws, seed=1).table
    for name in "CD":
        for level in graph[name].levels:
            seen = (twins[name] == level).groupby("record", sort=False).mean().to_numpy()
            gap = seen - result[name, level].fillna(0.0).to_numpy()
            assert np.abs(gap).max() < 4.5 * 0.5 / draws**0.5


def test_draws_agree_with_exact_probabilities(model, cohort, monkeypatch):
    few = cohort.head(100)
    known = probabilities(model, few, do(a="p"), variables=["B", "C", "D"])
    monkeypatch.setattr(causalcxr.scm.questions.exact_distributions, "MOST_STATES", 1)
    result = probabilities(model, few, do(a="p"), variables=["B", "C", "D"], draws=800)
    assert result.method == {"B": "exact", "C": "draws", "D": "draws"}
    pd.testing.assert_frame_equal(result["B"], known["B"])
    for name in "CD":
        error = result.standard_error[name]
        gap = (result[name] - known[name]).abs().to_numpy()
        assert 0 < np.nanmax(gap) < 4.5 * error
        # The closed last step makes them steadier than counts of draws.
        assert error < 0.5 / 800**0.5


def test_probabilities_with_missing_values(model, cohort):
    result = probabilities(model, cohort, do(a="p"), draws=4)
    for name in ("B", "D"):
        absent = cohort.table[name].isna()
        assert (result[name].isna().all(axis=1) == absent).all()
        assert result[name][~absent].sum(axis=1).to_numpy() == pytest.approx(1.0, abs=1e-12)


def test_undecided_rule_may_be_missing():
    rule = (
        "{type: binary, levels: [n, p], parents: [X, Y], mechanism: {kind: derived, rule: any_of}}"
    )
    graph = Graph.parse(
        "variables: {S: {type: binary, levels: [n, p]}, Y: {type: binary, levels: [n, p]}, "
        f"X: {{type: binary, levels: [n, p], parents: [S]}}, Any: {rule}}}"
    )
    x = ["p", "p", "p", "n"] * 30 + ["p", "n", "n", "n"] * 30
    table = pd.DataFrame({"S": ["n"] * 120 + ["p"] * 120, "Y": ["n", "p"] * 120, "X": x})
    table["Any"] = np.where((table["X"] == "p") | (table["Y"] == "p"), "p", "n")
    table.loc[0, "Y"] = None
    result = probabilities(SCM(graph).fit(Cohort(table)), Cohort(table), do(s="p")).table.iloc[0]
    assert 0.2 < result["X", "p"] < 0.5
    assert result["Any"].tolist() == pytest.approx([0.0, result["X", "p"]])


def test_setting_observed_values_changes_nothing(model, cohort):
    result = probabilities(model, cohort, do(a=lambda a: a), variables=["B", "E", "A"])
    assert set(result.method.values()) == {"exact"}
    for name in ("B", "E", "A"):
        known = cohort.table[name].notna()
        assert (result[name][known].max(axis=1) == 1.0).all()
        assert (result[name][known].idxmax(axis=1) == cohort.table[name][known]).all()


def test_held_variable_passes_on_no_change(model, cohort):
    result = probabilities(model, cohort.head(50), do(a="p"), hold=["B", "C"], draws=20)
    assert "D" not in result.table.columns.get_level_values("variable")
    assert result.method == {"E": "draws", "Any": "exact"}


def test_probabilities_do_not_depend_on_other_records(model, cohort):
    whole = probabilities(model, cohort.head(200), do(a="n"), draws=50)
    part = probabilities(model, cohort.at(np.arange(150, 40, -7)), do(a="n"), draws=50)
    pd.testing.assert_frame_equal(whole.table.loc[part.table.index], part.table, rtol=0, atol=1e-9)


def test_probabilities_on_the_expert_graph(expert, phantoms):
    few = phantoms.head(60)
    result = probabilities(expert, few, do(sex="M"))
    assert set(result.method.values()) == {"exact"}
    twins = expert.counterfactual(few, do(sex="M"), draws=400).table
    seen = (twins["No Finding"] == "P").groupby("record", sort=False).mean().to_numpy()
    want = result["No Finding", "P"].fillna(0).to_numpy()
    assert np.abs(seen - want).max() < 4.5 * 0.5 / 20


def test_probabilities_refuse_unusable_input(model, cohort):
    with pytest.raises(InterventionError, match="'W' is continuous and has no levels"):
        probabilities(model, cohort, do(a="p"), variables=["w"])
    with pytest.raises(ModelError, match="draws=1: a standard error needs at least 2"):
        probabilities(model, cohort, do(a="p"), draws=1)
    assert probabilities(model, cohort.head(3), do(w=Shift(1))).method == {"E": "exact"}


# Many levels


def regions(count, coupling, n=240):
    """Return a model in which a region of many levels depends on A, and its records."""
    levels = [f"r{k}" for k in range(count)]
    mechanism = {"kind": "discrete", "coupling": coupling, "epochs": 1, "hidden": 2}
    region = Variable("Region", "categorical", levels=levels, parents=["A"], mechanism=mechanism)
    rng = np.random.default_rng(0)
    a = rng.choice(["n", "p"], n)
    table = pd.DataFrame({"A": a, "Region": rng.choice(levels, n)})
    graph = Graph([Variable("A", "binary", levels=("n", "p")), region])
    return SCM(graph).fit(Cohort(table)), Cohort(table)


def test_transport_of_500_levels_is_refused():
    model, cohort = regions(500, "ot")
    message = "'Region': has 500 levels, coupling ot can be summed for at most 50; use"
    for ask in (model.probabilities, model.sensitivity):
        with pytest.raises(ModelError, match=message):
            ask(cohort, a="p")


def test_counterfactuals_of_transport_beyond_the_limit():
    model, cohort = regions(MOST_TRANSPORTED + 10, "ot", n=60)
    twins = model.counterfactual(cohort, a="p", draws=2).table["Region"].unstack()
    facts, same = cohort.table["Region"], cohort.table["A"] == "p"
    assert (twins[same].eq(facts[same], axis=0)).all(axis=None)
    assert twins.notna().all(axis=None)


def test_sensitivity_skips_transport_beyond_its_limit():
    model, cohort = regions(MOST_TRANSPORTED + 1, "gumbel", n=120)
    with pytest.raises(
        ModelError, match="has 51 levels, coupling ot can be summed for at most 50"
    ):
        model.sensitivity(cohort, a="p")


def test_gumbel_coupling_of_500_levels_in_chunks():
    model, cohort = regions(500, "gumbel")
    result = model.probabilities(cohort, a="p")
    assert np.allclose(result.table.sum(axis=1), 1.0)
    p, q = (torch.rand(300, 500, dtype=torch.float64).softmax(1) for _ in range(2))
    level = torch.arange(300)
    alone = torch.cat([gumbel(*(t[k : k + 1] for t in (p, q, level))) for k in (0, 150, 299)])
    assert torch.equal(gumbel(p, q, level)[[0, 150, 299]], alone)
