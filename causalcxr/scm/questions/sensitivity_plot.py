"""The drawing of a sensitivity: what the coupling decides, for variables and for images."""

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_changes", "draw_images"]

_DISCRETE = {"monotone": "o", "gumbel": "s", "ot": "^", "independent": "D"}
_IMAGE = {"inversion": "o", "transport": "s"}
_BAR, _INK, _GREY, _ACCENT = "#DCE8F4", "#1a1a1a", "#6a6a6a", "#b3261e"


def draw_changes(axes: "Axes", rows: pd.DataFrame) -> None:
    """Draw one line per variable: a bar for the bounds, a mark for each coupling.

    Args:
        axes: Where to draw.
        rows: See `Sensitivity.changes`.
    """
    places = np.arange(len(rows))[::-1]
    span = (rows["upper"] - rows["lower"]).fillna(0.0)
    axes.barh(places, span, 0.62, rows["lower"].fillna(0.0), color=_BAR, label="any coupling")
    for coupling, mark in _DISCRETE.items():
        axes.plot(
            rows[coupling], places, mark, color=_GREY, fillstyle="none", markersize=5,
            linestyle="", label=coupling,
        )  # fmt: skip
    axes.plot(rows["model"], places, "|", color=_ACCENT, markersize=13, label="this model")
    axes.set_yticks(places, [str(name) for name in rows.index], fontsize=8, color=_INK)
    axes.set_xlabel("mean probability of change", fontsize=8, color=_INK)
    axes.set_xlim(left=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(
        fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=0.9
    )


def draw_images(axes: "Axes", table: pd.DataFrame) -> None:
    """Draw one line a measure: a mark for each coupling, and a bar as long as the difference.

    Args:
        axes: Where to draw.
        table: See `Sensitivity.images`; one row or more.
    """
    places = np.arange(len(table))[::-1]
    middle = table[list(_IMAGE)].mean(axis=1)
    left = middle - table["difference"] / 2
    axes.barh(
        places, table["difference"], 0.5, left, color=_BAR, label="mean difference of two twins"
    )
    for coupling, mark in _IMAGE.items():
        chosen = coupling == table["model"].iloc[0]
        color, label = (_ACCENT, f"{coupling} (this model)") if chosen else (_GREY, coupling)
        axes.plot(
            table[coupling], places, mark, color=color, fillstyle="none", markersize=6,
            linestyle="", label=label,
        )  # fmt: skip
    axes.axvline(0, color=_GREY, linewidth=0.6)
    axes.set_yticks(places, list(table.index), fontsize=8, color=_INK)
    axes.set_ylim(-0.7, len(table) - 0.3)
    axes.set_xlabel("mean change", fontsize=8, color=_INK)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5))
