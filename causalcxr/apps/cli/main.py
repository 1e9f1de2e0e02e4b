"""The command line: all verbs. An error of the user is one line and exit status 2."""

import sys
from importlib.metadata import version as installed_version
from typing import Annotated

import typer

from causalcxr.apps.cli import cohort, graph, radit, study
from causalcxr.apps.cli.audit import audit
from causalcxr.apps.cli.check import check
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.compare import compare
from causalcxr.apps.cli.confounding import confounding
from causalcxr.apps.cli.counterfactual import counterfactual
from causalcxr.apps.cli.demo import demo
from causalcxr.apps.cli.effect import effect
from causalcxr.apps.cli.evaluate import evaluate
from causalcxr.apps.cli.explorer import explore
from causalcxr.apps.cli.export import export
from causalcxr.apps.cli.fit import fit
from causalcxr.apps.cli.pairs import pairs
from causalcxr.apps.cli.probabilities import probabilities
from causalcxr.apps.cli.sample import sample
from causalcxr.apps.cli.sensitivity import sensitivity
from causalcxr.apps.cli.stress import stress
from causalcxr.apps.cli.verbs import verb

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)


def _print_version(is_given: bool) -> None:
    if is_given:
        print(f"causalcxr {installed_version('causalcxr')}")
        raise typer.Exit


@app.callback()
def causalcxr(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Show the version."
        ),
    ] = False,
) -> None:
    """Counterfactual chest radiographs from an expert causal graph.

    Synthetic images, not for clinical use.
    """


app.add_typer(graph.app, name="graph")
app.add_typer(cohort.app, name="cohort")
app.add_typer(radit.app, name="radit")
app.add_typer(study.app, name="study")

verb(app)(export)
verb(app, "app")(explore)
for function in (fit, sample, counterfactual):
    verb(app)(function)
for function in (check, effect, probabilities, sensitivity, confounding, compare):
    verb(app)(function)
for function in (pairs, audit, stress, evaluate):
    verb(app)(function)
verb(app)(demo)


def main() -> None:
    """Run the command line and exit."""
    sys.exit(guarded(app, name="causalcxr"))
