"""`causalcxr effect`: what an intervention changes on average."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from causalcxr.apps.cli.question import FigureOut, TwinQuestionOptions

if TYPE_CHECKING:
    from causalcxr.graph.graph import Graph
    from causalcxr.scm.questions.effect_result import Effect

__all__ = ["EffectOptions", "effect"]


@dataclass(frozen=True, kw_only=True)
class EffectOptions(TwinQuestionOptions):
    """Which effect, compared with what."""

    has_figure: ClassVar[bool] = True

    baseline: Annotated[
        Sequence[str],
        typer.Option(metavar="NAME=VALUE", help="Compare with this; by default as observed."),
    ] = ()
    direct: Annotated[
        bool, typer.Option("--direct", help="The natural direct effect: mediators stay.")
    ] = False
    indirect: Annotated[
        bool, typer.Option("--indirect", help="The natural indirect effect: by mediators alone.")
    ] = False
    mediator: Annotated[
        Sequence[str],
        typer.Option(help="Of --direct and --indirect; by default each outcome's other parents."),
    ] = ()
    through: Annotated[
        Sequence[str],
        typer.Option(
            metavar="PATH",
            help="The effect along 'Sex>Edema', 'Sex>Edema>Lung Opacity' or 'Sex>Edema>...' only; "
            "may be given several times.",
        ),
    ] = ()
    out: FigureOut = None

    @property
    def kind(self) -> str:
        """The effect: direct, indirect or total.

        Raises:
            InterventionError: If both --direct and --indirect are given.
        """
        from causalcxr.common.errors import InterventionError

        if self.direct and self.indirect:
            raise InterventionError(
                "effect: --direct and --indirect are two questions; give one of them"
            )
        return "direct" if self.direct else "indirect" if self.indirect else "total"


def effect(options: EffectOptions) -> None:
    """Estimate what an action changes: in total, directly, by mediators, or along some paths."""
    from causalcxr.common.progress import Progress
    from causalcxr.graph.interventions import parse

    action, kind = options.action("effect"), options.kind
    baseline = (
        parse(options.baseline, beyond_range=options.beyond_range) if options.baseline else None
    )
    model, cohort = options.load(action, options.hold)
    with Progress("Twins"):
        # Total, direct, indirect or path-specific, by `kind`.
        result = model.do(hold=options.hold).effect(
            cohort,
            action,
            baseline,
            kind=kind,
            mediators=options.mediator or None,
            through=[_path(text) for text in options.through] or None,
            draws=options.twin_draws,
            seed=options.seed,
        )
    _show(result, model.graph)
    tables = {"effect": result.table, "record by record": result.differences}
    about = {**result.about, "records": len(cohort)}
    options.write("effect", model, cohort, tables, about, result.plot() if options.out else None)


def _path(text: str) -> tuple[str | EllipsisType, ...]:
    """Return the names of a path such as `Sex>Edema>...`."""
    words = [word.strip() for word in text.split(">")]
    return tuple(... if word == "..." else word for word in words)


def _show(result: "Effect", graph: "Graph") -> None:
    """Show the mean of every outcome that changes in some record, under both twins."""
    from causalcxr.apps.cli.answer_screen import show, without_first_level

    table = result.table
    # The first level of a binary variable is 1 minus the second.
    changed, lines = without_first_level(table[table["changed"] > 0], graph), []
    has_witness = any(name in result.recanting for name in changed["variable"])
    for row in changed.itertuples():
        unit = graph[row.variable].unit
        number = f"{row.variable} ({unit})" if unit else row.variable
        line = {
            "outcome": f"{row.variable} = {row.level}" if row.level else number,
            "records": row.n,
            "baseline": row.baseline,
            "active": row.active,
            "change": f"{row.change:+.4f} ± {row.se:.4f}",
            "changed": f"{row.changed:.2%}",
        }
        if has_witness:
            line["recanting witness"] = ", ".join(result.recanting.get(row.variable, ()))
        lines.append(line)
    show(result.words, lines)
    _show_notes(result)


def _show_notes(result: "Effect") -> None:
    """Print what must be said beside the figures."""
    about = result.about
    if about["kind"] in ("direct", "indirect") and about["mediators"] is None:
        print("each outcome has its other parents as mediators: no joint world of all outcomes")
    print("change: its mean and standard error over patients, as if the equations were known")
    if result.recanting:
        print(
            "with a recanting witness, a mean rests on the form of the equations, not data alone"
        )
