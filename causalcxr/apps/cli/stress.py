"""`causalcxr stress`: how a classifier performs in a different population."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from causalcxr.apps.cli.audit import By
from causalcxr.apps.cli.classifier import ClassifierName, ClassifierOptions, Threshold
from causalcxr.apps.cli.options import (
    CohortName,
    ModelFolder,
    OutputOptions,
    RecordOptions,
    Seed,
)

if TYPE_CHECKING:
    from causalcxr.audit.shifts import PopulationShift
    from causalcxr.graph.graph import Graph

__all__ = ["StressOptions", "stress"]


@dataclass(frozen=True, kw_only=True)
class StressOptions(ClassifierOptions, RecordOptions, OutputOptions):
    """Which classifier, on which records, under which shifts."""

    model: ModelFolder
    cohort: CohortName
    classifier: ClassifierName
    threshold: Threshold = "youden"
    do: Annotated[
        Sequence[str],
        typer.Option(
            "--do", metavar="NAME=VALUE", help="A shift by an intervention; each is a test."
        ),
    ] = ()
    share: Annotated[
        Sequence[str],
        typer.Option(
            metavar="NAME=LEVEL:SHARE",
            help="A shift by weights, such as Sex=F:.8; each is a test.",
        ),
    ] = ()
    dose: Annotated[
        str, typer.Option(metavar="NAME=V,V,...", help="Dose-response, such as age=30,50,70.")
    ] = ""
    search: Annotated[
        Sequence[str],
        typer.Option(help="A column that may define the subgroup with the worst performance."),
    ] = ()
    flip: Annotated[
        Sequence[str],
        typer.Option(
            metavar="NAME=VALUE",
            help="An intervention that may change decisions; each is a test.",
        ),
    ] = ()
    by: By = ()
    seed: Seed = 0

    def shifts(self, graph: "Graph") -> "list[PopulationShift]":
        """Return the shifts of the population: by weights, then by interventions.

        Raises:
            AuditError: If a share is malformed.
        """
        from causalcxr.audit.shifts import InterventionShift
        from causalcxr.graph.interventions import parse

        actions = [parse([word]) for word in self.do]
        return [
            *(_reweighted(word, graph) for word in self.share),
            *(InterventionShift(action.describe(), action) for action in actions),
        ]

    def doses(self) -> tuple[str, list[float]] | None:
        """Return the variable and the values of the dose-response, if it was given.

        Raises:
            AuditError: If it is malformed.
        """
        from causalcxr.common.errors import AuditError

        if not self.dose:
            return None
        name, _, values = self.dose.partition("=")
        try:
            return name.strip(), [float(value) for value in values.split(",")]
        except ValueError:
            raise AuditError(f"dose {self.dose!r}: write NAME=V,V, such as age=30,50") from None


def _reweighted(word: str, graph: "Graph") -> "PopulationShift":
    from causalcxr.audit.shifts import ReweightingShift
    from causalcxr.common.errors import AuditError

    name, _, rest = word.partition("=")
    level, _, share = rest.rpartition(":")
    try:
        shares = {graph.find(name.strip()): {level.strip(): float(share)}}
    except ValueError:
        raise AuditError(f"share {word!r}: write NAME=LEVEL:SHARE, such as Sex=F:.8") from None
    return ReweightingShift(word, shares)


def stress(options: StressOptions) -> None:
    """Test a classifier where the population differs."""
    from causalcxr.apps.cli.answer_screen import console, print_couplings, rounded_rows, show
    from causalcxr.audit.stress_result import stress_folder
    from causalcxr.audit.stressing import stress as test_under_stress
    from causalcxr.common.progress import Progress
    from causalcxr.graph.interventions import parse
    from causalcxr.scm.scm import SCM

    # Refuse a folder of something else before the long work.
    stress_folder(options.out).check_foreign()
    model = SCM.load(options.model)
    # All options are parsed before the classifier is loaded.
    shifts, dose = options.shifts(model.graph), options.doses()
    flips = [parse([word]) for word in options.flip]
    classifier = options.load_classifier()
    with Progress("Testing under stress"):
        result = test_under_stress(
            classifier,
            model,
            options.records.load(),
            label=options.label,
            shifts=shifts,
            dose=dose,
            search=options.search,
            interventions=flips,
            by=options.by,
            threshold=options.threshold,
            validation=options.load_validation(),
            bootstrap=options.bootstrap,
            seed=options.seed,
        )
        result.save(options.out, overwrite=options.overwrite)
    for name, table in result.tables.items():
        show(name, rounded_rows(table))
    print_couplings(result.about["coupling"])
    files = f"{', '.join(result.tables)} as .csv, stress.png, stress.json"
    console().print(f"{options.out}: {files}", markup=False)
