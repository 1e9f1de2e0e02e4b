"""The result of a model evaluation: a table, a drawing of it, and images of pairs."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import AuditError
from causalcxr.common.figure import Page
from causalcxr.common.files import atomic_write
from causalcxr.common.result import Shown, content_folder
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text
from causalcxr.images.contact_sheet import contact_sheet

__all__ = ["Evaluation", "evaluation_folder"]

_SHOWN = 6  # patients per question


@dataclass(frozen=True, eq=False)
class Evaluation(Shown):
    """Hold how sound a model's counterfactual images are.

    Args:
        table: A row a question and measure, see `model_evaluation.evaluate`.
        pictures: For each question, records, twins and the images of true twins, if known.
        about: Settings and origin, JSON.
    """

    table: pd.DataFrame
    pictures: Mapping[str, tuple[Cohort, Cohort, np.ndarray | None]]
    about: Mapping[str, Any]

    @property
    def heading(self) -> str:
        """Model and interventions, in one line."""
        actions = ", ".join(self.pictures)
        return f"evaluation of {self.about['model']} under {actions}: {len(self.table)} measures"

    def summary(self) -> pd.DataFrame:
        """Return one row a question and measure, beside copy and oracle."""
        columns = ["value", "low", "high", "copy", "oracle"]
        return self.table.set_index(["question", "axiom", "measure"])[columns]

    def select(self, measure: str, question: str | None = None) -> pd.DataFrame:
        """Return the rows of a measure."""
        rows = self.table["measure"] == measure
        return self.table[rows & ((self.table["question"] == question) | (question is None))]

    def sheet(self, question: str, path: str | Path | None = None) -> Page:
        """Draw records, twins, and true twins if they are known."""
        cohort, twin, true = self.pictures[question]
        some = slice(0, _SHOWN)
        # Select before reading: images may be on disk, or not yet computed.
        shown = [cohort.images.select(some), twin.images.select(some)]
        rows = [images[:].clip(0, 1) for images in shown]
        marks = [images.synthetic for images in shown]
        words = ["factual", "twin"]
        if true is not None:
            rows.append(true[some])
            marks.append(np.ones(len(rows[0]), dtype=bool))
            words.append("true twin")
        # Record, twin and true twin side by side.
        stacked = np.stack(rows, 1).reshape(-1, *rows[0].shape[1:])
        captions = [f"{word}, {name}" for name in cohort.records[some] for word in words]
        synthetic = np.stack(marks, 1).ravel()
        return contact_sheet(stacked, captions, len(words) * 2, path, synthetic=synthetic)

    def plot(self, path: str | Path | None = None) -> Page:
        """Draw every measure between its copy and its oracle, a panel an axiom.

        Args:
            path: A file to write the picture to, PNG.
        """
        axioms = list(dict.fromkeys(self.table["axiom"]))
        sizes = [len(self.table[self.table["axiom"] == name]) for name in axioms]
        figure = Page(figsize=(9, 0.9 * len(axioms) + 0.26 * sum(sizes)), layout="constrained")
        # Heights by the number of measures, so that lines are equally far apart.
        panels = figure.subplots(
            len(axioms), 1, height_ratios=[n + 1.5 for n in sizes], squeeze=False
        )
        for axes, name in zip(panels[:, 0], axioms, strict=True):
            part = self.table[self.table["axiom"] == name].reset_index(drop=True)
            y = np.arange(len(part))
            axes.hlines(y, part["low"], part["high"], color="#1f5a94")
            axes.plot(part["value"], y, "o", color="#1f5a94", label="twins")
            axes.plot(part["copy"], y, "|", color="#b35900", markersize=11, label="copy")
            axes.plot(part["oracle"], y, "d", color="#3a7d44", markersize=5, label="true twins")
            axes.set_yticks(y, part["question"] + "  " + part["measure"], fontsize=8)
            axes.invert_yaxis()
            axes.set_title(name, loc="left", fontsize=10)
        panels[0, 0].legend(fontsize=8)
        return figure.written(path)

    def save(self, folder: str | Path, *, overwrite: bool = False) -> Path:
        """Write `evaluation.csv`, `evaluation.png`, a sheet a question, and `evaluation.json`.

        Args:
            folder: A new or empty folder.
            overwrite: Replace the evaluation that the folder holds, even the same one.

        Raises:
            AuditError: If the folder holds another result.
        """
        rows = json.loads(self.table.to_json(orient="records"))
        about = json.dumps({"about": dict(self.about), "rows": rows}, indent=1)
        with evaluation_folder(folder, [about], overwrite=overwrite).writing() as draft:
            if not draft.complete:
                atomic_write(draft.place / "evaluation.csv", csv_text(self.table, index=False))
                self.plot(draft.place / "evaluation.png")
                for k, question in enumerate(self.pictures, 1):
                    self.sheet(question, draft.place / f"pairs-{k}.png")
                atomic_write(draft.place / "evaluation.json", about)
                draft.finish({})
        return Path(folder)

    def __repr__(self) -> str:
        return f"Evaluation({len(self.pictures)} questions, {len(self.table)} measures)"


def evaluation_folder(
    folder: str | Path, content: Sequence[str] = (), *, overwrite: bool = False
) -> ResultFolder:
    """Return the folder of a saved evaluation, identified by its tables."""
    return content_folder(
        folder, "evaluation", "an evaluation", content, overwrite=overwrite, error=AuditError
    )
