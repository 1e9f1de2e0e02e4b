"""The plot of an effect: the change of the probability of each level, with its interval."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from causalcxr.common.figure import Page

__all__ = ["page"]

_INK, _PALE, _BLUE, _LINE = "#1C2733", "#5B6875", "#0072B2", "#EEEEEE"


def page(
    table: pd.DataFrame,
    title: str,
    set_variables: Sequence[str] = (),
    recanting: Mapping[str, Sequence[str]] | None = None,
) -> Page:
    """Draw one row per level whose probability changes; list the changes of numbers below.

    Args:
        table: `Effect.table`.
        title: The line above the plot.
        set_variables: The variables that the action sets, which are not drawn.
        recanting: The recanting witnesses of each outcome; these outcomes have hollow marks.

    Example:
        >>> columns = ["variable", "level", "n", "baseline", "active", "change", "se", "changed"]
        >>> row = ("Edema", "P", 10, 0.2, 0.5, 0.3, 0.1, 0.3)
        >>> drawn = page(pd.DataFrame([row], columns=columns), "do(Sex=M)")
        >>> [label.get_text() for label in drawn.axes[0].get_yticklabels()]
        ['Edema = P']
    """
    # Leave out what is set, and what does not change.
    moved = table[(table["changed"] > 0) & ~table["variable"].isin(list(set_variables))]
    # The first of two levels is one minus the second.
    levels = table.groupby("variable")["level"].transform("size")
    first = ~table.duplicated("variable")
    rows = moved[(moved["level"] != "") & ~((levels == 2) & first).reindex(moved.index)]
    # Hollow marks: the mean depends on the coupling, not on the data alone.
    hollow = rows["variable"].isin(list(recanting or ())).to_numpy()
    places = np.arange(len(rows))[::-1]
    figure = Page(figsize=(6.4, 1.5 + 0.27 * max(len(rows), 1)), layout="constrained")
    axes = figure.subplots()
    # In percentage points, with intervals of 95 %.
    change, error = 100 * rows["change"].to_numpy(), 196 * rows["se"].to_numpy()
    for some, face in ((~hollow, {}), (hollow, {"mfc": "white"})):
        style = {"fmt": "o", "color": _BLUE, "ms": 5, "lw": 1.4, **face}
        axes.errorbar(change[some], places[some], xerr=error[some], **style)
    axes.axvline(0, color=_PALE, lw=0.7)
    names = [f"{row.variable} = {row.level}" for row in rows.itertuples()]
    axes.set_yticks(places, names, fontsize=8, color=_INK)
    axes.set_ylim(-0.7, max(len(rows), 1) - 0.3)
    axes.set_title(title, fontsize=9, color=_INK, loc="left")
    axes.set_xlabel(_below(moved[moved["level"] == ""], hollow), fontsize=8, color=_PALE)
    axes.grid(axis="y", color=_LINE, lw=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(axis="x", labelsize=8, colors=_PALE)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    return figure


def _below(numbers: pd.DataFrame, hollow: np.ndarray) -> str:
    lines = ["change of the probability, percentage points, with 95 % intervals over patients"]
    if hollow.any():
        lines.append("hollow: a witness recants, the mean depends on the form of the equations")
    lines += [
        f"{row.variable}: {row.change:+.3g} ± {1.96 * row.se:.2g}" for row in numbers.itertuples()
    ]
    return "\n".join(lines)
