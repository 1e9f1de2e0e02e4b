"""Sensitivity to the coupling: known figures, and bounds that hold for every coupling."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.optimize import linprog

from causalcxr import SCM, Cohort, Graph, Shift, do
from causalcxr.common.errors import InterventionError
from causalcxr.scm.questions.sensitivity import sensitivity
from causalcxr.scm.questions.transition_probabilities import COUPLINGS

YAML = """
name: steps
schema: 1
variables:
  A: {type: binary, levels: [n, p]}
  B: {type: binary, levels: [n, p], parents: [A]}
  C: {type: categorical, levels: [r, s, t], parents: [A]}
  D: {type: binary, levels: [n, p], parents: [B]}
  W: {type: continuous, parents: [A], mechanism: {kind: flow, bins: 4, epochs: 1}}
  E: {type: binary, levels: [n, p], parents: [W]}
"""
DISTRIBUTIONS = {  # of each variable, under each level of its one parent
    "B": {"n": [0.8, 0.2], "p": [0.5, 0.5]},
    "C": {"n": [0.6, 0.3, 0.1], "p": [0.3, 0.3, 0.4]},
    "D": {"n": [0.7, 0.3], "p": [0.1, 0.9]},
}


def exact_shares(words, distribution, n):
    return np.repeat(list(words), np.round(np.array(distribution) * n).astype(int))


@pytest.fixture(scope="module")
def cohort():
    """2,000 records that have every distribution exactly."""
    rng = np.random.default_rng(0)
    parts = []
    for a in "np":
        b = exact_shares("np", DISTRIBUTIONS["B"][a], 1000)
        c = rng.permutation(exact_shares("rst", DISTRIBUTIONS["C"][a], 1000))
        d = np.concatenate(
            [exact_shares("np", DISTRIBUTIONS["D"][x], (b == x).sum()) for x in "np"]
        )
        parts.append(pd.DataFrame({"A": a, "B": b, "C": c, "D": d}))
    table = pd.concat(parts, ignore_index=True)
    table["W"] = rng.normal(size=2000)
    table["E"] = np.where(rng.uniform(size=2000) < 0.4, "p", "n")
    return Cohort(table)


@pytest.fixture(scope="module")
def model(cohort):
    """A model with the cohort's distributions, set to six digits instead of fitted."""
    fitted = SCM(Graph.parse(YAML)).fit(cohort)
    for name, distributions in DISTRIBUTIONS.items():
        set_distributions(fitted.fitted[name].mechanism, distributions)
    return fitted


def set_distributions(mechanism, distributions):
    """Set the distributions of a discrete equation of one binary parent by linear weights."""
    state = {k: torch.zeros_like(v) for k, v in mechanism.state_dict().items()}
    mechanism.load_state_dict(state)
    base = torch.tensor(distributions["n"], dtype=torch.float64).log()
    other = torch.tensor(distributions["p"], dtype=torch.float64).log()
    mechanism.log_probs = lambda context: torch.where(context[:, 1:2] == 1, other, base)


def test_binary_child_has_closed_forms(model, cohort):
    negatives = cohort.select("A == 'n'")
    result = sensitivity(model, negatives, do(a="p"), variables=["B"]).table.loc["B"]
    change = result.loc["change"]
    # 0.8 of records have n and 0.2 have p; P(0 -> 1) is .375 monotone, .5 independent.
    assert change["model"] == change["monotone"] == pytest.approx(0.8 * 0.375)
    assert change["gumbel"] == change["ot"] == pytest.approx(0.8 * 0.375)
    assert change["independent"] == pytest.approx(0.5)
    assert change["lower"] == pytest.approx(0.3)
    assert change["upper"] == pytest.approx(0.5 + 0.2)
    assert change["relative_width"] == pytest.approx(0.4 / 0.3)
    level = result.loc["p"]
    assert level["factual"] == pytest.approx(0.2)
    assert level[list(COUPLINGS)].tolist() == pytest.approx([0.5] * 4)
    # A negative's P(p) is in [.375, .625], a positive's in [0, 1].
    assert level[["lower", "upper"]].tolist() == pytest.approx([0.3, 0.7])


def test_three_levels_under_each_coupling(model, cohort):
    few = cohort.select("A == 'n' and C == 'r'")
    result = sensitivity(model, few, do(a="p"), variables=["C"]).table.loc[("C", "t")]
    expected = {"monotone": 0.0, "gumbel": 3 / 13, "ot": 0.2241, "independent": 0.24}
    for coupling, joint in expected.items():
        assert 0.6 * result[coupling] == pytest.approx(joint, abs=5e-5)
    assert 0.6 * result["lower"] == pytest.approx(0.0, abs=1e-9)
    assert 0.6 * result["upper"] == pytest.approx(0.4)
    assert result["model"] == result["gumbel"]


