"""Progress: work is counted while it runs, and the count is displayed.

    with Progress("Twins", total=2000, unit="images") as count:
        count.add(64)
    for image in progress(images, "Reading", "images"):
        ...

A thread displays the counts at intervals, see `progress_screens`: a count costs one addition, and
a long step is visible, too. Work under two seconds displays nothing; neither do other threads and
processes. `CAUSALCXR_PROGRESS=off` turns it off; a number of seconds sets how often a line is
written if there is no terminal.
"""

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

from causalcxr.common.progress_screens import Count, Screen, screen

__all__ = ["Progress", "progress", "resumable", "resuming"]

_T = TypeVar("_T")
_HOME = os.getpid()
_TICK = 0.2  # seconds between two updates


class Progress:
    """Count the progress of some work and display it.

    Args:
        what: The work, such as "Twins".
        total: How much there is to do; None if unknown.
        unit: What is counted, such as "images".
        done: How much is done already, when work is resumed.
        show: False for never, True even if it is turned off; None if a person can see it.

    Example:
        >>> with Progress("Twins", total=3, unit="images") as count:
        ...     count.add(2)
        >>> count.words
        'Twins: 2 of 3 images (67%)'
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        unit: str = "",
        *,
        done: int = 0,
        show: bool | None = None,
    ) -> None:
        self._count = Count(what, total, unit, done)
        self._show = show

    def __enter__(self) -> "Progress":
        self._count.begun = time.monotonic()
        _board.begin(self._count, self._show)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _board.end(self._count)

    @property
    def words(self) -> str:
        """How far it is, in words."""
        return self._count.words

    def add(self, more: int = 1, note: str = "") -> None:
        """Count what was just done."""
        self._count.done += more
        self._count.note = note

    def resume(self, done: int) -> None:
        """Set how much was done before; the time left is estimated from new work alone."""
        self._count.done = self._count.before = done
        self._count.begun = time.monotonic()

    def trained(self, k: int, of: int, loss: float) -> None:
        """Set the steps or epochs of a training, of how many, and the loss."""
        self.to(k, of, f"loss {loss:.4f}")

    def to(self, done: int, total: int | None = None, note: str = "") -> None:
        """Set how much is done, of how much."""
        self._count.done, self._count.note = done, note
        if total is not None:
            self._count.total = total


def progress(
    items: Iterable[_T],
    what: str,
    unit: str = "",
    *,
    total: int | None = None,
    each: int | None = None,
    done: int = 0,
) -> Iterator[_T]:
    """Yield items and count them.

    Args:
        items: The items. The starts of batches, `range(0, n, size)`, count as n.
        what: The work.
        unit: What is counted.
        total: How much there is to do, if the items have no length.
        each: How much an item counts for; 1, or the step of a range.
        done: How much is done before the first item.

    Example:
        >>> list(progress(range(0, 100, 40), "Reading", "images"))
        [0, 40, 80]
    """
    if isinstance(items, Sized) and len(items) < 2:  # nothing to display
        yield from items
        return
    # The items of a range are starts of blocks: each counts for a step.
    if isinstance(items, range):
        each, n_items = each or items.step, items.stop - items.start
    else:
        each, n_items = each or 1, len(items) * (each or 1) if isinstance(items, Sized) else None
    # What an earlier run has done counts, too.
    total = done + n_items if total is None and n_items is not None else total
    with Progress(what, total, unit, done=done) as count:
        for item in items:
            yield item
            # The last block may be smaller than the others.
            count.add(each if total is None else min(each, total - count._count.done))


def resuming(there: int, total: int, unit: str) -> None:
    """Print on standard error that earlier work is resumed, if there is any.

    Args:
        there: How much is done.
        total: How much there is to do.
        unit: What is counted.
    """
    if there and (multiprocessing.parent_process() is None):
        print(f"resuming: {there:,} of {total:,} {unit} are there", file=sys.stderr, flush=True)


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Print how to resume if the work in the block is interrupted by Ctrl-C.

    Args:
        kept: What is kept, such as "the images so far are in out".

    Raises:
        KeyboardInterrupt: That of the block.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if not getattr(stop, "explained", False):
            stop.explained = True  # for the work around this one
            message = f"interrupted: {kept}; run the same command again to resume"
            print(f"\n{message}", file=sys.stderr, flush=True)
        raise


class _Board:
    """The counts of running work, outermost first, and the screen that displays them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._watcher: threading.Thread | None = None
        self._counts: list[Count] = []
        self._screen: Screen | None = None
        self._due = 0.0

    def begin(self, count: Count, show: bool | None) -> None:
        """Add a count, unless it is not displayed."""
        if show is False or not _is_main_thread():
            return
        with self._lock:
            if not self._counts:
                # The first count chooses the display, and those inside it share it.
                self._screen = screen(sys.stderr, forced=bool(show))
                if self._screen is None:
                    return
                # Nothing is displayed before `first` seconds have passed.
                self._due = time.monotonic() + self._screen.first
            self._counts.append(count)
            self._busy.set()
            # One thread draws at intervals, so that counting itself costs little.
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="progress", daemon=True)
                self._watcher.start()

    def end(self, count: Count) -> None:
        """Remove a count; after the last one, clear the screen."""
        if not self._counts or not _is_main_thread():
            return
        with self._lock:
            # By identity: two counts may be equal.
            self._counts = [each for each in self._counts if each is not count]
            if not self._counts:
                self._busy.clear()
                if self._screen is not None:
                    self._screen.clear()
                self._screen = None

    def _watch(self) -> None:
        while True:
            self._busy.wait()
            time.sleep(min(_TICK, self._screen.first / 4) if self._screen else 0)
            with self._lock:
                now = time.monotonic()
                if self._counts and self._screen is not None and now >= self._due:
                    self._screen.show(self._counts)
                    self._due = now + self._screen.pause


def _is_main_thread() -> bool:
    """Return whether this is the main thread of the main process."""
    return (
        threading.current_thread() is threading.main_thread()
        and os.getpid() == _HOME
        and multiprocessing.parent_process() is None
    )


_board = _Board()
