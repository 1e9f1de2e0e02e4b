"""A question about one patient: the table is what the model says, and nothing is guessed."""

import json

import numpy as np
import pandas as pd
import pytest
from explorers import HOSTILE, fitted, patients

import causalcxr as cx
from causalcxr import do
from causalcxr.apps.explorer.doubt import doubt_of, weights_know
from causalcxr.apps.explorer.drawn import drawn
from causalcxr.apps.explorer.question import Question, Visit
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
def test_given_any_question_then_the_table_holds_the_twin_of_the_model(model, cohort, question):
    for row in range(len(cohort)):
        patient = cohort.at([row])
        answer = Visit(model, patient).ask(question)
        twin = model.counterfactual(patient, question.action, hold=question.hold)
        for name in ("Sex", "View", "Pleural Effusion", "Site"):
            assert line(answer, name).twin == twin.table[name].iloc[0]
            assert line(answer, name).factual == patient.table[name].iloc[0]
        assert line(answer, "Age").twin == f"{twin.table['Age'].iloc[0]:g} year"


def test_given_levels_that_can_change_then_probabilities_are_those_of_the_model(model, cohort):
    patient, question = cohort.at([0]), Question({"Sex": "M", "Age": 30})
    answer = Visit(model, patient).ask(question)
    found = model.probabilities(patient, question.action)
    for name in found.table.columns.get_level_values(0).unique():
        told = {each.level: each.probability for each in line(answer, name).chances}
        assert told == pytest.approx(found[name].iloc[0].to_dict(), abs=1e-12)
        assert line(answer, name).method == "exact"
    assert line(answer, "Age").chances == ()


def test_given_an_effusion_that_is_set_then_it_and_what_follows_are_marked(model, cohort, healthy):
    visit = Visit(model, cohort.at([healthy]))
    marks = visit.ask(Question({"Pleural Effusion": "P"}, ("Site",))).marks
    assert marks == {"Pleural Effusion": "set", "Site": "held"}
    changed = [
        Visit(model, cohort.at([k])).ask(Question({"Pleural Effusion": "P"})).marks.get("Site")
        for k in np.flatnonzero(cohort.table["Pleural Effusion"] == "N")
    ]
    # P(B) is 0.8 with an effusion and 0.3 without: some of those who have none move.
    assert set(changed) == {"changed", None}


def test_given_a_setting_then_the_image_is_another_only_where_a_parent_of_it_moved(
    model, cohort, healthy
):
    visit = Visit(model, cohort.at([healthy]))
    sex = str(cohort.table["Sex"].iloc[healthy])
    assert not visit.ask(Question({"Site": "B"})).films
    assert not visit.ask(Question({"Sex": sex})).films
    assert visit.ask(Question({"Pleural Effusion": "P"})).films


def test_given_a_record_with_little_known_then_what_is_missing_stays_missing(model):
    patient = Cohort(pd.DataFrame([{"Age": 50}], index=["a"]))
    answer = Visit(model, patient).ask(Question({"Sex": "M"}))
    assert line(answer, "Sex").factual == "missing"
    assert line(answer, "Sex").twin == "M"
    assert line(answer, "Site").twin == "missing"
    assert line(answer, "Site").chances == ()
    # Its cause was missing and is known now: the equation says what it would be.
    assert line(answer, "View").mark == "same"


def test_given_a_number_downstream_then_its_spread_over_draws_is_told():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 2, 400)
    table = pd.DataFrame({"X": np.where(x, "P", "N"), "Y": 10.0 * x + rng.normal(size=400)})
    yaml = "variables: {X: {type: binary}, Y: {type: continuous, parents: [X]}}"
    model = SCM(Graph.parse(yaml)).fit(Cohort(table), progress=False)
    row = int(np.flatnonzero(x == 0)[0])
    answer = Visit(model, Cohort(table).at([row])).ask(Question({"X": "P"}))
    low, high = line(answer, "Y").spread
    value = float(line(answer, "Y").twin)
    # A number's noise is known from its fact: the spread is that of the rounding alone.
    assert 5 < low <= high < 15
    assert high - low < 0.01
    assert value == pytest.approx(low, abs=0.01)


