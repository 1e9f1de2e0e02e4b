"""The curve of a training: losses, and the error of twins, against the steps."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from causalcxr.common.figure import Page

__all__ = ["draw_curve", "read_log"]

_PANELS = {
    "loss": {"loss": "training", "held_out": "held out"},
    "error of twins / error of a copy": {"truth": "mean of interventions"},
}


def read_log(path: Path) -> list[dict[str, Any]]:
    """Return the rows of `train.jsonl`, in order; a line that a kill has cut off is left out.

    Args:
        path: The file; without one there are no rows.
    """
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def draw_curve(rows: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Draw the numbers of a log, where it has any; a panel without numbers is left out.

    Args:
        rows: The rows of the log: a step and numbers each.
        path: The PNG to write.
    """
    panels = {
        label: lines
        for label, lines in _PANELS.items()
        if any(name in row for row in rows for name in lines)
    }
    if not panels:
        return
    page = Page(figsize=(5 * len(panels), 3.5), layout="constrained")
    axes = page.subplots(1, len(panels), squeeze=False)[0]
    for axis, (label, lines) in zip(axes, panels.items(), strict=True):
        for name, words in lines.items():
            points = [(row["step"], row[name]) for row in rows if name in row]
            if points:
                marker = "." if len(points) < 50 else ""
                axis.plot(*zip(*points, strict=True), label=words, marker=marker, linewidth=1)
        axis.set(xlabel="step", ylabel=label)
        axis.legend(frameon=False)
    # A copy has an error of 1.
    if "truth" in panels.get("error of twins / error of a copy", {}):
        axes[-1].axhline(1, color="0.7", linewidth=0.8, zorder=0)
    # Losses fall by a power of the steps: logarithms show the end as well as the start.
    if "loss" in panels:
        axes[0].set_yscale("log")
    page.written(path)
