"""Full disks, two writers, read-only folders, too many files, no memory: one line, status 2."""

import errno
import os
import resource
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import typer
from kill_points import child

from causalcxr import Cohort
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.training.training_place import training_place
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.locks import exclusive

GRAPH = """
name: two
variables:
  Sex: {type: binary, levels: [F, M]}
  Edema: {type: binary, parents: [Sex]}
"""
VERBS = ("fit", "sample", "counterfactual", "pairs", "effect", "check", "cohort phantom")


def run(*words: object) -> int:
    return guarded(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a table, a graph and a fitted model."""
    home = tmp_path_factory.mktemp("home")
    (home / "two.yaml").write_text(GRAPH)
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"Sex": rng.choice(["F", "M"], 80), "Edema": rng.choice(["N", "P"], 80)})
    table.to_csv(home / "table.csv", index=False)
    table.assign(Edema="N").to_csv(home / "other.csv", index=False)
    assert run("fit", home / "two.yaml", home / "table.csv", "--out", home / "model") == 0
    return home


def words_of(verb: str, home: Path) -> list:
    asked = [home / "model", home / "table.csv"]
    return {
        "fit": ["fit", home / "two.yaml", home / "table.csv"],
        "sample": ["sample", home / "model", "--n", 3],
        "counterfactual": ["counterfactual", *asked, "--do", "sex=M"],
        "pairs": ["pairs", *asked, "--do", "sex=M"],
        "effect": ["effect", *asked, "--do", "sex=M"],
        "check": ["check", *asked],
        "cohort phantom": ["cohort", "phantom", "--n", 3, "--size", 32],
    }[verb]


@pytest.mark.parametrize("verb", VERBS)
def test_full_disk_gives_one_line_and_the_next_run_succeeds(
    home, tmp_path, monkeypatch, capsys, verb
):
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    words = [*words_of(verb, home), "--out", tmp_path / "out"]
    monkeypatch.setattr(os, "fsync", full)
    assert run(*words) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "No space left on device" in told
    monkeypatch.undo()
    assert run(*words) in (0, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("verb", VERBS)
def test_second_process_writing_the_same_folder_is_refused(home, tmp_path, capsys, verb):
    with exclusive(tmp_path / ".out.lock", CausalCXRError("unused")):
        assert run(*words_of(verb, home), "--out", tmp_path / "out") == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "another process is writing" in told
    assert list(tmp_path.iterdir()) == []


def test_file_size_limit_gives_one_line(home, tmp_path):
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))
        said = open(os.devnull, "w")  # noqa: SIM115
        sys.stderr = said
        assert run(*words_of("counterfactual", home), "--out", tmp_path / "out") == 2

    assert child(limited, tmp_path, 10**9)[0] == 0
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.getuid() == 0, reason="root writes everywhere")
def test_read_only_folder_gives_one_line(home, tmp_path, capsys):
    tmp_path.chmod(0o500)
    assert run(*words_of("counterfactual", home), "--out", tmp_path / "out") == 2
    assert "cannot be written (Permission denied)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "not enough memory"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "not enough mem"),
        (OSError(errno.EMFILE, "Too many open files"), "Too many open files; raise the limit"),
        (OSError(errno.ENOSPC, "No space left on device", "a.bin"), "a.bin: No space left"),
    ],
)
def test_machine_fault_gives_one_line_and_status_2(error, said, capsys):
    command = typer.Typer()

    @command.command()
    def work() -> None:
        raise error

    assert guarded(command, []) == 2
    told = capsys.readouterr().err
    assert said in told
    assert told.count("\n") == 1


def test_other_errors_keep_their_traceback():
    command = typer.Typer()

    @command.command()
    def work() -> None:
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        guarded(command, [])


@pytest.mark.parametrize("verb", ["counterfactual", "pairs"])
def test_folder_of_another_result_is_refused(home, tmp_path, capsys, verb):
    out = ("--out", tmp_path / "out")
    assert run(*words_of(verb, home), *out) == 0
    capsys.readouterr()
    other = [str(w).replace("table.csv", "other.csv") for w in words_of(verb, home)]
    female = [str(w).replace("sex=M", "sex=F") for w in words_of(verb, home)]
    for words in (other, female):
        assert run(*words, *out) == 2
        assert f"holds {'twins' if verb == 'counterfactual' else 'pairs'} already" in (
            capsys.readouterr().err
        )
    assert run(*words_of(verb, home), *out) == 0
    assert "complete already, nothing to do" in capsys.readouterr().err
    assert run(*other, *out, "--overwrite") == 0


@pytest.mark.parametrize("verb", ["sample", "counterfactual", "effect", "cohort phantom"])
def test_overwrite_makes_a_complete_result_again(home, tmp_path, capsys, verb):
    words = [*words_of(verb, home), "--out", tmp_path / "out"]
    assert run(*words) in (0, 1)
    first = (tmp_path / "out").stat().st_ino
    assert run(*words) in (0, 1)
    assert "--overwrite (overwrite=True) makes it again" in capsys.readouterr().err
    assert (tmp_path / "out").stat().st_ino == first
    assert run(*words, "--overwrite") in (0, 1)
    assert "complete already" not in capsys.readouterr().err
    assert (tmp_path / "out").stat().st_ino != first


def test_changed_image_is_refused_with_its_file(tmp_path):
    folder = Cohort.load("phantom", n=2, size=32).save(tmp_path / "c")
    file = folder / "images" / "1.png"
    file.write_bytes((folder / "images" / "0.png").read_bytes())
    loaded = Cohort.load(folder)
    assert loaded.images[0].shape == (1, 1, 32, 32)
    with pytest.raises(CausalCXRError, match=r"1\.png: changed since it was written"):
        loaded.images[1]


def test_changed_table_of_pairs_is_refused_with_its_file(home, tmp_path):
    from causalcxr.audit.pairs import Pairs

    assert run(*words_of("pairs", home), "--out", tmp_path / "out") == 0
    file = tmp_path / "out" / "pairs.csv"
    file.write_text(file.read_text().replace("True", "False"))
    with pytest.raises(CausalCXRError, match=r"pairs\.csv: changed since it was written"):
        Pairs.load(tmp_path / "out")


def test_training_refuses_other_weights_and_a_second_process(tmp_path):
    out = tmp_path / "w.safetensors"
    litter = tmp_path / ".w.safetensors.abc.tmp"
    litter.write_bytes(b"half")
    with training_place(out, "checkpoint.safetensors"):
        assert not litter.exists()
        busy = pytest.raises(CausalCXRError, match="another process is training these weights")
        with busy, training_place(out, "checkpoint.safetensors"):
            pass
    out.write_bytes(b"weights")
    held = pytest.raises(CausalCXRError, match="holds weights already")
    with held, training_place(out, "checkpoint.safetensors"):
        pass
    with training_place(out, "checkpoint.safetensors", overwrite=True):
        pass
    assert [path.name for path in tmp_path.iterdir()] == ["w.safetensors"]
