"""`causalcxr graph`: check, show and compare causal graphs."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from causalcxr.apps.cli.options import graph_names
from causalcxr.common.terminal import visible
from causalcxr.graph.graph import Graph, Variable

__all__ = ["app"]

app = typer.Typer(help="Check, show and compare causal graphs.", no_args_is_help=True)

_GRAPH = "A YAML file, or the name of a bundled graph such as cxr7."
_MODEL = f"{_GRAPH[:-1]}, or the folder of a model."
GraphOrModel = Annotated[
    str, typer.Argument(help=_MODEL, show_default=False, autocompletion=graph_names)
]
GraphPath = Annotated[
    str, typer.Argument(help=_GRAPH, show_default=False, autocompletion=graph_names)
]


@app.command()
def check(
    files: Annotated[
        list[str], typer.Argument(metavar="GRAPH...", help=_GRAPH, autocompletion=graph_names)
    ],
) -> None:
    """Read graphs and say that they are sound, or where they are not."""
    for file in files:
        graph = Graph.load(file)
        edges = len(graph.edges)
        print(f"{file}: ok, {len(graph)} variables, {edges} edges, hash {graph.hash[:16]}")


@app.command()
def show(
    file: GraphPath,
    out: Annotated[
        Path | None,
        typer.Option(help="Also draw the graph to this file: .png, .svg or .pdf."),
    ] = None,
) -> None:
    """List the variables of a graph, causes first, and draw it if asked."""
    graph = Graph.load(file)
    console = Console()
    console.print(_table(graph), soft_wrap=False)
    if out is not None:
        graph.draw(out)
        print(f"drawn to {out}")


@app.command()
def diff(before: GraphOrModel, after: GraphOrModel) -> None:
    """Say what changes from one graph to another, and which equations are trained anew, and why.

    Of two models it also says which equations were trained on other data or with another seed.
    """
    difference = _graph(before).diff(_graph(after))
    print(difference)
    if _is_model(before) and _is_model(after):
        from causalcxr.scm import saved_model as model_folder

        learned = model_folder.difference(Path(before), Path(after))
        for name, why in sorted(learned.items()):
            if name not in difference.stale:
                print(f"trained on something else: {name}: {why}")


def _is_model(place: str) -> bool:
    return (Path(place) / "manifest.json").is_file()


def _graph(place: str) -> Graph:
    """Read a graph file, a bundled graph, or the graph of a model."""
    if not _is_model(place):
        return Graph.load(place)
    # This loads torch; graphs alone are compared without it.
    from causalcxr.scm.saved_model import saved_graph

    return saved_graph(Path(place))


def _table(graph: Graph) -> Table:
    title = f"{graph.name}: {len(graph)} variables, {len(graph.edges)} edges"
    table = Table(title=Text(visible(title)), title_justify="left", box=None, pad_edge=False)
    for heading in ("level", "variable", "type", "values", "parents", "mechanism"):
        table.add_column(heading, overflow="fold")
    layers = graph.layers
    for name in sorted(graph.order, key=layers.__getitem__):
        variable = graph[name]
        cells = (
            str(layers[name]),
            name,
            variable.type,
            _values(variable),
            _parents(graph, variable),
            str(variable.mechanism),
        )
        # Text, not markup: a level such as [bold] must be shown as it is.
        table.add_row(*(Text(cell) for cell in cells))
    return table


def _values(variable: Variable) -> str:
    if variable.is_discrete:
        return " ".join(variable.levels)
    bounds = f"{variable.range[0]:g} to {variable.range[1]:g}" if variable.range else ""
    return " ".join(word for word in (bounds, variable.unit) if word)


def _parents(graph: Graph, variable: Variable) -> str:
    everything = variable.is_image and set(variable.parents) == set(graph.tabular)
    return "all of the above" if everything else ", ".join(variable.parents)
