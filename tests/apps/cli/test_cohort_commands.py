"""`causalcxr cohort phantom`: what is on the disk, and a command that was interrupted goes on."""

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

SMALL = ("--n", 200, "--size", 32, "--seed", 5)
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


def test_given_a_command_then_png_table_and_manifest_are_written_and_nothing_else(
    tmp_path, capsys
):
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


def test_given_dicom_then_one_file_a_record_comes_back_with_every_bit(whole, capsys):
    loaded = Cohort.load(whole)
    films = Cohort.load("phantom", n=200, seed=5, size=32, bits=12)
    rows = slice(0, 20)
    assert (loaded.images[rows] * 4095).round().max() <= 4095
    assert np.abs(loaded.images[rows] - films.images[rows]).max() <= 0.5001 / 4095
    assert sorted(p.suffix for p in (whole / "images").iterdir()) == [".dcm"] * 200
    table, uids = loaded.table, set()
    for row in range(0, 200, 10):
        file = pydicom.dcmread(whole / "images" / f"{row}.dcm")
        uids |= {file.SOPInstanceUID, file.StudyInstanceUID, file.SeriesInstanceUID}
        assert file.PatientSex == table["Sex"][row]
        assert file.PatientAge == f"{table['Age'][row]:03.0f}Y"
        assert file.ViewPosition == {"LATERAL": "LL"}.get(table["View"][row], table["View"][row])
        assert "seed 5" in file.DerivationDescription
    assert len(uids) == 60
    assert run("show", whole) == 0
    assert "200 images" in capsys.readouterr().out


def test_given_a_killed_command_when_given_again_then_the_folder_is_the_same_to_the_byte(
    whole, tmp_path, capsys
):
    folder = tmp_path / "patients"
    words = (*SMALL, "--format", "dicom")
    interrupted(folder, *words, after=80)
    assert not folder.exists()
    images = unfinished(folder) / "result/images"
    made = {file: file.stat().st_mtime_ns for file in images.glob("*.dcm")}
    assert 0 < len(made) < 200
    with pytest.raises(CohortError, match="no source can read this"):
        Cohort.load(unfinished(folder) / "result")
    (images / ".0.dcm.half.tmp").write_bytes(b"half a file")
    assert run("phantom", "--out", folder, *words) == 0
    assert contents(folder) == contents(whole)
    kept = [folder / "images" / file.name for file in made]
    assert [file.stat().st_mtime_ns for file in kept] == list(made.values())
    assert [p.name for p in tmp_path.iterdir()] == ["patients"]


def test_given_unfinished_work_when_anything_else_is_asked_then_it_is_refused(
    tmp_path, capsys, monkeypatch
):
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


def test_given_a_folder_that_another_process_writes_then_it_is_refused(tmp_path, capsys):
    folder = tmp_path / "patients"
    with ResultFolder(folder, "causalcxr cohort", "a cohort").writing():
        assert run("phantom", "--out", folder, "--n", 9, "--size", 32) == 2
        assert "another process is writing it at this moment" in capsys.readouterr().err


def test_given_an_older_cohort_when_written_over_then_none_of_it_stays_even_after_a_kill(
    tmp_path, monkeypatch
):
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
def test_given_what_cannot_be_asked_then_one_line_status_2_and_no_trace(
    words, said, tmp_path, capsys
):
    assert run("phantom", "--out", tmp_path / "patients", "--n", 3, *words) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_given_a_folder_of_something_else_then_it_is_left_as_it_is(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert run("phantom", "--out", tmp_path, "--n", 3) == 2
    assert "holds something else than a cohort" in capsys.readouterr().err
    assert run("phantom", "--out", tmp_path / "thesis.txt", "--n", 3) == 2
    assert contents(tmp_path) == {"thesis.txt": b"years of work"}


def test_given_another_graph_and_blanks_then_the_table_has_them(tmp_path):
    words = ("--n", 60, "--size", 32, "--graph", "cxr7-acquisition", "--missing")
    assert run("phantom", "--out", tmp_path / "p", *words) == 0
    drawn = Cohort.load("phantom", n=60, size=32, graph="cxr7-acquisition", missing=1)
    loaded = Cohort.load(tmp_path / "p")
    assert drawn.table.isna().to_numpy().any()
    assert (loaded.table.isna() == drawn.table.isna()).to_numpy().all()
    assert not drawn.compare(loaded).changed.to_numpy().any()
    assert loaded.notes == drawn.notes


def test_given_12_bits_in_a_png_then_each_level_comes_back(tmp_path):
    assert run("phantom", "--out", tmp_path / "p", "--n", 4, "--size", 32, "--bits", 12) == 0
    films = Cohort.load("phantom", n=4, size=32, bits=12).images[:] * 4095
    found = Cohort.load(tmp_path / "p").images[:] * 4095
    assert np.abs(found - films).max() < 0.05
    assert (found.round() == films.round()).all()


def test_given_patients_then_their_images_are_not_written_as_dicom(tmp_path):
    films = Cohort.load("phantom", n=2, size=32)
    with pytest.raises(CohortError, match="only synthetic ones are written as DICOM"):
        Cohort(films.table, films.images[:]).save(tmp_path / "c", images="dicom")
    real = Cohort(films.table, films.images[:]).save(tmp_path / "c")
    with Image.open(real / "images/0.png") as image:
        assert "Comment" not in image.text
    twins = Cohort(films.table, films.images, source="nih, counterfactual")
    loaded = Cohort.load(twins.save(tmp_path / "c", images="dicom", overwrite=True))
    assert np.abs(loaded.images[:] - films.images[:]).max() <= 0.5001 / 4095
    (tmp_path / "c/images/1.dcm").write_bytes(b"damaged")
    with pytest.raises(CohortError, match=r"1\.dcm: changed since it was written"):
        loaded.images[:]
