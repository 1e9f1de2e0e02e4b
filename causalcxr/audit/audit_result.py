"""The result of an audit: tables that nothing changes, and how they are written."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalcxr.audit.group_measures import GroupMeasures
from causalcxr.audit.pairs import Pairs
from causalcxr.common.errors import AuditError, nearest
from causalcxr.common.files import atomic_write
from causalcxr.common.result import Shown, content_folder
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text

if TYPE_CHECKING:
    from causalcxr.audit.stress_result import Stress
    from causalcxr.common.figure import Page

__all__ = ["Audit", "audit_folder"]

_CAUTION = (
    "Effects are those of a generative model and its causal graph, which data cannot prove; "
    "groups are those of the metadata."
)


@dataclass(frozen=True, eq=False)
class Audit(Shown):
    """Hold what an audit found.

    Args:
        pairs: The records and twins that it stands on.
        records: A row a pair: `patient`, the columns of groups, `label` and `label_twin` (0, 1 or
            NaN), the scores `factual`, `twin`, `null`, `direct`, and the verdict, `why`, `valid`.
        groups: A row a group of records: n, positives, negatives, patients, `few`.
        observed: What is observed in groups, or None where no label is known.
        effects: A row a group and kind of effect, see `individual_effects.effect_table`.
        flips: A row a group, see `individual_effects.flip_table`.
        flip_matrix: Decisions before and after, all groups.
        tests: A row a hypothesis, see `hypotheses.hypotheses`.
        about: What was asked, JSON.
    """

    pairs: Pairs
    records: pd.DataFrame
    groups: pd.DataFrame
    observed: GroupMeasures | None
    effects: pd.DataFrame
    flips: pd.DataFrame
    flip_matrix: pd.DataFrame
    tests: pd.DataFrame
    about: Mapping[str, Any]

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
        found = part.set_index("kind")["mean"].to_dict() | flips.to_dict()
        return pd.Series(found, name=group, dtype=float)

    def difference(self, measure: str = "tpr", *, balanced: bool = False) -> pd.DataFrame:
        """Return the gaps in one measure between each level and the most frequent one.

        Args:
            measure: A measure of the observed table.
            balanced: With groups made alike.

        Raises:
            AuditError: If nothing is observed, or the measure is unknown.
        """
        if self.observed is None:
            raise AuditError("no label, so nothing is observed; say label=")
        table = self.observed.balanced if balanced else self.observed.gaps
        if measure not in set(self.observed.table["measure"]):
            hint = nearest(measure, set(self.observed.table["measure"]))
            raise AuditError(f"no measure {measure!r} in this audit{hint}")
        return table[table["measure"] == measure].reset_index(drop=True)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table by name, as they are written."""
        found = {
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
            found |= {
                "observed": self.observed.table,
                "gaps": self.observed.gaps,
                "balanced_gaps": self.observed.balanced,
            }
        return found

    @property
    def table(self) -> pd.DataFrame:
        """A row a group and kind of effect; see `individual_effects.effect_table`."""
        return self.effects.copy()

    @property
    def heading(self) -> str:
        """What was asked, in one line."""
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

    @property
    def sentences(self) -> list[str]:
        """What was found, in sentences that claim no more than the design allows."""
        about, rows = self.about, self.effects.set_index(["group", "kind"])
        total, n = rows.loc[("all", "total")], self.pairs.flow
        said = [
            f"{about['classifier']} was asked about {n['pairs'].iloc[0]:,} pairs of records and "
            f"their twins under {about['words']}; {n['pairs'].iloc[-1]:,} of them, of "
            f"{n['patients'].iloc[-1]:,} patients, passed the gates.",
            f"Under the intervention its score changed by {total['mean']:+.3f} on average "
            f"(95 % interval {total['low']:+.3f} to {total['high']:+.3f}).",
        ]
        if ("all", "excess") in rows.index:
            excess = rows.loc[("all", "excess")]
            said.append(
                f"The mean absolute change exceeds that of the null twins by {excess['mean']:.3f} "
                f"({excess['low']:.3f} to {excess['high']:.3f})."
            )
        flips = self.flips.iloc[0]
        said.append(
            f"At the threshold of {about['threshold']:.3f} ({about['rule']}, chosen on "
            f"{about['threshold_from']}), {100 * flips['up']:.1f} % of the decisions turned "
            f"positive and {100 * flips['down']:.1f} % negative."
        )
        told = self.tests[self.tests["told"]]
        many = self.tests["family"].value_counts()
        said.append(
            f"{len(told)} of {len(self.tests)} hypotheses ({many.get('declared', 0)} declared, "
            f"Holm; {many.get('explored', 0)} explored, Benjamini-Hochberg) have an adjusted p "
            f"below {about['alpha']:g}."
        )
        return [*said, *about.get("notes", ()), _CAUTION]

    # On disk

    def to_json(self) -> str:
        """Return what was asked and every table but the rows of single records."""
        left = {k: t for k, t in self.tables.items() if k not in ("records", "gates")}
        found = {name: json.loads(t.to_json(orient="records")) for name, t in left.items()}
        return json.dumps(
            {"about": dict(self.about), "summary": self.sentences, **found}, indent=1
        )

    def to_html(
        self, path: str | Path, *, stress: "Stress | None" = None, patients: int = 6
    ) -> Path:
        """Write one page that needs nothing else; see `causalcxr.audit.report`.

        Args:
            path: The page, `.html`.
            stress: A stress test of the same classifier.
            patients: How many patients' radiographs are shown whose score moved most.
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
            patients: How many patients' radiographs the report shows whose score moved most.
            overwrite: Replace the audit that the folder holds, even the same one.

        Raises:
            AuditError: If the folder holds something else.
        """
        about = self.to_json()
        shown = "" if stress is None else stress.to_json()
        # When it was written is no part of its identity: the same audit, given again, resumes.
        undated = {name: value for name, value in self.about.items() if name != "written"}
        identifying = replace(self, about=undated).to_json()
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
    """Return the folder that an audit is written to; the content of its tables identifies it."""
    return content_folder(
        folder, "audit", "an audit", content, overwrite=overwrite, error=AuditError
    )
