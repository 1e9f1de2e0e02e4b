"""What every question to a model shares: its options, loading, and writing the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import typer

from causalcxr.apps.cli.options import (
    ActionOptions,
    CohortName,
    ModelFolder,
    Overwrite,
    RecordOptions,
    Seed,
    Where,
)

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

    from causalcxr.cohort.cohort import Cohort
    from causalcxr.cohort.selection import Selection
    from causalcxr.graph.interventions import Intervention
    from causalcxr.scm.scm import SCM

__all__ = ["FigureOut", "QuestionOptions", "TableOut", "TwinQuestionOptions"]

_FOLDER = "a new folder for all of it"
TableOut = Annotated[
    Path | None, typer.Option(help=f"Also write the answer: a .csv for the table, or {_FOLDER}.")
]
FigureOut = Annotated[
    Path | None,
    typer.Option(
        help=f"Also write the answer: a .csv for the table, a .png for the figure, or {_FOLDER}."
    ),
]


@dataclass(frozen=True, kw_only=True)
class QuestionOptions:
    """A model, records, and where the answer goes beside the screen."""

    has_figure: ClassVar[bool] = False  # whether the answer can be drawn

    model: ModelFolder
    cohort: CohortName
    where: Where = ""
    out: TableOut = None
    seed: Seed = 0
    overwrite: Overwrite = False

    @property
    def records(self) -> "Selection":
        """The records, not yet loaded."""
        from causalcxr.cohort.selection import Selection

        return Selection(self.cohort, self.where)

    def load(
        self,
        action: "Intervention | None" = None,
        hold: Sequence[str] = (),
        *,
        images: bool = False,
    ) -> "tuple[SCM, Cohort]":
        """Return the model and the records; refuse early what can be refused.

        Args:
            action: The intervention, to be checked against the model.
            hold: Variables that keep their factual value.
            images: Whether the records keep their images.

        Raises:
            CausalCXRError: As `SCM.load`, `SCM.do`, `Cohort.load` and `check_place` do.
        """
        from causalcxr.apps.cli.answer_folder import check_place
        from causalcxr.scm.scm import SCM

        if self.out is not None:
            check_place(self.out, drawn=self.has_figure)
        model = SCM.load(self.model)
        if action is not None:
            model.do(action, hold=hold)
        cohort = self.records.load()
        return model, cohort if images else cohort.with_images(None)

    def write(
        self,
        question: str,
        model: "SCM",
        cohort: "Cohort",
        tables: "Mapping[str, pd.DataFrame]",
        about: Mapping[str, Any],
        figure: "Figure | None" = None,
    ) -> None:
        """Write the answer, if it is to be written, and print where it is."""
        from rich.text import Text

        from causalcxr.apps.cli.answer_folder import WrittenAnswer, write_answer
        from causalcxr.apps.cli.answer_screen import console

        if self.out is None:
            return
        settings = {**self.settings(model, cohort), **about}
        answer = WrittenAnswer(question, tables, settings, figure)
        files = write_answer(answer, self.out, overwrite=self.overwrite)
        for path, what in files.items():
            console().print(Text(f"  {path}", style="bold"), Text(what))

    def settings(self, model: "SCM", cohort: "Cohort") -> dict[str, Any]:
        """Return what determines the answer, for the manifest."""
        from causalcxr.cohort.fingerprints import fingerprint
        from causalcxr.scm.identity import model_identity

        return {
            "cohort": self.cohort,
            # Of the content: a cohort that has changed under its name is another one.
            "fingerprint": fingerprint(cohort),
            "where": self.where,
            "split": self.records.split,
            "limit": self.records.limit,
            "hold": [],
            "seed": self.seed,
            **model_identity(model),
        }


@dataclass(frozen=True, kw_only=True)
class TwinQuestionOptions(ActionOptions, RecordOptions, QuestionOptions):
    """A question about twins: it has an intervention too."""

    model: ModelFolder
    cohort: CohortName
    draws: Annotated[int, typer.Option(help="Posterior samples of each record.")] = 1

    @property
    def twin_draws(self) -> int | None:
        """The posterior samples of each record; None for a single one."""
        return None if self.draws == 1 else self.draws

    def settings(self, model: "SCM", cohort: "Cohort") -> dict[str, Any]:
        """Return what determines the answer, for the manifest."""
        held = [model.graph.find(name) for name in self.hold]
        return {**super().settings(model, cohort), "hold": held}
