"""How a new user meets the command line: version, help, completion, and how to install."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import typer

import causalcxr
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app

ROOT = Path(__file__).parents[3]


def paths(command, words=()):
    """Return the words of every command, groups included."""
    yield words
    for name, each in getattr(command, "commands", {}).items():
        yield from paths(each, (*words, name))


EVERY = list(paths(typer.main.get_command(app)))


def started(*words, **env):
    """Run `python -m causalcxr` and return what it did."""
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | env
    command = [sys.executable, "-m", "causalcxr", *words]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("words", EVERY, ids=" ".join)
def test_h_shows_the_help_of_any_command(words, capsys):
    assert len(EVERY) > 25
    assert guarded(app, [*words, "-h"], name="causalcxr") == 0
    out, err = capsys.readouterr()
    assert "Usage: " + " ".join(["causalcxr", *words]) in out
    assert err == ""


def test_version_is_that_of_the_package(capsys):
    assert guarded(app, ["--version"], name="causalcxr") == 0
    assert capsys.readouterr().out == f"causalcxr {version('causalcxr')}\n"


def test_python_m_causalcxr_is_the_command_line():
    done = started("fit", "--nope")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: No such option: --nope; see 'causalcxr fit --help'\n"


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("causalcxr fit cxr", ["cxr7", "cxr7-acquisition"]),
        ("causalcxr fit cxr7 ph", ["phantom"]),
        ("causalcxr graph sh", ["show"]),
        ("causalcxr fit runs/gr", []),  # the shell completes files
    ],
)
def test_the_shell_completes_words(typed, offered):
    at = str(len(typed.split()) - 1)
    given = {"COMP_WORDS": typed, "COMP_CWORD": at, "_CAUSALCXR_COMPLETE": "complete_bash"}
    done = started(**given)
    assert (done.stdout.split(), done.stderr) == (offered, "")


def test_install_completion_writes_a_script(tmp_path):
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    # The shell is told by the processes above; with a second command bash stays one of them.
    command = f"{shlex.quote(sys.executable)} -m causalcxr --install-completion; exit $?"
    done = subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    script = (tmp_path / ".bash_completions" / "causalcxr.sh").read_text()
    assert "_CAUSALCXR_COMPLETE" in script


def test_the_package_is_typed():
    assert (Path(causalcxr.__file__).parent / "py.typed").is_file()


def test_no_text_installs_from_an_index_without_the_package():
    files = [ROOT / "README.md"]
    for folder, kinds in {
        "docs": "md py",
        "causalcxr": "py html",
        "notebooks": "ipynb py",
    }.items():
        files += [f for kind in kinds.split() for f in (ROOT / folder).rglob(f"*.{kind}")]
    assert len(files) > 200
    wrong = re.compile(r"(pip|pipx|uv|conda)\b[^\n]*\binstall\s[^\n.]*causalcxr\b(?!\.git)")
    told = {str(f.relative_to(ROOT)): wrong.findall(f.read_text("utf-8")) for f in files}
    assert {name: found for name, found in told.items() if found} == {}
