"""The result of a stress test."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from causalcxr.common.errors import AuditError
from causalcxr.common.figure import Page
from causalcxr.common.files import atomic_write
from causalcxr.common.result import Shown, content_folder
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text

__all__ = ["Stress", "stress_folder"]


@dataclass(frozen=True, eq=False)
class Stress(Shown):
    """Hold the measures of a classifier in populations that differ from the data.

    Args:
        shifts: A row a shift and measure: `estimate` under the shift with bounds, `base`, the
            figure as observed, `change` with bounds (paired: the same patients are drawn), and
            `effective`, the number of equally weighted records with the same information.
        dose: A row a value of the dose: `mean` score with bounds, `positive`, the share of
            positive decisions, `label_share` among the twins, `unsupported`, the share of twins
            with too few training records in their cells; None without a dose.
        worst: A row a subgroup that looked worst in one half of the patients: its figure there
            (`searched`, biased by the search) and in the other half (`estimate`, with bounds).
        flips: A row a group and intervention: the share of decisions that it flips, and how often
            it is the most plausible one that does.
        about: Settings and origin, JSON.
    """

    shifts: pd.DataFrame
    dose: pd.DataFrame | None
    worst: pd.DataFrame
    flips: pd.DataFrame
    about: Mapping[str, Any]

    @property
    def table(self) -> pd.DataFrame:
        """The figures under each shift; without shifts, the first of the other tables."""
        return next(iter(self.tables.values()), self.shifts).copy()

    @property
    def heading(self) -> str:
        """Classifier, label and number of shifts, in one line."""
        about, n = self.about, self.shifts["shift"].nunique()
        return (
            f"{about['classifier']} of {about['label']}: {n} shifts, {about['records']:,} records"
        )

    def summary(self) -> pd.DataFrame:
        """Return a row a shift and measure; without shifts, the first of the other tables."""
        if not len(self.shifts):
            return self.table
        columns = ["base", "estimate", "low", "high", "change"]
        return self.shifts.set_index(["shift", "measure"])[columns]

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table that is not empty, by name."""
        tables = {
            "shifts": self.shifts,
            "dose": self.dose,
            "worst": self.worst,
            "flips": self.flips,
        }
        return {name: table for name, table in tables.items() if table is not None and len(table)}

    def to_json(self) -> str:
        """Return the settings and every table."""
        tables = {k: json.loads(t.to_json(orient="records")) for k, t in self.tables.items()}
        return json.dumps({"about": dict(self.about), **tables}, indent=1)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write every table as .csv, a picture, and `stress.json`.

        Args:
            folder: A new or empty folder.
            overwrite: Replace the stress test that the folder holds, even the same one.

        Raises:
            AuditError: If the folder holds another result.
        """
        about = self.to_json()
        with stress_folder(folder, [about], overwrite=overwrite).writing() as draft:
            if not draft.complete:
                for name, table in self.tables.items():
                    atomic_write(draft.place / f"{name}.csv", csv_text(table, index=False))
                self.plot(draft.place / "stress.png")
                atomic_write(draft.place / "stress.json", about)
                draft.finish({})
        return Path(folder)

    def plot(self, path: str | Path | None = None, *, measure: str = "auroc") -> Page:
        """Draw one measure under each shift, and the dose-response where there is one.

        Args:
            path: A file to write the picture to, PNG.
            measure: Which measure.
        """
        # Left: the measure under each shift. Right: the dose-response, if there is one.
        table = self.shifts[self.shifts["measure"] == measure]
        columns = 1 if self.dose is None else 2
        figure = Page(figsize=(6.4 * columns, 1.6 + 0.35 * len(table)), layout="constrained")
        axes = figure.subplots(1, columns, squeeze=False)[0]
        for row, shift in enumerate(table.itertuples()):
            axes[0].plot([shift.low, shift.high], [row, row], color="#1f5a94")
            axes[0].plot(shift.estimate, row, "o", color="#1f5a94")
        if len(table):
            axes[0].axvline(table["base"].iloc[0], color="#777", linestyle="--")
        axes[0].set_yticks(range(len(table)), table["shift"])
        axes[0].invert_yaxis()
        axes[0].set_xlabel(f"{measure} (dashed: as observed)")
        if self.dose is not None:
            axes[1].fill_between(
                self.dose["value"], self.dose["low"], self.dose["high"], alpha=0.2
            )
            axes[1].plot(self.dose["value"], self.dose["mean"], "o-", label="mean score")
            axes[1].plot(self.dose["value"], self.dose["label_share"], "s--", label="label share")
            axes[1].set_xlabel(f"do({self.about['dose']})")
            axes[1].legend()
        return figure.written(path)

    def __repr__(self) -> str:
        return f"Stress({self.heading})"


def stress_folder(
    folder: str | Path, content: Sequence[str] = (), *, overwrite: bool = False
) -> ResultFolder:
    """Return the folder of a saved stress test, identified by its tables."""
    return content_folder(
        folder, "stress", "a stress test", content, overwrite=overwrite, error=AuditError
    )
