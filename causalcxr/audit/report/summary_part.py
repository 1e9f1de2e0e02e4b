"""What the report tells of the whole: key figures, tests, limits, where it comes from."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.audit.measures import MEASURES
from causalcxr.audit.report.formatting import interval, number, percent, whole
from causalcxr.audit.report.groups_part import warnings_of_balance

if TYPE_CHECKING:
    import pandas as pd

    from causalcxr.audit.audit_result import Audit

__all__ = ["Figure", "key_figures", "limits", "provenance", "tests_of", "title"]

Figure = tuple[str, str, str]  # name, value, what stands below it
_DRAWS = 3  # posterior draws that tell what the generator is unsure of
_POOR = 0.7  # AUROC or correlation below which a reader hardly reads
_READ = ("effectiveness", "amplification")


def title(audit: "Audit") -> str:
    """Return what was audited, under what."""
    label = audit.about.get("label")
    of = f" for {label}" if label else ""
    return f"{audit.about['classifier']}{of} under {audit.about['words']}"


def key_figures(audit: "Audit") -> list[Figure]:
    """Return the figures that stand at the head."""
    about, flow = audit.about, audit.pairs.flow
    rows = audit.effects[audit.effects["group"] == "all"].set_index("kind").to_dict("index")
    total, flips = rows["total"], audit.flips.iloc[0]
    few = f"of {whole(flow['pairs'].iloc[0])}; {whole(flow['patients'].iloc[-1])} patients"
    found = [
        ("pairs believed", whole(flow["pairs"].iloc[-1]), few),
        ("mean change of the score", number(total["mean"], signed=True), _ends(total, True)),
    ]
    if "excess" in rows:
        excess = rows["excess"]
        found.append(("absolute change over null floor", number(excess["mean"]), _ends(excess)))
    for way, words in (("up", "turned positive"), ("down", "turned negative")):
        ends = f"{percent(flips[f'{way}_low'])} to {percent(flips[f'{way}_high'])} (Wilson)"
        found.append((f"decisions {words}", percent(flips[way]), ends))
    found.append(("common threshold", number(about["threshold"]), str(about["rule"])))
    if audit.observed is not None:
        table = audit.observed.table
        first = table[(table["group"] == "all") & (table["measure"] == "auroc")]
        found += [
            ("AUROC, all records", number(r["estimate"]), _ends(r))
            for r in first.to_dict("records")
        ]
        found += _widest(audit)
    return found


def tests_of(audit: "Audit") -> dict[str, list[dict[str, Any]]]:
    """Return the hypotheses by family, declared ones first, each from the smallest p on."""
    table = audit.tests.reset_index()
    return {
        family: table[table["family"] == family].sort_values("p", kind="stable").to_dict("records")
        for family in ("declared", "explored")
        if (table["family"] == family).any()
    }


def limits(audit: "Audit") -> Iterator[str]:
    """Yield what limits this very audit, in sentences."""
    about, gates, flow = audit.about, audit.pairs.gates, audit.pairs.flow
    share = flow["pairs"].iloc[-1] / flow["pairs"].iloc[0]
    yield (
        f"Effects and flips are those of the {percent(share)} of pairs that passed the gates. Who "
        "was refused may differ from who was not."
    )
    if about.get("threshold_from") == "the audited records themselves":
        yield (
            "The threshold was chosen on the audited records, so figures at the threshold are a "
            "little better than on new records."
        )
    if audit.observed is None:
        yield "No label was given or known, so nothing is said of errors, only of changes."
    if int(about.get("draws", 1)) < _DRAWS:
        yield (
            "There are fewer than three posterior draws a record, so intervals leave out what the "
            "generator is unsure of."
        )
    if "null" not in audit.records:
        yield (
            "There are no null twins, so what the generator changes by itself stands in the "
            "effects."
        )
    open_gates = [g for g in _READ if gates[g].isna().all()]
    if open_gates:
        yield (
            f"{' and '.join(open_gates).capitalize()} could not be asked, as there is no reader "
            "or no image."
        )
    yield from _poorly_read(about.get("reader"))
    flagged = audit.groups.index[audit.groups["few"]].tolist()
    if flagged and audit.observed is not None:
        yield (
            f"{len(flagged)} of {len(audit.groups)} groups have fewer than 10 positives or "
            f"negatives and carry little: {', '.join(flagged)}."
        )
    if audit.observed is not None:
        for name, why in warnings_of_balance(audit.observed):
            yield f"Groups by {name} could not be made alike ({why})."


def provenance(audit: "Audit") -> dict[str, list[tuple[str, str]]]:
    """Return everything that was asked and recorded, by kind."""
    left = dict(audit.about)
    nested = {
        "Versions": left.pop("versions", None),
        "Hashes of equations": left.pop("mechanisms", None),
        "Gates": left.pop("gates", None),
        "What the reader reads, of patients it has not seen (AUROC, or correlation)": left.pop(
            "reader", None
        ),
    }
    found = {"Asked and recorded": [(str(k).replace("_", " "), _text(v)) for k, v in left.items()]}
    for name, part in nested.items():
        if isinstance(part, Mapping) and part:
            found[name] = [(str(k).replace("_", " "), _text(v)) for k, v in part.items()]
    return found


def _ends(row: "Mapping[str, Any] | pd.Series", signed: bool = False) -> str:
    return f"95 % interval {interval(row['low'], row['high'], signed=signed)}"


def _widest(audit: "Audit") -> list[Figure]:
    """Return the widest gap in sensitivity between groups that are not flagged."""
    gaps = audit.observed.gaps
    gaps = gaps[(gaps["measure"] == "tpr") & gaps["gap"].notna()]
    few = audit.groups["few"]
    known = gaps[~gaps["group"].map(few).astype(bool) & ~gaps["reference"].map(few).astype(bool)]
    if not len(known):
        return []
    row = known.loc[known["gap"].abs().idxmax()]
    gap = f"widest of {len(known)} gaps" if len(known) > 1 else "gap"
    name = f"{gap} in {MEASURES['tpr'].words}"
    value = number(row["gap"], signed=True)
    return [(name, value, f"{row['group']} less {row['reference']}; {_ends(row, True)}")]


def _poorly_read(quality: Mapping[str, Any] | None) -> Iterator[str]:
    poor = [n for n, v in (quality or {}).items() if v is None or np.isnan(v) or abs(v) < _POOR]
    if poor:
        yield (
            f"The reader reads {', '.join(poor)} poorly or untested: its gates say little there."
        )


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value, default=str) if isinstance(value, Mapping) else str(value)
