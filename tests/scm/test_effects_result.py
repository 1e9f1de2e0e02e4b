"""Results of effects: twins, differences, the table with errors, images; refused input."""

import json

import numpy as np
import pandas as pd
import pytest
from known_equations import kite_world, known_model, linear_world

import causalcxr as cx
from causalcxr import Cohort, Graph, Variable, do
from causalcxr.common.errors import InterventionError
from causalcxr.graph.interventions import Categorical, Normal
from causalcxr.scm.questions.effects import effect


@pytest.fixture(scope="module")
def linear() -> tuple[cx.SCM, Cohort]:
    return linear_world()


@pytest.fixture(scope="module")
def kite() -> tuple[cx.SCM, Cohort]:
    return kite_world()


def test_total_effect_holds_the_counterfactuals(expert, phantoms):
    action = do(age=80, sex="M")
    result = effect(expert, phantoms, action, do(sex="F"), seed=3)
    for side, what in ((result.active, action), (result.baseline, do(sex="F"))):
        twins = expert.counterfactual(phantoms, what, seed=3)
        pd.testing.assert_frame_equal(side.table, twins.table, check_exact=True)
    assert result.baseline.notes[-1] == "do(Sex=F)"
    plain = effect(expert, phantoms, action, seed=3)
    pd.testing.assert_frame_equal(plain.baseline.table, phantoms.table, check_exact=True)
    assert plain.baseline.source == "phantom"
    assert plain.active.source == "phantom, counterfactual"


def test_only_rows_observed_on_both_sides_count(expert, phantoms):
    result = effect(expert, phantoms, do(age=85), do(age=40))
    table = result.table.set_index(["variable", "level"])
    known = phantoms.table["Edema"].notna().sum()
    assert table.loc[("Edema", "P"), "n"] == known < len(phantoms)
    assert result.differences["Edema", "P"].notna().sum() == known
    for name in expert.graph.tabular:
        if len(levels := table.loc[name]) > 1:
            assert levels["change"].sum() == pytest.approx(0, abs=1e-12)
            assert levels["baseline"].sum() == pytest.approx(1)
    assert table.loc[("Cardiomegaly", "P"), "change"] > 4 * table.loc[("Cardiomegaly", "P"), "se"]
    assert table.loc[("Sex", "M"), ["change", "changed"]].tolist() == [0, 0]
    observed = effect(expert, phantoms, do(sex=lambda s: s), recompute=True)
    assert (observed.table["changed"].dropna() == 0).all()


def test_standard_errors_are_clustered_by_patient(kite):
    model, cohort = kite
    patients = np.repeat(np.arange(200), 2)
    few = Cohort(cohort.table.head(400), patients=patients)
    result = effect(model, few, do(a="P"), do(a="N"), draws=5)
    row = result.table.set_index(["variable", "level"]).loc["Y", "P"]
    moves = result.differences["Y", "P"].to_numpy().reshape(200, 10)
    assert row["n"] == 2000
    assert row["se"] == pytest.approx(moves.mean(1).std(ddof=1) / np.sqrt(200))
    moved = (moves != 0).mean(1)
    assert row["changed"] == pytest.approx(moved.mean())
    assert row["changed_se"] == pytest.approx(moved.std(ddof=1) / np.sqrt(200))
    lone = effect(model, few.head(2), do(a="P"), do(a="N"), draws=2)
    assert lone.table["se"].isna().all()


def test_effects_do_not_depend_on_other_records(kite):
    model, cohort = kite
    asked = {"kind": "direct", "mediators": ["M"], "draws": 2, "seed": 4}
    whole = effect(model, cohort.head(300), do(a=Categorical({"N": 0.3, "P": 0.7})), **asked)
    rows = np.random.default_rng(0).permutation(300)[:40]
    part = effect(
        model, cohort.head(300).at(rows), do(a=Categorical({"N": 0.3, "P": 0.7})), **asked
    )
    pd.testing.assert_frame_equal(part.differences, whole.differences.loc[part.active.index])


def test_result_is_immutable_and_json(linear):
    model, cohort = linear
    result = effect(model, cohort, do(a=Normal(0, 1)), through=[("A", "M", "Y")], draws=2, seed=5)
    about = json.loads(json.dumps(result.about))
    assert about["kind"] == "path"
    assert about["action"]["do"]["A"]["normal"]["sd"] == 1
    assert about["through"] == [["A", "M"], ["M", "Y"]]
    assert about["recanting"] == {"Y": ["M"]}
    assert (about["draws"], about["seed"], about["mediators"]) == (2, 5, None)
    assert "path, do(A~normal(0, 1)) against as observed" in repr(result)
    with pytest.raises(ValueError, match="read-only"):
        result.after["Y", ""][0] = 0
    with pytest.raises(AttributeError):
        result.active = cohort
    table = result.table
    table["change"] = 0
    assert result.table["change"].any()


