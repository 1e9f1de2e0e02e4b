"""Questions about one patient: the table holds the results of the model."""

import json

import numpy as np
import pandas as pd
import pytest
from explorers import HOSTILE, fitted, patients

import causalcxr as cx
from causalcxr import do
from causalcxr.apps.explorer.assumptions import find_assumptions, weights_source
from causalcxr.apps.explorer.patient_graph import patient_graph_svg
from causalcxr.apps.explorer.question import AbductedPatient, Question
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError, InterventionError
from causalcxr.graph import Graph
from causalcxr.scm import SCM


@pytest.fixture(scope="module")
def model():
    return fitted()


@pytest.fixture(scope="module")
def cohort():
    return patients(12).with_images(None)


@pytest.fixture(scope="module")
def healthy(cohort):
    return int(np.flatnonzero(cohort.table["Pleural Effusion"] == "N")[0])


def line(answer, name):
    return next(each for each in answer.lines if each.name == name)


QUESTIONS = [
    Question({"Sex": "M"}),
    Question({"Pleural Effusion": "P", "Age": 20.0}),
    Question({"Age": 90, "View": "AP"}, ("Pleural Effusion",)),
    Question({"pleural_effusion": "N"}, ("site",)),
]


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda q: q.action.describe())
def test_answer_is_the_counterfactual_of_the_model(model, cohort, question):
    for row in range(len(cohort)):
        patient = cohort.at([row])
        answer = AbductedPatient(model, patient).ask(question)
        twin = model.counterfactual(patient, question.action, hold=question.hold)
        for name in ("Sex", "View", "Pleural Effusion", "Site"):
            assert line(answer, name).twin == twin.table[name].iloc[0]
            assert line(answer, name).factual == patient.table[name].iloc[0]
        assert line(answer, "Age").twin == f"{twin.table['Age'].iloc[0]:g} year"


def test_probabilities_are_those_of_the_model(model, cohort):
    patient, question = cohort.at([0]), Question({"Sex": "M", "Age": 30})
    answer = AbductedPatient(model, patient).ask(question)
    found = model.probabilities(patient, question.action)
    for name in found.table.columns.get_level_values(0).unique():
        told = {each.level: each.probability for each in line(answer, name).chances}
        assert told == pytest.approx(found[name].iloc[0].to_dict(), abs=1e-12)
        assert line(answer, name).method == "exact"
    assert line(answer, "Age").chances == ()


def test_set_held_and_changed_variables_are_marked(model, cohort, healthy):
    abducted = AbductedPatient(model, cohort.at([healthy]))
    marks = abducted.ask(Question({"Pleural Effusion": "P"}, ("Site",))).marks
    assert marks == {"Pleural Effusion": "set", "Site": "held"}
    changed = [
        AbductedPatient(model, cohort.at([k]))
        .ask(Question({"Pleural Effusion": "P"}))
        .marks.get("Site")
        for k in np.flatnonzero(cohort.table["Pleural Effusion"] == "N")
    ]
    # P(B) is 0.8 with an effusion and 0.3 without: some of those who have none move.
    assert set(changed) == {"changed", None}


def test_image_changes_only_with_its_parents(model, cohort, healthy):
    abducted = AbductedPatient(model, cohort.at([healthy]))
    sex = str(cohort.table["Sex"].iloc[healthy])
    assert not abducted.ask(Question({"Site": "B"})).image_changes
    assert not abducted.ask(Question({"Sex": sex})).image_changes
    assert abducted.ask(Question({"Pleural Effusion": "P"})).image_changes


def test_missing_values_stay_missing(model):
    patient = Cohort(pd.DataFrame([{"Age": 50}], index=["a"]))
    answer = AbductedPatient(model, patient).ask(Question({"Sex": "M"}))
    assert line(answer, "Sex").factual == "missing"
    assert line(answer, "Sex").twin == "M"
    assert line(answer, "Site").twin == "missing"
    assert line(answer, "Site").chances == ()
    # Its cause was missing and is known now: the equation says what it would be.
    assert line(answer, "View").mark == "same"


def test_spread_of_a_number_covers_its_twin():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 400)
    table = pd.DataFrame({"X": np.where(x, "P", "N"), "Y": 10.0 * x + rng.normal(size=400)})
    yaml = "variables: {X: {type: binary}, Y: {type: continuous, parents: [X]}}"
    model = SCM(Graph.parse(yaml)).fit(Cohort(table), progress=False)
    row = int(np.flatnonzero(x == 0)[0])
    answer = AbductedPatient(model, Cohort(table).at([row])).ask(Question({"X": "P"}))
    low, high = line(answer, "Y").spread
    value = float(line(answer, "Y").twin)
    # A number's noise is known from its fact: the spread is that of the rounding alone.
    assert 5 < low <= high < 15
    assert high - low < 0.01
    assert value == pytest.approx(low, abs=0.01)


