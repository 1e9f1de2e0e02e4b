"""Progress: counts and time left on a terminal, in a notebook, in a log; none for short work."""

import os
import pty
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import typer

from causalcxr.apps.cli.command import guarded
from causalcxr.common.progress import Progress, progress, resumable, resuming
from causalcxr.common.progress_screens import Count, Lines, Terminal, screen

ROOT = Path(__file__).parents[2]
WORK = """
import time
from causalcxr.common.progress import Progress, progress
with Progress("Fitting", 3, "equations") as equations:
    for k in range(3):
        for _ in progress(range(0, 1000, 100), "Age", "steps"):
            time.sleep({pause})
        equations.add(note=f"loss {{k}}")
print("the answer", flush=True)
"""


def ran(pause, terminal=False, **env):
    """Run some counted work, and return what it wrote to standard output and error."""
    env = os.environ | {"PYTHONPATH": str(ROOT)} | env
    if "CAUSALCXR_PROGRESS" in env and not env["CAUSALCXR_PROGRESS"]:
        del env["CAUSALCXR_PROGRESS"]
    command = [sys.executable, "-c", WORK.format(pause=pause)]
    if not terminal:
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
        return done.stdout, done.stderr
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        while True:
            try:
                part = os.read(ours, 65536)
            except OSError:
                break
            if not part:
                break
            shown += part
        out = process.stdout.read().decode()
    os.close(ours)
    return out, shown.decode()


def test_log_lines_show_count_share_and_time_left():
    out, err = ran(0.06, CAUSALCXR_PROGRESS="0.2")
    assert out == "the answer\n"
    lines = err.splitlines()
    assert 3 <= len(lines) <= 12
    line = re.compile(
        r"Fitting: [012] of 3 equations \(\d+%\)(, \d:\d\d left)?(, loss \d)?"
        r"(; Age: [\d,]+ of 1,000 steps \(\d+%\)(, \d:\d\d left)?)?"
    )
    assert [text for text in lines if not line.fullmatch(text)] == []
    assert "left" in err


def test_short_work_shows_no_progress():
    assert ran(0.0, CAUSALCXR_PROGRESS="") == ("the answer\n", "")
    out, shown = ran(0.0, terminal=True, CAUSALCXR_PROGRESS="", TERM="xterm")
    assert (out, shown) == ("the answer\n", "")


def test_progress_can_be_turned_off():
    assert ran(0.03, CAUSALCXR_PROGRESS="off") == ("the answer\n", "")


@pytest.mark.slow  # bars come after two seconds
def test_terminal_shows_and_removes_bars():
    out, shown = ran(0.1, terminal=True, CAUSALCXR_PROGRESS="", TERM="xterm", COLUMNS="100")
    assert out == "the answer\n"
    assert "Fitting" in shown
    assert re.search(r"of 1,000 steps \(\d+%\)", shown)
    assert "━" in shown
    assert shown.rstrip().endswith("\x1b[2K")


@pytest.mark.slow  # starts a kernel
def test_notebook_updates_and_clears_one_line():
    import nbformat
    from nbclient import NotebookClient

    code = WORK.format(pause=0.2)
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    kernel = {"PYTHONPATH": str(ROOT), "CAUSALCXR_PROGRESS": ""}
    told = []

    class Client(NotebookClient):
        def process_message(self, msg, cell, cell_index):
            if msg["msg_type"] in ("display_data", "update_display_data"):
                told.append(msg["content"]["data"]["text/plain"])
            return super().process_message(msg, cell, cell_index)

    Client(notebook, timeout=120, kernel_name="python3").execute(env=os.environ | kernel)
    assert re.match(r"Fitting: \d of 3 equations .*; Age: \d+ of 1,000 steps", told[0])
    assert len(told) > 4
    assert told[-1] == ""


def test_other_threads_show_no_progress(monkeypatch, capsys):
    monkeypatch.setenv("CAUSALCXR_PROGRESS", "0.01")

    def work():
        for _ in progress(range(10), "Table"):
            time.sleep(0.02)

    other = threading.Thread(target=work)
    other.start()
    other.join()
    assert capsys.readouterr().err == ""


def test_time_left_is_estimated_from_new_work(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    count = Count("Twins", 2000, "images", 1200)
    assert count.words == "Twins: 1,200 of 2,000 images (60%)"
    now[0], count.done = 60.0, 1400
    assert count.words == "Twins: 1,400 of 2,000 images (70%), 3:00 left"
    unknown = Count("Auditing", None, "", 0)
    now[0] = 100.0
    assert unknown.words == "Auditing: 0:40 so far"


def test_batches_count_records_not_beyond_the_total():
    counted = []
    for _ in progress(range(0, 100, 40), "Reading", "images"):
        counted.append(1)
    assert len(counted) == 3
    with Progress("Reading", 100, "images") as count:
        count.add(100)
    assert count.words == "Reading: 100 of 100 images (100%)"


def test_screen_suits_its_stream(monkeypatch, capsys):
    monkeypatch.delenv("CAUSALCXR_PROGRESS")
    monkeypatch.setenv("TERM", "xterm")
    assert isinstance(screen(sys.stderr), Lines)
    assert (screen(sys.stderr).first, screen(sys.stderr).pause) == (10, 30)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    assert isinstance(screen(sys.stderr), Terminal)
    monkeypatch.setenv("TERM", "dumb")
    assert isinstance(screen(sys.stderr), Lines)
    monkeypatch.setenv("CAUSALCXR_PROGRESS", "off")
    assert screen(sys.stderr) is None
    assert screen(None) is None


def test_resumed_work_is_announced(capsys):
    resuming(0, 2000, "images")
    assert capsys.readouterr().err == ""
    resuming(1200, 2000, "images")
    assert capsys.readouterr().err == "resuming: 1,200 of 2,000 images are there\n"


@pytest.fixture
def interruptible():
    """A shell ignores Ctrl-C in what it runs in the background, and Python would do so too."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_ctrl_c_gives_status_130_and_how_to_resume(capsys):
    app = typer.Typer()

    @app.command()
    def work(inside: bool = False) -> None:
        with resumable("outer"):
            if not inside:
                signal.raise_signal(signal.SIGINT)
            with resumable("1,200 images are in out"):
                signal.raise_signal(signal.SIGINT)

    again = "run the same command again to resume\n"
    assert guarded(app, ["--inside"]) == 130
    assert capsys.readouterr().err == f"\ninterrupted: 1,200 images are in out; {again}"
    assert guarded(app, ["--no-inside"]) == 130
    assert capsys.readouterr().err == f"\ninterrupted: outer; {again}"
