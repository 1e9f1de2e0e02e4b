"""`causalcxr graph`: check, show, compare and test causal graphs."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from causalcxr.apps.cli.options import Overwrite, RecordOptions, Seed, graph_names
from causalcxr.apps.cli.question import FigureOut
from causalcxr.apps.cli.verbs import verb
from causalcxr.common.terminal import visible
from causalcxr.graph.graph import Graph, Variable

if TYPE_CHECKING:
    from causalcxr.cohort.graph_test import GraphTest

__all__ = ["GraphCheckOptions", "GraphDiffOptions", "GraphShowOptions", "GraphTestOptions", "app"]

app = typer.Typer(help="Check, show, compare and test causal graphs.", no_args_is_help=True)

_SHOWN = 20  # lines of one kind on the screen
_GRAPH = "A YAML file, or the name of a bundled graph such as cxr7."
_MODEL = f"{_GRAPH[:-1]}, or the folder of a model."
GraphOrModel = Annotated[
    str, typer.Argument(help=_MODEL, show_default=False, autocompletion=graph_names)
]


@dataclass(frozen=True, kw_only=True)
class GraphCheckOptions:
    """Which graphs."""

    files: Annotated[
        Sequence[str],
        typer.Argument(metavar="GRAPH...", help=_GRAPH, autocompletion=graph_names),
    ]


@verb(app)
def check(options: GraphCheckOptions) -> None:
    """Check that graphs are valid; a graph that is not gives an error that says where."""
    for file in options.files:
        graph = Graph.load(file)
        edges = len(graph.edges)
        print(f"{file}: ok, {len(graph)} variables, {edges} edges, hash {graph.hash[:16]}")


@dataclass(frozen=True, kw_only=True)
class GraphShowOptions:
    """Which graph, and where it is drawn."""

    file: Annotated[
        str, typer.Argument(help=_GRAPH, show_default=False, autocompletion=graph_names)
    ]
    out: Annotated[
        Path | None,
        typer.Option(help="Also draw the graph to this file: .png, .svg or .pdf."),
    ] = None


@verb(app)
def show(options: GraphShowOptions) -> None:
    """List the variables of a graph, causes first; with --out, draw it."""
    graph = Graph.load(options.file)
    Console().print(_table(graph), soft_wrap=False)
    if options.out is not None:
        graph.draw(options.out)
        print(f"drawn to {options.out}")


@dataclass(frozen=True, kw_only=True)
class GraphDiffOptions:
    """Which two graphs."""

    before: GraphOrModel
    after: GraphOrModel


@verb(app)
def diff(options: GraphDiffOptions) -> None:
    """Show what changes from one graph to another, which equations are trained again, and why.

    For two models, also show which equations were trained on other data or with another seed.
    """
    difference = _graph(options.before).diff(_graph(options.after))
    print(difference)
    if _is_model(options.before) and _is_model(options.after):
        from causalcxr.scm import saved_model

        reasons = saved_model.difference(Path(options.before), Path(options.after))
        for name, reason in sorted(reasons.items()):
            if name not in difference.stale:
                print(f"trained on something else: {name}: {reason}")


@dataclass(frozen=True, kw_only=True)
class GraphTestOptions(RecordOptions):
    """Which graph, which records, and what counts as a violation."""

    graph: GraphOrModel
    alpha: Annotated[float, typer.Option(help="The false discovery rate.")] = 0.05
    least: Annotated[float, typer.Option(help="Smaller partial correlations are negligible.")] = (
        0.02
    )
    permutations: Annotated[int, typer.Option(help="Permuted graphs to compare with.")] = 20
    edits: Annotated[int, typer.Option(help="The largest number of edges to add.")] = 20
    seed: Seed = 0
    out: FigureOut = None
    overwrite: Overwrite = False


@verb(app)
def test(options: GraphTestOptions) -> None:
    """Test the independences that a graph implies, and find the edges that the data ask for.

    A statement is violated if it is significant and its partial correlation is not negligible.
    The same statements are tested for graphs with permuted names: the graph should have fewer
    violations than nearly all of them.
    """
    from causalcxr.apps.cli.answer_folder import WrittenAnswer, check_place, write_answer
    from causalcxr.cohort.fingerprints import fingerprint

    if options.out is not None:
        check_place(options.out, drawn=True)
    graph = _graph(options.graph)
    cohort = options.records.load().with_images(None)
    result = graph.test(
        cohort,
        alpha=options.alpha,
        least=options.least,
        permutations=options.permutations,
        edits=options.edits,
        seed=options.seed,
    )
    _print_test(result)
    if options.out is None:
        return
    about = {
        "graph": graph.hash,
        "cohort": options.cohort,
        "fingerprint": fingerprint(cohort),
        "where": options.where,
        "split": options.split,
        "limit": options.limit,
        **result.about,
    }
    answer = WrittenAnswer("graph-test", result.tables, about, result.plot())
    for path, what in write_answer(answer, options.out, overwrite=options.overwrite).items():
        print(f"  {path} {what}")


def _print_test(result: "GraphTest") -> None:
    """Print the verdict, the suggested edits, and what could not be tested."""
    from causalcxr.apps.cli.answer_screen import rounded_rows, show

    columns = ["effect", "low", "high", "q", "observed", "expected"]
    violated = result.violated[["variable", "other", "given", *columns]]
    show(result.heading, rounded_rows(violated.head(_SHOWN)), "no violation")
    if len(violated) > _SHOWN:
        print(f"... and {len(violated) - _SHOWN} more; --out writes all")
    additions = result.additions
    print()
    show(
        "Edges to add, the strongest first, each given those before",
        rounded_rows(additions[["parent", "child", "either", "given", *columns]]),
        "none",
    )
    if additions["either"].any():
        print("either: the data do not determine the direction")
    print()
    removals = result.removals[["parent", "child", "given", *columns]]
    show("Edges that are not needed, the weakest first", rounded_rows(removals), "none")
    for name in result.about["unrecorded"]:
        print(f"not recorded: {name}")
    untested = result.untested
    for _, row in untested.head(_SHOWN).iterrows():
        print(f"not tested: {row['variable']} and {row['other']}: {row['reason']}")
    if len(untested) > _SHOWN:
        print(f"... and {len(untested) - _SHOWN} more that are not tested; --out writes all")


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
    # By level, causes first.
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
        # Text, not markup: a level such as [bold] must be shown literally.
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
