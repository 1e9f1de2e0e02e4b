"""A bar chart on one page: one bar a row, with its interval if there is one."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causalcxr.common.figure import Page

__all__ = ["bars"]

_INK, _PALE, _BLUE, _FACE, _LINE = "#1C2733", "#5B6875", "#0072B2", "#DCE8F4", "#EEEEEE"
_MAX_ROWS = 60  # rows that are drawn


def bars(
    labels: Sequence[str],
    values: Sequence[float] | np.ndarray,
    *,
    title: str,
    label: str,
    low: Sequence[float] | np.ndarray | None = None,
    high: Sequence[float] | np.ndarray | None = None,
    path: str | Path | None = None,
) -> Page:
    """Draw one bar a row, from the top, with the ends of its interval.

    Args:
        labels: The label of each row, shape (n,).
        values: The lengths of the bars, shape (n,); NaN for no bar.
        title: The title.
        label: The label of the x axis.
        low: The lower ends, shape (n,).
        high: The upper ends, shape (n,).
        path: A file to write the picture to, PNG.

    Example:
        >>> page = bars(["Age", "$Sex"], [0.5, 0.1], title="two", label="share")
        >>> [tick.get_text() for tick in page.axes[0].get_yticklabels()]
        ['Age', '$Sex']
    """
    n = min(len(labels), _MAX_ROWS)
    # Too many rows would not be legible: the first ones are drawn.
    heights = np.asarray(values, dtype=np.float64)[:n]
    places = np.arange(n)[::-1]
    page = Page(figsize=(6.4, 1.3 + 0.27 * max(n, 1)), layout="constrained")
    axes = page.subplots()
    # An undefined value gets a bar of no length.
    axes.barh(places, np.nan_to_num(heights), 0.62, color=_FACE, edgecolor=_BLUE, linewidth=0.6)
    if low is not None and high is not None:
        axes.hlines(places, np.asarray(low)[:n], np.asarray(high)[:n], color=_BLUE, lw=1.4)
    axes.axvline(0, color=_PALE, lw=0.7)
    axes.set_yticks(places, [str(name) for name in labels[:n]], fontsize=8, color=_INK)
    axes.set_ylim(-0.7, max(n, 1) - 0.3)
    more = f" (the first {n} of {len(labels):,})" if len(labels) > n else ""
    axes.set_title(f"{title}{more}", fontsize=9, color=_INK, loc="left", parse_math=False)
    axes.set_xlabel(label, fontsize=8, color=_PALE, parse_math=False)
    for tick in axes.get_yticklabels():
        tick.set_parse_math(False)  # a `$` in a name is a dollar
    axes.grid(axis="x", color=_LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=8, colors=_PALE)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return page.written(path)
