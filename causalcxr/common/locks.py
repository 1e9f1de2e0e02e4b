"""Locks that keep two processes from writing the same place."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from causalcxr.common.errors import CausalCXRError

__all__ = ["exclusive"]


@contextmanager
def exclusive(file: str | Path, refusal: CausalCXRError, *, keep: bool = False) -> Iterator[None]:
    """Hold a lock file; the system releases it when the process ends, even when it is killed.

    Args:
        file: The lock file; its folder must exist.
        refusal: The error to raise if another process holds the lock.
        keep: Whether the lock file is kept at the end.

    Raises:
        CausalCXRError: The refusal.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with exclusive(f"{folder}/lock", CausalCXRError("in use")):
        ...         with exclusive(f"{folder}/lock", CausalCXRError("in use")):
        ...             pass
        Traceback (most recent call last):
        ...
        causalcxr.common.errors.CausalCXRError: in use
    """
    # The import takes 80 ms, and most commands only read.
    from filelock import FileLock, Timeout

    # Not per thread: two threads of one process are refused as two processes are.
    lock = FileLock(file, thread_local=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise refusal from None
    try:
        yield
    finally:
        # Removed while still locked: another process that has opened it sees this and retries.
        if not keep:
            Path(file).unlink(missing_ok=True)
        lock.release()
