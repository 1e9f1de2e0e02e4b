"""Forest plots: one interval per row, on a common scale, beside its numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from math import isfinite
from typing import Any

from matplotlib.ticker import MaxNLocator

__all__ = ["WIDTH", "Forest", "Mark", "Row", "forest"]

WIDTH, _MARGIN, _LINE, _PAD = 240, 12, 15, 5  # units of the picture


@dataclass(frozen=True)
class Mark:
    """Hold a figure with its bounds; `x`, `left`, `right` and `y` are filled in by `forest`."""

    value: float
    low: float
    high: float
    x: float | None = None
    left: float | None = None
    right: float | None = None
    y: float = 0.0


@dataclass(frozen=True)
class Row:
    """Hold a line of a forest plot.

    Args:
        name: The group or shift.
        counts: Columns before the picture.
        is_small: Whether the group is flagged as small.
        marks: The first is drawn as a disc, the second as a hollow square.
        cells: Columns after the intervals.
    """

    name: str
    counts: tuple[Any, ...]
    is_small: bool
    marks: tuple[Mark | None, ...]
    cells: tuple[str, ...] = ()

    @property
    def height(self) -> int:
        """Height in units of the picture."""
        return _LINE * len(self.marks) + 2 * _PAD


@dataclass(frozen=True)
class Forest:
    """Hold rows on one scale.

    Args:
        title: Above the plot.
        rows: In order.
        ticks: Place and text of each tick.
        line: Place of the line of no difference.
    """

    title: str
    rows: tuple[Row, ...]
    ticks: tuple[tuple[float, str], ...]
    line: float


def forest(title: str, rows: Sequence[Row], line: float = 0.0) -> Forest:
    """Return rows with the places of their marks.

    Example:
        >>> one = Row("Sex=F", (12,), False, (Mark(0.1, -0.1, 0.3),))
        >>> plot = forest("gap", [one])
        >>> plot.line < plot.rows[0].marks[0].x < plot.rows[0].marks[0].right
        True
    """
    # One scale for all rows; it contains the line of no effect.
    low, high, ticks = _scale(
        chain([line], *((m.value, m.low, m.high) for r in rows for m in r.marks if m))
    )

    def place(value: float) -> float:
        return round(_MARGIN + (value - low) / (high - low) * (WIDTH - 2 * _MARGIN), 2)

    def placed(mark: Mark | None, k: int) -> Mark | None:
        if mark is None or not isfinite(mark.value):
            return mark
        # An interval without bounds is drawn as its point.
        ends = [v if isfinite(v) else mark.value for v in (mark.low, mark.high)]
        places = (place(mark.value), *map(place, ends))
        return Mark(mark.value, mark.low, mark.high, *places, y=_PAD + _LINE * (k + 0.5))

    placed_rows = tuple(
        Row(
            r.name,
            r.counts,
            r.is_small,
            tuple(placed(m, k) for k, m in enumerate(r.marks)),
            r.cells,
        )
        for r in rows
    )
    return Forest(title, placed_rows, tuple((place(t), words) for t, words in ticks), place(line))


def _scale(values: Iterable[float]) -> tuple[float, float, list[tuple[float, str]]]:
    """Return the ends of a scale that holds all values, and its ticks."""
    finite = [v for v in values if isfinite(v)]
    low, high = min(finite), max(finite)
    room = 0.04 * (high - low) or 0.01
    low, high = low - room, high + room
    at = [float(t) for t in MaxNLocator(4).tick_values(low, high) if low <= t <= high]
    digits = max((len(f"{t:.6f}".rstrip("0").partition(".")[2]) for t in at), default=0)
    return low, high, [(t, f"{t + 0.0:.{digits}f}".replace("-", "−")) for t in at]
