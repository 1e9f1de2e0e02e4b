"""The parts of the report about the audit as a whole: key figures, tests, limits, origin."""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.audit.measures import MEASURES
from causalcxr.audit.report.formatting import interval, number, percent, whole
from causalcxr.audit.report.groups_part import unbalanced_columns
from causalcxr.scm.identity import coupling_words

if TYPE_CHECKING:
    import pandas as pd

    from causalcxr.audit.group_measures import GroupMeasures

__all__ = ["Figure", "key_figures", "limits", "provenance", "tests_by_family", "title"]

About = Mapping[str, Any]
Figure = tuple[str, str, str]  # name, value, explanation below it
_DRAWS = 3  # posterior draws from which the generator's uncertainty can be estimated
_POOR = 0.7  # AUROC or correlation below which a reader is poor
_READ = ("effectiveness", "amplification")


def title(about: About) -> str:
    """Return the classifier, its label and the intervention."""
    label = about.get("label")
    of = f" for {label}" if label else ""
    return f"{about['classifier']}{of} under {about['words']}"


def key_figures(
    about: About,
    flow: "pd.DataFrame",
    effects: "pd.DataFrame",
    flips: "pd.DataFrame",
    observed: "GroupMeasures | None",
    groups: "pd.DataFrame",
) -> list[Figure]:
    """Return the figures at the head of the report.

    Args:
        about: Settings and origin.
        flow: Number of pairs from all to accepted ones.
        effects: A row a group and kind of effect.
        flips: A row a group.
        observed: Measures of the groups, if there are labels.
        groups: A row a group, with its size.
    """
    n_pairs = f"of {whole(flow['pairs'].iloc[0])}; {whole(flow['patients'].iloc[-1])} patients"
    figures = [("pairs accepted", whole(flow["pairs"].iloc[-1]), n_pairs)]
    figures += _effect_figures(effects)
    for way, words in (("up", "turned positive"), ("down", "turned negative")):
        row = flips.iloc[0]
        ends = f"{percent(row[f'{way}_low'])} to {percent(row[f'{way}_high'])} (Wilson)"
        figures.append((f"decisions {words}", percent(row[way]), ends))
    figures.append(("common threshold", number(about["threshold"]), str(about["rule"])))
    if observed is not None:
        table = observed.table
        auroc = table[(table["group"] == "all") & (table["measure"] == "auroc")]
        figures += [
            ("AUROC, all records", number(row["estimate"]), _ends(row))
            for row in auroc.to_dict("records")
        ]
        figures += _widest_gap(observed.gaps, groups["few"])
    return figures


def tests_by_family(tests: "pd.DataFrame") -> dict[str, list[dict[str, Any]]]:
    """Return the hypotheses by family, declared ones first, each sorted by p."""
    table = tests.reset_index()
    return {
        family: table[table["family"] == family].sort_values("p", kind="stable").to_dict("records")
        for family in ("declared", "explored")
        if (table["family"] == family).any()
    }


def limits(
    about: About,
    flow: "pd.DataFrame",
    checks: "pd.DataFrame",
    observed: "GroupMeasures | None",
    groups: "pd.DataFrame",
    has_null: bool,
) -> Iterator[str]:
    """Yield the limits of this audit, in sentences.

    Args:
        about: Settings and origin.
        flow: Number of pairs from all to accepted ones.
        checks: The quality checks, a row a pair.
        observed: Measures of the groups, if there are labels.
        groups: A row a group, with its size.
        has_null: Whether there are null twins.
    """
    # Each sentence is a limit that holds for this audit; the others are left out.
    share = flow["pairs"].iloc[-1] / flow["pairs"].iloc[0]
    yield (
        f"Effects and flips are those of the {percent(share)} of pairs that passed the quality "
        "checks. The rejected pairs may differ from the accepted ones."
    )
    if about.get("threshold_from") == "the audited records themselves":
        yield (
            "The threshold was chosen on the audited records, so figures at the threshold are a "
            "little better than on new records."
        )
    if named := about.get("coupling"):
        yield (
            "The coupling of record and twin is an assumption that data cannot test: "
            f"{coupling_words(named)}. Under another coupling the effects can differ."
        )
    if observed is None:
        yield "No label was given or known, so errors are not reported, only changes."
    if int(about.get("draws", 1)) < _DRAWS:
        yield (
            "There are fewer than three posterior draws per record, so intervals leave out the "
            "generator's uncertainty."
        )
    if not has_null:
        yield "There are no null twins, so effects include what the generator changes by itself."
    if unchecked := [name for name in _READ if checks[name].isna().all()]:
        yield (
            f"{' and '.join(unchecked).capitalize()} could not be checked, because there is no "
            "attribute reader or no image."
        )
    yield from _poorly_read(about.get("reader"), about.get("not_checked") or ())
    if observed is not None:
        yield from _group_limits(observed, groups)


