"""Small SVG charts that compare two models on a dark page."""

from collections.abc import Iterable
from html import escape
from math import ceil, floor, isfinite, log10

import pandas as pd

__all__ = ["effect_chart", "likelihood_chart"]

_WIDTH, _ROW, _HEAD, _FOOT = 560, 34, 12, 44  # pixels
_LEFT, _RIGHT = 190, 24  # margins; the names are in the left one
_CLEAR = 1.96  # standard errors on either side: 95 % of a normal distribution


def likelihood_chart(table: pd.DataFrame) -> str:
    """Draw the change of each equation's held-out likelihood, with a 95 % interval.

    Args:
        table: As `HeldOutLikelihood.table`.
    """
    # A difference that is not finite has no place on the axis.
    rows = table[table["difference"].map(isfinite)]
    if rows.empty:
        return ""
    half = _CLEAR * rows["error"].fillna(0.0).astype(float)
    low, high = rows["difference"] - half, rows["difference"] + half
    # The axis always contains 0, which means no difference.
    axis = _Axis(min(0.0, low.min()), max(0.0, high.max()))
    marks = [axis.rule(0.0)]
    for k, (name, row) in enumerate(rows.iterrows()):
        y, middle = _row(k), axis.x(row["difference"])
        left, right = axis.x(low[name]), axis.x(high[name])
        marks.append(_name(name, y) + _line(left, right, y, "interval"))
        marks.append(f'<circle class="after" cx="{middle:.1f}" cy="{y}" r="5.5"/>')
    # The figures in words, for screen readers.
    values = "; ".join(f"{name}: {row['difference']:+.3f}" for name, row in rows.iterrows())
    words = f"Log-likelihood of held-out values, after minus before. {values}"
    caption = "better before  ·  nats per value  ·  better after"
    return _chart(words, len(rows), marks, axis, caption)


def effect_chart(table: pd.DataFrame) -> str:
    """Draw the share of twins that an intervention changes, before (ring) and after (diamond).

    Args:
        table: As `ModelComparison.table`, with the variables to draw.
    """
    rows = table[["changed_before", "changed_after"]].fillna(0.0)
    if rows.empty:
        return ""
    # At least 1 %, so that tiny shares do not fill the axis.
    axis = _Axis(0.0, max(float(rows.to_numpy().max()), 0.01), percent=True)
    marks = [axis.rule(0.0)]
    for k, (name, (before, after)) in enumerate(rows.iterrows()):
        y, one, two = _row(k), axis.x(before), axis.x(after)
        marks.append(_name(name, y) + _line(min(one, two), max(one, two), y, "interval"))
        marks.append(f'<circle class="before" cx="{one:.1f}" cy="{y}" r="6.5"/>')
        marks.append(
            f'<path class="after" d="M{two:.1f},{y - 6}l6,6l-6,6l-6,-6z" '
            f'data-before="{before:.4f}" data-after="{after:.4f}"/>'
        )
    values = "; ".join(f"{n}: {b:.1%} before, {a:.1%} after" for n, (b, a) in rows.iterrows())
    words = f"Share of patients whose twin differs. {values}"
    return _chart(words, len(rows), marks, axis, "patients whose twin differs  ○ before  ◆ after")


class _Axis:
    """A horizontal axis with round ticks."""

    def __init__(self, low: float, high: float, *, percent: bool = False) -> None:
        span = (high - low) or 1.0
        step = 10.0 ** floor(log10(span / 2))
        step = next(k * step for k in (1, 2, 5, 10) if span / (k * step) <= 4.5)
        self._low, self._step = floor(low / step + 1e-9) * step, step
        self._high = max(ceil(high / step - 1e-9) * step, self._low + step)
        self._percent = percent

    def x(self, value: float) -> float:
        """Return the position of a number, in pixels."""
        share = (value - self._low) / (self._high - self._low)
        return _LEFT + share * (_WIDTH - _LEFT - _RIGHT)

    def rule(self, value: float) -> str:
        """Return a vertical line across all rows; `_chart` inserts its lower end."""
        x = self.x(value)
        return f'<line class="zero" x1="{x:.1f}" x2="{x:.1f}" y1="{_HEAD - 6}" y2="@foot"/>'

    def ticks(self) -> Iterable[tuple[float, str]]:
        """Return positions and texts of the ticks."""
        count = round((self._high - self._low) / self._step)
        for k in range(count + 1):
            value = self._low + k * self._step
            value = 0.0 if abs(value) < self._step / 1e6 else value
            digits = max(0, -floor(log10(self._step) + 1e-9) - (2 if self._percent else 0))
            yield self.x(value), f"{value:.{digits}%}" if self._percent else f"{value:.{digits}f}"


def _row(k: int) -> int:
    return _HEAD + k * _ROW + _ROW // 2


def _name(name: object, y: float) -> str:
    return f'<text class="name" x="{_LEFT - 14}" y="{y + 4}">{escape(str(name))}</text>'


def _line(left: float, right: float, y: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{left:.1f}" x2="{right:.1f}" y1="{y}" y2="{y}"/>'


def _chart(words: str, rows: int, marks: list[str], axis: _Axis, caption: str) -> str:
    foot = _HEAD + rows * _ROW
    height = foot + _FOOT
    ticks = "".join(
        f'<line class="tick" x1="{x:.1f}" x2="{x:.1f}" y1="{foot}" y2="{foot + 5}"/>'
        f'<text class="number" x="{x:.1f}" y="{foot + 18}">{text}</text>'
        for x, text in axis.ticks()
    )
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="graph-chart" role="img" '
        f'aria-label="{escape(words, quote=True)}" viewBox="0 0 {_WIDTH} {height}">'
        f"{''.join(marks).replace('@foot', str(foot))}"
        f"{_line(_LEFT, _WIDTH - _RIGHT, foot, 'tick')}{ticks}"
        f'<text class="number" x="{middle:.0f}" y="{foot + 36}">{escape(caption)}</text></svg>'
    )
