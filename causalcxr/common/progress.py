"""Progress: what is counted while it is done, and where a person sees it.

    with Progress("Twins", total=2000, unit="images") as count:
        count.add(64)
    for image in progress(images, "Reading", "images"):
        ...

One thread looks at the counts from time to time and shows them, see `progress_screens`: so a count
costs an addition, and a step that takes long is seen, too. What takes under two seconds shows
nothing; neither do other threads and processes. `CAUSALCXR_PROGRESS=off` turns it off, a number of
seconds sets how often a line is written where there is no terminal.
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
_TICK = 0.2  # seconds between two looks


class Progress:
    """Count what is done of some work, and let a person see it.

    Args:
        what: The work, such as "Twins".
        total: How much there is to do; None where nobody knows.
        unit: What is counted, such as "images".
        done: How much is done already, where work is resumed.
        show: False for never, True also where it is turned off; None for a person.

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
        """Say that so much was done before: the time left is told by what comes from now on."""
        self._count.done = self._count.before = done
        self._count.begun = time.monotonic()

    def trained(self, k: int, of: int, loss: float) -> None:
        """Say how far a training is: steps or epochs of how many, and the loss."""
        self.to(k, of, f"loss {loss:.4f}")

    def to(self, done: int, total: int | None = None, note: str = "") -> None:
        """Say how much is done now, of how much."""
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
    """Yield some items, counted as they are used up.

    Args:
        items: What is worked on. The starts of batches, `range(0, n, size)`, count as n.
        what: The work.
        unit: What is counted.
        total: How much there is to do, where the items do not say.
        each: How much an item counts for; 1, or the step of a range.
        done: How much is done before the first item.

    Example:
        >>> list(progress(range(0, 100, 40), "Reading", "images"))
        [0, 40, 80]
    """
    if isinstance(items, Sized) and len(items) < 2:  # a count that cannot move tells nothing
        yield from items
        return
    if isinstance(items, range):
        each, known = each or items.step, items.stop - items.start
    else:
        each, known = each or 1, len(items) * (each or 1) if isinstance(items, Sized) else None
    total = done + known if total is None and known is not None else total
    with Progress(what, total, unit, done=done) as count:
        for item in items:
            yield item
            count.add(each if total is None else min(each, total - count._count.done))


def resuming(there: int, total: int, unit: str) -> None:
    """Say that earlier work is taken up again, if there is any, on standard error.

    Args:
        there: How much is there.
        total: Of how much.
        unit: What is counted.
    """
    if there and (multiprocessing.parent_process() is None):
        print(f"resuming: {there:,} of {total:,} {unit} are there", file=sys.stderr, flush=True)


@contextmanager
def resumable(kept: str) -> Iterator[None]:
    """Say how to resume, where the work inside is interrupted by Ctrl-C.

    Args:
        kept: What is kept, such as "the images so far are in out".

    Raises:
        KeyboardInterrupt: As inside.
    """
    try:
        yield
    except KeyboardInterrupt as stop:
        if not getattr(stop, "explained", False):
            stop.explained = True  # for the work around this one
            told = f"interrupted: {kept}; run the same command again to resume"
            print(f"\n{told}", file=sys.stderr, flush=True)
        raise


class _Board:
    """The counts under way, outermost first, and the screen that shows them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._busy = threading.Event()
        self._watcher: threading.Thread | None = None
        self._counts: list[Count] = []
        self._screen: Screen | None = None
        self._due = 0.0

    def begin(self, count: Count, show: bool | None) -> None:
        """Add a count, unless nobody is to see it."""
        if show is False or not _seen_here():
            return
        with self._lock:
            if not self._counts:
                self._screen = screen(sys.stderr, forced=bool(show))
                if self._screen is None:
                    return
                self._due = time.monotonic() + self._screen.first
            self._counts.append(count)
            self._busy.set()
            if self._watcher is None:
                self._watcher = threading.Thread(target=self._watch, name="progress", daemon=True)
                self._watcher.start()

    def end(self, count: Count) -> None:
        """Take a count away; with the last one, clear the screen."""
        if not self._counts or not _seen_here():
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


def _seen_here() -> bool:
    """Return whether this thread of this process is one that a person looks at."""
    return (
        threading.current_thread() is threading.main_thread()
        and os.getpid() == _HOME
        and multiprocessing.parent_process() is None
    )


_board = _Board()
