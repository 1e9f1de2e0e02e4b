"""The conditional independences that a graph implies: its local Markov property."""

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

from causalcxr.graph.structure import reachable

if TYPE_CHECKING:
    from networkx import DiGraph

__all__ = ["Parents", "Statement", "edge_statement", "implied", "is_same_class"]

Parents = Mapping[str, tuple[str, ...]]


class Statement(NamedTuple):
    """`child` is independent of `other` given a set of variables.

    Args:
        child: The variable whose parents are the conditioning set.
        other: A variable that is not its descendant.
        given: The conditioning set, sorted; None if no recorded set separates the two.
    """

    child: str
    other: str
    given: tuple[str, ...] | None

    @property
    def key(self) -> tuple[frozenset[str], tuple[str, ...] | None]:
        """The statement without its order: independence is symmetric."""
        return frozenset((self.child, self.other)), self.given

    def __str__(self) -> str:
        given = f" given {', '.join(self.given)}" if self.given else ""
        return f"{self.child} is independent of {self.other}{given}"


def implied(
    parents: Parents, recorded: Collection[str], derived: Collection[str] = ()
) -> list[Statement]:
    """Return the independences of a graph, one for each pair and conditioning set.

    A variable is independent of each non-descendant given its parents. If a parent is not
    recorded, any recorded set that separates the pair in the graph takes its place. A variable
    that a rule derives has no statement as a child: given its parents it is constant.

    Args:
        parents: The parents of each variable.
        recorded: The variables with data.
        derived: The variables that are derived by a rule.

    Example:
        >>> chain = {"A": (), "B": ("A",), "C": ("B",)}
        >>> [str(each) for each in implied(chain, "ABC")]
        ['C is independent of A given B']
        >>> implied(chain, "AC")[0].given is None
        True
    """
    children = _children(parents)
    graph = None if set(parents) <= set(recorded) else _networkx(parents)
    found: dict[tuple, Statement] = {}
    for child, own in parents.items():
        if child not in recorded or child in derived:
            continue
        excluded = {child, *own, *reachable([child], children)}
        for other in parents:
            if other in excluded or other not in recorded:
                continue
            statement = Statement(child, other, _given(graph, child, other, own, recorded))
            found.setdefault(statement.key, statement)
    return list(found.values())


def edge_statement(
    parents: Parents, edge: tuple[str, str], recorded: Collection[str]
) -> Statement:
    """Return the independence that the graph without an edge would imply.

    Example:
        >>> edge_statement({"A": (), "B": ("A",), "C": ("A", "B")}, ("A", "C"), "ABC").given
        ('B',)
    """
    parent, child = edge
    own = tuple(name for name in parents[child] if name != parent)
    without = {**parents, child: own}
    graph = None if set(parents) <= set(recorded) else _networkx(without)
    return Statement(child, parent, _given(graph, child, parent, own, recorded))


def is_same_class(one: Parents, other: Parents) -> bool:
    """Return whether two graphs imply the same independences: same edges and colliders.

    References:
        Verma & Pearl, Equivalence and synthesis of causal models, 1990.

    Example:
        >>> chain, fork = {"A": (), "B": ("A",), "C": ("B",)}, {"B": (), "A": ("B",), "C": ("B",)}
        >>> is_same_class(chain, fork), is_same_class(chain, {"A": (), "C": (), "B": ("A", "C")})
        (True, False)
    """
    return _skeleton(one) == _skeleton(other) and _colliders(one) == _colliders(other)


def _given(
    graph: "DiGraph | None",
    child: str,
    other: str,
    own: tuple[str, ...],
    recorded: Collection[str],
) -> tuple[str, ...] | None:
    if set(own) <= set(recorded):
        return tuple(sorted(own))
    import networkx as nx

    allowed = set(recorded) - {child, other}
    separator = nx.find_minimal_d_separator(graph, child, other, restricted=allowed)
    return None if separator is None else tuple(sorted(separator))


def _networkx(parents: Parents) -> "DiGraph":
    from networkx import DiGraph

    graph = DiGraph()
    graph.add_nodes_from(parents)
    graph.add_edges_from((parent, child) for child, own in parents.items() for parent in own)
    return graph


def _children(parents: Parents) -> dict[str, list[str]]:
    children: dict[str, list[str]] = {name: [] for name in parents}
    for child, own in parents.items():
        for parent in own:
            children[parent].append(child)
    return children


def _skeleton(parents: Parents) -> set[frozenset[str]]:
    return {frozenset((parent, child)) for child, own in parents.items() for parent in own}


def _colliders(parents: Parents) -> set[tuple[frozenset[str], str]]:
    """Return the pairs of parents of a common child that no edge joins."""
    edges = _skeleton(parents)
    pairs = {
        (frozenset((one, other)), child)
        for child, own in parents.items()
        for one in own
        for other in own
        if one < other
    }
    return {(pair, child) for pair, child in pairs if pair not in edges}
