"""Saved models: complete or absent, the same after loading, refused if damaged."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

import causalcxr as cx
from causalcxr import SCM, Cohort, Graph, Variable, do
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import ModelError
from causalcxr.scm import saved_model as model_folder

SHORT = {"kind": "discrete", "epochs": 2}
GRAPH = Graph(
    [
        Variable(
            "Age",
            "continuous",
            unit="year",
            range=(0, 105),
            resolution=1,
            mechanism={"kind": "flow", "bins": 4, "epochs": 1},
        ),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable(
            "View",
            "categorical",
            levels=("AP", "PA", "LATERAL"),
            parents=("Age",),
            mechanism=SHORT,
        ),
        Variable("Edema", "binary", parents=("Age", "Sex"), mechanism=SHORT),
        Variable("Lung Opacity", "binary", parents=("Edema",), mechanism=SHORT),
    ],
    name="small",
)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    random, n = np.random.default_rng(0), 400
    table = {
        "Age": random.integers(20, 90, n).astype(float),
        "Sex": random.choice(["F", "M"], n),
        "View": random.choice(["AP", "PA", "LATERAL"], n),
        "Edema": random.choice(["N", "P"], n),
        "Lung Opacity": random.choice(["N", "P"], n),
    }
    return Cohort(pd.DataFrame(table))


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return SCM(GRAPH).fit(cohort)


@pytest.fixture
def folder(model, tmp_path) -> Path:
    return model.save(tmp_path / "model")


def weights(folder: Path, name: str) -> Path:
    (path,) = (folder / "mechanisms").glob(f"{name}-*.safetensors")
    return path


def edit(folder: Path, **fields) -> None:
    """Change the manifest by hand."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def twins(model: SCM, cohort: Cohort) -> pd.DataFrame:
    return model.counterfactual(cohort, do(sex="M", age=70), seed=4).table


# Written and read


def test_loaded_model_gives_the_same_twins(model, cohort, folder):
    loaded = SCM.load(folder)
    pd.testing.assert_frame_equal(twins(loaded, cohort), twins(model, cohort), check_exact=True)
    assert loaded.graph == model.graph
    assert loaded.support == model.support
    assert loaded.trained_on == "table"
    assert loaded.stale == {}
    assert loaded.fit(cohort).fitted == loaded.fitted
    noise = model.abduct(cohort)
    assert len(loaded.do(sex="M").predict(noise)) == 400


def test_saved_folder_has_the_documented_files(folder):
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {"graph.yaml", "manifest.json", "train.jsonl"} < files
    rest = files - {"graph.yaml", "manifest.json", "train.jsonl"}
    assert len(rest) == 5
    assert all(f.startswith("mechanisms/") and f.endswith(".safetensors") for f in rest)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["schema"] == 1
    assert manifest["graph_hash"] == GRAPH.hash
    assert set(manifest["versions"]) == {"causalcxr", "torch", "zuko", "numpy", "python"}
    assert set(manifest["mechanisms"]) == set(GRAPH.variables)
    assert manifest["support"]["Sex=F"] + manifest["support"]["Sex=M"] > 340
    assert Graph.load(folder / "graph.yaml") == GRAPH
    losses = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert {row["variable"] for row in losses} >= {"Age", "Edema", "Lung Opacity"}


def test_saving_again_writes_no_weights(model, folder):
    before = {p: p.stat().st_mtime_ns for p in (folder / "mechanisms").iterdir()}
    SCM.load(folder).save(folder)
    assert {p: p.stat().st_mtime_ns for p in (folder / "mechanisms").iterdir()} == before


def test_edit_replaces_only_the_stale_weights(model, cohort, folder):
    before = {p.name for p in (folder / "mechanisms").iterdir()}
    edited = model.with_graph(GRAPH.add_edge("Sex", "View")).fit(cohort)
    edited.save(folder)
    after = {p.name for p in (folder / "mechanisms").iterdir()}
    assert {name.split("-")[0] for name in after - before} == {"View"}
    assert {name.split("-")[0] for name in before - after} == {"View"}


# A kill at any moment


