"""Displays of progress: bars on a terminal, a line in a notebook, lines in a file or a pipe."""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TextIO

__all__ = ["Count", "Lines", "Notebook", "Screen", "Terminal", "screen"]

_SWITCH = "CAUSALCXR_PROGRESS"


@dataclass(eq=False)
class Count:
    """The progress of some work.

    Args:
        what: The work.
        total: How much there is to do; None if unknown.
        unit: What is counted.
        done: How much is done.
        note: A remark, such as a loss.

    Example:
        >>> Count("Twins", 2000, "images", 1200).words
        'Twins: 1,200 of 2,000 images (60%)'
    """

    what: str
    total: int | None
    unit: str
    done: int
    note: str = ""

    def __post_init__(self) -> None:
        self.begun, self.before = time.monotonic(), self.done

    @property
    def elapsed(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self.begun

    @property
    def left(self) -> float | None:
        """The estimated seconds left at the present rate; None if unknown."""
        fresh = self.done - self.before
        if not self.total or fresh <= 0 or self.elapsed < 1:
            return None
        return self.elapsed * max(0, self.total - self.done) / fresh

    @property
    def numbers(self) -> str:
        """The count, the share, the time left and the note."""
        unit = f" {self.unit}" if self.unit else ""
        if self.total:
            words = [f"{self.done:,} of {self.total:,}{unit} ({self.done / self.total:.0%})"]
        else:
            words = [f"{self.done:,}{unit}"] if self.done else []
        if self.left is not None:
            words.append(f"{clock(self.left)} left")
        elif not self.total:
            words.append(f"{clock(self.elapsed)} so far")
        return ", ".join([*words, self.note] if self.note else words)

    @property
    def words(self) -> str:
        """The work and its progress."""
        return f"{self.what}: {self.numbers}"


def clock(seconds: float) -> str:
    """Return a time as hours, minutes and seconds.

    Example:
        >>> clock(35), clock(250), clock(7325)
        ('0:35', '4:10', '2:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class Screen(ABC):
    """Display counts: the first time after `first` seconds, then every `pause` seconds."""

    first = 2.0
    pause = 0.2

    @abstractmethod
    def show(self, counts: Sequence[Count]) -> None:
        """Display the counts, the outermost first."""

    def clear(self) -> None:
        """Remove what was displayed."""
        return


class Lines(Screen):
    """Write a line at intervals, if there is no terminal: to a log or a pipe.

    Args:
        file: The stream.
        seconds: The time between two lines.
    """

    def __init__(self, file: TextIO, seconds: float | None = None) -> None:
        self._file = file
        self.first, self.pause = (10.0, 30.0) if seconds is None else (seconds, seconds)

    def show(self, counts: Sequence[Count]) -> None:
        """Write one line."""
        try:
            print("; ".join(count.words for count in counts), file=self._file, flush=True)
        except (OSError, ValueError):  # the stream is closed
            self.pause = float("inf")


class Terminal(Screen):
    """Display a bar for each count, and remove the bars at the end."""

    def __init__(self, file: TextIO) -> None:
        self._file, self._bars, self._rows = file, None, []

    def show(self, counts: Sequence[Count]) -> None:
        """Update the bars."""
        if self._bars is None:
            self._bars = _bars(self._file)
            self._bars.start()
        # Rows are added as they are needed; those without a count are hidden.
        while len(self._rows) < len(counts):
            self._rows.append(self._bars.add_task("", total=None, numbers=""))
        for k, row in enumerate(self._rows):
            if k < len(counts):
                count = counts[k]
                self._bars.update(
                    row, description=count.what, completed=count.done, total=count.total,
                    numbers=count.numbers, visible=True,
                )  # fmt: skip
            else:
                self._bars.update(row, visible=False)

    def clear(self) -> None:
        """Remove the bars."""
        if self._bars is not None:
            self._bars.stop()


class Notebook(Screen):
    """Display one line below the cell and update it; this needs no widgets."""

    first, pause = 2.0, 0.5

    def __init__(self) -> None:
        self._handle: Any = None

    def show(self, counts: Sequence[Count]) -> None:
        """Update the line."""
        self._write("; ".join(count.words for count in counts))

    def clear(self) -> None:
        """Leave an empty line."""
        if self._handle is not None:
            self._write("")

    def _write(self, line: str) -> None:
        content = {"text/plain": line}
        if self._handle is not None:
            self._handle.update(content, raw=True)
            return
        from IPython.display import display

        self._handle = display(content, raw=True, display_id=True)


def screen(file: TextIO | None, *, forced: bool = False) -> Screen | None:
    """Return the display of progress, or None for no display.

    Args:
        file: Standard error.
        forced: Display it even if it is turned off.
    """
    wish = os.environ.get(_SWITCH, "").strip().lower()
    if file is None or (wish == "off" and not forced):
        return None
    if _in_notebook():
        return Notebook()
    if file.isatty() and os.environ.get("TERM", "").lower() not in ("dumb", "unknown"):
        return Terminal(file)
    # A number is the time between two lines, in seconds.
    try:
        seconds = max(0.01, float(wish)) if wish else None
    except ValueError:
        seconds = None
    return Lines(file, seconds)


def _in_notebook() -> bool:
    python = sys.modules.get("IPython")
    shell = python.get_ipython() if python is not None else None
    return shell is not None and hasattr(shell, "kernel")


def _bars(file: TextIO) -> Any:
    # rich is slow to import, so only a terminal loads it.
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    # Standard output must not be redirected to the terminal if it is a file.
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[numbers]}", markup=False),
        console=Console(file=file),
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )
