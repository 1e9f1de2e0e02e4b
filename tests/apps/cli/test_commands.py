"""The command line from end to end, on phantoms."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from causalcxr import SCM, Cohort
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.cohort.selection import Selection, parse_spec
from causalcxr.images.images import ArrayImages

TINY = """
name: tiny
variables:
  Age: {type: continuous, unit: year, range: [0, 105], resolution: 1}
  Sex: {type: binary, levels: [F, M]}
  View: {type: categorical, levels: [AP, PA, LATERAL]}
  Cardiomegaly: {type: binary, levels: [N, P], parents: [Age, Sex]}
  Image:
    type: image
    parents: [Sex, Cardiomegaly]
    mechanism: {kind: radit, resolution: 32, steps: 3, solver_steps: 1, batch: 4}
"""
PHANTOM = "phantom:n=80,seed=0,size=32"


def run(*words: object) -> int:
    return guarded(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("cli") / "tiny.yaml"
    path.write_text(TINY)
    return path


@pytest.fixture(scope="module")
def model(graph) -> Path:
    out = graph.parent / "model"
    assert run("fit", graph, PHANTOM, "--out", out) == 0
    return out


def test_saved_phantoms_are_shown_and_read_again(tmp_path, capsys):
    saved = tmp_path / "patients"
    assert run("cohort", "phantom", "--n", 9, "--size", 32, "--out", saved) == 0
    assert run("cohort", "save", saved, "--out", tmp_path / "again") == 0
    assert run("cohort", "show", saved, "--out", tmp_path / "sheet.png") == 0
    told = capsys.readouterr().out
    assert "9 phantoms" in told
    assert "9 records of 9 patients, 9 images" in told
    assert "Pleural Effusion" in told
    again = Cohort.load(tmp_path / "again")
    assert np.abs(again.images[:] - Cohort.load(saved).images[:]).max() < 1e-6
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.size[0] > 200
    assert run("cohort", "save", "phantom:n=-4", "--out", tmp_path / "x") == 2
    assert run("cohort", "save", "phantom:k=4", "--out", tmp_path / "x") == 2
    assert run("cohort", "save", "phantom:n=many", "--out", tmp_path / "x") == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
    assert not (tmp_path / "x").exists()


def test_a_cohort_without_images_cannot_be_drawn(tmp_path, capsys):
    pd.DataFrame({"record": ["a"], "Age": [61]}).to_csv(tmp_path / "t.csv", index=False)
    assert run("cohort", "show", tmp_path / "t.csv", "--out", tmp_path / "sheet.png") == 2
    assert "no images to draw" in capsys.readouterr().err


def test_a_second_fit_learns_only_stale_equations(model, graph, tmp_path, capsys):
    before = {p.name: p.stat().st_mtime_ns for p in (model / "mechanisms").iterdir()}
    assert run("fit", graph, PHANTOM, "--out", model) == 0
    assert "learned nothing; kept Age, Sex, View, Cardiomegaly, Image" in capsys.readouterr().out
    assert {p.name: p.stat().st_mtime_ns for p in (model / "mechanisms").iterdir()} == before
    assert not (model / "training").exists()
    edited = tmp_path / "edited.yaml"
    edited.write_text(TINY.replace("parents: [Age, Sex]", "parents: [Age]"))
    SCM.load(model).save(tmp_path / "copy")
    assert run("fit", edited, PHANTOM, "--out", tmp_path / "copy") == 0
    assert "learned Cardiomegaly; kept Age, Sex, View, Image" in capsys.readouterr().out


def test_fit_refuses_a_folder_of_something_else_first(graph, tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert run("fit", graph, "phantom:n=100000", "--out", tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "is not empty and holds no model" in line


def test_sample_writes_a_cohort_and_a_sheet(model, tmp_path, capsys):
    out = tmp_path / "samples"
    assert run("sample", model, "--n", 2, "--do", "sex=M", "--do", "age=60", "--out", out) == 0
    drawn = Cohort.load(out)
    assert (drawn.table["Sex"] == "M").all()
    assert (drawn.table["Age"] == 60).all()
    assert drawn.images[:].shape == (2, 1, 32, 32)
    assert (out / "samples.png").is_file()
    assert "do(sex=M, age=60)".lower() in capsys.readouterr().out.lower()
    assert run("sample", model, "--n", 6, "--do", "age=+10", "--out", tmp_path / "x") == 2
    assert run("sample", model, "--n", 0, "--out", tmp_path / "x") == 2
    assert not (tmp_path / "x").exists()


def test_counterfactual_with_every_option_equals_the_api(model, tmp_path, capsys):
    out = tmp_path / "twins"
    where = "sex == 'F' and age > 40 and pleural_effusion in ['N', 'P']"
    words = ["--do", "sex=M", "--do", "age=+5", "--hold", "cardiomegaly", "--where", where]
    options = ["--draws", 2, "--limit", 3, "--seed", 2]
    assert run("counterfactual", model, PHANTOM, *words, *options, "--out", out) == 0
    told = capsys.readouterr().out
    assert "6 twins under do(sex=M, age+5)" in told
    manifest = json.loads((out / "manifest.json").read_text())
    assert (manifest["draws"], manifest["records"], manifest["seed"]) == (2, 3, 2)
    assert manifest["hold"] == ["Cardiomegaly"]
    for file in ("twins.csv", "pairs.png", "images", "manifest.json"):
        assert (out / file).exists()
        assert str(out / file) in told
    table = pd.read_csv(out / "twins.csv")
    women = Cohort.load("phantom", n=80, seed=0, size=32).select(where).head(3)
    assert table["record"].tolist() == np.repeat(women.index, 2).tolist()
    assert table["draw"].tolist() == [0, 1] * 3
    assert table["Age (factual)"].tolist() == np.repeat(women.table["Age"], 2).tolist()
    assert (table["Age (counterfactual)"] == table["Age (factual)"] + 5).all()
    same = table["Cardiomegaly (counterfactual)"] == table["Cardiomegaly (factual)"]
    assert same.all()


def test_a_limit_takes_records_with_an_image_first(tmp_path):
    phantoms = Cohort.load("phantom", n=6, size=32)
    phantoms.save(tmp_path / "all")
    some = ArrayImages(phantoms.images[:], np.array([0, 0, 1, 0, 1, 0], bool))
    spec = str(phantoms.with_images(some).save(tmp_path / "some"))
    assert len(Selection(spec).load()) == 6
    assert Selection(spec, limit=3).load().index.tolist() == [2, 4, 0]
    assert Selection(spec, where="record > 2", limit=1).load().index.tolist() == [4]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--where", "Age > 200"], "no record is left of 80"),
        (["--where", "Agee > 20"], "no column 'Agee'; did you mean 'Age'?"),
        (["--where", "sex == 'f'"], "no value 'f' in column 'Sex'; write 'F'"),
        (["--where", "@pd.io.common.os.system('touch there') == 0"], "'@' cannot be read"),
        (["--split", "train"], "the cohort has no splits"),
        (["--limit", -1], "give at least 1, or 0 for all"),
        (["--draws", 0], "give at least 1"),
    ],
)
def test_an_invalid_selection_gives_one_line_and_no_files(model, tmp_path, capsys, words, told):
    args = ["counterfactual", model, PHANTOM, "--do", "sex=M", *words]
    assert run(*args, "--out", tmp_path / "twins") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("model", ["absent", "."])
def test_a_missing_model_gives_one_line(tmp_path, capsys, model, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run("counterfactual", model, PHANTOM, "--do", "sex=M", "--out", "twins") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "no model here" in line


def test_options_of_a_cohort_name_are_read():
    assert parse_spec("phantom:n=5,seed=-1") == ("phantom", {"n": 5, "seed": -1})
    assert parse_spec("C:\\data") == ("C:\\data", {})


def test_fit_names_weights_that_were_trained_on_another_cohort(tmp_path, capsys):
    images = np.zeros((30, 64, 64), dtype=np.uint8)
    table = pd.DataFrame({"Sex": ["F", "M"] * 15, "Age": np.arange(30.0)})
    Cohort(table, images, source="elsewhere").save(tmp_path / "cohort")
    args = ["fit", "mini", str(tmp_path / "cohort"), "--out", str(tmp_path / "model")]
    assert guarded(app, args) == 0
    assert "trained on" in (said := capsys.readouterr().out)
    assert "not on elsewhere" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nonsense"], "No such command 'nonsense'; see 'causalcxr --help'"),
        (["fit", "--bogus"], "No such option: --bogus"),
        (["fit"], "Missing argument"),
        (["cohort", "phantom"], "Missing option '--out'"),
        (["sample", "model", "--out", "x", "--n", "many"], "Invalid value for '--n'"),
    ],
)
def test_an_invalid_command_line_gives_one_line_and_status_2(words, said, capsys):
    assert guarded(app, words, name="causalcxr") == 2
    shown = capsys.readouterr()
    assert not shown.out
    assert shown.err.startswith("error: ")
    assert said in shown.err
    assert shown.err.count("\n") == 1
