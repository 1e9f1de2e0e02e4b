"""`causalcxr counterfactual`: the twins of a cohort."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalcxr.apps.cli.options import (
    ActionOptions,
    ModelFolder,
    OutputOptions,
    RecordOptions,
    Seed,
    WorkerOptions,
)

if TYPE_CHECKING:
    from causalcxr.apps.cli.twin_folder import TwinResult
    from causalcxr.graph.interventions import Intervention

__all__ = ["CounterfactualOptions", "counterfactual", "print_changes"]


@dataclass(frozen=True, kw_only=True)
class CounterfactualOptions(ActionOptions, RecordOptions, WorkerOptions, OutputOptions):
    """Which twins of which records."""

    model: ModelFolder
    draws: Annotated[int, typer.Option(help="Posterior samples of each record.")] = 1
    missing: Annotated[
        str,
        typer.Option(
            metavar="keep|posterior",
            help="Missing values stay missing, or are drawn given all that is observed.",
        ),
    ] = "keep"
    seed: Seed = 0


def counterfactual(options: CounterfactualOptions) -> None:
    """Make the counterfactual twins of a cohort: table, images, pairs to look at."""
    action = options.action("counterfactual")  # refused before torch is imported
    from causalcxr.apps.cli.twin_folder import write_twins
    from causalcxr.apps.cli.twin_job import TwinJob
    from causalcxr.common.progress import resumable
    from causalcxr.scm.scm import SCM

    model = SCM.load(options.model)
    model.do(action, hold=options.hold)  # refused before a cohort is read
    job = TwinJob(
        model,
        options.records.load(),
        action,
        hold=tuple(options.hold),
        draws=options.draws,
        missing=options.missing,
        seed=options.seed,
    )
    with resumable(f"the twins so far are in {options.out}"):
        result = write_twins(
            job,
            options.out,
            workers=options.workers,
            cluster=options.cluster,
            overwrite=options.overwrite,
        )
    print_changes(result, action, options.out)


def print_changes(result: "TwinResult", action: "Intervention", out: Path) -> None:
    """Print one screen: what changed downstream, and the files.

    Args:
        result: The twins that were written.
        action: The intervention.
        out: The folder of the files.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from causalcxr.common.terminal import visible

    # Text, not markup: a level such as [bold] must be shown literally.
    title = Text(visible(f"{len(result.compared):,} twins under {action.describe()}"))
    table = Table(title=title, title_justify="left", box=None)
    for heading in ("variable", "changed", "what"):
        table.add_column(heading, justify="right" if heading == "changed" else "left")
    for name, row in result.changed.items():
        table.add_row(Text(name), f"{row['changed']:,}", Text(row["what"]))
    console = Console(soft_wrap=True)
    console.print(table)
    for note in result.notes:
        console.print(Text(visible(note)))
    for file, about in result.files.items():
        console.print(Text(visible(f"  {out / file}"), style="bold"), Text(about))
    # Shown at once, also where the output is a file or a pipe.
    sys.stdout.flush()
