"""`causalcxr cohort build`: several sources become one store, and a killed build goes on."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import published
import pytest
from PIL import Image

from causalcxr import Cohort
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.common.errors import CohortError
from causalcxr.sources.store.building import build
from causalcxr.sources.store.spec import Spec

pytest.importorskip("pyarrow")
RUN = "from causalcxr.apps.cli.main import main; main()"


def run(*words: object) -> int:
    return guarded(app, ["cohort", *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a saved cohort of 60 records with images, and a spec."""
    folder = tmp_path_factory.mktemp("home")
    images = np.random.default_rng(0).integers(0, 65536, (60, 24, 24), dtype=np.uint16)
    table = pd.DataFrame({"Age": np.arange(60), "Sex": ["F", "M", "M"] * 20})
    patients = [f"p{k // 3}" for k in range(60)]
    Cohort(table, images, patients=patients).save(folder / "saved")
    spec = "output: store\nsize: 16\nshard: .005\nsources: [{path: saved}]\n"
    (folder / "spec.yaml").write_text(spec)
    return folder


@pytest.fixture(scope="module")
def whole(home) -> Path:
    return build(home / "spec.yaml")


def test_build_writes_the_store(home, tmp_path, capsys):
    assert run("build", home / "spec.yaml", "--out", tmp_path / "store") == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{tmp_path / 'store'}: 60 records, 60 images\n", "")
    loaded = Cohort.load(tmp_path / "store")
    assert loaded.images.size == (16, 16)
    assert loaded.patients.nunique() == 20
    assert set(loaded.splits) <= {"train", "val", "test"}
    source = Cohort.load(home / "saved")
    assert (loaded.table == source.table).to_numpy().all()
    means = loaded.images[:].mean(axis=(1, 2, 3)), source.images[:].mean(axis=(1, 2, 3))
    assert np.abs(means[0] - means[1]).max() < 0.01
    assert run("check", tmp_path / "store") == 0
    assert "every file is as it was written" in capsys.readouterr().out
    (tmp_path / "store/images/00001.npy").write_bytes(b"")
    assert run("check", tmp_path / "store") == 2
    assert "1 files are damaged" in capsys.readouterr().err


def test_manifest_records_the_specification(whole):
    manifest = json.loads((whole / "manifest.json").read_text())
    assert manifest["spec"]["sources"][0]["path"] == "saved"
    assert manifest["spec"]["splits"] == {
        "published": "keep", "train": 0.8, "val": 0.1, "test": 0.1, "seed": 0
    }  # fmt: skip
    assert {"policy", "rules", "notes", "versions", "shards", "index"} <= set(manifest)
    assert sum(shard["images"] for shard in manifest["shards"]) == 60
    assert len(manifest["shards"]) == 6


def test_records_of_several_sources_stay_apart(home, tmp_path):
    other = Cohort(pd.DataFrame({"Age": [1.0, np.nan], "View": ["AP", "PA"]}), source="clinic")
    other.save(tmp_path / "other")
    spec = (
        f"output: store\nsize: 16\nsources: [{{path: {home / 'saved'}}}, {{path: other}}]\n"
        "splits: {published: ignore, train: .5, val: .25, test: .25, seed: 3}\n"
    )
    (tmp_path / "spec.yaml").write_text(spec)
    loaded = Cohort.load(build(tmp_path / "spec.yaml"))
    assert len(loaded) == 62
    assert loaded.index.is_unique
    assert loaded.patients.nunique() == 22
    assert loaded.images.available.tolist() == [True] * 60 + [False] * 2
    assert loaded.table["View"].tolist()[-2:] == ["AP", "PA"]
    assert loaded.table["View"][:60].isna().all()
    assert loaded.table["Sex"][-2:].isna().all()
    again = loaded.assign_splits((0.5, 0.25, 0.25), seed=3)
    assert (loaded.splits == again.splits).all()