def provenance(about: About) -> dict[str, list[tuple[str, str]]]:
    """Return all settings and what was recorded, by kind."""
    # Nested entries have tables of their own; what remains is the first one.
    rest = dict(about)
    nested = {
        "Versions": rest.pop("versions", None),
        "Couplings": rest.pop("coupling", None),
        "Hashes of equations": rest.pop("mechanisms", None),
        "Limits of the quality checks": rest.pop("gates", None),
        "Quality of the attribute reader on unseen patients (AUROC, or correlation)": rest.pop(
            "reader", None
        ),
        "Training of the attribute reader": rest.pop("reader_details", None),
    }
    parts = {"Settings and records": rest} | nested
    return {
        name: [(str(key).replace("_", " "), _text(value)) for key, value in part.items()]
        for name, part in parts.items()
        if part is rest or (isinstance(part, Mapping) and part)
    }


def _effect_figures(effects: "pd.DataFrame") -> list[Figure]:
    rows = effects[effects["group"] == "all"].set_index("kind").to_dict("index")
    total = rows["total"]
    value = number(total["mean"], signed=True)
    figures = [("mean change of the score", value, _ends(total, True))]
    if "excess" in rows:
        excess = rows["excess"]
        figures.append(("absolute change above null twins", number(excess["mean"]), _ends(excess)))
    return figures


def _ends(row: "Mapping[str, Any] | pd.Series", signed: bool = False) -> str:
    return f"95 % interval {interval(row['low'], row['high'], signed=signed)}"


def _widest_gap(gaps: "pd.DataFrame", few: "pd.Series") -> list[Figure]:
    """Return the widest gap in sensitivity between groups that are not flagged."""
    gaps = gaps[(gaps["measure"] == "tpr") & gaps["gap"].notna()]
    flagged = gaps["group"].map(few).astype(bool) | gaps["reference"].map(few).astype(bool)
    gaps = gaps[~flagged]
    if not len(gaps):
        return []
    row = gaps.loc[gaps["gap"].abs().idxmax()]
    gap = f"widest of {len(gaps)} gaps" if len(gaps) > 1 else "gap"
    name = f"{gap} in {MEASURES['tpr'].words}"
    value = number(row["gap"], signed=True)
    return [(name, value, f"{row['group']} minus {row['reference']}; {_ends(row, True)}")]


def _group_limits(observed: "GroupMeasures", groups: "pd.DataFrame") -> Iterator[str]:
    if flagged := groups.index[groups["few"]].tolist():
        yield (
            f"{len(flagged)} of {len(groups)} groups have fewer than 10 positives or negatives, "
            f"so their figures are weak evidence: {', '.join(flagged)}."
        )
    for name, reason in unbalanced_columns(observed):
        yield f"Groups by {name} could not be balanced ({reason})."


def _poorly_read(quality: Mapping[str, Any] | None, not_checked: Sequence[str]) -> Iterator[str]:
    if not_checked:
        yield (
            f"The attribute reader cannot read {', '.join(not_checked)} on unseen patients, so "
            "these were not checked, neither for effectiveness nor for amplification."
        )
    rest = {n: v for n, v in (quality or {}).items() if n not in not_checked}
    poor = [n for n, v in rest.items() if v is None or np.isnan(v) or abs(v) < _POOR]
    if poor:
        yield (
            f"The attribute reader reads {', '.join(poor)} poorly, or its quality there is "
            "unknown, so its quality checks are weak evidence."
        )


def _text(value: Any) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return json.dumps(value, default=str) if isinstance(value, Mapping) else str(value)
