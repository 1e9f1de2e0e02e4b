"""The report of a study: one self-contained page, and its tables as CSV."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jinja2 import Environment, StrictUndefined

from causalcxr.apps.study.analysis import Analysis
from causalcxr.apps.study.claims import claims, limits
from causalcxr.apps.study.report_plots import figures
from causalcxr.common.errors import StudyError
from causalcxr.common.files import atomic_write, read_text
from causalcxr.common.result_digests import content_identity
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text

__all__ = ["page", "write_report"]


def write_report(analysis: Analysis, folder: str | Path, *, overwrite: bool = False) -> Path:
    """Write `report.html` and a .csv of each table to a folder; see `ResultFolder`.

    Args:
        analysis: The analysis.
        folder: A new or empty folder.
        overwrite: Replace an analysis in the folder, of the same or other answers.

    Returns:
        The page.

    Raises:
        StudyError: If the folder has other content, or cannot be written.
    """

    def older(path: Path) -> bool:  # of version 0.1.0
        return (path / "report.html").is_file() and (path / "responses.csv").is_file()

    folder = Path(folder)
    texts = {f"{name}.csv": csv_text(t, index=False) for name, t in analysis.tables.items()}
    # The same answers give the same report, which is then not written again.
    identity = {"plan": analysis.plan.digest, **content_identity([*texts.values()])}
    result = ResultFolder(
        folder, "causalcxr study analysis", "an analysis", identity, overwrite, StudyError, older
    )
    with result.writing() as draft:
        if not draft.complete:
            for name, text in texts.items():
                atomic_write(draft.place / name, text)
            atomic_write(draft.place / "report.html", page(analysis))
            draft.finish({})
    return folder / "report.html"


def page(analysis: Analysis) -> str:
    """Return the page; all names and values are escaped."""
    template = read_text(Path(__file__).parent / "report.html")
    # Pictures are part of the page, so that it is a single file.
    pictures = {
        name: "data:image/svg+xml;base64," + base64.b64encode(drawn).decode()
        for name, drawn in figures(analysis).items()
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters |= {"share": _share, "signed": _signed, "p": _p, "seconds": _seconds}
    # Single responses are in the .csv only.
    tables = {name: table for name, table in analysis.tables.items() if name != "responses"}
    return environment.from_string(template).render(
        plan=analysis.plan,
        about=analysis.plan.about,
        digest=analysis.plan.digest,
        claims=claims(analysis),
        limits=limits(analysis),
        tables={name: table.to_dict("records") for name, table in tables.items()},
        pictures=pictures,
        by=_by(analysis.strata),
    )


def _by(strata: pd.DataFrame) -> dict[str, Any]:
    """Return accuracy by sitting and stratum; empty if there is only one stratum."""
    names = sorted(strata["stratum"].unique())
    if len(names) < 2:
        return {}
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for row in strata.to_dict("records"):
        rows.setdefault((row["reader"], row["presentation"]), {})[row["stratum"]] = row
    return {"names": names, "rows": rows}


def _share(value: float) -> str:
    """Return a number without the zero before the point, as in ".54"."""
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
