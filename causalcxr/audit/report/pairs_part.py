"""The parts of the report about pairs: how many are accepted, and why others are rejected."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.groups import levels_of
from causalcxr.audit.quality_checks import CHECKS
from causalcxr.audit.report.formatting import number

__all__ = ["accepted_by_group", "amplification_rows", "check_rows", "flow_steps"]

_REJECTED = "rejected: "
_QUESTIONS = {
    "effectiveness": "Does an independent reader see in the twin what was set?",
    "round_trip": "Is the null twin the record's own image? Mean absolute difference, 0 to 1.",
    "amplification": "Do non-descendants of the intervention stay as they were?",
    "support": "Are there training records in the cells of the twin's parents?",
    "plausibility": "How likely is what was set, given the record's other values?",
}
_MEANINGS = {
    "unknown before": "what was set is missing in the record",
    "unchanged": "the record already has the value that was set",
    "effectiveness": "the reader does not see what was set",
    "round trip": "the null twin is not the record's image",
    "amplification": "a non-descendant changes",
    "support": "hardly any training record is in the twin's cell",
    "plausibility": "hardly any similar record has what was set",
}


def flow_steps(flow: pd.DataFrame) -> dict[str, Any]:
    """Return the steps from all pairs to the accepted ones.

    Args:
        flow: See `Pairs.flow`.
    """
    steps = flow.to_dict("records")
    rejected = [step for step in steps if step["step"].startswith(_REJECTED)]
    for step in rejected:
        step["reason"] = step["step"].removeprefix(_REJECTED)
        step["meaning"] = _MEANINGS.get(step["reason"], "")
    n_rejected = steps[0]["pairs"] - steps[-1]["pairs"]
    return {
        "all": steps[0],
        "rejected": rejected,
        "accepted": steps[-1],
        "several": sum(step["pairs"] for step in rejected) > n_rejected,
    }


def check_rows(checks: pd.DataFrame, limits: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return, for each quality check, its question, its limit, and the figures of the pairs.

    Args:
        checks: A row a pair, see `Pairs.gates`.
        limits: The fields of `Gates`.
    """
    reasons = checks["why"].str.split(", ")
    rows = []
    for check in CHECKS:
        figures = checks[check].dropna().to_numpy(float)
        # The middle 90 % of pairs, and their median.
        low, middle, high = (
            np.quantile(figures, [0.05, 0.5, 0.95]) if len(figures) else [np.nan] * 3
        )
        reason = check.replace("_", " ")
        rows.append(
            {
                "check": reason,
                "question": _QUESTIONS[check],
                "limit": _limit(check, limits),
                "pairs": len(figures),
                "low": low,
                "middle": middle,
                "high": high,
                "rejected": int(reasons.map(lambda words, r=reason: r in words).sum()),
            }
        )
    return rows


def accepted_by_group(records: pd.DataFrame, by: Sequence[str]) -> list[dict[str, Any]]:
    """Return how many pairs of each level of each column are accepted, and why others are not.

    Args:
        records: A row a pair: `patient`, the columns of groups, `why`, `valid`.
        by: The columns.
    """
    rows = []
    for name in by:
        levels = levels_of(records[name])
        for level in levels.categories:
            part = records[np.asarray(levels == level)]
            # A pair can have several reasons, so they may add up to more than the rejected pairs.
            why = part["why"].str.split(", ").explode()
            reasons = why[why.fillna("") != ""].value_counts()
            rows.append(
                {
                    "group": f"{name}={level}",
                    "pairs": len(part),
                    "patients": part["patient"].nunique(),
                    "accepted": int(part["valid"].sum()),
                    "share": part["valid"].mean(),
                    "reasons": ", ".join(f"{reason} {n:,}" for reason, n in reasons.items()),
                }
            )
    return rows


def amplification_rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return how each non-descendant changes, the greatest change first.

    Args:
        table: See `Pairs.amplification`.
    """
    if not len(table):
        return []
    table = table.assign(
        level=table["level"].fillna(""),
        low=table["mean"] - 1.96 * table["se"],
        high=table["mean"] + 1.96 * table["se"],
    )
    names = [f"{r.variable}={r.level}" if r.level else str(r.variable) for r in table.itertuples()]
    is_number = table["level"] == ""
    table = table.assign(name=names, unit=np.where(is_number, "its own unit", "probability"))
    return table.sort_values("absolute", ascending=False, kind="stable").to_dict("records")


def _limit(check: str, limits: Mapping[str, Any]) -> str:
    if check == "support":
        return "rejected without" if limits.get("support") else "off"
    if check == "effectiveness":
        least, share = limits.get("effectiveness"), limits.get("shift")
        parts = [
            *([] if least is None else [f"at least {number(least, 2)} of a level"]),
            *([] if share is None else [f"at least {number(share, 2)} of a shift"]),
        ]
        return ", ".join(parts) or "off"
    if check == "plausibility":
        least = limits.get(check)
        return "off" if least is None else f"at least {least:g} of a level"
    most = limits.get(check)
    return "off" if most is None or pd.isna(most) else f"at most {most:g}"
