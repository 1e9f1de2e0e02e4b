"""Benchmarks: `main(quick)` of each module measures one claim and returns the rows of a table.

A row is a dictionary: what was measured, and the results. Run them with
`python -m benchmarks [--quick] [NAMES]`; each table is printed with its command.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

__all__ = ["Row", "Stopwatch", "stopwatch"]

Row = dict[str, object]


class Stopwatch:
    """The seconds that a block took."""

    seconds = 0.0


@contextmanager
def stopwatch() -> Iterator[Stopwatch]:
    """Measure the wall time of a block.

    Example:
        >>> with stopwatch() as watch:
        ...     pass
        >>> watch.seconds < 1
        True
    """
    watch, start = Stopwatch(), perf_counter()
    yield watch
    watch.seconds = perf_counter() - start
