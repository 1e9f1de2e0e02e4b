"""What the report tells of pairs: how many are believed, who is refused, and by which gate."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.audit.groups import levels_of
from causalcxr.audit.quality_checks import GATES
from causalcxr.audit.report.formatting import number

if TYPE_CHECKING:
    from causalcxr.audit.audit_result import Audit

__all__ = ["amplified", "believed_by_group", "flow", "gate_rows"]

_REFUSED = "refused: "
_ASKED = {
    "effectiveness": "Does an independent reader see in the twin what was set?",
    "round_trip": "Is the null twin the record's own image? Mean absolute difference, 0 to 1.",
    "amplification": "Do attributes out of the intervention's reach stay as they were?",
    "support": "Do training records stand behind the equations where the twin asks them?",
    "plausibility": "How likely is what was set, given the record's other values?",
}
_MEANT = {
    "unknown before": "what was set is missing in the record",
    "unchanged": "the record has the value that was set",
    "effectiveness": "the reader does not see what was set",
    "round trip": "the null twin is not the record's image",
    "amplification": "an attribute out of reach changes",
    "support": "training hardly knows the twin's cell",
    "plausibility": "hardly anyone like this has what was set",
}


def flow(audit: "Audit") -> dict[str, Any]:
    """Return the steps from all pairs to the believed ones."""
    steps = audit.pairs.flow.to_dict("records")
    refused = [s for s in steps if s["step"].startswith(_REFUSED)]
    for step in refused:
        step["reason"] = step["step"].removeprefix(_REFUSED)
        step["meaning"] = _MEANT.get(step["reason"], "")
    return {
        "all": steps[0],
        "refused": refused,
        "believed": steps[-1],
        "several": sum(s["pairs"] for s in refused) > steps[0]["pairs"] - steps[-1]["pairs"],
    }


def gate_rows(audit: "Audit") -> list[dict[str, Any]]:
    """Return, for each gate, what it asks, where it stands, and how pairs fare at it."""
    table, stands = audit.pairs.gates, dict(audit.about.get("gates") or {})
    why = table["why"].str.split(", ")
    rows = []
    for gate in GATES:
        figures = table[gate].dropna().to_numpy(float)
        low, middle, high = (
            np.quantile(figures, [0.05, 0.5, 0.95]) if len(figures) else [np.nan] * 3
        )
        reason = gate.replace("_", " ")
        rows.append(
            {
                "gate": reason,
                "asks": _ASKED[gate],
                "rule": _rule(gate, stands),
                "pairs": len(figures),
                "low": low,
                "middle": middle,
                "high": high,
                "refused": int(why.map(lambda words, r=reason: r in words).sum()),
            }
        )
    return rows


def believed_by_group(audit: "Audit") -> list[dict[str, Any]]:
    """Return how many pairs of each level of each column are believed, and why others are not."""
    found = []
    for name in audit.about["by"]:
        levels = levels_of(audit.records[name])
        for level in levels.categories:
            part = audit.records[np.asarray(levels == level)]
            why = part["why"].str.split(", ").explode()
            reasons = why[why.fillna("") != ""].value_counts()
            found.append(
                {
                    "group": f"{name}={level}",
                    "pairs": len(part),
                    "patients": part["patient"].nunique(),
                    "believed": int(part["valid"].sum()),
                    "share": part["valid"].mean(),
                    "reasons": ", ".join(f"{reason} {n:,}" for reason, n in reasons.items()),
                }
            )
    return found


def amplified(audit: "Audit") -> list[dict[str, Any]]:
    """Return how each attribute out of reach changes, the greatest change first."""
    table = audit.pairs.amplification
    if not len(table):
        return []
    table = table.assign(
        level=table["level"].fillna(""), low=table["mean"] - 1.96 * table["se"],
        high=table["mean"] + 1.96 * table["se"],
    )  # fmt: skip
    words = [f"{r.variable}={r.level}" if r.level else str(r.variable) for r in table.itertuples()]
    numbers = table["level"] == ""
    table = table.assign(name=words, unit=np.where(numbers, "its own unit", "probability"))
    return table.sort_values("absolute", ascending=False, kind="stable").to_dict("records")


def _rule(gate: str, stands: dict[str, Any]) -> str:
    if gate == "support":
        return "refused without" if stands.get("support") else "open"
    if gate == "effectiveness":
        least, share = stands.get("effectiveness"), stands.get("shift")
        parts = [
            *([] if least is None else [f"at least {number(least, 2)} of a level"]),
            *([] if share is None else [f"at least {number(share, 2)} of a shift"]),
        ]
        return ", ".join(parts) or "open"
    if gate == "plausibility":
        least = stands.get(gate)
        return "open" if least is None else f"at least {least:g} of a level"
    most = stands.get(gate)
    return "open" if most is None or pd.isna(most) else f"at most {most:g}"
