"""`causalcxr confounding`: how an effect moves if a common cause was left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from causalcxr.apps.cli.probabilities import Variables
from causalcxr.apps.cli.question import FigureOut, TwinQuestionOptions

if TYPE_CHECKING:
    from causalcxr.scm.questions.confounding import Confounding

__all__ = ["ConfoundingOptions", "confounding"]


@dataclass(frozen=True, kw_only=True)
class ConfoundingOptions(TwinQuestionOptions):
    """Between which variables, and how strong."""

    has_figure: ClassVar[bool] = True

    baseline: Annotated[
        Sequence[str],
        typer.Option(metavar="NAME=VALUE", help="Compare with this; by default as observed."),
    ] = ()
    between: Annotated[
        Sequence[str],
        typer.Option(
            metavar="PAIR",
            help="The cause and the outcome, such as 'Sex>Edema'; may be given several times. By "
            "default every child of what is set.",
        ),
    ] = ()
    rho: Annotated[
        Sequence[float],
        typer.Option(help="A correlation of the noises, -0.95 to 0.95; by default a grid."),
    ] = ()
    odds_ratio: Annotated[
        Sequence[float],
        typer.Option(help="An odds ratio of the bounds, at least 1; by default a grid."),
    ] = ()
    variable: Variables = ()
    out: FigureOut = None


def confounding(options: ConfoundingOptions) -> None:
    """Show how an effect moves with a hidden common cause, and how strong a cause undoes it."""
    from causalcxr.common.progress import Progress
    from causalcxr.graph.interventions import parse

    action = options.action("confounding")
    baseline = (
        parse(options.baseline, beyond_range=options.beyond_range) if options.baseline else None
    )
    model, cohort = options.load(action, options.hold)
    with Progress("Twins"):
        # The total effect under each correlation, the bounds, and the observed parents.
        result = model.confounding(
            cohort,
            action,
            baseline,
            between=[_pair(text) for text in options.between] or None,
            rho=options.rho or None,
            odds_ratio=options.odds_ratio or None,
            variables=options.variable or None,
            hold=options.hold,
            draws=options.twin_draws,
            seed=options.seed,
        )
    _show(result)
    about = {**result.about, "records": len(cohort)}
    figure = result.plot() if options.out else None
    options.write("confounding", model, cohort, result.tables, about, figure)


def _pair(text: str) -> tuple[str, ...]:
    """Return the names of a pair such as `Sex>Edema`."""
    return tuple(word.strip() for word in text.split(">"))


def _show(result: "Confounding") -> None:
    """Show each effect, and the strength of a hidden cause that would undo it."""
    from causalcxr.apps.cli.answer_screen import rounded_rows, show

    table = result.summary().reset_index()
    columns = ["cause", "outcome", "variable", "level", "change", "se", "rho", "rho_interval"]
    columns += ["odds_ratio", "parent", "times"]
    show(result.heading, rounded_rows(table[columns]))
    print("rho: the weakest correlation of the noises with which the change is zero")
    print("rho_interval: the same for the end of its 95 % interval, with the equations as known")
    print("odds_ratio: the smallest at which the bounds contain zero")
    print("times: how many times stronger than the strongest observed common parent that is")
    print("empty: no strength that was tried undoes the effect, or there is no such parent")
