"""The plot of a confounding analysis: the effect against the strength of a hidden cause."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalcxr.common.figure import Page

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["page"]

_INK, _PALE, _BLUE, _BAND, _ACCENT = "#1C2733", "#5B6875", "#0072B2", "#DCE8F4", "#b3261e"
_MOST = 6  # pairs that are drawn
_PAIR = ["cause", "outcome"]


def page(
    table: pd.DataFrame,
    bounds: pd.DataFrame,
    tipping: pd.DataFrame,
    title: str,
    units: Mapping[str, str],
) -> Page:
    """Draw one line of panels per pair, the pairs with the weakest tipping points first.

    Args:
        table: `Confounding.table`.
        bounds: `Confounding.bounds`.
        tipping: `Confounding.summary()`; its rows say which levels are drawn.
        title: The line above the plot.
        units: The unit of each variable.
    """
    own = _some(tipping, lambda key: key[1] == key[2])
    strength = own["rho"].astype(float).abs().fillna(np.inf)
    order = strength.groupby(level=_PAIR, sort=False).min().sort_values(kind="stable").index
    pairs = list(order[:_MOST])
    figure = Page(figsize=(7.6, 0.7 + 2.3 * max(len(pairs), 1)), layout="constrained")
    panels = figure.subplots(max(len(pairs), 1), 2, squeeze=False)
    for (left, right), pair in zip(panels, pairs, strict=False):
        rows = _some(own, lambda key, pair=pair: key[:2] == pair)
        _draw_correlations(left, table, rows, pair, units)
        _draw_bounds(right, bounds, rows, pair, units)
    if not pairs:
        for axes in panels[0]:
            axes.set_axis_off()
    rest = len(order) - len(pairs)
    left_out = f"\n{rest} more pairs are in the table" if rest else ""
    figure.suptitle(title + left_out, fontsize=9, color=_INK, x=0.02, ha="left")
    return figure


def _draw_correlations(
    axes: "Axes",
    table: pd.DataFrame,
    rows: pd.DataFrame,
    pair: tuple[str, str],
    units: Mapping[str, str],
) -> None:
    """Draw the change against the correlation, its tipping point and the strongest parent."""
    for key, row in rows.iterrows():
        effect = _some(table, lambda k, key=key: (k[0], k[1], *k[3:]) == key)
        effect = effect.droplevel([*_PAIR, "variable", "level"])
        if not len(effect):
            continue
        scale = _scale(key[3])
        x, change, error = effect.index, scale * effect["change"], 1.96 * scale * effect["se"]
        axes.fill_between(x, change - error, change + error, color=_BAND, lw=0)
        axes.plot(x, change, color=_BLUE, lw=1.3)
        axes.annotate(
            key[3], (x[-1], change.iloc[-1]), xytext=(3, 0), textcoords="offset points",
            fontsize=7, color=_PALE, va="center",
        )  # fmt: skip
        axes.plot(0, scale * row["change"], "o", color=_BLUE, ms=4)
        if not np.isnan(row["rho"]):
            axes.plot(row["rho"], 0, "x", color=_ACCENT, ms=6)
    words = f"{pair[0]} and {pair[1]}"
    if len(rows) and not np.isnan(rows["parent_rho"].iloc[0]):
        axes.axvline(rows["parent_rho"].iloc[0], color=_PALE, lw=0.8, ls=":")
        words = f"{words}; dotted: as strong as {rows['parent'].iloc[0]}"
    axes.set_title(words, fontsize=8, color=_INK, loc="left")
    if len(axes.lines):
        _dress(axes, pair, "correlation of the noises", units, rows)
    else:
        _empty(axes, "the noises have no common scale:\nbounds only")


def _draw_bounds(
    axes: "Axes",
    bounds: pd.DataFrame,
    rows: pd.DataFrame,
    pair: tuple[str, str],
    units: Mapping[str, str],
) -> None:
    """Draw the bounds of the change against the odds ratio, up to the largest finite one."""
    for key, row in rows.iterrows():
        limits = _some(bounds, lambda k, key=key: (k[0], k[1], k[3]) == (*pair, key[3]))
        limits = limits.droplevel([*_PAIR, "level"])
        limits = limits[np.isfinite(limits.index.to_numpy(dtype=float))]
        if not len(limits):
            continue
        scale, x = _scale(key[3]), limits.index.to_numpy(dtype=float)
        axes.fill_between(
            x, scale * limits["lower"], scale * limits["upper"], color=_BLUE, alpha=0.15, lw=0
        )
        axes.plot(x, scale * limits["lower"], color=_BLUE, lw=1)
        axes.plot(x, scale * limits["upper"], color=_BLUE, lw=1)
        if not pd.isna(row["odds_ratio"]):
            axes.plot(row["odds_ratio"], 0, "x", color=_ACCENT, ms=6)
    if not len(axes.lines):
        _empty(axes, "no bounds: the cause is a number")
        return
    axes.set_xscale("log")
    ticks = [1, 2, 3, 5, 10]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.minorticks_off()
    _dress(axes, pair, "largest odds ratio of a hidden cause", units, rows)


def _dress(
    axes: "Axes",
    pair: tuple[str, str],
    label: str,
    units: Mapping[str, str],
    rows: pd.DataFrame,
) -> None:
    """Label the axes."""
    is_share = bool(rows.index.get_level_values("level").astype(bool).any())
    unit = "percentage points" if is_share else units.get(pair[1], "")
    axes.axhline(0, color=_PALE, lw=0.7)
    axes.set_xlabel(label, fontsize=7, color=_INK)
    axes.set_ylabel(f"change ({unit})" if unit else "change", fontsize=7, color=_INK)
    axes.tick_params(labelsize=7, colors=_PALE)
    axes.spines[["top", "right"]].set_visible(False)


def _some(table: pd.DataFrame, holds: Callable[[tuple], bool]) -> pd.DataFrame:
    """Return the rows whose key satisfies a condition."""
    return table[np.array([holds(key) for key in table.index], dtype=bool)]


def _empty(axes: "Axes", words: str) -> None:
    axes.set_axis_off()
    axes.text(0.5, 0.5, words, ha="center", va="center", fontsize=7, color=_PALE)


def _scale(level: str) -> float:
    """Return 100 for probabilities, which are drawn in percentage points."""
    return 100.0 if level else 1.0
