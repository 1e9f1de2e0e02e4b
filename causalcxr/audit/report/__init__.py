"""The report of an audit: one self-contained page, for a screen or for paper."""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from causalcxr.audit.report import (
    effects_part,
    formatting,
    graph_part,
    groups_part,
    pairs_part,
    radiograph_part,
    stress_part,
    summary_part,
)
from causalcxr.audit.report.forest_plot import WIDTH
from causalcxr.common.files import atomic_write
from causalcxr.images.synthetic_mark import MARK

if TYPE_CHECKING:
    from causalcxr.audit.audit_tables import AuditTables
    from causalcxr.audit.stress_result import Stress

__all__ = ["SECTIONS", "write_report"]

SECTIONS = {
    "summary": "Summary",
    "key-figures": "Key figures",
    "limits": "What may and may not be claimed",
    "flow": "From all pairs to the accepted ones",
    "gaps": "Gaps between groups",
    "measures": "Measures by group",
    "curves": "ROC and reliability",
    "effects": "Effects on the score",
    "flips": "Decisions that flip",
    "dose": "Dose-response",
    "shifts": "Shifts of the population",
    "radiographs": "Records and their twins",
    "graph": "The graph under the intervention",
    "amplification": "Changes in non-descendants",
    "checks": "Quality checks and support",
    "tests": "Tests and their families",
    "methods": "Methods",
    "provenance": "Settings, versions, hashes",
}

_HYPHEN = re.compile(r"(?<!\S)-(?=\d)")  # a minus sign
_ABOUT = ("versions", "written", "source", "by", "alike", "graph", "bootstrap", "threshold_from")


def write_report(
    audit: "AuditTables", path: str | Path, *, stress: "Stress | None" = None, patients: int = 6
) -> Path:
    """Write the report of an audit, completely or not at all.

    The page loads nothing from outside, runs no script, and escapes all text of tables. A section
    is left out if it has no data.

    Args:
        audit: The tables of the audit.
        path: The page, `.html`.
        stress: A stress test of the same classifier, see `causalcxr.audit.stress`.
        patients: Number of patients whose radiographs are shown because their score changed most;
            half as many typical ones follow.

    Returns:
        The path of the page.
    """
    parts = _parts(audit, stress, patients)
    sections = {name: title for name, title in SECTIONS.items() if parts.get(name, True)}
    page = _environment().get_template("report.html")
    about = dict.fromkeys(_ABOUT) | dict(audit.about)
    return atomic_write(Path(path), page.render(about=about, parts=parts, sections=sections))


def _parts(audit: "AuditTables", stress: "Stress | None", patients: int) -> dict[str, Any]:
    """Return the content of the template; a section whose entry is empty is left out."""
    about, pairs, observed = audit.about, audit.pairs, audit.observed
    effects, groups, flow = audit.effects, audit.groups, pairs.flow
    # Sections in the order of the report; those without content are left out by the template.
    dose = stress_part.dose_of(stress)
    has_null = "null" in audit.records
    return {
        "title": summary_part.title(about),
        "mark": "Synthetic images" if pairs.twin.has_images else "Synthetic records",
        "sentences": [_HYPHEN.sub("−", sentence) for sentence in audit.sentences],
        "figures": summary_part.key_figures(about, flow, effects, audit.flips, observed, groups),
        "limited": list(summary_part.limits(about, flow, pairs.gates, observed, groups, has_null)),
        "flow": pairs_part.flow_steps(flow),
        "gaps": groups_part.gap_forests(observed, groups),
        "measures": groups_part.measure_tables(observed, groups, about["label"]),
        "curves": groups_part.curves(observed, groups, about["by"]),
        "unbalanced": groups_part.unbalanced_columns(observed),
        "distribution": effects_part.distribution(audit.records),
        "by_group": effects_part.effect_forest(
            effects, {} if observed is None else groups["few"].to_dict()
        ),
        "effect_tables": {
            name: effects_part.effect_rows(effects, kinds)
            for name, kinds in effects_part.KINDS.items()
        },
        "kinds": set(effects["kind"]),
        "generator": effects["generator_se"].notna().any(),
        "cells": effects_part.flip_cells(audit.flip_matrix),
        "flip_rows": audit.flips.to_dict("records"),
        "has_null": has_null,
        "dose": stress_part.dose_drawing(stress),
        "dose_rows": None if dose is None else dose.to_dict("records"),
        "shifts": _shifts(stress),
        "radiographs": radiograph_part.grid(
            pairs.factual, pairs.twin, audit.records, about["words"], patients
        ),
        "graph": graph_part.graph_drawing(
            pairs.graph, about["action"]["do"], about.get("hold") or ()
        ),
        "amplification": pairs_part.amplification_rows(pairs.amplification),
        "check_rows": pairs_part.check_rows(pairs.gates, about.get("gates") or {}),
        "accepted": pairs_part.accepted_by_group(audit.records, about["by"]),
        "families": summary_part.tests_by_family(audit.tests),
        "provenance_rows": summary_part.provenance(about),
    }


def _shifts(stress: "Stress | None") -> dict[str, Any] | None:
    """Return the tables of a stress test except the dose-response, None if there are none."""
    tables = {n: stress_part.table_of(stress, n) for n in ("worst", "flips")}
    rows = {n: None if t is None else t.to_dict("records") for n, t in tables.items()}
    parts = {"forests": stress_part.shift_forests(stress), **rows}
    return parts if any(parts.values()) else None


@cache
def _environment() -> Environment:
    """Return an environment that escapes everything except markup."""
    # StrictUndefined: a misspelt name in the template is an error, not an empty cell.
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda v: formatting.printable(v) if type(v) is str else v,
    )
    environment.filters |= {
        "number": formatting.number,
        "percent": formatting.percent,
        "whole": formatting.whole,
        "p": formatting.p_value,
        "interval": formatting.interval,
    }
    environment.globals |= {"width": WIDTH, "mark": MARK, "dash": formatting.DASH}
    return environment