def test_bounds_equal_the_linear_programme(model, cohort):
    negatives = cohort.select("A == 'n'")
    result = sensitivity(model, negatives, do(a="p"), variables=["C"]).changes.loc["C"]
    margins = np.vstack([np.kron(np.eye(3), np.ones(3)), np.kron(np.ones(3), np.eye(3))])
    target = [*DISTRIBUTIONS["C"]["n"], *DISTRIBUTIONS["C"]["p"]]
    cost = 1 - np.eye(3).reshape(-1)
    best = [s * linprog(s * cost, A_eq=margins, b_eq=target).fun for s in (1, -1)]
    assert result[["lower", "upper"]].tolist() == pytest.approx(best, abs=1e-9)


def test_vary_all_and_one_on_a_chain(model, cohort):
    few = cohort.select("A == 'n' and B == 'n' and D == 'n'")
    every = sensitivity(model, few, do(a="p"), variables=["D"]).table.loc[("D", "p")]
    one = sensitivity(model, few, do(a="p"), variables=["D"], vary="one").table.loc[("D", "p")]
    # B turns p with .375 (monotone) or .5; then D: n -> p with 6/7 (monotone) or .9.
    assert every["model"] == every["monotone"] == pytest.approx(0.375 * 6 / 7)
    assert every["independent"] == pytest.approx(0.5 * 0.9)
    assert one["independent"] == pytest.approx(0.375 * 0.9)
    # B turns p with [.375, .625], and D with [6/7, 1] where it does.
    assert every[["lower", "upper"]].tolist() == pytest.approx([0.375 * 6 / 7, 0.625])
    assert one[["lower", "upper"]].tolist() == pytest.approx([0.375 * 6 / 7, 0.375])


def test_every_coupling_lies_within_the_bounds(expert, phantoms):
    result = sensitivity(expert, phantoms.head(150), do(sex="M"))
    table = result.table
    for coupling in ("model", *COUPLINGS):
        assert (table[coupling] >= table["lower"] - 1e-9).all()
        assert (table[coupling] <= table["upper"] + 1e-9).all()
    assert (table["method"] == "exact").all()
    assert table.loc[("Edema", "change"), "records"] == 147
    assert (result.changes["independent"] > result.changes["monotone"]).all()


def test_continuous_ancestor_has_draws_and_no_bounds(model, cohort):
    result = sensitivity(model, cohort.head(60), do(a="p"), variables=["B", "E"], draws=20).table
    assert result.loc[("B", "change"), "method"] == "exact"
    assert result.loc["E"]["method"].eq("draws").all()
    assert result.loc["E"][["lower", "upper", "width"]].isna().all(axis=None)
    assert result.loc["E"][["model", "gumbel"]].notna().all(axis=None)
    assert (
        sensitivity(model, cohort.head(60), do(w=Shift(1))).changes.loc["E", "method"] == "exact"
    )


def test_result_plots_and_copies_its_table(model, cohort, tmp_path):
    result = sensitivity(model, cohort.head(200), do(a="p"), variables=["B", "C"])
    table = result.table
    table["model"] = 9.0
    assert result.table["model"].max() <= 1
    file = tmp_path / "bounds.png"
    page = result.plot(file)
    assert file.read_bytes()[1:4] == b"PNG"
    (axes,) = page.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["B", "C"]
    bars = {bar.get_y() + bar.get_height() / 2: bar for bar in axes.patches}
    assert bars[1].get_x() == pytest.approx(result.changes.loc["B", "lower"])
    assert bars[1].get_width() == pytest.approx(result.changes.loc["B", "width"])
    assert "do(A=p)" in repr(result)


def test_sensitivity_refuses_unusable_input(model, cohort):
    with pytest.raises(InterventionError, match="vary='each'; use one of"):
        sensitivity(model, cohort, do(a="p"), vary="each")
    with pytest.raises(InterventionError, match="changes no cause of 'A'"):
        sensitivity(model, cohort, do(b="p"), variables=["A"])
    assert len(sensitivity(model, cohort, do(a=lambda a: a)).table) == 0
    nobody = sensitivity(model, cohort.head(0), do(a="p"))
    assert nobody.changes.empty
