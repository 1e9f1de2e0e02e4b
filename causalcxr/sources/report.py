"""The report of a harmonised cohort: rows in and out, rules, prevalences, missing values."""

import base64
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from causalcxr.common.files import atomic_write, read_text
from causalcxr.common.result_digests import content_identity, read_json
from causalcxr.common.result_folder import ResultFolder
from causalcxr.sources.harmonised import Harmonised, Rule
from causalcxr.sources.policy import FINDINGS

__all__ = ["facts", "save_report", "write_report"]

SCHEMA = 1
_KIND = "causalcxr cohort report"
_VARIABLES = ("Age", "Sex", "Race", "View", *FINDINGS)
_GROUPS = ("Dataset", "Sex", "Race", "View", "Age")
_BANDS = (0, 18, 40, 60, 80, 106)
_MIN_POSITIVES = 10  # a prevalence with fewer positives is flagged
_UNKNOWN = "not known"


def facts(
    harmonised: Harmonised,
    parts: Sequence[Harmonised] = (),
    quarantined: Mapping[str, int] | None = None,
) -> dict[str, Any]:
    """Return the content of the report as plain values.

    Args:
        harmonised: The cohort: one source, or several combined.
        parts: The sources of a combined cohort.
        quarantined: The number of images that could not be read, by reason.

    Returns:
        `sources` (rows in and out, patients, rules), `prevalence` by group, `missing` and `ages`
        by data set, `splits`, `quarantined`.

    Example:
        >>> table = pd.DataFrame({"Sex": ["F", "M"], "Edema": ["P", None]}, index=["a", "b"])
        >>> one = Harmonised(table, np.array(["1", "2"]), None, [None, None], (), "example")
        >>> report = facts(one)
        >>> report["rows_out"], report["prevalence"]["all"]["all"]["Edema"]["share"]
        (2, 1.0)
    """
    groups = _groups(harmonised.table)
    sources = [_source(part) for part in (parts or [harmonised])]
    return {
        "kind": _KIND,
        "schema": SCHEMA,
        "version": version("causalcxr"),
        "source": harmonised.source,
        "rows_in": sum(each["rows_in"] for each in sources),
        "rows_out": len(harmonised),
        "patients": len(pd.unique(harmonised.patients)),
        "images": int(_available(harmonised).sum()),
        "sources": sources,
        "splits": _counts(harmonised.splits),
        "prevalence": {
            name: _prevalence(harmonised.table, codes, labels)
            for name, (codes, labels) in groups.items()
        },
        "missing": _missing(harmonised.table, *groups["Dataset"]),
        "ages": _ages(harmonised.table, *groups["Dataset"]),
        "quarantined": dict(quarantined or {}),
    }