@pytest.mark.parametrize("step", range(8))
def test_kill_at_any_write_leaves_the_previous_model(model, cohort, folder, monkeypatch, step):
    other = model.fit(cohort, seed=7)  # five files of weights, then three more
    old, new, calls = twins(model, cohort), twins(other, cohort), []
    assert not old.equals(new)
    real = model_folder.atomic_write

    def dies(path, content):
        calls.append(path)
        if len(calls) == step + 1:
            raise KeyboardInterrupt
        return real(path, content)

    monkeypatch.setattr(model_folder, "atomic_write", dies)
    with pytest.raises(KeyboardInterrupt):
        other.save(folder)
    written = [path for path in calls[:step] if path.name == "manifest.json"]
    pd.testing.assert_frame_equal(twins(SCM.load(folder), cohort), new if written else old)
    monkeypatch.undo()
    other.save(folder)
    pd.testing.assert_frame_equal(twins(SCM.load(folder), cohort), new)
    assert len(list((folder / "mechanisms").iterdir())) == 5


def test_killed_first_save_leaves_no_model(model, tmp_path, monkeypatch):
    def dies(path, content):
        (tmp_path / "new" / "mechanisms").mkdir(parents=True, exist_ok=True)
        raise KeyboardInterrupt

    monkeypatch.setattr(model_folder, "atomic_write", dies)
    with pytest.raises(KeyboardInterrupt):
        model.save(tmp_path / "new")
    with pytest.raises(ModelError, match="no model here"):
        SCM.load(tmp_path / "new")
    monkeypatch.undo()
    assert SCM.load(model.save(tmp_path / "new")).stale == {}


@pytest.mark.parametrize("reason", ["No space left on device", "Read-only file system"])
def test_full_disk_leaves_the_previous_model(model, cohort, folder, monkeypatch, reason):
    def refuses(path, content):
        raise OSError(28, reason)

    monkeypatch.setattr(model_folder, "atomic_write", refuses)
    with pytest.raises(ModelError, match=rf"cannot be written \({reason}\)$"):
        model.fit(cohort, seed=1).save(folder)
    pd.testing.assert_frame_equal(twins(SCM.load(folder), cohort), twins(model, cohort))


# Damage


def tampered(folder: Path) -> None:
    path = weights(folder, "Edema")
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def with_nan(folder: Path) -> None:
    path = weights(folder, "Edema")
    tensors = load_file(path)
    tensors["conditioner.bias"][0] = torch.nan
    save_file(tensors, path)
    registered(folder, path)


def pickled(folder: Path) -> None:
    path = weights(folder, "Edema")
    path.write_bytes(pickle.dumps({"conditioner.bias": [1.0]}))
    registered(folder, path)


def other_shape(folder: Path) -> None:
    path = weights(folder, "Edema")
    tensors = load_file(path)
    tensors["conditioner.bias"] = torch.zeros(7).double()
    save_file(tensors, path)
    registered(folder, path)


def registered(folder: Path, path: Path) -> None:
    """Write the new hash into the manifest, so that only the file itself shows the change."""
    entries = json.loads((folder / "manifest.json").read_text())["mechanisms"]
    entries["Edema"]["sha256"] = file_digest(path)
    edit(folder, mechanisms=entries)


def without_hash(folder: Path) -> None:
    entries = json.loads((folder / "manifest.json").read_text())["mechanisms"]
    del entries["Edema"]["sha256"]
    edit(folder, mechanisms=entries)


