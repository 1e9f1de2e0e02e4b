"""Files: whole or not at all when written, small and UTF-8 when read."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from causalcxr.common.errors import CausalCXRError

__all__ = [
    "atomic_file",
    "atomic_write",
    "holds_others",
    "read_text",
    "remove_litter",
    "settle",
    "sync_all",
    "sync_folder",
    "sync_one",
]

_SYNCED_ALONE = 64  # files; more of them are brought to the disk by one call for all


def atomic_write(path: str | Path, content: bytes | str) -> Path:
    """Write a file so that a kill at any moment leaves the old one or the new one, whole.

    The content goes to a temporary file in the same folder, is forced to the disk, and takes the
    place of `path` in one step. The folder is made where it is missing.

    Args:
        path: The file to write.
        content: Bytes, or text that is written as UTF-8.

    Returns:
        The path written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     atomic_write(Path(folder) / "note.txt", "whole").read_text()
        'whole'
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Give a file to fill that takes the place of `path`, as `atomic_write` does, at the end.

    Args:
        path: The file to write.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_file(Path(folder) / "note.txt") as file:
        ...         _ = file.write(b"whole")
        ...     (Path(folder) / "note.txt").read_text()
        'whole'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(_mode_of(path))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def read_text(
    path: str | Path, limit: int = 1_000_000, error: type[CausalCXRError] = CausalCXRError
) -> str:
    r"""Read a small UTF-8 file; a byte order mark and Windows line ends are accepted.

    Args:
        path: The file to read.
        limit: The largest size accepted, in bytes.
        error: The class of the error to raise.

    Returns:
        The text, without its byte order mark, with `\n` at the ends of lines.

    Raises:
        CausalCXRError: If the file is missing, a folder, too large or not UTF-8.
    """
    path = Path(path)
    if path.is_dir():
        raise error(f"{path}: this is a folder; give the file inside it")
    try:
        with path.open("rb") as file:
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise error(f"{path}: there is no such file; check the path") from None
    except (OSError, ValueError) as fault:  # ValueError: a null character in the path
        reason = getattr(fault, "strerror", None) or fault
        raise error(f"{path}: cannot be read ({reason})") from None
    if len(content) > limit:
        raise error(f"{path}: larger than {limit:,} bytes, the most that is accepted")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content[: fault.start].count(b"\n") + 1
        raise error(f"{path}:{line}: not UTF-8; save the file with UTF-8 encoding") from None
    return text.replace("\r\n", "\n")


def _mode_of(path: Path) -> int:
    """Return the permissions that a plain `open` would give, or those of the file replaced."""
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def sync_folder(folder: Path) -> None:
    """Force a rename, or a new file's name, to the disk, where a folder may be opened."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def holds_others(folder: Path, marker: str) -> bool:
    """Return whether a folder is there, is not empty, and lacks the file that makes it ours.

    Example:
        >>> holds_others(Path("no such folder"), "audit.json")
        False
    """
    return folder.exists() and any(folder.iterdir()) and not (folder / marker).is_file()


def remove_litter(folder: Path) -> None:
    """Remove the temporary files that a kill has left anywhere in a folder."""
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)


def settle(files: Iterable[Path]) -> None:
    """Bring files to the disk, so that a name given to them later is never that of half a file."""
    files = list(files)
    # Thousands of images one by one are thousands of commits of the journal; one call is one.
    if hasattr(os, "sync") and len(files) > _SYNCED_ALONE:
        os.sync()
        return
    for file in files:
        sync_one(file)


def sync_all(folder: Path) -> None:
    """Force every file of a folder, and the folder itself, to the disk; failures are raised."""
    entries = [*folder.rglob("*"), folder]
    settle(entries)
    if len(entries) > _SYNCED_ALONE:  # the one call for all reports no failure
        for entry in entries:
            sync_one(entry)


def sync_one(path: Path) -> None:
    """Force a file or a folder to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
