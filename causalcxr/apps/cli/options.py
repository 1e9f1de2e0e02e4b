"""Options that several verbs share: single ones as annotations, groups as base dataclasses."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from causalcxr.cohort.selection import Selection
    from causalcxr.graph.interventions import Intervention

__all__ = [
    "ActionOptions",
    "BeyondRange",
    "CohortName",
    "Do",
    "Hold",
    "Limit",
    "ModelFolder",
    "Out",
    "OutputOptions",
    "Overwrite",
    "RecordOptions",
    "Seed",
    "Split",
    "Where",
    "WorkerOptions",
    "cohort_names",
    "graph_names",
]


def graph_names(typed: str) -> list[str]:
    """Return the bundled graphs whose name begins so; where there is none, files are completed."""
    from causalcxr.graph.bundled import bundled_graphs

    return [name for name in sorted(bundled_graphs()) if name.startswith(typed)]


def cohort_names(typed: str) -> list[str]:
    """Return the sources whose name begins so; where there is none, files are completed."""
    from causalcxr.sources import NAMED

    return [name for name in NAMED if name.startswith(typed)]


CohortName = Annotated[
    str,
    typer.Argument(
        metavar="COHORT",
        show_default=False,
        autocompletion=cohort_names,
        help="phantom, a saved cohort, a folder as NIH publishes it, or a .csv; options after a "
        "colon: phantom:n=500,seed=1",
    ),
]
ModelFolder = Annotated[Path, typer.Argument(help="A fitted model's folder.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Out = Annotated[Path, typer.Option(help="Where to write.", show_default=False)]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the result that OUT holds, even the same one."),
]
Do = Annotated[
    Sequence[str],
    typer.Option(
        "--do",
        metavar="NAME=VALUE",
        help="sex=M, age=60, age=+10, 'age~normal(60, 10)', 'sex~categorical(F=.3, M=.7)'; may be "
        "given several times.",
    ),
]
Hold = Annotated[
    Sequence[str],
    typer.Option(help="A variable that keeps its factual value; may be given several times."),
]
Where = Annotated[
    str,
    typer.Option(
        help="Which records, such as \"sex == 'F' and age > 50\"; names match as in --do, and "
        "missing values match nothing but `is missing`."
    ),
]
Split = Annotated[str, typer.Option(help="train, val or test.")]
Limit = Annotated[
    int,
    typer.Option(help="The largest number of records, those with an image first; 0 for all."),
]
BeyondRange = Annotated[
    bool,
    typer.Option("--beyond-range", help="Allow values outside range or support; recorded."),
]


@dataclass(frozen=True, kw_only=True)
class OutputOptions:
    """Where a result is written."""

    out: Out
    overwrite: Overwrite = False


@dataclass(frozen=True, kw_only=True)
class RecordOptions:
    """Which records of which cohort."""

    cohort: CohortName
    where: Where = ""
    split: Split = ""
    limit: Limit = 0

    @property
    def records(self) -> "Selection":
        """The records, not yet loaded."""
        from causalcxr.cohort.selection import Selection

        return Selection(self.cohort, self.where, self.split, self.limit)


@dataclass(frozen=True, kw_only=True)
class ActionOptions:
    """The intervention."""

    do: Do = ()
    hold: Hold = ()
    beyond_range: BeyondRange = False

    def action(self, verb: str) -> "Intervention":
        """Return the intervention.

        Args:
            verb: Its name in the error message.

        Raises:
            InterventionError: If there is none, or it is malformed.
        """
        from causalcxr.common.errors import InterventionError
        from causalcxr.graph.interventions import parse

        if not self.do:
            raise InterventionError(
                f"{verb}: nothing to do; give --do NAME=VALUE, such as --do sex=M"
            )
        return parse(self.do, beyond_range=self.beyond_range)


@dataclass(frozen=True, kw_only=True)
class WorkerOptions:
    """How many processes share the work, and where they run."""

    workers: Annotated[int, typer.Option(help="Processes on this machine.")] = 1
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="A Dask scheduler whose workers do the work instead, such as "
            "tcp://10.0.0.1:8786.",
        ),
    ] = None
