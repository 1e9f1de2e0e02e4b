"""The report of an audit: one page that needs nothing else, to read on a screen or on paper."""

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
    from causalcxr.audit.audit_result import Audit

__all__ = ["SECTIONS", "write_report"]

SECTIONS = {
    "summary": "Summary",
    "key-figures": "Key figures",
    "limits": "What may and may not be claimed",
    "flow": "From all pairs to the believed ones",
    "gaps": "Gaps between groups",
    "measures": "Measures by group",
    "curves": "ROC and reliability",
    "effects": "Effects against the null floor",
    "flips": "Decisions that flip",
    "dose": "Dose-response",
    "shifts": "Where the population differs",
    "radiographs": "Records and their twins",
    "graph": "The graph under the intervention",
    "amplification": "Attributes out of reach",
    "gates": "Gates and support",
    "tests": "Tests and their families",
    "methods": "Methods",
    "provenance": "Seeds, versions, hashes",
}

_HYPHEN = re.compile(r"(?<!\S)-(?=\d)")  # that is a minus
_ABOUT = ("versions", "written", "source", "by", "alike", "graph", "bootstrap", "threshold_from")


def write_report(
    audit: "Audit", path: str | Path, *, stress: Any = None, patients: int = 6
) -> Path:
    """Write the report of an audit, whole or not at all.

    The page asks for nothing from outside, runs no script, and shows whatever came from a table as
    text. A section stands in it where its data exist.

    Args:
        audit: What is told.
        path: The page, `.html`.
        stress: A stress test of the same classifier, see `causalcxr.audit.stress`.
        patients: How many patients' radiographs are shown whose score moved most; half as many
            typical ones follow.

    Returns:
        The page.
    """
    told = _told(audit, stress, patients)
    there = {name: words_ for name, words_ in SECTIONS.items() if told.get(name, True)}
    page = _environment().get_template("report.html")
    about = dict.fromkeys(_ABOUT) | dict(audit.about)
    return atomic_write(Path(path), page.render(about=about, told=told, sections=there))


def _told(audit: "Audit", stress: Any, patients: int) -> dict[str, Any]:
    """Return what the template tells; a section whose entry is empty is left out."""
    images = audit.pairs.twin.has_images
    dose = stress_part.dose_of(stress)
    return {
        "title": summary_part.title(audit),
        "mark": "Synthetic images" if images else "Synthetic records",
        "said": [_HYPHEN.sub("−", sentence) for sentence in audit.sentences],
        "figures": summary_part.key_figures(audit),
        "limited": list(summary_part.limits(audit)),
        "flow": pairs_part.flow(audit),
        "gaps": groups_part.gap_forests(audit),
        "measures": groups_part.measure_tables(audit),
        "curves": groups_part.curves(audit),
        "unbalanced": groups_part.warnings_of_balance(audit.observed) if audit.observed else [],
        "spread": effects_part.distribution(audit),
        "by_group": effects_part.effect_forest(audit),
        "effect_tables": {
            name: effects_part.effect_rows(audit, kinds)
            for name, kinds in effects_part.KINDS.items()
        },
        "kinds": set(audit.effects["kind"]),
        "generator": audit.effects["generator_se"].notna().any(),
        "cells": effects_part.flip_cells(audit.flip_matrix),
        "flip_rows": effects_part.flip_rows(audit),
        "has_null": "null" in audit.records,
        "dose": stress_part.dose_drawing(stress),
        "dose_rows": None if dose is None else dose.to_dict("records"),
        "shifts": _shifts(stress),
        "radiographs": radiograph_part.grid(audit, patients),
        "graph": graph_part.graph_drawing(audit),
        "amplification": pairs_part.amplified(audit),
        "gate_rows": pairs_part.gate_rows(audit),
        "believed": pairs_part.believed_by_group(audit),
        "families": summary_part.tests_of(audit),
        "recorded": summary_part.provenance(audit),
    }


def _shifts(stress: Any) -> dict[str, Any] | None:
    """Return the tables of a stress test beside the dose, None where there are none."""
    tables = {n: stress_part.table_of(stress, n) for n in ("worst", "flips")}
    rows = {n: None if t is None else t.to_dict("records") for n, t in tables.items()}
    found = {"forests": stress_part.shift_forests(stress), **rows}
    return found if any(found.values()) else None


@cache
def _environment() -> Environment:
    """Return an environment in which everything is escaped that is not marked as markup."""
    found = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda v: formatting.printable(v) if type(v) is str else v,
    )
    found.filters |= {
        "number": formatting.number,
        "percent": formatting.percent,
        "whole": formatting.whole,
        "p": formatting.p_value,
        "interval": formatting.interval,
    }
    found.globals |= {"width": WIDTH, "mark": MARK, "dash": formatting.DASH}
    return found
