"""A folder that is written beside its place and takes it when it is complete.

Work that can be taken up again stands in `.<name>.unfinished/`: `cohort/` is the folder to be,
`job.json` says who works on it, `old/` is what it replaces while the two change places, `lock` is
held by the process that works. Nobody reads that folder as a cohort, and it is gone at the end.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from causalcxr.errors import CohortError
from causalcxr.files import atomic_write

try:
    import fcntl
except ImportError:  # Windows has no advisory locks; there two jobs at once are not noticed
    fcntl = None

__all__ = ["settle", "taking_the_place_of"]


@contextmanager
def taking_the_place_of(
    folder: Path, ours: Callable[[Path], bool], job: dict[str, Any] | None = None
) -> Iterator[Path]:
    """Give a folder to fill that takes the place of `folder` once it is complete.

    Args:
        folder: A new or empty folder, or one of ours, which is replaced.
        ours: Says whether a folder may be replaced.
        job: What makes the work the same work, as JSON; `made_from` in it is told to others. With
            it, what was written before an interruption is found again, and kept when this one is
            interrupted; without it, what is not finished is removed.

    Raises:
        CohortError: If the folder holds something else, or another job's unfinished work, or
            another process works on it.
    """
    if not ours(folder) and _holds_something(folder):
        raise CohortError(f"{folder}: holds something else than a cohort; give another folder")
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = folder.parent / f".{folder.name}.unfinished"
    _check(unfinished, folder, job)
    if job is None:
        desk = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
        try:
            yield _opened(desk)
            _exchange(desk, folder)
        finally:
            shutil.rmtree(desk, ignore_errors=True)
        return
    with _locked(unfinished, folder):
        _check(unfinished, folder, job)  # once more: it may have changed before the lock was ours
        atomic_write(unfinished / "job.json", json.dumps(job, indent=2) + "\n")
        yield _opened(unfinished)
        _exchange(unfinished, folder)
        shutil.rmtree(unfinished, ignore_errors=True)


def _holds_something(folder: Path) -> bool:
    if folder.is_symlink() or not folder.is_dir():
        return folder.is_symlink() or folder.exists()
    return any(folder.iterdir())


def _opened(desk: Path) -> Path:
    """Return the folder to fill, with the permissions that a plain `mkdir` gives."""
    desk.chmod(0o755)
    (desk / "cohort").mkdir(exist_ok=True)
    return desk / "cohort"


def _check(unfinished: Path, folder: Path, job: dict[str, Any] | None) -> None:
    """Refuse unfinished work of anybody else."""
    if not (unfinished / "cohort").exists():
        return
    try:
        found = json.loads((unfinished / "job.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        found = None
    if job is None or found != job:
        raise CohortError(
            f"{folder}: another command or version has unfinished work here{_told(found)}; give "
            f"that command again, or another folder, or delete {unfinished}"
        )


def _told(job: Any) -> str:
    """Return what an unfinished job makes its cohort from, in words."""
    made = job.get("made_from") if isinstance(job, dict) else None
    if not isinstance(made, dict):
        return ""
    return f" ({', '.join(f'{name} {value}' for name, value in made.items())})"


@contextmanager
def _locked(unfinished: Path, folder: Path) -> Iterator[None]:
    """Hold the desk; the system lets go of it when the process ends, however it ends."""
    unfinished.mkdir(exist_ok=True)
    with (unfinished / "lock").open("w") as file:
        if fcntl is not None:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise CohortError(
                    f"{folder}: another process is writing it at this moment; wait for its end"
                ) from None
        yield


def _exchange(desk: Path, folder: Path) -> None:
    """Put the filled folder in its place.

    Only the exchange of an old cohort for a new one takes two steps: whoever looks between them
    finds the old one in the desk, whole.
    """
    _sync(desk / "cohort")
    if folder.exists():
        shutil.rmtree(desk / "old", ignore_errors=True)
        folder.rename(desk / "old")
    (desk / "cohort").rename(folder)
    _sync_one(folder.parent)


def settle(files: Iterable[Path]) -> None:
    """Bring files to the disk, so that a name given to them later is never that of half a file."""
    # Thousands of images one by one are thousands of commits of the journal; one call is one.
    if hasattr(os, "sync"):
        os.sync()
    else:
        for file in files:
            _sync_one(file)


def _sync(folder: Path) -> None:
    """Force every file of a folder, and the folder itself, to the disk, and hear of failures."""
    settle([])
    for entry in folder.rglob("*"):
        _sync_one(entry)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
