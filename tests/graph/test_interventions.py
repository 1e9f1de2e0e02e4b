"""Interventions: names, levels, numbers, shifts, functions and columns, and what is refused."""

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from causalcxr.common.errors import InterventionError
from causalcxr.graph import Graph, Variable
from causalcxr.graph.interventions import Intervention, Shift, do, parse

GRAPH = Graph(
    [
        Variable("Age", "continuous", unit="year", range=(0, 105), resolution=1),
        Variable("Dose", "continuous", resolution=0.1),
        Variable("Weight", "continuous"),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("View", "categorical", levels=("AP", "PA", "LATERAL")),
        Variable("Grade", "ordinal", levels=("0", "1", "2")),
        Variable("Sign", "binary", levels=("-1", "+1")),
        Variable("Pleural Effusion", "binary", parents=("Age",)),
        Variable("Image", "image", parents=("Age", "View")),
    ]
)
NAN = np.nan


def columns(**given: list) -> dict[str, np.ndarray]:
    return {name: np.array(values, dtype=np.float64) for name, values in given.items()}


def evaluated(intervention: Intervention, **factual: list) -> list:
    """Evaluate an intervention on one variable."""
    codes = intervention.bind(GRAPH).values(columns(**factual))
    (column,) = codes.values()
    assert column.dtype == np.float64
    return column.tolist()


def test_names_in_any_spelling_become_canonical():
    bound = do({"PLEURAL-EFFUSION": "p"}, sex="m", age=60).bind(GRAPH)
    assert bound.names == ("Pleural Effusion", "Sex", "Age")
    assert bound.describe() == "do(Pleural Effusion=P, Sex=M, Age=60)"
    assert bound.bind(GRAPH).describe() == bound.describe()


def test_level_sets_its_position():
    assert evaluated(do(view="PA"), View=[0, 2, NAN]) == [1.0, 1.0, 1.0]
    assert evaluated(do(grade=2), Grade=[0, 0]) == [2.0, 2.0]


def test_number_is_rounded_to_the_lattice():
    assert evaluated(do(age=60.5), Age=[1, NAN]) == [61.0, 61.0]
    assert evaluated(do(age=[59.49, 59.5]), Age=[1, 2]) == [59.0, 60.0]
    assert evaluated(do(weight=60.123456789), Weight=[1]) == [60.123456789]


def test_shift_of_a_missing_value_is_missing():
    shifted = evaluated(do(age=Shift(10)), Age=[50, NAN, 95])
    np.testing.assert_array_equal(shifted, [60.0, NAN, 105.0])


@given(st.lists(st.integers(0, 1050), min_size=1, max_size=20))
def test_values_on_a_lattice_stay_bit_exact(tenths):
    observed = np.array([float(f"{tenth / 10:.1f}") for tenth in tenths])
    same = do(dose=observed).bind(GRAPH).values({"Dose": observed})["Dose"]
    assert same.tobytes() == observed.tobytes()
    same = do(dose=Shift(0)).bind(GRAPH).values({"Dose": observed})["Dose"]
    assert same.tobytes() == observed.tobytes()


def test_function_gets_a_series_in_raw_units():
    seen = {}

    def older(column: pd.Series) -> pd.Series:
        seen["age"] = column
        return column + 10

    codes = do(age=older).bind(GRAPH).values(columns(Age=[50, NAN, 70], Sex=[0, 1, NAN]))
    np.testing.assert_array_equal(codes["Age"], [60, NAN, 80])
    assert isinstance(seen["age"], pd.Series)
    assert seen["age"].name == "Age"

    swap = do(sex=lambda sex: sex.map({"F": "M", "M": "F"}))
    np.testing.assert_array_equal(
        swap.bind(GRAPH).values(columns(Sex=[0, 1, NAN]))["Sex"], [1, 0, NAN]
    )


