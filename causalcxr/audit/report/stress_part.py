"""The parts of the report about a stress test: dose-response, shifts, worst subgroups, flips."""

from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.measures import MEASURES
from causalcxr.audit.report.forest_plot import Forest, Mark, Row, forest
from causalcxr.audit.report.formatting import number, percent, printable
from causalcxr.audit.report.svg_figures import INK, LINES, Drawing, drawn, dressed

__all__ = ["dose_drawing", "dose_of", "shift_forests", "table_of"]

_MEASURES = ("auroc", "tpr", "fpr", "ppv", "calibration_debiased")
_UNSUPPORTED = 0.05  # share of twins without support above which a mark is hollow


def dose_of(stress: Any) -> pd.DataFrame | None:
    """Return the dose-response of a stress test, None if there is none."""
    dose = getattr(stress, "dose", None)
    return dose if dose is not None and len(dose) else None


def dose_drawing(stress: Any) -> Drawing | None:
    """Draw the mean score and the share of the label over the dose."""
    dose = dose_of(stress)
    if dose is None:
        return None
    variable = printable(_variable(stress, dose))
    # Levels are drawn at equal distances.
    is_numeric = pd.api.types.is_numeric_dtype(dose["value"])
    x = dose["value"].to_numpy(float) if is_numeric else np.arange(len(dose))
    hollow = dose.get("unsupported", pd.Series(0.0, dose.index)).to_numpy(float) > _UNSUPPORTED

    def paint(page: Any) -> None:
        axes = page.subplots()
        low, high = dose["low"].to_numpy(float), dose["high"].to_numpy(float)
        axes.fill_between(x, low, high, color=LINES[0], alpha=0.18, lw=0)
        axes.plot(x, dose["mean"], color=LINES[0], lw=1.8, label="mean score, 95 % interval")
        for some, face in ((~hollow, LINES[0]), (hollow, "white")):
            axes.plot(x[some], dose["mean"].to_numpy(float)[some], "o", mfc=face, mec=LINES[0])
        if "label_share" in dose and dose["label_share"].notna().any():
            style = {"color": LINES[1], "linestyle": (0, (5, 1.6)), "marker": "s"}
            axes.plot(x, dose["label_share"], lw=1.6, ms=5, label="share with the label", **style)
        if not is_numeric:
            axes.set_xticks(x, [printable(v) for v in dose["value"]])
        axes.set_ylim(bottom=0)
        dressed(axes, f"do({variable} = value)", "score, share")
        axes.legend(fontsize=8, frameon=False, labelcolor=INK)

    notes = [
        f"{variable} {row.value}: mean score {number(row.mean)} ({number(row.low)} to "
        f"{number(row.high)})"
        + (f", label {percent(row.label_share)}" if "label_share" in dose else "")
        for row in dose.itertuples()
    ]
    caption = f"Dose-response: the mean score of all twins under do({variable} = value)."
    if hollow.any():
        caption += " Hollow: more than 5 % of the twins have no support in the training data."
    return drawn(paint, "dose", caption=caption, note="; ".join(notes) + ".", size=(5.4, 3.3))


def shift_forests(stress: Any) -> list[Forest]:
    """Return a forest plot a measure: its change under each shift."""
    shifts = table_of(stress, "shifts")
    if shifts is None:
        return []
    forests = []
    for name in [n for n in _MEASURES if n in set(shifts["measure"])]:
        rows = [
            Row(
                r["shift"],
                (r["effective"],),
                False,
                (Mark(r["change"], r["change_low"], r["change_high"]),),
                (number(r["base"]), f"{number(r['estimate'])}"),
            )
            for r in shifts[shifts["measure"] == name].to_dict("records")
        ]
        forests.append(forest(MEASURES[name].words, rows))
    return forests


def table_of(stress: Any, name: str) -> pd.DataFrame | None:
    """Return a table of a stress test, None if it is absent or empty."""
    table = getattr(stress, name, None)
    return table if table is not None and len(table) else None


def _variable(stress: Any, dose: pd.DataFrame) -> str:
    about = getattr(stress, "about", None) or {}
    if "variable" in dose:
        return str(dose["variable"].iloc[0])
    return str(about.get("dose") or "the variable")
