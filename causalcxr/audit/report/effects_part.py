"""What the report tells of effects: against the null floor, by group, and of decisions."""

from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.audit.report.forest_plot import Forest, Mark, Row, forest
from causalcxr.audit.report.formatting import number
from causalcxr.audit.report.svg_figures import LINES, PALE, Drawing, drawn, dressed

if TYPE_CHECKING:
    import pandas as pd

    from causalcxr.audit.audit_result import Audit

__all__ = ["KINDS", "distribution", "effect_forest", "effect_rows", "flip_cells", "flip_rows"]

KINDS = {
    "Where the effect goes, on the scale of the score": (
        "total",
        "direct",
        "indirect",
        "label stays",
    ),
    "Its size, and what of it exceeds the null floor": (
        "absolute",
        "null absolute",
        "excess",
        "log odds",
    ),
}
_BINS = 41


def distribution(audit: "Audit") -> Drawing:
    """Draw the individual effects of the twins above those of the null twins, on one scale."""
    seen = audit.records[audit.records["valid"]]
    parts = {"twins": _known(seen["twin"] - seen["factual"])}
    if "null" in seen:
        parts["null twins"] = _known(seen["null"] - seen["factual"])
    ends = np.concatenate(list(parts.values()))
    reach = float(np.quantile(np.abs(ends), 0.99)) if len(ends) else 0.0
    reach = max(reach, 1e-3) * 1.05
    edges = np.linspace(-reach, reach, _BINS + 1)
    outside = sum(int((np.abs(v) > reach).sum()) for v in parts.values())

    def paint(page: Any) -> None:
        rows = np.atleast_1d(page.subplots(len(parts), 1, sharex=True))
        for k, (axes, (name, values)) in enumerate(zip(rows, parts.items(), strict=True)):
            counts, _ = np.histogram(np.clip(values, -reach, reach), edges)
            shares = 100 * counts / max(len(values), 1)
            colour = LINES[0] if name == "twins" else PALE
            axes.bar(edges[:-1], shares, np.diff(edges), align="edge", color=colour, lw=0)
            axes.axvline(0, color="#1C2733", lw=0.8)
            last = k == len(parts) - 1
            axes.set_yscale("function", functions=(np.sqrt, np.square))
            axes.set_yticks([t for t in (0, 1, 5, 20, 50, 100) if t <= shares.max()])
            dressed(axes, "change of the score" if last else "", "pairs, %", "y")
            axes.set_title(f"{name}: {len(values):,} pairs", loc="left", fontsize=9)

    told = [f"{name}: {_spread(values)}" for name, values in parts.items()]
    beyond = f" {outside:,} beyond the ends stand in the last bars." if outside else ""
    caption = (
        "Individual effects: the score of the twin less that of the record"
        + (", and below the null floor, that of the null twin less that of the record. " if
           len(parts) > 1 else ". ")
        + f"Heights are on a square-root scale, a scale each.{beyond}"
    )  # fmt: skip
    size = (5.4, 1.0 + 1.4 * len(parts))
    return drawn(paint, "effects", caption=caption, note=". ".join(told) + ".", size=size)


def effect_forest(audit: "Audit") -> Forest:
    """Return the mean effect of each group beside that of its null twins."""
    rows = {(r["group"], r["kind"]): r for r in audit.effects.to_dict("records")}
    few = {} if audit.observed is None else audit.groups["few"].to_dict()
    kinds = ["total", "null"] if ("all", "null") in rows else ["total"]
    found = []
    for group in dict.fromkeys(audit.effects["group"]):
        marks = tuple(_mark(rows.get((group, kind))) for kind in kinds)
        total = rows[group, "total"]
        counts = (total["pairs"], total["patients"])
        found.append(Row(group, counts, bool(few.get(group, False)), marks))
    return forest("Mean change of the score", found)


def effect_rows(audit: "Audit", kinds: tuple[str, ...]) -> tuple[list[str], list[dict[str, Any]]]:
    """Return which of these kinds there are, and a row a group with each one's figures."""
    rows = {(r["group"], r["kind"]): r for r in audit.effects.to_dict("records")}
    there = [kind for kind in kinds if ("all", kind) in rows]
    groups = dict.fromkeys(audit.effects["group"])
    return there, [
        {"group": g, "total": rows[g, "total"], "cells": [rows.get((g, k)) for k in there]}
        for g in groups
    ]


def flip_cells(matrix: "pd.DataFrame") -> list[dict[str, Any]]:
    """Return the cells of the flip matrix with their share of all pairs."""
    whole = int(matrix.to_numpy().sum())
    return [
        {
            "before": before,
            "after": after,
            "count": int(matrix.loc[before, after]),
            "share": matrix.loc[before, after] / whole if whole else np.nan,
        }
        for before in matrix.index
        for after in matrix.columns
    ]


def flip_rows(audit: "Audit") -> list[dict[str, Any]]:
    """Return the table of flips, a row a group."""
    return audit.flips.to_dict("records")


def _mark(row: dict[str, Any] | None) -> Mark | None:
    return None if row is None else Mark(row["mean"], row["low"], row["high"])


def _known(values: "pd.Series") -> np.ndarray:
    return values[values.notna()].to_numpy(float)


def _spread(values: np.ndarray) -> str:
    if not len(values):
        return "none"
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return (
        f"median {number(middle, signed=True)}, 5th to 95th percentile "
        f"{number(low, signed=True)} to {number(high, signed=True)}, least "
        f"{number(values.min(), signed=True)}, greatest {number(values.max(), signed=True)}"
    )