def test_function_may_return_one_value():
    np.testing.assert_array_equal(evaluated(do(sex=lambda _: "M"), Sex=[0, NAN]), [1, NAN])


def test_column_sets_one_value_for_each_record():
    assert evaluated(do(sex=["M", "f", "M"]), Sex=[0, 0, NAN]) == [1.0, 0.0, 1.0]
    bound = do(age=pd.Series([40, 50], index=["b", "a"])).bind(GRAPH)
    given = {"Age": np.array([1.0, 2.0])}
    assert bound.values(given, index=pd.Index(["a", "b"]))["Age"].tolist() == [50.0, 40.0]
    with pytest.raises(InterventionError, match="the ids of the records are unknown here"):
        bound.values(given)


def test_column_is_copied():
    ages = np.array([40.0, 50.0])
    intervention = do(age=ages)
    ages[:] = 0
    assert evaluated(intervention, Age=[1, 2]) == [40.0, 50.0]


def test_exact_level_precedes_another_case():
    graph = Graph([Variable("Grade", "categorical", levels=("a", "A", "b"))])
    assert do(grade="A").bind(graph).values({"Grade": np.zeros(1)})["Grade"] == [1.0]
    assert do(grade="B").bind(graph).values({"Grade": np.zeros(1)})["Grade"] == [2.0]


def test_empty_intervention_sets_nothing():
    assert not do()
    assert do().bind(GRAPH).values({}) == {}
    assert do().describe() == "do()"