REFUSED = {
    "nothing": ({"action": do()}, "no action; give one"),
    "kind": ({"kind": "totl"}, r"kind 'totl' is none of .*did you mean 'total'"),
    "both": (
        {"through": [("A", "Y")], "kind": "direct"},
        "through= excludes kind= and mediators=",
    ),
    "mediators of a total": ({"mediators": ["M"]}, "mediators= needs kind="),
    "no mediator": ({"kind": "direct", "mediators": []}, "no mediator named"),
    "mediator not there": ({"kind": "direct", "mediators": ["Q"]}, "mediator 'Q': no variable"),
    "mediator that is set": ({"kind": "direct", "mediators": ["a"]}, "'A' is set; name another"),
    "mediator upstream": (
        {"action": do(k=1), "kind": "direct", "mediators": ["M"]},
        "'M' is no descendant of K",
    ),
    "other baseline": (
        {"baseline": do(m=1), "kind": "direct"},
        "the baseline sets 'M' and the action does not",
    ),
    "one edge": ({"through": ("A", "Y")}, "give a list of paths"),
    "no edge": ({"through": [("Y", "A")]}, "no edge 'Y' -> 'A'; the parents of 'A': none"),
    "half an edge": ({"through": [("A", ...)]}, "has fewer than two names; give a list of paths"),
    "no path": ({"through": []}, "no path is given"),
    "out of reach": ({"through": [("A", "Y"), ("K", "Y")]}, "'K' -> 'Y' transmits nothing"),
    "unknown": ({"through": [("A", "Z")]}, "through 'Z': no variable"),
    "cut": ({"action": do(a=1, m=2), "through": [("A", "M")]}, "is cut, as 'M' is set"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_effect_refuses_unusable_input(linear, case):
    options, words = REFUSED[case]
    model, cohort = linear
    action = options.get("action", do(a=1))
    others = {name: value for name, value in options.items() if name != "action"}
    with pytest.raises(InterventionError, match=words) as caught:
        effect(model, cohort, action, **others)
    assert "\n" not in str(caught.value)


# Images


@pytest.fixture(scope="module")
def image_model(rendered_phantoms) -> tuple[cx.SCM, Cohort]:
    radit = {"kind": "radit", "resolution": 32, "steps": 2, "solver_steps": 2, "batch": 4}
    graph = Graph(
        [
            Variable("Sex", "binary", levels=("F", "M")),
            Variable("Cardiomegaly", "binary", parents=("Sex",)),
            Variable("Image", "image", parents=("Sex", "Cardiomegaly"), mechanism=radit),
        ]
    )
    cohort = rendered_phantoms
    equations = {"Sex": 0.5, "Cardiomegaly": lambda Sex: 0.2 + 0.6 * Sex}
    model = known_model(graph.without_variable("Image"), equations, 100)[0]
    image = cx.SCM(graph).fit(cohort).fitted["Image"]
    return model._with(graph=graph, fitted={**model.fitted, "Image": image}), cohort


@pytest.mark.slow
def test_effects_have_images_on_both_sides(image_model):
    model, cohort = image_model
    before = cohort.images[:]
    direct = effect(model, cohort, do(sex="M"), kind="direct")
    held = model.counterfactual(cohort, do(sex="M"), hold=["Cardiomegaly"])
    assert np.array_equal(direct.active.images[:], held.images[:])
    assert np.array_equal(direct.baseline.images[:], before)
    assert (np.abs(held.images[:] - before).max((1, 2, 3)) > 0).sum() > 5

    along = effect(model, cohort, do(sex="M"), through=[("Sex", "Cardiomegaly", "Image")])
    moved = np.abs(along.active.images[:] - before).max((1, 2, 3)) > 0
    flipped = along.differences["Cardiomegaly", "P"].to_numpy() != 0
    assert np.array_equal(moved, flipped)
    assert 0 < flipped.sum() < len(cohort)
    indirect = effect(model, cohort, do(sex="M"), kind="indirect", mediators=["Cardiomegaly"])
    assert np.array_equal(indirect.active.images[:], along.active.images[:])

    men = effect(model, cohort, do(sex="F"), do(sex="M"))
    twins = model.counterfactual(cohort, sex="M")
    assert np.array_equal(men.baseline.images[:], twins.images[:])
    bare = effect(model, cohort.with_images(None), do(sex="M"))
    assert bare.active.images is None
    assert bare.baseline.images is None


def test_plot_has_a_row_for_each_changed_level(tmp_path):
    model, cohort = kite_world()
    result = model.effect(cohort, do(A="P"), through=[("A", "W", "Y")])
    axes = result.plot(tmp_path / "effect.png").axes[0]
    assert (tmp_path / "effect.png").read_bytes()[1:4] == b"PNG"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["W = P", "Y = P"]
    assert "path-specific effect of do(A=P) against the facts, 20,000 rows" in axes.get_title(
        "left"
    )
    assert "a witness recants" in axes.get_xlabel()
    table = result.table.query("level == 'P'").set_index("variable")
    dots = [line for line in axes.lines if line.get_marker() == "o" and len(line.get_xdata())]
    marks = {y: x for line in dots for x, y in zip(*line.get_data(), strict=True)}
    assert marks[1] == pytest.approx(100 * table["change"]["W"])
    assert marks[0] == pytest.approx(100 * table["change"]["Y"])
    total = model.effect(cohort, do(A="P")).plot().axes[0]
    assert "witness" not in total.get_xlabel()
