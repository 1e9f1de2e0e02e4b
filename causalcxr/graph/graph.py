"""The causal graph: variables, parents, order, edits, differences, hash."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from causalcxr.common.digests import json_digest
from causalcxr.common.errors import GraphError, brief, nearest
from causalcxr.common.files import atomic_write, read_text
from causalcxr.common.frozen_dict import FrozenDict
from causalcxr.graph import yaml_edits as graph_edits
from causalcxr.graph import yaml_file as graph_yaml
from causalcxr.graph.bundled import bundled_graph
from causalcxr.graph.diff import GraphDiff, compare, not_learned
from causalcxr.graph.mechanism_spec import GraphFault, MechanismSpec
from causalcxr.graph.rules import check_image, check_names, check_parents
from causalcxr.graph.structure import reachable, topological_order, without
from causalcxr.graph.variables import Variable, same_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from networkx import DiGraph

    from causalcxr.cohort.graph_test.result import GraphTest

__all__ = ["Graph", "GraphDiff", "MechanismSpec", "Variable"]


@dataclass(frozen=True, eq=False, repr=False)
class Graph:
    """The variables of a causal graph and its structure.

    A graph is immutable: an edit returns a new graph, which keeps the comments of the file that
    the old one was loaded from. Graphs are equal if their content is: names of graphs, comments,
    descriptions and the order of declaration do not count.

    Args:
        variables: The variables, in any order, or a map from their names.
        name: The name of the graph.

    Raises:
        GraphError: If the variables do not form a directed acyclic graph.

    Example:
        >>> graph = Graph([Variable("Age", "continuous"), Variable("Edema", "binary")], name="toy")
        >>> graph.add_edge("age", "edema").edges
        (('Age', 'Edema'),)
    """

    variables: Mapping[str, Variable]
    name: str = "graph"
    _document: graph_yaml.Document | None = None

    def __post_init__(self) -> None:
        given: Any = self.variables
        if isinstance(given, str | Path):
            raise GraphError(
                f"Graph({brief(str(given))}): a file is read by Graph.load, text by Graph.parse; "
                f"write Graph.load({brief(str(given))})"
            )
        listed = tuple(given.values() if isinstance(given, Mapping) else given)
        check_names(listed, self.name)
        variables = FrozenDict({variable.name: variable for variable in listed})
        object.__setattr__(self, "variables", variables)
        check_parents(variables)
        check_image(variables)
        self.order  # noqa: B018  # raises for a cycle now, not at the first use

    @classmethod
    def load(cls, path: str | Path) -> "Graph":
        """Read a graph from a YAML file, or a bundled graph by its name.

        Args:
            path: A file, or a bare name such as `cxr7`.

        Raises:
            GraphError: If the file cannot be read, with its line, the rule and the remedy.

        Example:
            >>> len(Graph.load("cxr7").tabular)
            19
        """
        bare = isinstance(path, str) and re.fullmatch(r"[A-Za-z0-9_-]+", path)
        file = bundled_graph(path) if bare else Path(path)
        text = read_text(file, error=GraphError)
        return cls._from_text(text, file.name if bare else str(path), file.stem)

    @classmethod
    def parse(cls, text: str, name: str = "<text>") -> "Graph":
        """Read a graph from YAML.

        Args:
            text: The content of a graph file.
            name: The name of the text in messages.

        Example:
            >>> Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")["Sex"].levels
            ('F', 'M')
        """
        return cls._from_text(text.removeprefix("\ufeff"), name, "graph")

    @classmethod
    def _from_text(cls, text: str, source: str, name: str) -> "Graph":
        document = graph_yaml.read(text, source)
        try:
            return cls(document.variables, document.name or name, document)
        except GraphFault as fault:
            raise document.located(fault) from None

    def to_yaml(self) -> str:
        """Return the YAML of the graph, with the comments of the file it was loaded from."""
        if self._document is not None:
            text = graph_edits.edited(self._document, self.variables)
            if graph_edits.matches(text, self.variables):
                return text
        return graph_yaml.write(self.name, self.variables)

    def save(self, path: str | Path) -> Path:
        """Write the YAML of the graph, completely or not at all."""
        try:
            return atomic_write(path, self.to_yaml())
        except OSError as fault:
            raise GraphError(f"{path}: cannot be written ({fault.strerror})") from None

    # Structure

    @cached_property
    def order(self) -> tuple[str, ...]:
        """The names, parents before children, else as declared."""
        return topological_order(self.variables, self._children)

    @cached_property
    def layers(self) -> dict[str, int]:
        """For each variable, the number of edges on the longest path from a root."""
        layers: dict[str, int] = {}
        for name in self.order:
            layers[name] = max((layers[parent] + 1 for parent in self.parents(name)), default=0)
        return layers

    @cached_property
    def _children(self) -> dict[str, tuple[str, ...]]:
        children: dict[str, list[str]] = {name: [] for name in self.variables}
        for variable in self.variables.values():
            for parent in variable.parents:
                children[parent].append(variable.name)
        return {name: tuple(names) for name, names in children.items()}

    @cached_property
    def _spellings(self) -> dict[str, str]:
        return {same_name(name): name for name in self.variables}

    def find(self, name: str) -> str:
        """Return the name of a variable, whatever the case and with `_` or `-` for a space.

        Example:
            >>> Graph.load("cxr7").find("pleural_effusion")
            'Pleural Effusion'

        Raises:
            GraphError: If there is no such variable, with the nearest name.
        """
        if name in self.variables:
            return name
        match = self._spellings.get(same_name(name)) if isinstance(name, str) else None
        if match is None:
            hint = nearest(name, self.variables)
            hint = hint or f" (variables: {', '.join(self.variables)})"
            raise GraphError(f"no variable {brief(name)} in graph {self.name!r}{hint}")
        return match

    def parents(self, name: str) -> tuple[str, ...]:
        """Return the direct causes of a variable, in alphabetical order."""
        return self[name].parents

    def children(self, name: str) -> tuple[str, ...]:
        """Return the direct effects of a variable."""
        return self._children[self.find(name)]

    def ancestors(self, *names: str) -> frozenset[str]:
        """Return the ancestors of the variables, without these."""
        parents = {name: variable.parents for name, variable in self.variables.items()}
        return reachable(map(self.find, names), parents)

    def descendants(self, *names: str) -> frozenset[str]:
        """Return the descendants of the variables, without these."""
        return reachable(map(self.find, names), self._children)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """The edges, parent first, child by child as declared."""
        return tuple(
            (parent, child.name) for child in self.variables.values() for parent in child.parents
        )

    @property
    def roots(self) -> tuple[str, ...]:
        """The variables without parents."""
        return tuple(name for name, variable in self.variables.items() if not variable.parents)

    @property
    def tabular(self) -> tuple[str, ...]:
        """The variables of the table: all but the image."""
        return tuple(name for name, variable in self.variables.items() if not variable.is_image)

    @property
    def image(self) -> str | None:
        """The name of the image, if there is one."""
        return next((name for name, each in self.variables.items() if each.is_image), None)

    def __getitem__(self, name: str) -> Variable:
        return self.variables[self.find(name)]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and same_name(name) in self._spellings

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)

    def _with(self, variables: Mapping[str, Variable]) -> "Graph":
        return Graph(variables, self.name, self._document)

    def add_edge(self, parent: str, child: str) -> "Graph":
        """Return the graph with one more edge.

        Raises:
            GraphError: If the edge exists already, or would close a cycle.
        """
        parent, child = self.find(parent), self.find(child)
        if parent in self.parents(child):
            raise GraphError(f"edge {parent!r} -> {child!r} is in graph {self.name!r} already")
        changed = self[child].replace(parents=(*self.parents(child), parent))
        return self.with_variable(changed)

    def remove_edge(self, parent: str, child: str) -> "Graph":
        """Return the graph with one edge less.

        Raises:
            GraphError: If there is no such edge.
        """
        parent, child = self.find(parent), self.find(child)
        left = tuple(name for name in self.parents(child) if name != parent)
        if left == self.parents(child):
            names = ", ".join(left) or "none"
            text = f"no edge {parent!r} -> {child!r} in graph {self.name!r}"
            raise GraphError(f"{text}; the parents of {child!r}: {names}")
        return self.with_variable(self[child].replace(parents=left))

    def with_variable(self, variable: Variable) -> "Graph":
        """Return the graph with a variable added, or replaced if the name exists."""
        return self._with({**self.variables, variable.name: variable})

    def without_variable(self, name: str) -> "Graph":
        """Return the graph without a variable and without its edges."""
        return self._with(without(self.variables, self.find(name)))

    # Identity

    @cached_property
    def hash(self) -> str:
        """The SHA-256 of the content, in hexadecimal."""
        return json_digest([self.variables[name].content for name in sorted(self.variables)])

    def equation_hash(self, name: str) -> str:
        """Return the SHA-256 of everything that the learned equation of a variable depends on.

        That is the variable with its mechanism, and the values that its parents can take. The
        equations of the parents do not enter, so that an edit upstream does not change it.
        """
        content = self[name].content
        content.pop("codes", None)  # codes affect the reading of tables, not learning
        for option in not_learned(content["mechanism"]["kind"]):
            content["mechanism"].pop(option, None)
        return json_digest([content, *(self[parent].domain for parent in self[name].parents)])

    def diff(self, other: "Graph") -> GraphDiff:
        """Return the changes from this graph to another, and the equations that become stale."""
        return compare(self, other)

    def to_networkx(self) -> "DiGraph":
        """Return the edges as a networkx graph, for d-separation, paths and export.

        Example:
            >>> import networkx as nx
            >>> graph = Graph.load("cxr7").to_networkx()
            >>> nx.is_d_separator(graph, "Age", "Consolidation", {"Pneumonia"})
            True
        """
        from networkx import DiGraph

        (graph := DiGraph(self.edges, name=self.name)).add_nodes_from(self.variables)
        return graph

    def draw(
        self,
        path: str | Path | None = None,
        values: Mapping[str, Any] | None = None,
        changed: str | Iterable[str] = (),
        ax: "Axes | None" = None,
    ) -> "Figure":
        """Draw the graph; see `causalcxr.graph.drawing.draw`.

        Args:
            path: Also write the drawing to this file: `.png`, `.svg` or `.pdf`.
            values: Texts below the names, such as one patient's record.
            changed: The names to highlight, such as those changed by an intervention.
            ax: Axes to draw on; by default those of a new figure.
        """
        from causalcxr.graph.drawing import draw

        return draw(self, path, values, (changed,) if isinstance(changed, str) else changed, ax)

    def test(
        self,
        cohort: Any,
        *,
        alpha: float = 0.05,
        least: float = 0.02,
        permutations: int = 20,
        edits: int = 20,
        seed: int = 0,
    ) -> "GraphTest":
        """Test what it implies on records; see `cohort.graph_test.testing.run_graph_test`."""
        given = locals()  # all of the arguments
        # Cohorts are built on graphs, so their package comes later: found by name when called.
        testing = import_module("causalcxr.cohort.graph_test")
        return testing.run_graph_test(given.pop("self"), **given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Graph) and self.hash == other.hash

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        counts = f"{len(self)} variables, {len(self.edges)} edges"
        return f"Graph({self.name!r}: {counts}, {self.hash[:8]})"

    def __copy__(self) -> "Graph":
        return self

    def __deepcopy__(self, memo: dict) -> "Graph":
        return self
