"""The command line: verbs, no logic. Every error of the user's is one line and exit status 2."""

import sys
from importlib.metadata import version as installed
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli import (
    app_commands as cli_app,
)
from causalcxr.apps.cli import (
    audit_commands as cli_audit,
)
from causalcxr.apps.cli import (
    cohort_commands as cli_cohort,
)
from causalcxr.apps.cli import (
    export_commands as cli_export,
)
from causalcxr.apps.cli import (
    graph_commands as cli_graph,
)
from causalcxr.apps.cli import (
    question_commands as cli_questions,
)
from causalcxr.apps.cli import (
    radit_commands as cli_radit,
)
from causalcxr.apps.cli import (
    study_commands as cli_study,
)
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.options import (
    BeyondRange,
    Cluster,
    Do,
    Hold,
    Limit,
    Model,
    Out,
    Overwrite,
    Seed,
    Spec,
    Split,
    Where,
    Workers,
    graph_names,
)

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        print(f"causalcxr {installed('causalcxr')}")
        raise typer.Exit


@app.callback()
def causalcxr(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Counterfactual chest radiographs from an expert causal graph.

    Synthetic images, not for clinical use.
    """


app.add_typer(cli_graph.app, name="graph")
app.add_typer(cli_cohort.app, name="cohort")
app.command("export")(cli_export.export)
app.add_typer(cli_radit.app, name="radit")
app.add_typer(cli_study.app, name="study")
app.command("app")(cli_app.explore)


@app.command()
def fit(
    graph: Annotated[
        str,
        typer.Argument(
            help="A YAML file, or a bundled graph such as cxr7.", autocompletion=graph_names
        ),
    ],
    cohort: Spec,
    out: Out,
    seed: Seed = 0,
) -> None:
    """Learn the structural equations; with a model in OUT, only those that are stale."""
    from causalcxr.apps.cli.jobs import fit_model

    fit_model(graph, cohort, out, seed=seed)


@app.command()
def sample(
    model: Model,
    out: Out,
    n: Annotated[int, typer.Option(help="Number of records.")] = 24,
    do: Do = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Draw new records, images included, and write them as a cohort."""
    from causalcxr.apps.cli.jobs import sample_model

    sample_model(model, n, do or [], out, seed=seed, overwrite=overwrite)


@app.command()
def counterfactual(
    model: Model,
    cohort: Spec,
    out: Out,
    do: Do = None,
    hold: Hold = None,
    where: Where = "",
    split: Split = "",
    limit: Limit = 0,
    draws: Annotated[int, typer.Option(help="Posterior draws a record.")] = 1,
    missing: Annotated[
        str,
        typer.Option(
            metavar="keep|posterior",
            help="Missing values stay missing, or are drawn given all that is observed.",
        ),
    ] = "keep",
    beyond_range: BeyondRange = False,
    seed: Seed = 0,
    workers: Workers = 1,
    cluster: Cluster = None,
    overwrite: Overwrite = False,
) -> None:
    """Make the counterfactual twins of a cohort: table, images, pairs to look at."""
    from causalcxr.apps.cli.jobs import counterfactual_job
    from causalcxr.cohort.selection import Selection

    counterfactual_job(
        model,
        Selection(cohort, where, split, limit),
        do or [],
        out,
        hold=hold or [],
        draws=draws,
        missing=missing,
        seed=seed,
        beyond_range=beyond_range,
        workers=workers,
        cluster=cluster,
        overwrite=overwrite,
    )


for verb in (*cli_questions.VERBS, *cli_audit.VERBS):
    app.command()(verb)


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("demo"),
    n: Annotated[int, typer.Option(help="Number of phantoms.")] = 2000,
    images: Annotated[int, typer.Option(help="Twins with images; 0 for all.")] = 0,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """From an expert graph to twins: phantoms, fit, do(sex=M), do(pleural_effusion=P)."""
    from causalcxr.apps.cli.demo import run

    run(out, n=n, images=images, seed=seed, overwrite=overwrite)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(guarded(app, name="causalcxr"))
