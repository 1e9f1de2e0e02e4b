"""`causalcxr sensitivity`: how much an answer depends on the assumed coupling."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from causalcxr.apps.cli.probabilities import ProbabilityDraws, Variables
from causalcxr.apps.cli.question import FigureOut, TwinQuestionOptions

if TYPE_CHECKING:
    from causalcxr.scm.questions.sensitivity import Sensitivity

__all__ = ["SensitivityOptions", "sensitivity"]


@dataclass(frozen=True, kw_only=True)
class SensitivityOptions(TwinQuestionOptions):
    """Of which variables, under which exchange of couplings."""

    has_figure: ClassVar[bool] = True

    variable: Variables = ()
    vary: Annotated[
        str,
        typer.Option(
            metavar="all|one", help="Exchange the coupling of all equations, or of one at a time."
        ),
    ] = "all"
    draws: ProbabilityDraws = 200
    images: Annotated[
        int,
        typer.Option(help="Twins' images to compute under each coupling of the image; 0: none."),
    ] = 8
    classifier: Annotated[
        str,
        typer.Option(
            metavar="CLASSIFIER",
            help="Also the effect on its score under each coupling: MODULE:NAME or FILE.py:NAME.",
        ),
    ] = ""
    out: FigureOut = None


def sensitivity(options: SensitivityOptions) -> None:
    """Show how much an answer rests on data, and how much on the assumed coupling."""
    from causalcxr.apps.cli.classifier import load_classifier
    from causalcxr.common.progress import Progress

    action = options.action("sensitivity")
    model, cohort = options.load(action, options.hold, images=options.images > 0)
    classifier = load_classifier(options.classifier) if options.classifier else None
    with Progress("Couplings"):
        # The same question under each coupling: the data cannot tell them apart.
        result = model.sensitivity(
            cohort,
            action,
            variables=options.variable or None,
            vary=options.vary,
            hold=options.hold,
            draws=options.draws,
            images=options.images,
            classifier=classifier,
            seed=options.seed,
        )
    _show(result)
    about = {
        "action": action.bind(model.graph).to_json(),
        "vary": options.vary,
        "draws": options.draws,
        "records": len(cohort),
        "images": options.images,
        "classifier": options.classifier,
    }
    tables, figure = result.tables, result.plot() if options.out else None
    tables = {"sensitivity": tables.pop("table"), **tables}
    options.write("sensitivity", model, cohort.with_images(None), tables, about, figure)


def _show(result: "Sensitivity") -> None:
    """Show the mean probability of change under each coupling, and the bounds of any."""
    from causalcxr.apps.cli.answer_screen import rounded_rows, show

    columns = result.changes.drop(columns=["width", "relative_width"]).reset_index()
    title = f"{result.action}: mean probability of change under each coupling"
    show(title, columns.to_dict("records"))
    print("lower, upper: the bounds of every coupling that keeps the learned distributions")
    if len(result.images):
        title = "Twins' images under both couplings of the image, means over records"
        show(title, rounded_rows(result.images.reset_index()))
        print("difference: between the two twins of a record; relative: over their mean change")
