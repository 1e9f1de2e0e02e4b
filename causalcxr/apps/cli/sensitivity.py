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
    out: FigureOut = None


def sensitivity(options: SensitivityOptions) -> None:
    """Show how much a discrete answer rests on data, and how much on the assumed coupling."""
    from causalcxr.common.progress import Progress

    action = options.action("sensitivity")
    model, cohort = options.load(action, options.hold)
    with Progress("Couplings"):
        # The same question under each coupling: the data cannot tell them apart.
        result = model.sensitivity(
            cohort,
            action,
            variables=options.variable or None,
            vary=options.vary,
            hold=options.hold,
            draws=options.draws,
            seed=options.seed,
        )
    _show(result)
    about = {
        "action": action.bind(model.graph).to_json(),
        "vary": options.vary,
        "draws": options.draws,
        "records": len(cohort),
    }
    figure = result.plot() if options.out else None
    options.write("sensitivity", model, cohort, {"sensitivity": result.table}, about, figure)


def _show(result: "Sensitivity") -> None:
    """Show the mean probability of change under each coupling, and the bounds of any."""
    from causalcxr.apps.cli.answer_screen import show

    columns = result.changes.drop(columns=["width", "relative_width"]).reset_index()
    title = f"{result.action}: mean probability of change under each coupling"
    show(title, columns.to_dict("records"))
    print("lower, upper: the bounds of every coupling that keeps the learned distributions")
