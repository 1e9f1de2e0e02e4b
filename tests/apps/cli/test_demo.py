"""The demo: its files, and what it refuses."""

import json
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.demo import DemoOptions, demo
from causalcxr.apps.cli.main import app


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
    assert model.graph == Graph.load("cxr7")
    assert len(model.fitted) == 20
    for name, action in (
        ("do-sex-M", {"Sex": "M"}),
        ("do-pleural-effusion-P", {"Pleural Effusion": "P"}),
    ):
        folder = out / name
        assert {p.name for p in folder.iterdir()} == {
            "pairs.png",
            "twins.csv",
            "images",
            "manifest.json",
            "truth.json",
            "SHA256SUMS",
        }
        assert str(folder / "pairs.png") in printed
        manifest = json.loads((folder / "manifest.json").read_text())
        assert manifest["intervention"]["do"] == action
        assert manifest["graph_hash"] == model.graph.hash
        assert manifest["seed"] == 0
        assert {"causalcxr", "torch", "python"} <= set(manifest["versions"])
        score = json.loads((folder / "truth.json").read_text())
        assert 0 < score["twin_to_truth"] < 0.2
        assert score["ratio"] == pytest.approx(score["twin_to_truth"] / score["factual_to_truth"])
        table = pd.read_csv(folder / "twins.csv")
        assert len(list((folder / "images").iterdir())) == 2 * table["twin image"].notna().sum()
    assert len(list((out / "do-sex-M" / "images").iterdir())) == 4


@pytest.mark.slow
def test_null_twins_with_the_bundled_weights_equal_the_patients(demonstration):
    patients = Cohort.load("phantom", n=12, seed=0).head(3)
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


def test_a_folder_of_something_else_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("mine")
    assert guarded(app, ["demo", "--n", "60", "--out", str(tmp_path)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "holds something else than a demo" in line
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
