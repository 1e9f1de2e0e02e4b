"""Two models under one intervention: the changes due to an edit, and their limits."""

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.special import expit

from causalcxr import SCM, Cohort, Graph, Variable, do
from causalcxr.common.errors import InterventionError, ModelError
from causalcxr.scm.questions.model_comparison import compare

GRAPH = Graph(
    [
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("Edema", "binary", parents=("Sex",)),
        Variable("Opacity", "binary", parents=("Edema",)),
        Variable(
            "Weight",
            "continuous",
            unit="kg",
            parents=("Sex",),
            mechanism={"kind": "flow", "bins": 4, "epochs": 2},
        ),
        Variable("Fracture", "binary", parents=("Sex",)),
    ]
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    random, n = np.random.default_rng(0), 4000
    sex = random.random(n) < 0.5
    edema = random.random(n) < np.where(sex, 0.5, 0.2)
    opacity = random.random(n) < expit(3 * edema - 1.5)
    table = {
        "Sex": np.array(["F", "M"])[sex * 1],
        "Edema": np.array(["N", "P"])[edema * 1],
        "Opacity": np.array(["N", "P"])[opacity * 1],
        "Weight": 60 + 12 * sex + random.normal(0, 5, n),
        "Fracture": np.where(random.random(n) < 0.1, "P", "N"),
    }
    return Cohort(pd.DataFrame(table))


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return SCM(GRAPH).fit(cohort)


@pytest.fixture(scope="module")
def cut(model, cohort) -> SCM:
    """The model without the edge from sex to edema."""
    return model.with_graph(GRAPH.remove_edge("Sex", "Edema")).fit(cohort)


def test_model_equals_itself(model, cohort):
    result = compare(model, model, cohort, do(sex="M"))
    assert result.affected == ()
    assert result.equations == {}
    assert (result.table["differ"] == 0).all()
    assert (result.table["equation"] == "same").all()
    assert (result.table["changed_before"] == result.table["changed_after"]).all()
    assert str(result) == "4,000 twins of two models under do(Sex=M)\n  the twins are equal"


def test_removed_edge_changes_its_descendants(model, cut, cohort):
    result = compare(model, cut, cohort, do(sex="M"), seed=3)
    assert result.equations == {"Edema": "edge Sex -> Edema removed"}
    assert result.affected == ("Edema", "Opacity")
    table = result.table
    # A negative woman turns positive with (q - p) / (1 - p) under the old model, never now.
    parent = {"Sex": torch.tensor([0.0, 1.0]).double()}
    with torch.no_grad():
        mass = model.fitted["Edema"].mechanism(parent).log_prob(torch.ones(2).double()).exp()
    p, q = mass.tolist()
    negative = ((cohort.table["Sex"] == "F") & (cohort.table["Edema"] == "N")).mean()
    flips = negative * (q - p) / (1 - p)
    assert flips > 0.1
    assert table.loc["Edema", "changed_before"] == pytest.approx(flips, abs=0.02)
    assert table.loc["Edema", "changed_after"] == 0
    assert table.loc["Edema", "differ"] == table.loc["Edema", "changed_before"]
    assert table.loc["Edema", "what"].startswith("P -> N: ")
    assert table.loc["Edema", "why"] == "edge Sex -> Edema removed"
    assert 0 < table.loc["Opacity", "differ"] < table.loc["Edema", "differ"]
    assert table.loc["Opacity", "equation"] == "same"
    kept = ["Sex", "Weight", "Fracture"]
    assert (table.loc[kept, "differ"] == 0).all()
    assert table.loc["Weight", "size"] == 0
    women = (cohort.table["Sex"] == "F").mean()
    assert table.loc["Weight", "changed_before"] == pytest.approx(women)
    assert "equation of Edema: edge Sex -> Edema removed" in str(result)
    assert "Edema: " in str(result).splitlines()[2]


def test_size_of_a_removed_continuous_effect(model, cohort):
    light = model.with_graph(GRAPH.remove_edge("Sex", "Weight")).fit(cohort)
    row = compare(model, light, cohort, sex="M").table.loc["Weight"]
    women = (cohort.table["Sex"] == "F").mean()
    assert row["mean_shift"] == pytest.approx(-12 * women, abs=0.5)
    assert row["size"] == pytest.approx(12 * women / cohort.table["Weight"].std(), abs=0.06)


@pytest.mark.slow
def test_other_seed_changes_every_equation(model, cohort):
    other = model.fit(cohort, seed=5)
    result = compare(model, other, cohort, sex="M")
    assert result.equations == dict.fromkeys(GRAPH.tabular, "seed 0 -> 5")
    assert (result.table["equation"] == "other").all()
    assert result.table["differ"].max() < 0.5


def test_variables_of_one_graph_are_listed(model, cohort):
    wide = cohort.table.assign(Race=np.where(np.arange(4000) % 2, "N", "P"))
    graph = GRAPH.without_variable("Fracture").with_variable(Variable("Race", "binary"))
    other = model.with_graph(graph).fit(Cohort(wide))
    result = compare(model, other, Cohort(wide), sex="M")
    states = result.table["equation"]
    assert states["Fracture"] == "only in the first"
    assert states["Race"] == "only in the second"
    assert list(result.table.index) == [*graph.tabular, "Fracture"]


def test_comparison_with_draws_hold_and_missing_values(model, cut, cohort):
    table = cohort.table
    table.loc[::2, "Edema"] = None
    missing = Cohort(table)
    result = compare(model, cut, missing, sex="M", draws=3)
    assert len(result.twins) == 12_000
    half = compare(model, cut, missing, sex="M").table.loc["Edema", "differ"]
    whole = compare(model, cut, cohort, sex="M").table.loc["Edema", "differ"]
    assert half == pytest.approx(whole / 2, abs=0.02)
    assert compare(model, cut, cohort, sex="M", hold=["edema"]).affected == ()


def test_result_is_immutable(model, cut, cohort):
    result = compare(model, cut, cohort, sex="M")
    table = result.table
    table["differ"] = 0.0
    assert result.affected == ("Edema", "Opacity")
    with pytest.raises(AttributeError):
        result.action = "nothing"


def test_comparison_refuses_unusable_models(model, cohort):
    other = SCM(Graph([Variable("Hernia", "binary")]))
    with pytest.raises(ModelError, match="have no variable in common"):
        compare(model, other, cohort, sex="M")
    with pytest.raises(ModelError, match="has not been fitted"):
        compare(model, SCM(GRAPH), cohort, sex="M")
    with pytest.raises(InterventionError, match="no such variable"):
        compare(model, model, cohort, agee=3)