def test_given_a_question_then_its_line_of_python_gives_the_same_twin(model, cohort, healthy):
    question = Question({"Pleural Effusion": "P", "Age": 33}, ("View",))
    code = question.code("model", "cohort", f"[{healthy}]")
    assert code.startswith("model.counterfactual(cohort.at([")
    twin = eval(code, {"model": model, "cohort": cohort, "do": do, "cx": cx})
    answer = Visit(model, cohort.at([healthy])).ask(question)
    assert twin.table["Site"].iloc[0] == line(answer, "Site").twin
    assert twin.table["Age"].iloc[0] == 33


def test_given_an_answer_then_json_holds_all_of_it(model, cohort):
    answer = Visit(model, cohort.at([0])).ask(QUESTIONS[2])
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
def test_given_what_cannot_be_set_then_one_line_says_why(model, cohort, question, why):
    with pytest.raises(InterventionError, match=why):
        Visit(model, cohort.at([0])).ask(question)


def test_given_two_records_then_a_visit_asks_for_one(model, cohort):
    with pytest.raises(CohortError, match="2 records; choose one patient"):
        Visit(model, cohort.head(2))


def test_given_a_discrete_answer_then_the_doubt_is_that_of_the_model(model, cohort, healthy):
    patient = cohort.at([healthy])
    found = doubt_of(Visit(model, patient), Question({"Pleural Effusion": "P"}))
    asked = model.sensitivity(patient, do({"Pleural Effusion": "P"}), draws=100).changes
    assert set(found.couplings) == set(asked.index) == {"Site"}
    for key in ("model", "monotone", "gumbel", "independent", "lower", "upper"):
        assert found.couplings["Site"][key] == pytest.approx(asked.loc["Site", key], abs=1e-12)
    told = found.couplings["Site"]
    assert told["lower"] <= told["model"] <= told["upper"]
    assert found.warnings == ()


def test_given_nothing_that_can_change_then_there_is_no_doubt(model, cohort):
    found = doubt_of(Visit(model, cohort.at([0])), Question({"Site": "B"}))
    assert (found.couplings, found.warnings) == ({}, ())


def test_given_a_corner_that_training_hardly_knows_then_the_support_says_so():
    x = np.array(["P"] * 5 + ["N"] * 195)
    table = Cohort(pd.DataFrame({"X": x, "Y": ["N", "P"] * 100})).assign_splits((1.0, 0.0, 0.0))
    yaml = "variables: {X: {type: binary}, Y: {type: binary, parents: [X]}}"
    visit = Visit(SCM(Graph.parse(yaml)).fit(table, progress=False), table.at([100]))
    [warning] = doubt_of(visit, Question({"X": "P"})).warnings
    assert warning.startswith("Y: 5 training records share the twin's X; fewer than 20")
    assert doubt_of(visit, Question({"X": "N"})).warnings == ()


def test_given_bundled_weights_then_it_is_told_that_they_know_phantoms(model):
    assert weights_know(model) == "enriched phantom"
    assert weights_know(SCM(Graph.parse("variables: {X: {type: binary}}"))) == ""


def test_given_a_graph_with_hostile_levels_then_they_are_escaped_and_the_layout_stays(
    model, cohort, healthy
):
    visit = Visit(model, cohort.at([healthy]))
    svg = drawn(model.graph, visit.ask(Question({"Pleural Effusion": "P"})))
    assert HOSTILE not in svg
    assert "¤" not in svg
    assert ">N → P<" in svg
    other = drawn(model.graph, visit.ask(Question({"Age": 7})))
    box = svg[svg.index("viewBox") : svg.index("<style>")]
    assert box in other
    assert ">7 year<" in other or "→ 7 year<" in other
