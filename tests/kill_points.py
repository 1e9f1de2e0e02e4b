"""Kill a forked child at its k-th event of the file system, then run the same work again."""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

EVENTS = ("open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree")
_dies_at = [0]  # the event at which this process is killed; 0 for never
_seen = [0]
_place = [""]


def _hook(event: str, arguments: tuple) -> None:
    if _dies_at[0] and event in EVENTS and _concerns(arguments):
        _seen[0] += 1
        if _seen[0] == _dies_at[0]:
            os.kill(os.getpid(), signal.SIGKILL)


def _concerns(arguments: tuple) -> bool:
    """Return whether an event is in the place that is watched."""
    return any(_place[0] in str(word) for word in arguments[:2])


sys.addaudithook(_hook)


def child(work: Callable[[], object], place: Path, dies_at: int) -> tuple[int, int]:
    """Run work in a forked child.

    Args:
        work: What is done.
        place: The folder whose events count.
        dies_at: The event at which the child is killed; a large number for never.

    Returns:
        The child's status: 0, or minus the signal that killed it; and how many events there were.
    """
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.dup2(quiet, 2)
            os.fsync = lambda _: None  # a kill loses nothing that was written
            os.sync = lambda: None
            _place[0], _seen[0], _dies_at[0] = str(place), 0, dies_at
            work()
            _dies_at[0] = 0
            os.write(writing, str(_seen[0]).encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    _, ended = os.waitpid(pid, 0)
    told = os.read(reading, 20)
    os.close(reading)
    return os.waitstatus_to_exitcode(ended), int(told or 0)


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file and folder below one, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }
