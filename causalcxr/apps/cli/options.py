"""The words that several verbs of the command line share."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "BeyondRange",
    "Cluster",
    "Do",
    "Hold",
    "Limit",
    "Model",
    "Out",
    "Overwrite",
    "Seed",
    "Spec",
    "Split",
    "Where",
    "Words",
    "Workers",
    "cohort_names",
    "graph_names",
]

Words = list[str] | None


def graph_names(begun: str) -> list[str]:
    """Return the bundled graphs whose name begins so; where there is none, files are completed."""
    from causalcxr.graph.bundled import bundled_graphs

    return [name for name in sorted(bundled_graphs()) if name.startswith(begun)]


def cohort_names(begun: str) -> list[str]:
    """Return the sources whose name begins so; where there is none, files are completed."""
    from causalcxr.sources import NAMED

    return [name for name in NAMED if name.startswith(begun)]


Spec = Annotated[
    str,
    typer.Argument(
        metavar="COHORT",
        show_default=False,
        autocompletion=cohort_names,
        help="phantom, a saved cohort, a folder as NIH publishes it, or a .csv; options after a "
        "colon: phantom:n=500,seed=1",
    ),
]
Model = Annotated[Path, typer.Argument(help="A fitted model's folder.", show_default=False)]
Seed = Annotated[int, typer.Option(help="Seed of all random numbers.")]
Out = Annotated[Path, typer.Option(help="Where to write.", show_default=False)]
Overwrite = Annotated[
    bool,
    typer.Option("--overwrite", help="Replace the result that OUT holds, even the same one."),
]
Do = Annotated[
    Words,
    typer.Option(
        "--do",
        metavar="NAME=VALUE",
        help="sex=M, age=60, age=+10, 'age~normal(60, 10)', 'sex~categorical(F=.3, M=.7)'; may be "
        "given several times.",
    ),
]
Hold = Annotated[
    Words, typer.Option(help="A variable that keeps its factual value; several times.")
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
    int, typer.Option(help="At most so many records, those with an image first; 0 for all.")
]
BeyondRange = Annotated[
    bool,
    typer.Option("--beyond-range", help="Allow values outside range or support; recorded."),
]
Workers = Annotated[int, typer.Option(help="Processes on this machine.")]
Cluster = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Dask scheduler whose workers do the work instead, such as tcp://10.0.0.1:8786.",
    ),
]
