"""The result of an audit: summary, gaps, plot, report and saved folder."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from causalcxr.audit.audit_tables import AuditTables
from causalcxr.common.errors import AuditError, nearest
from causalcxr.common.files import atomic_write
from causalcxr.common.result import Shown, content_folder
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text

if TYPE_CHECKING:
    from causalcxr.audit.stress_result import Stress
    from causalcxr.common.figure import Page

__all__ = ["Audit", "audit_folder"]


@dataclass(frozen=True, eq=False)
class Audit(AuditTables, Shown):
    """The result of an audit; see `AuditTables` for its fields."""

    @property
    def overall(self) -> pd.Series:
        """The mean of each kind of effect over all pairs, and the flips."""
        return self._row("all")

    @property
    def by_group(self) -> pd.DataFrame:
        """The same for every group, a row each."""
        return pd.DataFrame({group: self._row(group) for group in self.flips["group"]}).T

    def _row(self, group: str) -> pd.Series:
        part = self.effects[self.effects["group"] == group]
        flips = self.flips.set_index("group").loc[group, ["up", "down"]]
        figures = part.set_index("kind")["mean"].to_dict() | flips.to_dict()
        return pd.Series(figures, name=group, dtype=float)

    def difference(self, measure: str = "tpr", *, balanced: bool = False) -> pd.DataFrame:
        """Return the gaps in one measure between each level and the most frequent one.

        Args:
            measure: A measure of the observed table.
            balanced: With groups balanced by weights.

        Raises:
            AuditError: If there is no label, or the measure is unknown.
        """
        if self.observed is None:
            raise AuditError("the audit has no label, so no measures of groups; give label=")
        table = self.observed.balanced if balanced else self.observed.gaps
        if measure not in set(self.observed.table["measure"]):
            hint = nearest(measure, set(self.observed.table["measure"]))
            raise AuditError(f"the audit has no measure {measure!r}{hint}")
        return table[table["measure"] == measure].reset_index(drop=True)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name, as it is saved."""
        tables = {
            "effects": self.effects,
            "flips": self.flips,
            "flip_matrix": self.flip_matrix.reset_index(),
            "tests": self.tests.reset_index(),
            "groups": self.groups.reset_index(),
            "flow": self.pairs.flow,
            "amplification": self.pairs.amplification,
            "records": self.records.reset_index(),
            "gates": self.pairs.gates.reset_index(),
        }
        if self.observed is not None:
            tables |= {
                "observed": self.observed.table,
                "gaps": self.observed.gaps,
                "balanced_gaps": self.observed.balanced,
            }
        return tables

    @property
    def table(self) -> pd.DataFrame:
        """A row a group and kind of effect; see `individual_effects.effect_table`."""
        return self.effects.copy()

    @property
    def heading(self) -> str:
        """Classifier and intervention, in one line."""
        about = self.about
        return f"{about['classifier']} under {about['words']}: effects on its score, all pairs"

    def summary(self) -> pd.DataFrame:
        """Return one row a kind of effect, over all pairs: `mean` with its interval, `pairs`."""
        rows = self.effects[self.effects["group"] == "all"].set_index("kind")
        return rows[["mean", "low", "high", "pairs"]]

    def plot(self, path: str | Path | None = None) -> "Page":
        """Draw the total effect on the score in each group, with its interval.

        Args:
            path: A file to write the picture to, PNG.
        """
        from causalcxr.common.bar_chart import bars

        rows = self.effects[self.effects["kind"] == "total"]
        return bars(
            rows["group"].tolist(),
            rows["mean"],
            title=f"{self.about['classifier']} under {self.about['words']}",
            label="mean change of the score",
            low=rows["low"],
            high=rows["high"],
            path=path,
        )

    # On disk

    def to_json(self) -> str:
        """Return the settings and every table except those with a row per record."""
        tables = {k: t for k, t in self.tables.items() if k not in ("records", "gates")}
        rows = {name: json.loads(t.to_json(orient="records")) for name, t in tables.items()}
        content = {"about": dict(self.about), "summary": self.sentences, **rows}
        return json.dumps(content, indent=1)

    def to_html(
        self, path: str | Path, *, stress: "Stress | None" = None, patients: int = 6
    ) -> Path:
        """Write a self-contained page; see `causalcxr.audit.report`.

        Args:
            path: The page, `.html`.
            stress: A stress test of the same classifier.
            patients: Number of patients, those whose score changed most, whose radiographs are
                shown.
        """
        from causalcxr.audit.report import write_report

        return write_report(self, Path(path), stress=stress, patients=patients)

    def save(
        self,
        folder: str | Path,
        *,
        stress: "Stress | None" = None,
        patients: int = 6,
        overwrite: bool = False,
    ) -> Path:
        """Write the report, `audit.json` and every table as .csv to a folder.

        Args:
            folder: A new or empty folder.
            stress: A stress test of the same classifier, for the report.
            patients: As in `to_html`.
            overwrite: Replace the audit that the folder holds, even the same one.

        Raises:
            AuditError: If the folder holds another result.
        """
        about = self.to_json()
        shown = "" if stress is None else stress.to_json()
        # The time of writing is not part of the identity: the same audit, run again, resumes.
        undated = {name: value for name, value in self.about.items() if name != "written"}
        identifying = replace(self, about=undated).to_json()
        # The identity of the folder: what the report and the tables are made of.
        content = [
            identifying,
            shown,
            str(patients),
            csv_text(self.records),
            csv_text(self.pairs.gates),
        ]
        with audit_folder(folder, content, overwrite=overwrite).writing() as draft:
            if not draft.complete:
                for name, table in self.tables.items():
                    atomic_write(draft.place / f"{name}.csv", csv_text(table, index=False))
                self.to_html(draft.place / "report.html", stress=stress, patients=patients)
                # Tables and report first; the manifest is written last, by `finish`.
                atomic_write(draft.place / "audit.json", about)
                draft.finish({})
        return Path(folder)

    def __repr__(self) -> str:
        total = self.effects.iloc[0]
        return (
            f"Audit({self.about['classifier']} under {self.about['words']}: "
            f"{total['mean']:+.3f} [{total['low']:+.3f}, {total['high']:+.3f}], "
            f"{total['pairs']:,} pairs)"
        )


def audit_folder(
    folder: str | Path, content: Sequence[str] = (), *, overwrite: bool = False
) -> ResultFolder:
    """Return the folder of a saved audit, identified by the content of its tables."""
    return content_folder(
        folder, "audit", "an audit", content, overwrite=overwrite, error=AuditError
    )
