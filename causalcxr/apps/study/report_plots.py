"""The figures of a study's report."""

import io
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from causalcxr.apps.study.analysis import Analysis
from causalcxr.common.figure import Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["figures", "svg"]

_INK, _PALE, _GRID = "#1C2733", "#5B6B7B", "#D9DEE5"
# Colours that colour-blind readers can distinguish; markers repeat the distinction.
_COLOURS = ("#20639B", "#C4501B", "#3C7A3C", "#8A5A9C", "#8A6A10", "#2B7F7A")
_MARKERS = ("o", "s", "^", "D", "v", "P")
_BLOCKS = 10


def figures(analysis: Analysis) -> dict[str, bytes]:
    """Return the figures by name, as SVG."""
    drawn = {"accuracy": _accuracy(analysis), "order": _order(analysis), "roc": _roc(analysis)}
    if len(analysis.agreement):
        drawn["agreement"] = _agreement(analysis)
    return {name: svg(figure) for name, figure in drawn.items()}


def svg(figure: Figure) -> bytes:
    """Return a figure as reproducible SVG, with text as curves."""
    content = io.BytesIO()
    fixed = {"svg.hashsalt": "causalcxr", "svg.fonttype": "path"}
    with matplotlib.rc_context(fixed), warnings.catch_warnings():
        # The font may lack letters of a name; the table shows the name too.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(content, format="svg", metadata={"Date": None})
    return content.getvalue()


def _accuracy(analysis: Analysis) -> Figure:
    labels = [
        f"{_short(row.reader, 30)}, {row.presentation}" for row in analysis.accuracy.itertuples()
    ]
    figure, ax = _forest(labels)
    columns = ["accuracy", "exact_low", "exact_high"]
    _points(ax, analysis.accuracy[columns].to_numpy(), _groups(analysis.accuracy["reader"]))
    ax.axvline(0.5, color=_PALE, lw=0.8, ls="--")
    ax.set_xlim(0, 1)
    ax.set_xlabel("accuracy, 95 % exact interval", size=8, color=_INK)
    return figure


def _agreement(analysis: Analysis) -> Figure:
    table = analysis.agreement
    labels = [
        f"{_short(row.first)}, {row.presentations}"
        if row.kind == "intra"
        else f"{_short(row.first)} and {_short(row.second)}, {row.presentations}"
        for row in table.itertuples()
    ]
    figure, ax = _forest(labels)
    _points(ax, table[["kappa", "low", "high"]].to_numpy(), _groups(table["kind"]))
    ax.axvline(0, color=_PALE, lw=0.8, ls="--")
    # Kappa can be negative, but seldom by much: the axis reaches as far as needed.
    lowest = np.nanmin(np.append(table[["kappa", "low"]].to_numpy(), -0.3))
    ax.set_xlim(max(-1.02, lowest - 0.05), 1.02)
    ax.set_xlabel("Cohen's kappa, 95 % interval over trials", size=8, color=_INK)
    return figure


def _order(analysis: Analysis) -> Figure:
    """Draw accuracy by tenths of each presentation."""
    count = analysis.plan.presentations
    figure, axes = _panels(count, "trials, in the order shown", "accuracy")
    n = len(analysis.plan.trials)
    # Blocks of equal length; the last one may be shorter.
    size = max(1, int(np.ceil(n / _BLOCKS)))
    readers = [reader.name for reader in analysis.plan.readers]
    for (reader, presentation), rows in analysis.responses.groupby(["reader", "presentation"]):
        ax, k = axes[presentation - 1], readers.index(reader)
        block = (rows["position"] - 1) // size
        share = rows.groupby(block)["correct"].mean()
        middle = rows.groupby(block)["position"].mean()
        ax.plot(middle, share, **_style(k), lw=1, ms=3.5)
    for ax in axes:
        ax.axhline(0.5, color=_PALE, lw=0.8, ls="--")
        ax.set_xlim(0, n + 1)
        ax.set_ylim(-0.03, 1.03)
    _legend(figure, readers)
    return figure