DAMAGE = {
    "tampered": (tampered, r"Edema-\w+\.safetensors: has been changed since it was saved"),
    "absent": (lambda f: weights(f, "Edema").unlink(), r"Edema-\w+\.safetensors: is missing"),
    "nan": (with_nan, "tensor 'conditioner.bias' is not finite"),
    "pickle": (pickled, "not a safetensors file .*pickled weights are refused"),
    "shape": (other_shape, "does not fit 'Edema'"),
    "schema": (lambda f: edit(f, schema=99), "schema 99, this version reads 1"),
    "kind": (lambda f: edit(f, kind="causalcxr cohort"), "not the manifest of a model"),
    "no graph": (lambda f: edit(f, graph=None), "damaged"),
    "bad graph": (lambda f: edit(f, graph="variables: {A: {type: odd}}"), "odd"),
    "no hash": (without_hash, "damaged .*sha256"),
    "not json": (lambda f: (f / "manifest.json").write_text("{"), "cannot be read"),
    "a list": (lambda f: (f / "manifest.json").write_text("[]"), "not the manifest of a model"),
    "no manifest": (lambda f: (f / "manifest.json").unlink(), "no model here"),
    "no folder": (shutil.rmtree, "no model here"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damaged_model_is_refused(folder, kind):
    damage, words = DAMAGE[kind]
    damage(folder)
    with pytest.raises(ModelError, match=words) as caught:
        SCM.load(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_path_out_of_the_folder_is_not_followed(folder, tmp_path):
    outside = tmp_path / "outside.safetensors"
    shutil.copy(weights(folder, "Edema"), outside)
    entries = json.loads((folder / "manifest.json").read_text())["mechanisms"]
    entries["Edema"]["file"] = "../../outside.safetensors"
    edit(folder, mechanisms=entries)
    with pytest.raises(ModelError, match="is missing"):
        SCM.load(folder)


def test_other_folders_are_not_overwritten(model, cohort, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ModelError, match="is not empty and holds no model"):
        model.save(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    saved = cohort.save(tmp_path / "cohort")
    before = (saved / "manifest.json").read_bytes()
    with pytest.raises(ModelError, match="not the manifest of a model"):
        model.save(saved)
    assert (saved / "manifest.json").read_bytes() == before
    with pytest.raises(ModelError, match="cannot be written"):
        model.save(tmp_path / "notes.txt")


def test_unfitted_or_stale_model_is_not_saved(model, tmp_path):
    with pytest.raises(ModelError, match="has not been fitted"):
        SCM(GRAPH).save(tmp_path / "a")
    with pytest.raises(ModelError, match=r"stale after an edit of the graph: View;"):
        model.with_graph(GRAPH.add_edge("Sex", "View")).save(tmp_path / "a")
    assert not (tmp_path / "a").exists()


# Edits of the graph: exactly what depends on them is stale


def renamed() -> Graph:
    """Edema under another name: a new variable, and a child with another parent."""
    graph = GRAPH.without_variable("Edema")
    return graph.with_variable(Variable("Oedema", "binary", parents=("Age", "Sex"))).add_edge(
        "Oedema", "Lung Opacity"
    )


EDITS = {
    "nothing": (lambda: GRAPH, set()),
    "a description": (
        lambda: GRAPH.with_variable(GRAPH["Edema"].replace(description="fluid")),
        set(),
    ),
    "an edge more": (lambda: GRAPH.add_edge("Sex", "View"), {"View"}),
    "an edge less": (lambda: GRAPH.remove_edge("Age", "Edema"), {"Edema"}),
    "a range": (
        lambda: GRAPH.with_variable(GRAPH["Age"].replace(range=(0, 120))),
        {"Age", "View", "Edema"},
    ),
    "a level": (
        lambda: GRAPH.with_variable(
            GRAPH["Sex"].replace(
                levels=("F", "M", "X"),
                type="categorical",
                mechanism={"kind": "discrete", "coupling": "gumbel"},
            )
        ),
        {"Sex", "Edema"},
    ),
    "a mechanism": (
        lambda: GRAPH.with_variable(
            GRAPH["Edema"].replace(mechanism={"kind": "discrete", "hidden": 8})
        ),
        {"Edema"},
    ),
    "a name": (renamed, {"Oedema", "Lung Opacity"}),
    "a variable less": (lambda: GRAPH.without_variable("Lung Opacity"), set()),
    "two edges more": (
        lambda: GRAPH.add_edge("Sex", "View").add_edge("Age", "Lung Opacity"),
        {"View", "Lung Opacity"},
    ),
}


@pytest.mark.parametrize("kind", EDITS)
def test_edit_refits_only_what_depends_on_it(model, cohort, kind):
    make, stale = EDITS[kind]
    graph = make()
    edited = model.with_graph(graph)
    assert set(edited.stale) == stale == GRAPH.diff(graph).stale
    if stale:
        with pytest.raises(ModelError, match="stale after an edit of the graph") as caught:
            edited.abduct(cohort)
        assert all(name in str(caught.value) for name in stale)
    fitted = edited.fit(cohort)
    learned = {name for name, f in fitted.fitted.items() if f is not edited.fitted.get(name)}
    assert learned == stale - fitted.unseen
    assert fitted.stale == {}


def test_reverted_edit_gives_the_previous_model(model, cohort):
    edited = model.with_graph(GRAPH.add_edge("Sex", "View")).fit(cohort)
    back = edited.with_graph(GRAPH).fit(cohort)
    pd.testing.assert_frame_equal(twins(back, cohort), twins(model, cohort), check_exact=True)
    assert {n: f.hash for n, f in back.fitted.items()} == {
        n: f.hash for n, f in model.fitted.items()
    }


def test_no_module_reads_a_pickle():
    for file in Path(cx.__file__).parent.rglob("*.py"):
        text = file.read_text(encoding="utf-8")
        assert "import pickle" not in text
        assert "torch.load(" not in text, file
