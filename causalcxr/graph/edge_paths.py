"""Paths of a graph: the edges that transmit an effect, and recanting witnesses."""

from collections.abc import Iterable, Sequence
from itertools import pairwise
from types import EllipsisType

from causalcxr.common.errors import GraphError, InterventionError, brief
from causalcxr.graph.graph import Graph

__all__ = ["Edge", "Path", "read_edges", "recanting_witnesses"]

Edge = tuple[str, str]  # tail, head
Path = Sequence[str | EllipsisType]

_EXAMPLE = "give a list of paths, such as [('Sex', 'Edema'), ('Sex', 'View', 'Image')]"


def read_edges(graph: Graph, through: Iterable[Path], causes: Sequence[str]) -> frozenset[Edge]:
    """Return the edges of some paths.

    Args:
        graph: The graph.
        through: Paths of two names (an edge) or more; one that ends in `...` continues along
            every edge downstream.
        causes: The variables that are set.

    Raises:
        InterventionError: If an edge is absent, leads into a variable that is set, or is not
            reached from the causes.

    Example:
        >>> graph = Graph.load("mini")
        >>> sorted(read_edges(graph, [("sex", "Pleural Effusion", ...)], ["Sex"]))
        [('Pleural Effusion', 'Image'), ('Sex', 'Pleural Effusion')]
    """
    if isinstance(through, str) or any(isinstance(path, str) for path in through):
        raise InterventionError(f"through={brief(through)}: {_EXAMPLE}")
    edges: set[Edge] = set()
    for path in through:
        # `...` at the end stands for every edge downstream of the last name.
        onwards = len(path) > 0 and path[-1] is ...
        names = [_find(graph, name) for name in (path[:-1] if onwards else path)]
        if len(names) < 2:
            raise InterventionError(f"through: {brief(path)} has fewer than two names; {_EXAMPLE}")
        edges |= {_edge(graph, *pair, causes) for pair in pairwise(names)}
        if onwards:
            edges |= _downstream(graph, names[-1], causes)
    if not edges:
        raise InterventionError(f"through: no path is given; {_EXAMPLE}")
    # An edge transmits a change only if a given path leads to its tail.
    reached = set(causes) | _reached(causes, edges)
    if stray := sorted(edge for edge in edges if edge[0] not in reached):
        tail, head = stray[0]
        raise InterventionError(
            f"through: {tail!r} -> {head!r} transmits nothing, as no given path leads from "
            f"{' or '.join(causes)} to {tail!r}; name its edges too"
        )
    return frozenset(edges)


def recanting_witnesses(
    graph: Graph, causes: Iterable[str], active: Iterable[Edge]
) -> dict[str, tuple[str, ...]]:
    """Return the recanting witnesses of each outcome: they would need two values at once.

    A witness of an outcome is reached from a cause along active edges, and affects the outcome
    both along active edges and along a path with another edge: the outcome depends on the
    active and on the baseline value of the witness (recanting witness criterion; Avin, Shpitser &
    Pearl, 2005). The mean of such an effect depends on the form of the equations and on the
    coupling, not on the data alone.

    Args:
        graph: The graph.
        causes: The variables that are set.
        active: The edges that transmit.

    Returns:
        Outcome -> witnesses, in the graph's order; outcomes without witnesses are left out.

    Example:
        >>> kite = Graph.parse('''variables:
        ...   A: {type: binary}
        ...   W: {type: binary, parents: [A]}
        ...   M: {type: binary, parents: [W]}
        ...   Y: {type: binary, parents: [W, M]}''')
        >>> recanting_witnesses(kite, ["A"], [("A", "W"), ("W", "Y")])
        {'Y': ('W',)}
    """
    causes = set(causes)
    # Edges into the causes are cut, as the causes are set.
    live = {edge for edge in graph.edges if edge[1] not in causes}
    active = live & set(active)
    witnesses: dict[str, list[str]] = {}
    for witness in graph.order:
        if witness in _reached(causes, active):
            # Outcomes that the witness reaches over active edges alone.
            pure = _reached([witness], active)
            # A path with another edge: any edges to its tail, the edge, any edges from its head.
            before = {witness} | _reached([witness], live)
            heads = {head for tail, head in live - active if tail in before}
            for outcome in pure & (heads | _reached(heads, live)):
                witnesses.setdefault(outcome, []).append(witness)
    return {name: tuple(witnesses[name]) for name in graph.order if name in witnesses}


def _find(graph: Graph, name: object) -> str:
    try:
        return graph.find(name)  # type: ignore[arg-type]
    except GraphError as error:
        raise InterventionError(f"through {brief(name)}: {error}") from None


def _edge(graph: Graph, tail: str, head: str, causes: Sequence[str]) -> Edge:
    if tail not in graph.parents(head):
        parents = ", ".join(graph.parents(head)) or "none"
        raise InterventionError(
            f"through: no edge {tail!r} -> {head!r}; the parents of {head!r}: {parents}"
        )
    if head in causes:
        raise InterventionError(f"through: {tail!r} -> {head!r} is cut, as {head!r} is set")
    return tail, head


def _downstream(graph: Graph, name: str, causes: Sequence[str]) -> set[Edge]:
    live = {edge for edge in graph.edges if edge[1] not in causes}
    reached = {name} | _reached([name], live)
    return {edge for edge in live if edge[0] in reached}


def _reached(start: Iterable[str], edges: Iterable[Edge]) -> set[str]:
    """Return the heads that can be reached, over at least one edge."""
    heads: dict[str, list[str]] = {}
    for tail, head in edges:
        heads.setdefault(tail, []).append(head)
    reached: set[str] = set()
    ahead = list(start)
    while ahead:
        fresh = set(heads.get(ahead.pop(), ())) - reached
        reached |= fresh
        ahead.extend(fresh)
    return reached
