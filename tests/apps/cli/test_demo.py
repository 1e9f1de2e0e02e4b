"""The demo: its files, and what it refuses."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import PIL.Image
import pytest

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.demo import DemoOptions, demo, expert_graph
from causalcxr.apps.cli.demo_truth import explained, score_twins
from causalcxr.apps.cli.main import app
from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.sources.phantom import truth


def small_features(cohort: Cohort) -> np.ndarray:
    """Return images of 8 x 8 pixels as vectors."""
    return (
        cohort.images[:]
        .reshape(len(cohort), 8, -1, 8, cohort.images.size[1] // 8)
        .mean((2, 4))
        .reshape(len(cohort), -1)
    )


@pytest.fixture(scope="module")
def demonstration(tmp_path_factory) -> tuple[Path, str]:
    """The folder of a small demo, and what the command printed."""
    out, printed = tmp_path_factory.mktemp("demonstration") / "demo", StringIO()
    with redirect_stdout(printed):
        demo(DemoOptions(out=out, n=12, images=2))
    return out, printed.getvalue()


@pytest.mark.slow
def test_a_demo_writes_graph_model_twins_and_truth(demonstration):
    out, printed = demonstration
    assert "Synthetic images, not for clinical use." in printed
    assert (out / "graph.png").is_file()
    model = SCM.load(out / "model")
    assert not model.graph.diff(Graph.load("cxr7")).added
    assert len(model.fitted) == 20
    for name, action in (
        ("do-sex-M", {"Sex": "M"}),
        ("do-pleural-effusion-N", {"Pleural Effusion": "N"}),
        ("do-pleural-effusion-P", {"Pleural Effusion": "P"}),
    ):
        folder = out / name
        assert {p.name for p in folder.iterdir()} == {
            "pairs.png",
            "truth.png",
            "twins.csv",
            "images",
            "manifest.json",
            "truth.json",
            "SHA256SUMS",
        }
        assert str(folder / "truth.png") in printed
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["intervention"]["do"] == action
        assert manifest["graph_hash"] == model.graph.hash
        assert manifest["seed"] == 0
        assert {"causalcxr", "torch", "python"} <= set(manifest["versions"])
        score = json.loads((folder / "truth.json").read_text())
        assert score["intervention"] in printed
        assert 0 < score["twin_to_truth"] < 0.2
        assert score["ratio"] == pytest.approx(score["twin_to_truth"] / score["factual_to_truth"])
        assert 0 <= score["ceiling"] < 2
        assert set(score["read"]) == {"twins", "true twins", "factual"}
        table = pd.read_csv(folder / "twins.csv")
        files = list((folder / "images").iterdir())
        assert len(files) == 2 * table["twin image"].notna().sum()
    assert len(list((out / "do-sex-M" / "images").iterdir())) == 4
    with PIL.Image.open(next((out / "do-sex-M" / "images").iterdir())) as image:
        assert image.size == (128, 128)


@pytest.mark.slow
def test_the_unaffected_ceiling_is_zero_and_an_added_finding_has_many_answers(demonstration):
    out, printed = demonstration
    scores = {
        name: json.loads((out / name / "truth.json").read_text())
        for name in ("do-pleural-effusion-N", "do-pleural-effusion-P")
    }
    assert scores["do-pleural-effusion-N"]["ceiling"] == 0
    assert scores["do-pleural-effusion-P"]["ceiling"] > 0.3
    assert "The twins beside the true twins" in printed


@pytest.mark.slow
def test_null_twins_with_the_bundled_weights_equal_the_patients(demonstration):
    patients = Cohort.load("phantom", n=12, seed=0, size=128).head(3)
    null = SCM.load(demonstration[0] / "model").counterfactual(patients, recompute=True)
    assert np.array_equal(null.images[:], patients.images[:])
    pd.testing.assert_frame_equal(null.table, patients.table, check_exact=True)


@pytest.mark.slow
def test_a_damaged_demo_is_made_again_with_overwrite(tmp_path, capsys):
    words = ["demo", "--n", "60", "--images", "1", "--out", str(tmp_path / "demo")]
    assert guarded(app, words) == 0
    (tmp_path / "demo" / "graph.png").unlink()
    assert guarded(app, words) == 2
    assert "missing or changed since it was written" in capsys.readouterr().err
    assert guarded(app, [*words, "--overwrite"]) == 0
    assert (tmp_path / "demo" / "graph.png").is_file()


@pytest.mark.parametrize(
    ("score", "words"),
    [
        (
            {"ratio": 0.6, "ratio_95": [0.5, 0.7], "ceiling": 0.0},
            "the twins go 40 % of the way from the radiographs to the true twins; a perfect model "
            "would go 100 % of the way.",
        ),
        (
            {"ratio": 1.3, "ratio_95": [1.1, 1.5], "ceiling": 0.1},
            "the twins are further from the true twins than the unchanged radiographs are; a "
            "perfect model would go 90 % of the way.",
        ),
        (
            {"ratio": 0.95, "ratio_95": [0.9, 1.01], "ceiling": 0.1},
            "the twins are about as far from the true twins as the unchanged radiographs are; a "
            "perfect model would go 90 % of the way.",
        ),
        (
            {"ratio": 0.95, "ratio_95": [None, None], "ceiling": 0.1},
            "too few patients for an interval; give a larger --n.",
        ),
    ],
)
def test_scores_in_words(score, words):
    assert explained(score) == words


def test_many_true_answers_are_mentioned_where_the_radiograph_determines_little():
    text = explained({"ratio": 0.95, "ratio_95": [0.9, 0.99], "ceiling": 0.85})
    assert "the twins go 5 % of the way from the radiographs to the true twins. There are" in text
    assert "even a perfect model has an error of 0.85" in text


def test_the_twins_of_the_demo_are_edits_of_the_image():
    graph = expert_graph()
    assert graph["Image"].mechanism.options["coupling"] == "transport"
    assert graph.edges == Graph.load("cxr7").edges


def test_true_twins_score_zero_and_are_read_as_often_as_themselves():
    graph, action = Graph.load("cxr7"), do(sex="M")
    patients = Cohort.load("phantom", n=16, seed=4, size=32)
    women = patients.select("Sex == 'F'")
    true = truth(women, action)
    reader = AttributeReader.fit(
        Cohort.load("phantom", n=80, seed=5, size=32), graph, ["Sex"], features=small_features
    )
    score = score_twins(women.compare(true), true, action, graph, reader)
    assert score["twin_to_truth"] == score["ratio"] == 0
    assert score["ratio_95"] == [0, 0]
    assert 0 <= score["ceiling"] < 0.2
    assert score["read"]["twins"] == score["read"]["true twins"]
    assert score["read"]["factual"] < score["read"]["true twins"]
    assert score["intervention"] == "do(sex=M)"


def test_numbers_that_are_set_are_not_read():
    graph, action = Graph.load("cxr7"), do(age=80)
    patients = Cohort.load("phantom", n=50, seed=4, size=32)
    reader = AttributeReader.fit(patients, graph, ["Sex"], features=small_features)
    some = patients.head(8)
    true = truth(some, action)
    score = score_twins(some.compare(true), true, action, graph, reader)
    assert set(score["read"].values()) == {None}
    assert score["auroc"] == {}


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert guarded(app, ["demo", "--n", "60", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds something else than a demo" in line
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
