"""What a person sees while a model is fitted."""

import sys
import time
from collections.abc import Sequence
from types import TracebackType

__all__ = ["FitProgress"]


class FitProgress:
    """A bar over the equations on a terminal; elsewhere one line a minute for what takes long.

    Args:
        names: The variables to come.
        show: Whether to show it; by default on a terminal only.
    """

    def __init__(self, names: Sequence[str], *, show: bool | None = None) -> None:
        self._total, self._bar, self._spoken = len(names), None, time.monotonic()
        if show or (show is None and sys.stderr.isatty()):
            # rich is slow to import; only a person at a terminal pays for it.
            from rich.console import Console
            from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                TextColumn("{task.description:<28}"),
                BarColumn(),
                TimeElapsedColumn(),
                TextColumn("{task.fields[note]}"),
                console=Console(stderr=True),
                transient=True,
            )

    def __enter__(self) -> "FitProgress":
        if self._bar:
            self._bar.start()
            self._all = self._bar.add_task("equations", total=self._total, note="")
            self._one = self._bar.add_task("", total=1, note="", visible=False)
        return self

    def __exit__(
        self, kind: type | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def step(self, k: int, of: int, loss: float) -> None:
        """Tell how far the present equation is."""
        if self._bar:
            self._bar.update(
                self._one, completed=k, total=of, note=f"loss {loss:.4f}", visible=True
            )
        elif time.monotonic() - self._spoken > 60:
            self._spoken = time.monotonic()
            print(f"step {k:,} of {of:,}, loss {loss:.4f}", file=sys.stderr, flush=True)

    def done(self, name: str, *, known: bool) -> None:
        """Tell that an equation is ready."""
        if self._bar:
            self._bar.update(self._all, advance=1, note=f"{name}{' (unchanged)' if known else ''}")
            self._bar.update(self._one, completed=0, note="", visible=False)
