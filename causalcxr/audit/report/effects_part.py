"""The parts of the report about effects: distribution, effects by group, flips of decisions."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.audit.report.forest_plot import Forest, Mark, Row, forest
from causalcxr.audit.report.formatting import number
from causalcxr.audit.report.svg_figures import LINES, PALE, Drawing, drawn, dressed

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd

__all__ = ["KINDS", "distribution", "effect_forest", "effect_rows", "flip_cells"]

KINDS = {
    "Total, direct and indirect effect on the score": (
        "total",
        "direct",
        "indirect",
        "label stays",
    ),
    "Absolute effect, and its excess over the null twins": (
        "absolute",
        "null absolute",
        "excess",
        "log odds",
    ),
}
_BINS = 41


def distribution(records: "pd.DataFrame") -> Drawing:
    """Draw the individual effects of the twins above those of the null twins, on one scale.

    Args:
        records: A row a pair: scores `factual`, `twin` and, if there are any, `null`; `valid`.
    """
    accepted = records[records["valid"]]
    parts = {"twins": _defined(accepted["twin"] - accepted["factual"])}
    if "null" in accepted:
        parts["null twins"] = _defined(accepted["null"] - accepted["factual"])
    # The ends of the scale: the 99th percentile, so that outliers do not hide the rest.
    values = np.concatenate(list(parts.values()))
    reach = float(np.quantile(np.abs(values), 0.99)) if len(values) else 0.0
    reach = max(reach, 1e-3) * 1.05
    n_outside = sum(int((np.abs(v) > reach).sum()) for v in parts.values())
    notes = [f"{name}: {_spread(values)}" for name, values in parts.items()]
    outside = f" {n_outside:,} beyond the ends are in the last bars." if n_outside else ""
    below = ", and below, that of the null twin minus that of the record"
    caption = (
        f"Individual effects: the score of the twin minus that of the record"
        f"{below if len(parts) > 1 else ''}. Heights are on a square-root scale, each with its "
        f"own range.{outside}"
    )
    return drawn(
        lambda page: _histograms(page, parts, reach),
        "effects",
        caption=caption,
        note=". ".join(notes) + ".",
        size=(5.4, 1.0 + 1.4 * len(parts)),
    )


def effect_forest(effects: "pd.DataFrame", few: "Mapping[str, bool]") -> Forest:
    """Return the mean effect of each group beside that of its null twins.

    Args:
        effects: A row a group and kind of effect.
        few: Whether a group is flagged as small.
    """
    rows = {(r["group"], r["kind"]): r for r in effects.to_dict("records")}
    kinds = ["total", "null"] if ("all", "null") in rows else ["total"]
    lines = []
    for group in dict.fromkeys(effects["group"]):
        marks = tuple(_mark(rows.get((group, kind))) for kind in kinds)
        total = rows[group, "total"]
        counts = (total["pairs"], total["patients"])
        lines.append(Row(group, counts, bool(few.get(group, False)), marks))
    return forest("Mean change of the score", lines)


def effect_rows(
    effects: "pd.DataFrame", kinds: tuple[str, ...]
) -> tuple[list[str], list[dict[str, Any]]]:
    """Return which of these kinds there are, and a row a group with the figures of each."""
    rows = {(r["group"], r["kind"]): r for r in effects.to_dict("records")}
    present = [kind for kind in kinds if ("all", kind) in rows]
    groups = dict.fromkeys(effects["group"])
    return present, [
        {"group": g, "total": rows[g, "total"], "cells": [rows.get((g, k)) for k in present]}
        for g in groups
    ]


def flip_cells(matrix: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the cells of the flip matrix with their share of all pairs."""
    n = int(matrix.to_numpy().sum())
    return [
        {
            "before": before,
            "after": after,
            "count": int(matrix.loc[before, after]),
            "share": matrix.loc[before, after] / n if n else np.nan,
        }
        for before in matrix.index
        for after in matrix.columns
    ]


def _histograms(page: Any, parts: dict[str, np.ndarray], reach: float) -> None:
    """Draw a histogram a part, one below the other, between -reach and reach."""
    edges = np.linspace(-reach, reach, _BINS + 1)
    rows = np.atleast_1d(page.subplots(len(parts), 1, sharex=True))
    for k, (axes, (name, values)) in enumerate(zip(rows, parts.items(), strict=True)):
        # Clipped: effects beyond the ends are counted in the last bars.
        counts, _ = np.histogram(np.clip(values, -reach, reach), edges)
        shares = 100 * counts / max(len(values), 1)
        colour = LINES[0] if name == "twins" else PALE
        axes.bar(edges[:-1], shares, np.diff(edges), align="edge", color=colour, lw=0)
        axes.axvline(0, color="#1C2733", lw=0.8)
        last = k == len(parts) - 1
        # A square-root scale shows rare large effects beside the many small ones.
        axes.set_yscale("function", functions=(np.sqrt, np.square))
        axes.set_yticks([t for t in (0, 1, 5, 20, 50, 100) if t <= shares.max()])
        dressed(axes, "change of the score" if last else "", "pairs, %", "y")
        axes.set_title(f"{name}: {len(values):,} pairs", loc="left", fontsize=9)


def _mark(row: dict[str, Any] | None) -> Mark | None:
    return None if row is None else Mark(row["mean"], row["low"], row["high"])


def _defined(values: "pd.Series") -> np.ndarray:
    return values[values.notna()].to_numpy(float)


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return "none"
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return (
        f"median {number(middle, signed=True)}, 5th to 95th percentile "
        f"{number(low, signed=True)} to {number(high, signed=True)}, minimum "
        f"{number(values.min(), signed=True)}, maximum {number(values.max(), signed=True)}"
    )