def film(path: Path, level: int) -> None:
    """Write a film of one grey level of 8 bits, higher than wide."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((24, 16), level, np.uint8)).save(path)


def test_published_data_sets_become_one_store(tmp_path):
    for name in ("mimic", "padchest", "brax"):
        getattr(published, name)(tmp_path / name)
    ids = f"0{'a' * 7}-{'b' * 8}-{'c' * 8}-{'d' * 8}-{'e' * 8}"
    film(tmp_path / f"mimic/files/p10/p10000032/s50414267/{ids}.jpg", 40)
    film(tmp_path / "padchest/2/202_x.png", 90)
    (tmp_path / "padchest/0").mkdir()
    (tmp_path / "padchest/0/200_x.png").write_bytes(b"<html>not found</html>")
    film(tmp_path / "brax/images/id_bb/Study_3/Series_1/image-3.png", 200)
    (tmp_path / "spec.yaml").write_text(
        "output: store\nsize: 12\nsources:\n"
        "  - {source: mimic, path: mimic}\n"
        "  - {source: padchest, path: padchest, policy: {laterals: drop}}\n"
        "  - {path: brax}\n"
        "policy: {blank: u_zeros}\n"
    )
    folder = build(tmp_path / "spec.yaml")
    loaded = Cohort.load(folder)
    levels = {"MIMIC-CXR": 40, "PadChest": 90, "BRAX": 200}
    there = loaded.with_images_only()
    assert set(there.table["Dataset"]) == set(levels)
    for record, dataset in there.table["Dataset"].items():
        pixels = there.loc[record].images.grey_levels([0])[0]
        assert (pixels[:, 2:10] == levels[dataset] * 257).all()
        assert not pixels[:, :2].any()
    assert [r.split("/")[-1] for r in there.index] == [ids, "202_x.png", "image-3.png"]
    padchest = loaded.select("Dataset == 'PadChest'").table
    assert "LATERAL" not in set(padchest["View"].dropna())
    assert loaded.select("Dataset == 'BRAX'").table["View"].eq("LATERAL").any()
    listed = pd.read_csv(folder / "quarantine.csv")
    assert listed[["reason", "file"]].to_numpy().tolist() == [["unknown", "0/200_x.png"]]
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {"mimic: blank", "padchest: laterals"} <= set(manifest["policy"])
    assert manifest["policy"]["padchest: laterals"] == "drop"
    report = json.loads((folder / "report.json").read_text())
    assert report["rows_out"] == len(loaded)
    assert report["quarantined"] == {"unknown": 1}
    assert (folder / "report.html").is_file()


@pytest.mark.slow
def test_nih_becomes_a_store(data, tmp_path):
    spec = (
        "output: store\nsize: 32\nshard: 1\npolicy: {unlisted: U}\n"
        f"sources: [{{path: {data / 'nih'}}}]\n"
    )
    (tmp_path / "spec.yaml").write_text(spec)
    loaded = Cohort.load(build(tmp_path / "spec.yaml"))
    nih = Cohort.load("nih", path=data / "nih", size=32)
    assert len(loaded) == len(nih) == 97_723
    assert loaded.index.equals(nih.index)
    assert (loaded.splits.to_numpy() == nih.splits.to_numpy()).all()
    there = loaded.images.available
    assert (there == nih.images.available).all()
    some = np.flatnonzero(there)[:: there.sum() // 20]
    images, expected = loaded.images[some], nih.images[some]
    assert np.abs(images.mean(axis=(1, 2, 3)) - expected.mean(axis=(1, 2, 3))).max() < 0.01
    manifest = json.loads((tmp_path / "store/manifest.json").read_text())
    assert manifest["policy"]["unlisted"] == "U"
    assert {"name", "why", "rows", "records", "effect"} <= set(manifest["rules"][0])
    assert loaded.table["Edema"].isna().sum() > nih.table["Edema"].isna().sum()


def raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def interrupted(spec: Path, out: Path, after: int, workers: int = 1) -> None:
    """Start a build and kill it, as `kill -9` does, once so many shards are noted."""
    words = ["cohort", "build", spec, "--out", out, "--workers", workers]
    command = [sys.executable, "-c", RUN, *map(str, words)]
    notes = out.parent / f".{out.name}.unfinished/notes"
    with subprocess.Popen(command, stderr=subprocess.PIPE) as job:
        while job.poll() is None and (
            not notes.is_dir() or len(list(notes.glob("[0-9]*.json"))) < after
        ):
            time.sleep(0.001)
        job.send_signal(signal.SIGKILL)
        assert job.wait() in (-signal.SIGKILL, 0)


@pytest.mark.slow
def test_killed_build_resumes(home, whole, tmp_path):
    out = tmp_path / "store"
    interrupted(home / "spec.yaml", out, after=3)
    assert not out.exists()
    notes = out.parent / ".store.unfinished/notes"
    kept = {note: note.stat().st_mtime_ns for note in notes.glob("*.json")}
    shards = notes.parent / "result/images"
    written = {file: file.stat().st_ino for file in shards.glob("[0-9]*.npy")}
    assert 3 <= len(kept) < 6
    assert len(written) >= len(kept)
    build(home / "spec.yaml", output=out)
    assert contents(out) == contents(whole)
    assert [p.name for p in tmp_path.iterdir()] == ["store"]
    inodes = {file.name: file.stat().st_ino for file in (out / "images").iterdir()}
    # What had a note was not written again.
    noted = [f"{note.stem}.npy" for note in kept]
    assert all(inodes[name] == written[shards / name] for name in noted)


@pytest.mark.slow
def test_ten_kills_do_not_change_the_store(home, whole, tmp_path):
    out = tmp_path / "store"
    for kill in range(10):
        interrupted(home / "spec.yaml", out, after=kill // 2, workers=1 + kill % 2)
        if out.exists():
            break
    build(home / "spec.yaml", output=out)
    assert contents(out) == contents(whole)


@pytest.mark.slow
def test_cluster_writes_the_same_store(home, whole, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, dashboard_address=None, memory_limit=0
    ) as cluster:
        out = tmp_path / "store"
        build(home / "spec.yaml", output=out, cluster=cluster.scheduler_address)
    assert contents(out) == contents(whole)


def test_complete_store_is_left_as_it_is(home, whole):
    before = {file: file.stat().st_mtime_ns for file in whole.rglob("*")}
    assert build(home / "spec.yaml") == whole
    assert {file: file.stat().st_mtime_ns for file in whole.rglob("*")} == before


def test_unfinished_work_of_another_build_is_refused(home, tmp_path, capsys, monkeypatch):
    out = tmp_path / "store"
    with monkeypatch.context() as patched:
        patched.setattr("causalcxr.sources.store.writing.finish", raise_interrupt)
        with pytest.raises(KeyboardInterrupt):
            build(home / "spec.yaml", output=out)
    (tmp_path / ".store.lock").unlink(missing_ok=True)
    before = contents(tmp_path)
    (home / "other.yaml").write_text("output: store\nsize: 8\nsources: [{path: saved}]\n")
    assert run("build", home / "other.yaml", "--out", out) == 2
    told = capsys.readouterr().err
    assert "another command or version has unfinished work here" in told
    assert told.count("\n") == 1
    assert contents(tmp_path) == before


def test_unreadable_files_are_listed(tmp_path, capsys):
    images = np.full((4, 8, 8), 0.5)
    Cohort(pd.DataFrame({"Age": [1, 2, 3, 4]}), images).save(tmp_path / "saved")
    (tmp_path / "saved/images/1.png").write_bytes(b"")
    (tmp_path / "saved/images/3.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"\0" * 40)
    (tmp_path / "spec.yaml").write_text("output: store\nsources: [{path: saved}]\n")
    assert run("build", tmp_path / "spec.yaml") == 0
    out = capsys.readouterr().out
    assert "2 images could not be read (" in out
    assert str(tmp_path / "store/quarantine.csv") in out
    loaded = Cohort.load(tmp_path / "store")
    assert loaded.images.available.tolist() == [True, False, True, False]
    listed = pd.read_csv(tmp_path / "store/quarantine.csv")
    assert listed["record"].tolist() == [1, 3]
    assert listed["file"].tolist() == ["images/1.png", "images/3.png"]
    assert listed["reason"].notna().all()


FAULTS = {
    "empty": ("", r"s\.yaml: the file is empty"),
    "no map": ("[a]", r"s\.yaml:1: a build is a map"),
    "unknown": ("output: o\nsizes: 3\nsources: [{path: a}]", r"s\.yaml:2: .*mean 'size'\?"),
    "no output": ("sources: [{path: a}]", r"s\.yaml:1: no output: give the folder"),
    "no sources": ("output: o\nsources: []", r"s\.yaml:2: sources \[\]: a list of"),
    "size": ("output: o\nsize: -3\nsources: [{path: a}]", r"s\.yaml:2: size .*a side in pixels"),
    "size text": ("output: o\nsize: big\nsources: [{path: a}]", r"s\.yaml:2: size 'big': a side"),
    "nameless": ("output: o\nsources:\n- policy: {}", r"s\.yaml:3: a source needs a path"),
    "shares": ("output: o\nsplits: {train: .9}\nsources: [{path: a}]", r"s\.yaml:2: .*sum to 1"),
    "trap": ("output: o\nsources: [{path: no}]", r"s\.yaml:2: .*quote it"),
    "twice": ("output: o\noutput: p", r"s\.yaml:1: duplicate key 'output'"),
    "alias": ("output: &a o\nname: *a", r"s\.yaml:1: anchor or alias"),
    "no yaml": ("output: [", r"s\.yaml:\d: not valid YAML"),
    "deep": (f"output: {'[' * 30}{']' * 30}", r"s\.yaml:1: nested too deeply"),
}


@pytest.mark.parametrize(("text", "said"), FAULTS.values(), ids=FAULTS)
def test_invalid_specification_is_named_with_its_line(text, said, tmp_path):
    (tmp_path / "s.yaml").write_text(text)
    with pytest.raises(CohortError, match=said) as error:
        Spec.load(tmp_path / "s.yaml")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("{path: nowhere}", "nowhere: no such file or folder"),
        ("{source: nhi, path: saved}", "no source 'nhi'; did you mean 'nih'?"),
        ("{path: saved, policy: {blank: u_ones}}", "source 'folder' has no policy"),
        ("{path: saved, options: {colour: red}}", "does not have all of the options colour"),
        ("{path: spec.yaml}", "no source can read this"),
    ],
)
def test_unreadable_source_is_named(source, said, home, tmp_path):
    (home / "bad.yaml").write_text(f"output: {tmp_path}/store\nsources: [{source}]\n")
    with pytest.raises(CohortError, match=said.replace("?", r"\?")):
        build(home / "bad.yaml")
    assert list(tmp_path.iterdir()) == []


def test_images_of_several_sizes_require_a_size(tmp_path):
    for k, side in enumerate((8, 12)):
        images = np.full((2, side, side), 0.5)
        Cohort(pd.DataFrame({"Age": [1, 2]}), images, source=f"s{k}").save(tmp_path / f"s{k}")
    (tmp_path / "spec.yaml").write_text("output: store\nsources: [{path: s0}, {path: s1}]\n")
    with pytest.raises(CohortError, match="give the size to which all are fitted"):
        build(tmp_path / "spec.yaml")


def test_proportions_are_kept(tmp_path):
    (tmp_path / "images").mkdir()
    wide = np.full((8, 16), 40000, np.uint16)
    Image.fromarray(wide).save(tmp_path / "images/a.png")
    (tmp_path / "table.csv").write_text("record,Age\na,61\n")
    (tmp_path / "spec.yaml").write_text(
        "output: store\nsize: 16\nsources: [{path: table.csv, options: {images: images}}]\n"
    )
    film = Cohort.load(build(tmp_path / "spec.yaml")).images.grey_levels([0])[0]
    assert (film[4:12] == 40000).all()
    assert not film[:4].any()
    assert not film[12:].any()
