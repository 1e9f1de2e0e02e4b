"""The questions on the command line: check, effect, probabilities, sensitivity, compare."""

from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import (
    BeyondRange,
    Do,
    Hold,
    Limit,
    Model,
    Overwrite,
    Seed,
    Spec,
    Split,
    Where,
    Words,
)

__all__ = ["VERBS", "check", "compare", "effect", "probabilities", "sensitivity"]

_FOLDER = "a new folder for all of it"
Draws = Annotated[int, typer.Option(help="Posterior draws a record, where they are needed.")]
Variable = Annotated[
    Words, typer.Option(help="A variable with levels to ask about; several times.")
]
Answer = Annotated[
    Path | None, typer.Option(help=f"Also write it: a .csv for the table, or {_FOLDER}.")
]
Drawing = Annotated[
    Path | None,
    typer.Option(help=f"Also write it: a .csv for the table, a .png to look at, or {_FOLDER}."),
]


def check(
    model: Model,
    cohort: Spec,
    where: Where = "",
    split: Annotated[
        str,
        typer.Option(help="test, val, train or all; by default test, else val as fit drew it."),
    ] = "",
    rows: Annotated[int, typer.Option(help="At most so many records.")] = 20_000,
    alpha: Annotated[float, typer.Option(help="The false discovery rate.")] = 0.01,
    out: Drawing = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> int:
    """Test every equation on held-out records; exit status 1 where one fails, else 0."""
    from causalcxr.apps.cli.question_jobs import Asked, Selection, check_job

    asked = Asked(model, Selection(cohort, where), out=out, seed=seed, overwrite=overwrite)
    return check_job(asked, split=split, rows=rows, alpha=alpha)


def effect(
    model: Model,
    cohort: Spec,
    do: Do = None,
    baseline: Annotated[
        Words,
        typer.Option(metavar="NAME=VALUE", help="Compare with this; by default as observed."),
    ] = None,
    direct: Annotated[
        bool, typer.Option("--direct", help="The natural direct effect: mediators stay.")
    ] = False,
    indirect: Annotated[
        bool, typer.Option("--indirect", help="The natural indirect effect: by mediators alone.")
    ] = False,
    mediator: Annotated[
        Words,
        typer.Option(help="Of --direct and --indirect; by default each outcome's other parents."),
    ] = None,
    through: Annotated[
        Words,
        typer.Option(
            metavar="PATH",
            help="The effect along 'Sex>Edema', 'Sex>Edema>Lung Opacity', 'Sex>Edema>...' only; "
            "several times.",
        ),
    ] = None,
    hold: Hold = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 0,
    draws: Annotated[int, typer.Option(help="Posterior draws a record.")] = 1,
    beyond_range: BeyondRange = False,
    out: Drawing = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Say what an action changes: in total, directly, by mediators, or along some paths."""
    from causalcxr.apps.cli.question_jobs import Asked, Selection, effect_job

    records = Selection(cohort, where, split, limit)
    asked = Asked(model, records, do or [], hold or [], draws, beyond_range, out, seed, overwrite)
    effect_job(
        asked,
        baseline=baseline or [],
        direct=direct,
        indirect=indirect,
        mediators=mediator,
        through=through,
    )


def probabilities(
    model: Model,
    cohort: Spec,
    do: Do = None,
    variable: Variable = None,
    hold: Hold = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 0,
    draws: Draws = 200,
    beyond_range: BeyondRange = False,
    out: Answer = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Say how probable each level of each twin is, record by record; exact where it can be."""
    from causalcxr.apps.cli.question_jobs import Asked, Selection, probabilities_job

    records = Selection(cohort, where, split, limit)
    asked = Asked(model, records, do or [], hold or [], draws, beyond_range, out, seed, overwrite)
    probabilities_job(asked, variables=variable)


def sensitivity(
    model: Model,
    cohort: Spec,
    do: Do = None,
    variable: Variable = None,
    vary: Annotated[
        str,
        typer.Option(
            metavar="all|one", help="Exchange the coupling of all equations, or of one at a time."
        ),
    ] = "all",
    hold: Hold = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 0,
    draws: Draws = 200,
    beyond_range: BeyondRange = False,
    out: Drawing = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Say how much of a discrete answer is data, and how much is the coupling that was assumed."""
    from causalcxr.apps.cli.question_jobs import Asked, Selection, sensitivity_job

    records = Selection(cohort, where, split, limit)
    asked = Asked(model, records, do or [], hold or [], draws, beyond_range, out, seed, overwrite)
    sensitivity_job(asked, variables=variable, vary=vary)


def compare(
    model: Model,
    other: Annotated[
        Path, typer.Argument(help="Another, such as the edited one.", show_default=False)
    ],
    cohort: Spec,
    do: Do = None,
    hold: Hold = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 0,
    draws: Annotated[int, typer.Option(help="Posterior draws a record.")] = 1,
    beyond_range: BeyondRange = False,
    out: Answer = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Say how the twins of two models differ, and which equations are the reason."""
    from causalcxr.apps.cli.question_jobs import Asked, Selection, compare_job

    records = Selection(cohort, where, split, limit)
    asked = Asked(model, records, do or [], hold or [], draws, beyond_range, out, seed, overwrite)
    compare_job(asked, other)


VERBS = (check, effect, probabilities, sensitivity, compare)
