"""`causalcxr cohort phantom`: its files, and resuming an interrupted command."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image

from causalcxr import Cohort
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.common import result_folder
from causalcxr.common.errors import CohortError
from causalcxr.common.result_folder import ResultFolder
from causalcxr.images.synthetic_mark import MARK

SMALL = ("--n", 150, "--size", 32, "--seed", 5)
RUN = "from causalcxr.apps.cli.main import main; main()"


def run(*words: object) -> int:
    return guarded(app, ["cohort", *map(str, words)])


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def unfinished(folder: Path) -> Path:
    return folder.parent / f".{folder.name}.unfinished"


def interrupted(folder: Path, *words: object, after: int) -> None:
    """Run a command and kill it, as `kill -9` does, once some images are written."""
    command = [sys.executable, "-c", RUN, "cohort", "phantom", "--out", folder, *words]
    images = unfinished(folder) / "result/images"
    with subprocess.Popen([str(word) for word in command], stderr=subprocess.PIPE) as job:
        while job.poll() is None and (not images.is_dir() or len(list(images.iterdir())) < after):
            time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
        assert job.stderr.read() == b""


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "patients"
    assert run("phantom", "--out", folder, *SMALL, "--format", "dicom") == 0
    return folder


def test_phantom_writes_images_table_and_manifest(tmp_path, capsys):
    folder = tmp_path / "made" / "patients"
    assert run("phantom", "--out", folder, "--n", 9, "--size", 32, "--seed", 5) == 0
    out, err = capsys.readouterr()
    assert (out, err) == (f"{folder}: 9 phantoms\n", "")
    found = contents(folder)
    images = sorted(name for name in found if name.startswith("images/"))
    assert images == [f"images/{k}.png" for k in range(9)]
    assert set(found) - set(images) == {"cohort.csv", "manifest.json", "SHA256SUMS"}
    assert [p.name for p in folder.parent.iterdir()] == ["patients"]
    manifest = json.loads(found["manifest.json"])
    assert manifest["made_from"] == {
        "source": "phantom", "n": 9, "seed": 5, "size": 32, "graph": "cxr7", "missing": 0,
        "bits": 8,
    }  # fmt: skip
    assert (manifest["image_format"], manifest["images"]) == ("png", 9)
    with Image.open(folder / "images/0.png") as image:
        assert image.text["Comment"] == MARK
    drawn = Cohort.load("phantom", n=9, seed=5, size=32)
    loaded = Cohort.load(folder)
    assert not drawn.compare(loaded).changed.to_numpy().any()
    assert np.abs(loaded.images[:] - drawn.images[:]).max() < 0.5001 / 65535


def test_dicom_images_come_back_bit_exact(whole, capsys):
    loaded = Cohort.load(whole)
    phantoms = Cohort.load("phantom", n=150, seed=5, size=32, bits=12)
    rows = slice(0, 20)
    assert (loaded.images[rows] * 4095).round().max() <= 4095
    assert np.abs(loaded.images[rows] - phantoms.images[rows]).max() <= 0.5001 / 4095
    assert sorted(p.suffix for p in (whole / "images").iterdir()) == [".dcm"] * 150
    table, uids = loaded.table, set()
    for row in range(0, 150, 10):
        file = pydicom.dcmread(whole / "images" / f"{row}.dcm")
        uids |= {file.SOPInstanceUID, file.StudyInstanceUID, file.SeriesInstanceUID}
        assert file.PatientSex == table["Sex"][row]
        assert file.PatientAge == f"{table['Age'][row]:03.0f}Y"
        assert file.ViewPosition == {"LATERAL": "LL"}.get(table["View"][row], table["View"][row])
        assert "seed 5" in file.DerivationDescription
    assert len(uids) == 45
    assert run("show", whole) == 0
    assert "150 images" in capsys.readouterr().out


@pytest.mark.slow
def test_a_killed_command_is_resumed_with_the_same_bytes(whole, tmp_path, capsys):
    folder = tmp_path / "patients"
    words = (*SMALL, "--format", "dicom")
    interrupted(folder, *words, after=70)  # the first 64 have their names
    assert not folder.exists()
    images = unfinished(folder) / "result/images"
    made = {file: file.stat().st_mtime_ns for file in images.glob("*.dcm")}
    assert 0 < len(made) < 150
    with pytest.raises(CohortError, match="no source can read this"):
        Cohort.load(unfinished(folder) / "result")
    (images / ".0.dcm.half.tmp").write_bytes(b"half a file")
    assert run("phantom", "--out", folder, *words) == 0
    assert contents(folder) == contents(whole)
    kept = [folder / "images" / file.name for file in made]
    assert [file.stat().st_mtime_ns for file in kept] == list(made.values())
    assert [p.name for p in tmp_path.iterdir()] == ["patients"]


def test_unfinished_work_refuses_another_command(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "patients"
    words = ("phantom", "--out", folder, "--n", 9, "--size", 32)

    def dies(_: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(result_folder, "sync_all", dies)
    assert run(*words) == 130
    monkeypatch.undo()
    assert "run the same command again to resume" in capsys.readouterr().err
    before = contents(tmp_path)
    others = [
        (*words, "--seed", 1),
        (*words, "--format", "dicom"),
        ("phantom", "--out", folder, "--n", 8, "--size", 32),
        ("save", "phantom:n=4,size=32", "--out", folder),
    ]
    for other in others:
        assert run(*other) == 2
        told = capsys.readouterr().err
        assert told.count("\n") == 1
        assert "has unfinished work here" in told
        assert "--overwrite" in told
    assert contents(tmp_path) == before
    assert run(*words) == 0
    assert len(Cohort.load(folder)) == 9


def test_a_folder_in_use_is_refused(tmp_path, capsys):
    folder = tmp_path / "patients"
    with ResultFolder(folder, "causalcxr cohort", "a cohort").writing():
        assert run("phantom", "--out", folder, "--n", 9, "--size", 32) == 2
        assert "another process is writing it at this moment" in capsys.readouterr().err


def test_an_older_cohort_is_replaced_completely_even_after_a_kill(tmp_path, monkeypatch):
    folder = tmp_path / "patients"
    words = ("phantom", "--out", folder, "--size", 32)
    assert run(*words, "--n", 12) == 0
    real, calls = Path.rename, []

    def dies(self, target):
        calls.append(self)
        if len(calls) == 3:  # the old one has left its place, the new one has not taken it
            raise KeyboardInterrupt
        return real(self, target)

    monkeypatch.setattr(Path, "rename", dies)
    assert run(*words, "--n", 9, "--overwrite") == 130
    monkeypatch.undo()
    assert len(Cohort.load(unfinished(folder) / "old")) == 12
    assert run(*words, "--n", 9, "--overwrite") == 0
    assert len(Cohort.load(folder)) == 9
    assert len(list((folder / "images").iterdir())) == 9
    assert [p.name for p in tmp_path.iterdir()] == ["patients"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--format", "jpeg"), "images='jpeg' is not known; use 'png' or 'dicom'"),
        (("--n", 0), "n must be at least 1"),
        (("--size", 16), "size 32 to 512"),
        (("--n", "many"), "Invalid value for '--n'"),
        (("--graph", "cxr8"), "cxr8"),
        (("--bits", 10), "10"),
    ],
)
def test_an_invalid_option_gives_one_line_and_no_files(words, said, tmp_path, capsys):
    assert run("phantom", "--out", tmp_path / "patients", "--n", 3, *words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_unchanged(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run("phantom", "--out", tmp_path, "--n", 3) == 2
    assert "holds something else than a cohort" in capsys.readouterr().err
    assert run("phantom", "--out", tmp_path / "thesis.txt", "--n", 3) == 2
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_another_graph_and_missing_values_are_in_the_table(tmp_path):
    words = ("--n", 60, "--size", 32, "--graph", "cxr7-acquisition", "--missing")
    assert run("phantom", "--out", tmp_path / "p", *words) == 0
    drawn = Cohort.load("phantom", n=60, size=32, graph="cxr7-acquisition", missing=1)
    loaded = Cohort.load(tmp_path / "p")
    assert drawn.table.isna().to_numpy().any()
    assert (loaded.table.isna() == drawn.table.isna()).to_numpy().all()
    assert not drawn.compare(loaded).changed.to_numpy().any()
    assert loaded.notes == drawn.notes


def test_all_12_bits_of_a_png_come_back(tmp_path):
    assert run("phantom", "--out", tmp_path / "p", "--n", 4, "--size", 32, "--bits", 12) == 0
    expected = Cohort.load("phantom", n=4, size=32, bits=12).images[:] * 4095
    levels = Cohort.load(tmp_path / "p").images[:] * 4095
    assert np.abs(levels - expected).max() < 0.05
    assert (levels.round() == expected.round()).all()


def test_images_of_patients_are_not_written_as_dicom(tmp_path):
    phantoms = Cohort.load("phantom", n=2, size=32)
    with pytest.raises(CohortError, match="only synthetic images are written as DICOM"):
        Cohort(phantoms.table, phantoms.images[:]).save(tmp_path / "c", images="dicom")
    real = Cohort(phantoms.table, phantoms.images[:]).save(tmp_path / "c")
    with Image.open(real / "images/0.png") as image:
        assert "Comment" not in image.text
    twins = Cohort(phantoms.table, phantoms.images, source="nih, counterfactual")
    loaded = Cohort.load(twins.save(tmp_path / "c", images="dicom", overwrite=True))
    assert np.abs(loaded.images[:] - phantoms.images[:]).max() <= 0.5001 / 4095
    (tmp_path / "c/images/1.dcm").write_bytes(b"damaged")
    with pytest.raises(CohortError, match=r"1\.dcm: changed since it was written"):
        loaded.images[:]
