"""Interventions that are refused: through the API and on the command line, in one line."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, Shift, Variable, do
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.common.errors import GraphError, InterventionError, ModelError
from causalcxr.graph.interventions import parse

GRAPH = Graph(
    [
        Variable("Age", "continuous", unit="year", range=(0, 105), resolution=1),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("View", "categorical", levels=("AP", "PA", "LATERAL"), parents=("Age",)),
        Variable("Dataset", "categorical", levels=("A", "B", "C")),
        Variable("Pleural Effusion", "binary", parents=("Age", "Sex")),
        Variable(
            "Image",
            "image",
            parents=("Sex", "View"),
            mechanism={"kind": "radit", "resolution": 32, "steps": 1},
        ),
    ],
    name="small",
)


def invented(n: int = 300) -> Cohort:
    """Records in which dataset C has nobody, and dataset B no lateral view."""
    random = np.random.default_rng(0)
    dataset = random.choice(["A", "B"], n)
    view = random.choice(["AP", "PA", "LATERAL"], n)
    view[(dataset == "B") & (view == "LATERAL")] = "PA"
    table = {
        "Age": random.integers(20, 90, n).astype(float),
        "Sex": random.choice(["F", "M"], n),
        "View": view,
        "Dataset": dataset,
        "Pleural Effusion": random.choice(["N", "P"], n),
    }
    return Cohort(pd.DataFrame(table, index=[f"r{k}" for k in range(n)]))


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    return invented()


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return SCM(GRAPH).fit(cohort)


@pytest.fixture(scope="module")
def places(cohort, model, tmp_path_factory) -> tuple[Path, Path]:
    """The model and the cohort as folders."""
    folder = tmp_path_factory.mktemp("faults")
    return model.save(folder / "model"), cohort.save(folder / "cohort")


# What is written after --do, the words of the message
FAULTS = {
    "unknown level": (["view=PAA"], "the levels are AP, PA, LATERAL; did you mean 'PA'?"),
    "unknown level, far off": (["sex=7"], "level '7': the levels are F, M"),
    "out of range": (["age=155"], "value 155 is outside the range [0, 105] year; if this"),
    "shifted out of range": (["age=+90"], "outside the range [0, 105] year"),
    "no number": (["age=old"], "value 'old': give a finite number"),
    "not finite": (["age=nan"], "give a finite number"),
    "conflicting": (["sex=M", "Sex=F"], "'Sex' is set twice; keep one"),
    "a shift of levels": (["sex=+1"], "shift +1 needs a continuous variable"),
    "empty cell": (["dataset=C"], "0 training records have Dataset=C"),
    "empty pair of cells": (
        ["dataset=B", "view=LATERAL"],
        "0 training records have Dataset=B & View=LATERAL",
    ),
    "unknown variable": (["pleural_efusion=P"], "did you mean 'Pleural Effusion'?"),
    "image": (
        ["image=black"],
        "'Image' is the image, which is the outcome; intervene on its causes",
    ),
    "malformed": (["sex"], "write NAME=VALUE, such as sex=M, age=60 or age=+10"),
    "malformed, two signs": (["sex==M"], "write NAME=VALUE"),
    "nothing": ([], "nothing to do; give --do NAME=VALUE"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_api_names_the_fault(model, cohort, fault):
    settings, words = FAULTS[fault]
    if not settings:
        return
    with pytest.raises(InterventionError) as caught:
        model.counterfactual(cohort, parse(settings))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("fault", FAULTS)
def test_command_line_gives_one_line_and_writes_nothing(places, tmp_path, capsys, fault):
    model, cohort = map(str, places)
    settings, words = FAULTS[fault]
    out = tmp_path / "twins"
    args = ["counterfactual", model, cohort, "--out", str(out)]
    assert guarded(app, [*args, *(w for s in settings for w in ("--do", s))]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith("error: ")
    assert words in line
    assert list(tmp_path.iterdir()) == []


HOLDS = {
    "unknown": (["vieww"], "hold 'vieww': no variable 'vieww' in graph 'small'; did you mean"),
    "image": (["image"], "hold 'image': the image is the outcome; hold its parents"),
    "set": (["Sex"], "'Sex' is both set and held"),
}


@pytest.mark.parametrize("fault", HOLDS)
def test_invalid_hold_is_refused(model, cohort, places, tmp_path, capsys, fault):
    hold, words = HOLDS[fault]
    with pytest.raises(InterventionError) as caught:
        model.counterfactual(cohort, do(sex="M"), hold=hold)
    assert words in str(caught.value)
    args = ["counterfactual", *map(str, places), "--do", "sex=M", "--hold", hold[0]]
    assert guarded(app, [*args, "--out", str(tmp_path / "twins")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert words in line
    assert list(tmp_path.iterdir()) == []


def test_variable_set_again_is_refused(model):
    with pytest.raises(InterventionError, match="'Sex' is set already; keep one"):
        model.do(sex="M").do({"SEX": "F"})
    with pytest.raises(InterventionError, match="'Sex' is both set and held"):
        model.do(age=60, hold=["sex"]).do(sex="M")
    with pytest.raises(InterventionError, match="keep one"):
        model.do(do(sex="M"), Sex="F")


def test_setting_observed_values_returns_the_facts(model, cohort):
    table = cohort.table
    table.loc["r0", "Dataset"] = "C"  # a level that training never saw
    patients = Cohort(table)
    observed = do(dataset=lambda d: d, sex=table["Sex"].tolist(), age=Shift(0))
    twins = model.counterfactual(patients, observed, recompute=True)
    pd.testing.assert_frame_equal(twins.table, table, check_exact=True)
    same = model.counterfactual(patients.loc["r0"], dataset="C")
    pd.testing.assert_frame_equal(same.table, table.loc[["r0"]].rename_axis("record"))
    with pytest.raises(InterventionError, match="0 training records have Dataset=C"):
        model.counterfactual(patients.head(2), dataset="C")


def test_function_of_a_missing_pair_is_refused(model, cohort):
    lateral = do(dataset=lambda d: d, view=lambda v: ["LATERAL"] * len(v))
    with pytest.raises(
        InterventionError, match="0 training records have Dataset=B & View=LATERAL"
    ):
        model.counterfactual(cohort, lateral)
    only = cohort.select("Dataset == 'A'")
    assert (model.counterfactual(only, lateral).table["View"] == "LATERAL").all()


@pytest.mark.parametrize("words", [["age=155"], ["dataset=C"], ["dataset=B", "view=LATERAL"]])
def test_manifest_records_beyond_range(model, cohort, places, tmp_path, words):
    twins = model.counterfactual(cohort, parse(words, beyond_range=True))
    assert twins.notes[-1].endswith("beyond range")
    split = (word.split("=") for word in words)
    by_name = {name: float(value) if value.isdecimal() else value for name, value in split}
    assert len(model.counterfactual(cohort, by_name, beyond_range=True)) == len(cohort)
    args = ["counterfactual", *map(str, places), "--out", str(tmp_path / "twins")]
    assert guarded(app, [*args, "--beyond-range", *(w for s in words for w in ("--do", s))]) == 0
    manifest = json.loads((tmp_path / "twins" / "manifest.json").read_text())
    assert manifest["intervention"]["beyond_range"] is True
    table = pd.read_csv(tmp_path / "twins" / "twins.csv")
    for word in words:
        name, value = word.split("=")
        assert (table[f"{name.title()} (counterfactual)"].astype(str).str[:3] == value[:3]).all()


def test_stale_equations_are_named(model, cohort):
    edited = model.with_graph(GRAPH.add_edge("Sex", "View").add_edge("View", "Pleural Effusion"))
    with pytest.raises(
        ModelError, match="stale after an edit of the graph: View, Pleural Effusion"
    ):
        edited.counterfactual(cohort, sex="M")
    with pytest.raises(GraphError, match="cycle"):
        GRAPH.add_edge("Pleural Effusion", "Age")


def test_column_of_the_wrong_length_is_refused(model, cohort):
    with pytest.raises(InterventionError, match="2 values for 300 records; give one for each"):
        model.counterfactual(cohort, sex=["M", "F"])
