"""The difference between two graphs, and the equations that it makes stale, with reasons."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from causalcxr.graph.graph import Graph

__all__ = [
    "NEW",
    "Change",
    "GraphDiff",
    "compare",
    "declaration",
    "declaration_changes",
    "not_learned",
]

NEW = "it is new"  # the reason for an equation that did not exist before

# Options of sampling and prediction, not of learning: a change makes no weights stale.
_NOT_OF_LEARNING = "method solver_steps guidance threshold grain remainder coupling edits"
_NOT_LEARNED: Mapping[str, frozenset[str]] = {"radit": frozenset(_NOT_OF_LEARNING.split())}


def not_learned(kind: str) -> frozenset[str]:
    """Return the options of a kind of equation that do not affect its weights.

    Example:
        >>> sorted(not_learned("radit"))[:2], not_learned("discrete")
        (['coupling', 'edits'], frozenset())
    """
    return _NOT_LEARNED.get(kind, frozenset())


class Change(NamedTuple):
    """A field of a variable, before and after."""

    variable: str
    field: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.variable}: {self.field} {_text(self.before)} -> {_text(self.after)}"


@dataclass(frozen=True)
class GraphDiff:
    """The changes from one graph to another; false if there are none.

    Args:
        added: The variables that are new.
        removed: The variables that were removed.
        added_edges: The new edges, parent first.
        removed_edges: The removed edges.
        changed: The fields that differ, of variables in both graphs.
        stale: The variables of the later graph whose equation must be retrained: the new ones,
            and those whose own declaration, set of parents or parents' values changed.
        reasons: The reasons, by variable.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    added_edges: tuple[tuple[str, str], ...] = ()
    removed_edges: tuple[tuple[str, str], ...] = ()
    changed: tuple[Change, ...] = ()
    stale: frozenset[str] = frozenset()
    reasons: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)

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
        lines += [f"  {name}: {'; '.join(why)}" for name, why in sorted(self.reasons.items())]
        return "\n".join(lines)


def compare(before: "Graph", after: "Graph") -> GraphDiff:
    """Return the changes from one graph to another."""
    both = [name for name in after.variables if name in before.variables]
    new = [name for name in after.variables if name not in before.variables]
    # Compare equations by their hash: where it differs, the fitted mechanism is out of date.
    moved = [name for name in both if before.equation_hash(name) != after.equation_hash(name)]
    reasons = dict.fromkeys(new, (NEW,))
    for name in moved:
        reasons[name] = declaration_changes(declaration(before, name), declaration(after, name))
    return GraphDiff(
        added=tuple(new),
        removed=tuple(name for name in before.variables if name not in after.variables),
        added_edges=tuple(edge for edge in after.edges if edge not in set(before.edges)),
        removed_edges=tuple(edge for edge in before.edges if edge not in set(after.edges)),
        changed=tuple(change for name in both for change in _changes(before, after, name)),
        stale=frozenset((*new, *moved)),
        reasons=reasons,
    )


def declaration(graph: "Graph", name: str) -> dict[str, Any]:
    """Return the declaration of a variable and the domains of its parents, as JSON.

    Example:
        >>> from causalcxr.graph import Graph
        >>> declaration(Graph.load("mini"), "View")["parents"]["Age"]["range"]
        [0.0, 105.0]
    """
    variable = graph[name]
    return {
        "variable": variable.content,
        "parents": {parent: graph[parent].domain for parent in variable.parents},
    }


def declaration_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the changes from one declaration to another, in words.

    Args:
        before: The earlier result of `declaration`.
        after: The later result of `declaration`.

    Example:
        >>> from causalcxr.graph import Graph
        >>> graph = Graph.load("mini")
        >>> edited = graph.remove_edge("Age", "View")
        >>> declaration_changes(declaration(graph, "View"), declaration(edited, "View"))
        ('edge Age -> View removed',)
    """
    name = after["variable"]["name"]
    old, new = before["parents"], after["parents"]
    changes = [f"edge {parent} -> {name} added" for parent in new if parent not in old]
    changes += [f"edge {parent} -> {name} removed" for parent in old if parent not in new]
    changes += _fields(before["variable"], after["variable"], name="")
    changes += _options(before["variable"]["mechanism"], after["variable"]["mechanism"])
    for parent in (parent for parent in new if parent in old):
        changes += _fields(old[parent], new[parent], name=f"{parent}: ")
    return tuple(changes)


def _fields(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> list[str]:
    """Return the changed fields of a variable, except parents and mechanism."""
    return [
        f"{name}{key} {_text(before.get(key))} -> {_text(after.get(key))}"
        for key in after
        if key not in ("codes", "parents", "mechanism") and before.get(key) != after[key]
    ]


def _options(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """Return the changed options of a mechanism; an absent option is the default."""
    keys = [*before, *(key for key in after if key not in before)]
    return [
        f"mechanism {key} {_text(before.get(key, 'default'))} -> "
        f"{_text(after.get(key, 'default'))}"
        for key in keys
        if key not in not_learned(after["kind"]) and before.get(key) != after.get(key)
    ]


def _changes(before: "Graph", after: "Graph", name: str) -> list[Change]:
    old, new = before.variables[name].content, after.variables[name].content
    old["mechanism"], new["mechanism"] = (
        str(graph.variables[name].mechanism) for graph in (before, after)
    )
    return [
        Change(name, field, old.get(field), new.get(field))
        for field in dict.fromkeys([*old, *new])
        if field != "parents" and old.get(field) != new.get(field)
    ]


def _text(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_text, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_text(each)}' for key, each in value.items())}}}"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
