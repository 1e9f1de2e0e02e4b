"""The structure of a graph: topological order, reachable variables, cycles."""

import heapq
from collections.abc import Iterable, Mapping

from causalcxr.graph.mechanism_spec import GraphFault
from causalcxr.graph.variables import Variable

__all__ = ["reachable", "topological_order", "without"]


def topological_order(
    variables: Mapping[str, Variable], children: Mapping[str, Iterable[str]]
) -> tuple[str, ...]:
    """Return the names, parents before children, else as declared.

    Raises:
        GraphError: If there is a cycle, with its edges.
    """
    # A heap of places in the declaration: of the ready variables, the first declared is next.
    position = {name: k for k, name in enumerate(variables)}
    waiting = {name: len(variable.parents) for name, variable in variables.items()}
    ready = [position[name] for name, count in waiting.items() if not count]
    heapq.heapify(ready)
    names, order = tuple(variables), []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for child in children[name]:
            waiting[child] -= 1
            if not waiting[child]:
                heapq.heappush(ready, position[child])
    # What is left waits for itself.
    if len(order) < len(names):
        raise _cycle(variables, set(names) - set(order))
    return tuple(order)


def reachable(start: Iterable[str], step: Mapping[str, Iterable[str]]) -> frozenset[str]:
    """Return the names that can be reached from some names, without these.

    Example:
        >>> sorted(reachable(["a"], {"a": ["b"], "b": ["c"], "c": []}))
        ['b', 'c']
    """
    start = set(start)
    reached, ahead = set(start), list(start)
    while ahead:
        fresh = set(step[ahead.pop()]) - reached
        reached |= fresh
        ahead.extend(fresh)
    return frozenset(reached - start)


def _cycle(variables: Mapping[str, Variable], within: set[str]) -> GraphFault:
    """Return the error for a cycle: follow parents within a set until a name repeats."""
    name, path = min(within), []
    while name not in path:
        path.append(name)
        name = next(parent for parent in variables[name].parents if parent in within)
    loop = [*path[path.index(name) :], name][::-1]
    place = ("variables", loop[1], "parents", loop[0])
    return GraphFault(place, f"cycle {' -> '.join(map(repr, loop))}; remove one of these edges")


def without(variables: Mapping[str, Variable], gone: str) -> dict[str, Variable]:
    """Return the variables without one of them, and without its edges."""
    kept = {}
    for each in variables.values():
        if gone in each.parents:
            each = each.replace(parents=tuple(p for p in each.parents if p != gone))
        if each.name != gone:
            kept[each.name] = each
    return kept
