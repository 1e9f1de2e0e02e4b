"""The report of a study: one page that asks for nothing from outside, and its tables as CSV."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from causalcxr.errors import StudyError
from causalcxr.files import atomic_write, read_text
from causalcxr.spreadsheet import csv_text
from causalcxr.study.analyse import Analysis
from causalcxr.study.claims import claims, limits
from causalcxr.study.report_plots import figures

__all__ = ["page", "write_report"]


def write_report(found: Analysis, folder: str | Path) -> Path:
    """Write `report.html` and a .csv of each table, each whole or not at all.

    Args:
        found: The analysis.
        folder: Where; it is made where it is missing.

    Returns:
        The page.

    Raises:
        StudyError: If the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        for name, table in found.tables.items():
            atomic_write(folder / f"{name}.csv", csv_text(table, index=False))
        return atomic_write(folder / "report.html", page(found))
    except OSError as fault:
        raise StudyError(f"{folder}: cannot be written ({fault.strerror or fault})") from None


def page(found: Analysis) -> str:
    """Return the page; whatever came from a table or a person is escaped in it."""
    template = read_text(Path(__file__).parent / "report.html")
    pictures = {
        name: "data:image/svg+xml;base64," + base64.b64encode(drawn).decode()
        for name, drawn in figures(found).items()
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"share": _share, "signed": _signed, "p": _p, "seconds": _seconds}
    told = {name: table for name, table in found.tables.items() if name != "responses"}
    return environment.from_string(template).render(
        plan=found.plan,
        about=found.plan.about,
        digest=found.plan.digest,
        claims=claims(found),
        limits=limits(found),
        tables={name: table.to_dict("records") for name, table in told.items()},
        pictures=pictures,
        by=_by(found.strata),
    )


def _by(strata: pd.DataFrame) -> dict[str, Any]:
    """Return accuracy as a table of sittings by stratum; none where there is one stratum."""
    names = sorted(strata["stratum"].unique())
    if len(names) < 2:
        return {}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in strata.to_dict("records"):
        rows.setdefault((row["reader"], row["presentation"]), {})[row["stratum"]] = row
    return {"names": names, "rows": rows}


def _share(value: float) -> str:
    """Return a number without its zero before the point, as in ".54"."""
    if value is None or np.isnan(value):
        return "-"
    text = f"{value:.2f}".replace("-0.00", "0.00")
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def _signed(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:+.2f}".replace("-0.00", "+0.00")


def _p(value: float) -> str:
    if np.isnan(value):
        return "-"
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def _seconds(value: float) -> str:
    return "-" if value is None or np.isnan(value) else f"{value:.1f}"