REFUSED = {
    "unknown variable": (do(edema="P"), r"intervention 'edema': no such variable"),
    "near variable": (do(vieww="PA"), r"'vieww': no such variable; did you mean 'View'\?"),
    "image": (
        do(image="x"),
        r"'Image' is the image, which is the outcome; intervene on its causes",
    ),
    "unknown level": (do(view="PAA"), r"'View': level 'PAA': the levels are AP, PA, LATERAL"),
    "missing level": (do(sex=["M", None]), r"level None \(1 of 2 records, .* position 1\)"),
    "level of a number": (do(age="old"), r"'Age': value 'old': give a finite number"),
    "out of range": (
        do(age=155),
        r"'Age': value 155 is outside the range \[0, 105\] year; if .* pass beyond_range=True",
    ),
    "some out of range": (
        do(age=[50, 106, 200]),
        r"value 106 \(2 of 3 records, the first at position 1\) is outside the range",
    ),
    "missing in a column": (do(age=[50, NAN]), r"value nan \(1 of 2 records.*leaves missing"),
    "infinite in a column": (do(age=[50, np.inf]), r"value inf \(1 of 2 records"),
    "shift of a level": (do(sex=Shift(1)), r"shift \+1 needs a continuous variable; the levels"),
    "number in place of a level": (do(sex=1), r"level 1: the levels are F, M"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_setting_gives_one_line(case):
    intervention, expected = REFUSED[case]
    with pytest.raises(InterventionError, match=expected) as raised:
        intervention.bind(GRAPH)
    assert "\n" not in str(raised.value)


LATE = {
    "shifted out of range": (do(age=Shift(10)), r"value 109 \(2 of 3 records, .* position 1\)"),
    "function out of range": (do(age=lambda a: a * 2), r"value 198 \(2 of 3 records"),
    "function of a wrong level": (
        do(sex=lambda s: s + "x"),
        r"'Sex': level 'Fx' \(3 of 3 records, the first at position 0\): the levels are F, M",
    ),
    "function that fails": (do(age=lambda a: a["x"]), r"the function failed \(KeyError: 'x'\)"),
    "function of another shape": (
        do(age=lambda a: [1, 2]),
        r"returned shape \(2,\) for 3 records",
    ),
    "column of another length": (do(age=[1, 2]), r"2 values for 3 records; give one for each"),
}


@pytest.mark.parametrize("case", LATE)
def test_invalid_records_are_counted_and_the_first_named(case):
    intervention, expected = LATE[case]
    bound = intervention.bind(GRAPH)
    with pytest.raises(InterventionError, match=expected) as raised:
        bound.values(columns(Age=[40, 99, 100], Sex=[0, 0, 0]))
    assert "\n" not in str(raised.value)


def test_invalid_value_after_missing_ones_names_its_record():
    bound = do(age=lambda a: a + 60).bind(GRAPH)
    with pytest.raises(InterventionError, match=r"1 of 2 records, the first at position 3"):
        bound.values(columns(Age=[NAN, 20, NAN, 80]))


def test_beyond_range_is_allowed_and_recorded():
    intervention = do(age=155, beyond_range=True)
    assert evaluated(intervention, Age=[1]) == [155.0]
    assert intervention.to_json() == {"do": {"age": 155}, "beyond_range": True}


@pytest.mark.parametrize("value", [None, NAN, np.inf, -np.inf, np.float64("nan"), {"a": 1}])
def test_missing_value_cannot_be_set(value):
    with pytest.raises(InterventionError, match="intervention 'sex'"):
        do(sex=value)


def test_two_spellings_of_one_variable_are_refused():
    with pytest.raises(InterventionError, match="'Sex' is set too; keep one"):
        do({"Sex": "M"}, sex="M")
    with pytest.raises(InterventionError, match="'sex' is set too"):
        do({"sex": "M"}, sex="F")
    with pytest.raises(InterventionError, match="takes names and values"):
        do("sex=M")


def test_signed_words_are_shifts():
    intervention = parse(["sex=M", "age=+10", "Pleural Effusion=P", "weight = -2.5"])
    assert intervention.describe() == "do(sex=M, age+10, Pleural Effusion=P, weight-2.5)"
    assert isinstance(intervention.settings["age"], Shift)
    codes = intervention.bind(GRAPH).values(columns(Age=[50], Weight=[70], Sex=[0]))
    assert {name: column.tolist() for name, column in codes.items()} == {
        "Sex": [1.0],
        "Age": [60.0],
        "Pleural Effusion": [1.0],
        "Weight": [67.5],
    }
    assert parse(["age=60"]).bind(GRAPH).values(columns(Age=[1]))["Age"] == [60.0]
    assert parse(["sign=+1"]).bind(GRAPH).describe() == "do(Sign=+1)"


@pytest.mark.parametrize("word", ["sex", "=M", "sex=", "age==5", "", " = "])
def test_malformed_word_is_refused_with_an_example(word):
    with pytest.raises(InterventionError, match=r"write NAME=VALUE, such as sex=M, age=60"):
        parse([word])


def test_variable_set_twice_is_refused():
    with pytest.raises(InterventionError, match="'Age' is set twice; keep one"):
        parse(["age=+10", "Age=-5"])


def test_intervention_is_recorded_as_json():
    def halve(column: pd.Series) -> pd.Series:
        return column / 2

    intervention = do(
        {"Pleural Effusion": "P"},
        age=Shift(-5),
        weight=halve,
        dose=lambda d: d,
        sex=np.array(["M", "F"]),
    )
    record = json.loads(json.dumps(intervention.to_json()))["do"]
    assert record["Pleural Effusion"] == "P"
    assert record["age"] == {"shift": -5.0}
    assert record["weight"] == {"function": "halve"}
    assert record["dose"] == {"function": "<callable>"}
    assert record["sex"]["records"] == 2
    assert len(record["sex"]["sha256"]) == 64
    assert "sex=<2 values>" in str(intervention)


def test_100000_records_are_evaluated_quickly():
    import time

    rng = np.random.default_rng(0)
    factual = {"Age": rng.integers(0, 90, 100_000).astype(float), "Sex": np.zeros(100_000)}
    bound = do(age=lambda a: a + 10, sex=rng.choice(["F", "M"], 100_000)).bind(GRAPH)
    start = time.process_time()
    bound.values(factual)
    assert time.process_time() - start < 2.0