def save_report(harmonised: Harmonised, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write a report to a folder; see `write_report` and `ResultFolder`.

    Args:
        harmonised: As in `facts`.
        folder: A new or empty folder.
        overwrite: Replace the report in the folder, even an identical one.

    Returns:
        The page.

    Raises:
        CohortError: If the folder holds something else, or cannot be written.
    """

    def is_old_report(path: Path) -> bool:  # of version 0.1.0
        report = read_json(path / "report.json")
        return isinstance(report, dict) and report.get("kind") == _KIND

    folder, content = Path(folder), json.dumps(facts(harmonised))
    result = ResultFolder(
        folder,
        _KIND,
        "a cohort report",
        content_identity([content]),
        overwrite,
        recognises=is_old_report,
    )
    with result.writing() as draft:
        if not draft.complete:
            write_report(harmonised, draft.place)
            draft.finish({})
    return folder / "report.html"


def write_report(
    harmonised: Harmonised,
    folder: str | Path,
    parts: Sequence[Harmonised] = (),
    quarantined: Mapping[str, int] | None = None,
) -> Path:
    """Write `report.html` and `report.json`, each atomically.

    The page loads nothing from elsewhere, and escapes all text of the tables.

    Args:
        harmonised: As in `facts`.
        folder: The folder; it is created if it is missing.
        parts: As in `facts`.
        quarantined: As in `facts`.

    Returns:
        The page.
    """
    from causalcxr.sources.report_plots import plots

    report = facts(harmonised, parts, quarantined)
    folder = Path(folder)
    atomic_write(folder / "report.json", json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    # Figures are embedded, so that the page is one file.
    images = {
        name: "data:image/png;base64," + base64.b64encode(page.png()).decode()
        for name, page in plots(report).items()
    }
    template = read_text(Path(__file__).parent / "report.html")
    page = Environment(autoescape=True, undefined=StrictUndefined).from_string(template)
    html = page.render(
        report=report, images=images, findings=FINDINGS, min_positives=_MIN_POSITIVES
    )
    return atomic_write(folder / "report.html", html)


def _source(part: Harmonised) -> dict[str, Any]:
    return {
        "source": part.source,
        "origin": Path(part.origin).name,
        "rows_in": part.rows_in,
        "rows_out": len(part),
        "patients": len(pd.unique(part.patients)),
        "images": int(_available(part).sum()),
        "policy": part.policy,
        "rules": [_rule(rule) for rule in part.rules],
    }


def _rule(rule: Rule) -> dict[str, Any]:
    return {
        "name": rule.name,
        "why": rule.why,
        "effect": rule.effect,
        "rows": rule.rows,
        "records": list(rule.records),
    }


def _available(part: Harmonised) -> np.ndarray:
    available = getattr(part.images, "available", None)
    if available is None:
        return np.array([path is not None for path in part.images])
    return available


def _counts(values: np.ndarray | None) -> dict[str, int]:
    if values is None:
        return {}
    return {str(name): int(n) for name, n in pd.Series(values).value_counts().items()}


def _groups(table: pd.DataFrame) -> dict[str, tuple[np.ndarray, list[str]]]:
    """Return each grouping of the rows as codes and names; unknown values are one group."""
    groups = {"all": (np.zeros(len(table), dtype=np.int64), ["all"])}
    for name in _GROUPS:
        if name == "Age":
            continue
        values = table.get(name, pd.Series(index=table.index, dtype=object))
        codes, labels = pd.factorize(values, sort=True)
        # The last group holds unknown values.
        names = [*map(str, labels), _UNKNOWN]
        groups[name] = (np.where(codes < 0, len(labels), codes), names)
    years = _years(table)
    # A missing age becomes -1, below the first band.
    band = np.searchsorted(_BANDS, np.nan_to_num(years, nan=-1), side="right") - 1
    names = [f"{low}-{high - 1}" for low, high in pairwise(_BANDS)]
    in_band = ~np.isnan(years) & (band >= 0) & (band < len(names))
    groups["Age"] = (np.where(in_band, band, len(names)), [*names, _UNKNOWN])
    return groups


def _years(table: pd.DataFrame) -> np.ndarray:
    if "Age" not in table:
        return np.full(len(table), np.nan)
    return table["Age"].to_numpy(dtype=np.float64)


def _marks(table: pd.DataFrame, name: str) -> np.ndarray:
    """Return a finding as 0 (N), 1 (P), 2 (U) or 3 (missing), shape (n,)."""
    if name not in table:
        return np.full(len(table), 3)
    return pd.Categorical(table[name], pd.Index(["N", "P", "U"], dtype=object)).codes % 4


def _prevalence(table: pd.DataFrame, codes: np.ndarray, labels: list[str]) -> dict[str, Any]:
    """Return N, P, U and missing of each finding in each group, and the share P / (P + N)."""
    prevalence: dict[str, Any] = {label: {} for label in labels}
    rows = np.bincount(codes, minlength=len(labels))
    for name in FINDINGS:
        marks = _marks(table, name)
        counts = np.bincount(codes * 4 + marks, minlength=4 * len(labels)).reshape(-1, 4)
        for label, (no, yes, unsure, missing) in zip(labels, counts.tolist(), strict=True):
            share = yes / (yes + no) if yes + no else None
            prevalence[label][name] = {
                "P": yes, "N": no, "U": unsure, "missing": missing, "share": share,
            }  # fmt: skip
    return {label: prevalence[label] for label, n in zip(labels, rows, strict=True) if n}


def _missing(table: pd.DataFrame, codes: np.ndarray, labels: list[str]) -> dict[str, Any]:
    """Return the fraction of rows without a value, by data set and variable."""
    rows = np.bincount(codes, minlength=len(labels))
    missing: dict[str, Any] = {label: {} for label, n in zip(labels, rows, strict=True) if n}
    for name in _VARIABLES:
        if name in FINDINGS:
            absent = _marks(table, name) >= 2  # a graph reads an uncertain finding as missing
        else:
            absent = table[name].isna().to_numpy() if name in table else np.ones(len(table), bool)
        shares = np.bincount(codes, weights=absent, minlength=len(labels)) / np.maximum(rows, 1)
        for label, share in zip(labels, shares.tolist(), strict=True):
            if label in missing:
                missing[label][name] = share
    return missing


def _ages(table: pd.DataFrame, codes: np.ndarray, labels: list[str]) -> dict[str, list[int]]:
    """Return the number of rows of each age, 0 to 105, by data set."""
    years = _years(table)
    has_age = ~np.isnan(years)
    rounded = np.clip(years[has_age], 0, 105).astype(np.int64)
    counts = np.bincount(codes[has_age] * 106 + rounded, minlength=106 * len(labels))
    return {
        label: row.tolist()
        for label, row in zip(labels, counts.reshape(-1, 106), strict=True)
        if row.any()
    }