def _roc(analysis: Analysis) -> Figure:
    figure, axes = _panels(analysis.plan.presentations, "false alarms", "hits")
    readers = [reader.name for reader in analysis.plan.readers]
    for (reader, presentation), curve in analysis.curves.items():
        k = readers.index(reader)
        axes[presentation - 1].plot(curve.false_alarms, curve.hits, **_style(k), lw=1, ms=3.5)
    for ax in axes:
        ax.plot([0, 1], [0, 1], color=_PALE, lw=0.8, ls="--")
        ax.set_xlim(-0.02, 1.02)
        ax.set_ylim(-0.02, 1.02)
        ax.set_aspect("equal")
    _legend(figure, readers)
    return figure


def _forest(labels: Sequence[str]) -> tuple[Figure, "Axes"]:
    """Return axes with a row for each label, the first at the top."""
    width, height = 7.2, 0.7 + 0.24 * len(labels)
    figure = Page(figsize=(width, height))
    left = 2.9 / width
    ax = figure.add_axes((left, 0.48 / height, 1 - left - 0.03, 1 - 0.58 / height))
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_yticks([])
    for k, label in enumerate(labels):
        _text(ax, -0.02, k, label, transform=ax.get_yaxis_transform(), ha="right", va="center")
    _dress(ax)
    return figure, ax


def _points(ax: "Axes", rows: np.ndarray, groups: Sequence[int]) -> None:
    for k, ((value, low, high), group) in enumerate(zip(rows, groups, strict=True)):
        style = _style(group)
        ax.plot([low, high], [k, k], color=style["color"], lw=1.2, solid_capstyle="butt")
        ax.plot([value], [k], color=style["color"], marker=style["marker"], ms=4.5)


def _panels(count: int, across: str, up: str) -> tuple[Figure, list["Axes"]]:
    side, gap, foot = 2.5, 0.75, 0.85
    width, height = max(3.4, count * (side + gap) + 0.1), side + foot + 0.4
    figure = Page(figsize=(width, height))
    axes = []
    for k in range(count):
        # In inches, then as shares of the figure, so that all panels have one size.
        left = (0.6 + k * (side + gap)) / width
        ax = figure.add_axes((left, foot / height, side / width, side / height))
        ax.set_title(f"presentation {k + 1}", size=8.5, color=_INK)
        ax.set_xlabel(across, size=8, color=_INK)
        ax.set_ylabel(up, size=8, color=_INK)
        _dress(ax)
        axes.append(ax)
    return figure, axes


def _legend(figure: Figure, readers: Sequence[str]) -> None:
    """Draw a legend of the readers in one row, as many as fit."""
    width, height = figure.get_size_inches()
    most = max(1, int((width - 0.3) / 1.35))
    names = [*readers] if len(readers) <= most else [*readers[: most - 1], "and others"]
    ax = figure.add_axes((0, 0, 1, 0.3 / height))
    ax.set_xlim(0, width)
    ax.set_ylim(0, 1)
    ax.set_axis_off()
    for k, name in enumerate(names):
        x = 0.25 + k * 1.35
        if name != "and others" or k < len(readers):
            ax.plot([x], [0.5], **_style(k), ms=4, ls="none")
        _text(ax, x + 0.12, 0.5, _short(name), va="center")


def _text(ax: "Axes", x: float, y: float, text: str, **style: object) -> None:
    # A dollar sign in a name is not a formula.
    ax.text(x, y, text, size=8, color=_INK, parse_math=False, clip_on=False, **style)


def _short(name: str, most: int = 16) -> str:
    return name if len(name) <= most else f"{name[: most - 2]}..."


def _groups(names: pd.Series) -> list[int]:
    return pd.factorize(names)[0].tolist()


def _style(k: int) -> dict[str, str]:
    return {"color": _COLOURS[k % len(_COLOURS)], "marker": _MARKERS[k % len(_MARKERS)]}


def _dress(ax: "Axes") -> None:
    ax.tick_params(labelsize=7.5, colors=_INK, length=2.5, width=0.5)
    ax.grid(axis="x", color=_GRID, lw=0.5)
    ax.set_axisbelow(True)
    for side, spine in ax.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_linewidth(0.5)
        spine.set_color(_PALE)
