"""Test a graph on a cohort: implied independences, edges, permuted graphs, suggested edits."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import false_discovery_control

from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.cohort.graph_test.conditional_tests import ConditionalTests, Outcome
from causalcxr.cohort.graph_test.features import features_of
from causalcxr.cohort.graph_test.result import GraphTest
from causalcxr.cohort.graph_test.statements import (
    Parents,
    Statement,
    edge_statement,
    implied,
    is_same_class,
)
from causalcxr.common.errors import CohortError
from causalcxr.common.progress import Progress
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.graph import Graph
from causalcxr.graph.structure import reachable

__all__ = ["run_graph_test"]


@dataclass(frozen=True)
class _Rule:
    """What counts as a violation.

    Args:
        alpha: The false discovery rate of a family of tests.
        least: Smaller partial correlations are negligible.
    """

    alpha: float
    least: float

    def table(self, statements: Sequence[Statement], outcomes: Sequence[Outcome]) -> pd.DataFrame:
        """Return one row per statement, tests corrected together, with a verdict."""
        rows = [
            {
                "variable": each.child,
                "other": each.other,
                "given": ", ".join(each.given or ()),
                **outcome._asdict(),
            }
            for each, outcome in zip(statements, outcomes, strict=True)
        ]
        columns = ["variable", "other", "given", *Outcome._fields]
        table = pd.DataFrame(rows, columns=columns)
        p = table["p"].to_numpy(dtype=np.float64)
        tested = ~np.isnan(p)
        q = np.full(len(p), np.nan)
        if tested.any():
            q[tested] = false_discovery_control(p[tested])
        table.insert(table.columns.get_loc("p") + 1, "q", q)
        table["verdict"] = self._verdicts(table)
        return table

    def _verdicts(self, table: pd.DataFrame) -> np.ndarray:
        significant = table["q"] <= self.alpha
        is_large = table["effect"] >= self.least
        conditions = [
            table["reason"] != "",
            significant & is_large,
            table["high"] < self.least,
            significant,
        ]
        verdicts = ["untested", "violated", "holds", "negligible"]
        return np.select(conditions, verdicts, "undecided")


def run_graph_test(
    graph: Graph,
    cohort: Records,
    *,
    alpha: float = 0.05,
    least: float = 0.02,
    permutations: int = 20,
    edits: int = 20,
    seed: int = 0,
) -> GraphTest:
    """Test what a graph implies about the records of a cohort.

    Each variable is independent of its non-descendants given its parents. Every such statement is
    tested, and so is every edge, by the independence that the graph without it would imply. The
    same statements are tested for graphs whose names are permuted: a graph that is no better than
    these is not supported by the data. Edges are added one at a time where the violation is
    largest. All records with the values that a test needs are used; records of a patient are
    not taken as independent.

    Args:
        graph: The graph.
        cohort: The records.
        alpha: The false discovery rate (Benjamini-Hochberg), for the independences and for the
            edges.
        least: Partial correlations below are negligible, however significant.
        permutations: The number of permuted graphs.
        edits: The largest number of edges to add.
        seed: Of the permutations.

    Returns:
        The result. A statement that the data cannot decide is listed with the reason.

    Raises:
        CohortError: If an argument is out of range, or fewer than two variables are recorded.

    References:
        Eulig et al., Toward falsifying causal graphs using a permutation-based test,
        arXiv:2305.09565.

    Example:
        >>> chain = "A: {type: binary}, B: {type: binary, parents: [A]}, C: {type: binary}"
        >>> rng = np.random.default_rng(0)
        >>> a = rng.random(900) < 0.5
        >>> b, c = a ^ (rng.random(900) < 0.2), a ^ (rng.random(900) < 0.2)
        >>> table = pd.DataFrame({k: np.where(v, "P", "N") for k, v in zip("ABC", (a, b, c))})
        >>> result = run_graph_test(Graph.parse(f"variables: {{{chain}}}"), table)
        >>> result.additions[["parent", "child", "either"]].values.tolist()
        [['A', 'C', True]]
    """
    _check_arguments(alpha, least, permutations, edits)
    cohort = as_cohort(cohort)
    rule, data = _Rule(alpha, least), _data(graph, cohort)
    parents = {name: graph.parents(name) for name in graph.order if name in graph.tabular}
    derived = {name for name in parents if graph[name].mechanism.kind == "derived"}
    world = _World(parents, data.recorded, derived, data.tests, rule)
    with Progress("Testing the graph", total=permutations + edits + 2, unit="steps") as count:
        independences = world.independences(parents)
        count.add()
        edges = world.edges()
        count.add()
        additions = world.additions(edits, count)
        permuted = world.permuted(permutations, seed, count)
    about = {
        "records": len(cohort),
        "patients": int(cohort.patients.nunique()),
        "alpha": alpha,
        "least": least,
        "permutations": permutations,
        "edits": edits,
        "seed": seed,
        "unrecorded": data.unrecorded,
        "derived": sorted(derived),
    }
    return GraphTest(graph, independences, edges, additions, permuted, about)


@dataclass(frozen=True)
class _Data:
    tests: ConditionalTests
    recorded: set[str]
    unrecorded: list[str]


def _data(graph: Graph, cohort: Any) -> _Data:
    """Return the features of every variable, and the variables with data."""
    columns = cohort.columns(graph)
    recorded = [name for name, column in columns.items() if not np.isnan(column).all()]
    if len(recorded) < 2:
        raise CohortError(
            f"graph test: {len(recorded)} variables of graph {graph.name!r} are recorded; two "
            "are needed"
        )
    features = {name: features_of(graph[name], columns[name]) for name in recorded}
    patients = pd.factorize(cohort.patients)[0]
    unrecorded = [name for name in columns if name not in set(recorded)]
    return _Data(ConditionalTests(features, patients, unrecorded), set(recorded), unrecorded)


class _World:
    """A graph, as parents of each variable, with the tests of one set of records."""

    def __init__(
        self,
        parents: Parents,
        recorded: set[str],
        derived: set[str],
        tests: ConditionalTests,
        rule: _Rule,
    ) -> None:
        self.parents, self.recorded, self.derived = parents, recorded, derived
        self.tests, self.rule = tests, rule

    def independences(self, parents: Parents) -> pd.DataFrame:
        """Test the independences that a graph implies."""
        statements = implied(parents, self.recorded, self.derived)
        return self.rule.table(statements, self.tests.test(statements))

    def edges(self) -> pd.DataFrame:
        """Test each edge between recorded variables, except those of rules."""
        edges = [
            (parent, child)
            for child, own in self.parents.items()
            for parent in own
            if {parent, child} <= self.recorded and child not in self.derived
        ]
        statements = [edge_statement(self.parents, edge, self.recorded) for edge in edges]
        table = self.rule.table(statements, self.tests.test(statements))
        table = table.rename(columns={"variable": "child", "other": "parent"})
        table["verdict"] = table["verdict"].replace(
            {"violated": "needed", "holds": "not needed", "negligible": "undecided"}
        )
        return table[["parent", *(name for name in table if name != "parent")]]

    def additions(self, edits: int, count: Progress) -> pd.DataFrame:
        """Add the edge of the largest violation, test again, and so on."""
        parents, rows = dict(self.parents), []
        for step in range(edits):
            table = self.independences(parents)
            violated = table[table["verdict"] == "violated"]
            count.add()
            if not len(violated):
                count.add(edits - step - 1)
                break
            worst = violated.loc[violated["effect"].idxmax()]
            child, parent = worst["variable"], worst["other"]
            either = parent not in reachable([child], parents)
            if either and self.later(parent, child) and parent not in self.derived:
                parent, child = child, parent
            rows.append(
                {
                    "parent": parent,
                    "child": child,
                    **worst.drop(["variable", "other", "reason", "verdict"]),
                    "either": either,
                    "violated before": len(violated),
                }
            )
            parents[child] = (*parents[child], parent)
        names = ["parent", "child", *Outcome._fields[:-1], "q", "given", "either"]
        return pd.DataFrame(rows, columns=None if rows else [*names, "violated before"])

    def later(self, one: str, other: str) -> bool:
        """Whether the graph declares one variable after another, causes first."""
        order = list(self.parents)
        return order.index(one) > order.index(other)

    def permuted(self, permutations: int, seed: int, count: Progress) -> pd.DataFrame:
        """Test graphs whose recorded names are permuted, except variables derived by a rule."""
        names = [name for name in self.parents if name in self.recorded - self.derived]
        rows = []
        for k in range(permutations):
            keys = Draws(np.arange(len(names), dtype=np.uint64), seed, "graph test", k).uniform()
            order = np.argsort(keys[:, 0], kind="stable")
            new = dict(zip(names, (names[at] for at in order), strict=True))
            parents = {
                new.get(child, child): tuple(new.get(each, each) for each in own)
                for child, own in self.parents.items()
            }
            table = self.independences(parents)
            violated = table[table["verdict"] == "violated"]
            rows.append(
                {
                    "violated": len(violated),
                    "tested": int((table["verdict"] != "untested").sum()),
                    "strength": float((violated["effect"] ** 2).sum()),
                    "equivalent": is_same_class(parents, self.parents),
                }
            )
            count.add()
        return pd.DataFrame(rows, columns=["violated", "tested", "strength", "equivalent"])


def _check_arguments(alpha: float, least: float, permutations: int, edits: int) -> None:
    if not 0 < alpha < 1:
        raise CohortError(f"graph test: alpha {alpha:g} must be between 0 and 1, such as 0.05")
    if not 0 <= least < 1:
        raise CohortError(f"graph test: least {least:g} must be from 0 to below 1, such as 0.02")
    if permutations < 0 or edits < 0:
        raise CohortError("graph test: permutations and edits must not be negative")
