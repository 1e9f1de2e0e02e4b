"""Files: written completely or not at all; small text files read as UTF-8."""

import contextlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from causalcxr.common.errors import CausalCXRError, CohortError

__all__ = [
    "atomic_file",
    "atomic_write",
    "cannot_write",
    "read_text",
    "remove_litter",
    "sync_all",
    "sync_files",
    "sync_folder",
    "sync_one",
]

_SYNCED_ALONE = 64  # files; more of them are synced by one call for all


def atomic_write(path: str | Path, content: bytes | str) -> Path:
    """Write a file so that a kill at any moment leaves either the old or the new one.

    The content goes to a temporary file in the same folder, is synced to disk, and replaces `path`
    in one step. A missing folder is created.

    Args:
        path: The file to write.
        content: Bytes, or text that is written as UTF-8.

    Returns:
        The path written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     atomic_write(Path(folder) / "note.txt", "text").read_text()
        'text'
    """
    with atomic_file(path) as file:
        file.write(content.encode() if isinstance(content, str) else content)
    return Path(path)


@contextlib.contextmanager
def atomic_file(path: str | Path) -> Iterator[BinaryIO]:
    """Give a file to fill; at the end it replaces `path`, as in `atomic_write`.

    Args:
        path: The file to write.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with atomic_file(Path(folder) / "note.txt") as file:
        ...         _ = file.write(b"text")
        ...     (Path(folder) / "note.txt").read_text()
        'text'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that it can be renamed. A long name is cut, as systems limit names.
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name[:60]}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            # The content must be on disk before the name means it.
            file.flush()
            os.fsync(file.fileno())
        # Temporary files are readable by their owner only.
        temporary.chmod(_mode_of(path))
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    # The new name is safe on disk only when its folder is, too.
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
            # One byte more than allowed shows that a file is too large.
            content = file.read(limit + 1)
    except FileNotFoundError:
        raise error(f"{path}: there is no such file; check the path") from None
    except (OSError, ValueError) as fault:  # ValueError: a null character in the path
        reason = getattr(fault, "strerror", None) or fault
        raise error(f"{path}: cannot be read ({reason})") from None
    if len(content) > limit:
        raise error(f"{path}: larger than {limit:,} bytes, the limit")
    try:
        # `utf-8-sig` drops a byte order mark.
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as fault:
        # Name the line of the first byte that is not UTF-8.
        line = content[: fault.start].count(b"\n") + 1
        raise error(f"{path}:{line}: not UTF-8; save the file with UTF-8 encoding") from None
    return text.replace("\r\n", "\n")


def _mode_of(path: Path) -> int:
    """Return the permissions of the replaced file, or those that `open` would give."""
    with contextlib.suppress(OSError):
        return path.stat().st_mode & 0o777
    # The mask can be read only by setting it.
    mask = os.umask(0)
    os.umask(mask)
    return 0o666 & ~mask


def sync_folder(folder: Path) -> None:
    """Sync a renamed or new file name to disk, where the system can open folders."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def remove_litter(folder: Path) -> None:
    """Remove the temporary files that a kill left anywhere in a folder."""
    for left in folder.rglob(".*.tmp"):
        left.unlink(missing_ok=True)


def sync_files(files: Iterable[Path]) -> None:
    """Sync files to disk, so that a name given to them later always means a complete file."""
    files = list(files)
    # Syncing thousands of images one by one commits the journal each time; one call, once.
    if hasattr(os, "sync") and len(files) > _SYNCED_ALONE:
        os.sync()
        return
    for file in files:
        sync_one(file)


def sync_all(folder: Path) -> None:
    """Sync every file of a folder, and the folder itself, to disk; failures are raised."""
    entries = [*folder.rglob("*"), folder]
    sync_files(entries)
    if len(entries) > _SYNCED_ALONE:  # the one call for all does not report failures
        for entry in entries:
            sync_one(entry)


def sync_one(path: Path) -> None:
    """Sync a file or a folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def cannot_write(
    path: Path,
    fault: OSError,
    error: type[CausalCXRError] = CohortError,
    *,
    inside: Path | None = None,
) -> CausalCXRError:
    """Return our error for a fault of the disk: which place cannot be written, and why.

    Args:
        path: The file or folder to be written.
        fault: The error of the system; a file outside of `path` and `inside` is named.
        error: The class of the error.
        inside: The folder in which it is written first.
    """
    reason = fault.strerror or fault
    if fault.filename and isinstance(fault.filename, str | Path):
        # Name the file of the fault if it lies elsewhere than where the result is written.
        file = Path(fault.filename).absolute()
        homes = [path.absolute(), *([] if inside is None else [inside])]
        if not any(file.is_relative_to(home) or home.is_relative_to(file) for home in homes):
            if file.name.startswith(f".{path.name}."):  # the lock
                file = path
            else:
                return error(f"{fault.filename}: {reason}")
    return error(f"{path}: cannot be written ({reason})")
