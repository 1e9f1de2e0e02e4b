"""The difference between two graphs, and which equations it makes stale."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from causalcxr.graph import Graph

__all__ = ["Change", "GraphDiff", "compare"]


class Change(NamedTuple):
    """One field of one variable, before and after."""

    variable: str
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.variable}: {self.field} {_shown(self.before)} -> {_shown(self.after)}"


@dataclass(frozen=True)
class GraphDiff:
    """Say what changed from one graph to another; false where nothing did.

    Args:
        added: The variables that are new.
        removed: The variables that are gone.
        added_edges: The edges that are new, parent first.
        removed_edges: The edges that are gone.
        changed: The fields that differ, of variables that are in both.
        stale: The variables of the later graph whose equation must be learned anew: the new ones,
            and those whose own declaration, set of parents or parents' values changed.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added_edges: tuple[tuple[str, str], ...] = ()
    removed_edges: tuple[tuple[str, str], ...] = ()
    changed: tuple[Change, ...] = ()
    stale: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return any((self.added, self.removed, self.added_edges, self.removed_edges, self.changed))

    def __str__(self) -> str:
        if not self:
            return "the graphs are equal"
        lines = [f"+ {name}" for name in self.added]
        lines += [f"- {name}" for name in self.removed]
        lines += [f"+ {parent} -> {child}" for parent, child in self.added_edges]
        lines += [f"- {parent} -> {child}" for parent, child in self.removed_edges]
        lines += [f"~ {change}" for change in self.changed]
        lines.append(f"to retrain: {', '.join(sorted(self.stale)) or 'nothing'}")
        return "\n".join(lines)


def compare(before: "Graph", after: "Graph") -> GraphDiff:
    """Return what changes from one graph to another."""
    both = [name for name in after.variables if name in before.variables]
    return GraphDiff(
        added=tuple(name for name in after.variables if name not in before.variables),
        removed=tuple(name for name in before.variables if name not in after.variables),
        added_edges=tuple(edge for edge in after.edges if edge not in set(before.edges)),
        removed_edges=tuple(edge for edge in before.edges if edge not in set(after.edges)),
        changed=tuple(change for name in both for change in _changes(before, after, name)),
        stale=frozenset(
            name
            for name in after.variables
            if name not in before.variables
            or before.equation_hash(name) != after.equation_hash(name)
        ),
    )


def _changes(before: "Graph", after: "Graph", name: str) -> list[Change]:
    old, new = before.variables[name].content, after.variables[name].content
    old["mechanism"], new["mechanism"] = (
        str(graph.variables[name].mechanism) for graph in (before, after)
    )
    return [
        Change(name, field, old[field], new[field])
        for field in old
        if field != "parents" and old[field] != new[field]
    ]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