def test_python_code_gives_the_same_twin(model, cohort, healthy):
    question = Question({"Pleural Effusion": "P", "Age": 33}, ("View",))
    code = question.code("model", "cohort", f"[{healthy}]")
    assert code.startswith("model.counterfactual(cohort.at([")
    twin = eval(code, {"model": model, "cohort": cohort, "do": do, "cx": cx})
    answer = AbductedPatient(model, cohort.at([healthy])).ask(question)
    assert twin.table["Site"].iloc[0] == line(answer, "Site").twin
    assert twin.table["Age"].iloc[0] == 33


def test_answer_as_json_is_complete(model, cohort):
    answer = AbductedPatient(model, cohort.at([0])).ask(QUESTIONS[2])
    told = json.loads(json.dumps(answer.to_json()))
    assert told["question"]["settings"] == {"Age": 90, "View": "AP"}
    assert told["question"]["hold"] == ["Pleural Effusion"]
    assert [each["name"] for each in told["lines"]] == list(answer_names(answer))
    assert told["words"] == "do(Age=90, View=AP), held: Pleural Effusion"


def answer_names(answer):
    return (each.name for each in answer.lines)


REFUSED = [
    (Question({"Age": 200}), "outside the range"),
    (Question({"Sex": "X"}), "the levels are F, M"),
    (Question({"Image": "P"}), "is the image"),
    (Question({"Nobody": "P"}), "no such variable"),
    (Question({"Sex": "M"}, ("Sex",)), "both set and held"),
]


@pytest.mark.parametrize(("question", "why"), REFUSED, ids=lambda each: str(each)[-20:])
def test_invalid_settings_are_refused(model, cohort, question, why):
    with pytest.raises(InterventionError, match=why):
        AbductedPatient(model, cohort.at([0])).ask(question)


def test_two_records_are_refused(model, cohort):
    with pytest.raises(CohortError, match="2 records; choose one patient"):
        AbductedPatient(model, cohort.head(2))


def test_couplings_are_those_of_sensitivity(model, cohort, healthy):
    patient = cohort.at([healthy])
    found = find_assumptions(AbductedPatient(model, patient), Question({"Pleural Effusion": "P"}))
    expected = model.sensitivity(patient, do({"Pleural Effusion": "P"}), draws=100).changes
    assert set(found.couplings) == set(expected.index) == {"Site"}
    for key in ("model", "monotone", "gumbel", "independent", "lower", "upper"):
        assert found.couplings["Site"][key] == pytest.approx(expected.loc["Site", key], abs=1e-12)
    told = found.couplings["Site"]
    assert told["lower"] <= told["model"] <= told["upper"]
    assert found.warnings == ()
    assert found.image == ""  # the record has none


def test_nothing_can_change_without_descendants(model, cohort):
    found = find_assumptions(AbductedPatient(model, cohort.at([0])), Question({"Site": "B"}))
    assert (found.couplings, found.warnings) == ({}, ())


def test_sparse_training_data_give_a_warning():
    x = np.array(["P"] * 5 + ["N"] * 195)
    table = Cohort(pd.DataFrame({"X": x, "Y": ["N", "P"] * 100})).assign_splits((1.0, 0.0, 0.0))
    yaml = "variables: {X: {type: binary}, Y: {type: binary, parents: [X]}}"
    abducted = AbductedPatient(SCM(Graph.parse(yaml)).fit(table, progress=False), table.at([100]))
    [warning] = find_assumptions(abducted, Question({"X": "P"})).warnings
    assert warning.startswith(
        "Y: 5 training records share the twin's X; an equation learns little from fewer than 20"
    )
    assert find_assumptions(abducted, Question({"X": "N"})).warnings == ()


def test_bundled_weights_name_their_source(model):
    assert weights_source(model) == "enriched phantom"
    assert weights_source(SCM(Graph.parse("variables: {X: {type: binary}}"))) == ""


def test_patient_graph_escapes_levels_and_keeps_its_layout(model, cohort, healthy):
    abducted = AbductedPatient(model, cohort.at([healthy]))
    svg = patient_graph_svg(model.graph, abducted.ask(Question({"Pleural Effusion": "P"})))
    assert HOSTILE not in svg
    assert "¤" not in svg
    assert ">N → P<" in svg
    other = patient_graph_svg(model.graph, abducted.ask(Question({"Age": 7})))
    box = svg[svg.index("viewBox") : svg.index("<style>")]
    assert box in other
    assert ">7 year<" in other or "→ 7 year<" in other
