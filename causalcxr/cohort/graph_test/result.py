"""The result of a test of a graph."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from causalcxr.common.result import Shown
from causalcxr.graph.graph import Graph

if TYPE_CHECKING:
    from causalcxr.common.figure import Page

__all__ = ["GraphTest"]

_VERDICTS = ("violated", "negligible", "undecided", "holds", "untested")


class GraphTest(Shown):
    """What the data say about a graph.

    Args:
        graph: The graph.
        independences: One row per implied independence.
        edges: One row per edge between recorded variables.
        additions: The edges that the data ask for, in the order in which they were added.
        permuted: One row per permuted graph: violated and tested independences.
        about: The settings and what is not recorded.
    """

    def __init__(
        self,
        graph: Graph,
        independences: pd.DataFrame,
        edges: pd.DataFrame,
        additions: pd.DataFrame,
        permuted: pd.DataFrame,
        about: Mapping[str, Any],
    ) -> None:
        self.graph = graph
        order = independences["verdict"].map(_VERDICTS.index)
        independences = independences.assign(order=order).sort_values(
            ["order", "effect"], ascending=[True, False], kind="stable"
        )
        self._independences = independences.drop(columns="order").reset_index(drop=True)
        self._edges = edges.sort_values("effect", kind="stable").reset_index(drop=True)
        self._additions, self._permuted, self._about = additions, permuted, dict(about)

    @property
    def table(self) -> pd.DataFrame:
        """The implied independences, violated ones first, the strongest first.

        Columns: variable, other, given, n, statistic, df, p, q, effect with its 95 % interval,
        the observed and expected records of the rarer levels, verdict, and the reason if untested.
        """
        return self._independences.copy()

    @property
    def violated(self) -> pd.DataFrame:
        """The rows of `table` that are significant and not negligible."""
        return self._rows("violated")

    @property
    def untested(self) -> pd.DataFrame:
        """The rows of `table` that the data cannot answer, with the reason."""
        return self._rows("untested")

    @property
    def edges(self) -> pd.DataFrame:
        """The edges, the weakest first: needed, not needed, undecided or untested."""
        return self._edges.copy()

    @property
    def removals(self) -> pd.DataFrame:
        """The edges that are not needed: the upper end of their effect is negligible."""
        return self._edges[self._edges["verdict"] == "not needed"].reset_index(drop=True)

    @property
    def additions(self) -> pd.DataFrame:
        """The edges that the data ask for, each given those before.

        `either` is true where both directions are possible: the test has no direction, and the
        edge is listed in the order of the graph.
        """
        return self._additions.copy()

    @property
    def permuted(self) -> pd.DataFrame:
        """Per permuted graph: violated and tested independences, `strength`, `equivalent`.

        An equivalent graph implies the same independences as the given one.
        """
        return self._permuted.copy()

    @property
    def strength(self) -> float:
        """The sum of the squared partial correlations of the violated independences."""
        return float((self.violated["effect"] ** 2).sum())

    @property
    def as_good(self) -> float:
        """The share of permuted graphs with at most as many violations; NaN without any.

        With N permutations the p-value of the graph against chance is (1 + N times this) over
        (1 + N).
        """
        if not len(self._permuted):
            return float("nan")
        return float((self._permuted["violated"] <= len(self.violated)).mean())

    @property
    def about(self) -> dict[str, Any]:
        """The settings of the question, for a manifest."""
        return dict(self._about)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """Every table, as it is written."""
        return {
            "independences": self.table,
            "edges": self.edges,
            "additions": self.additions,
            "permuted": self.permuted,
        }

    @property
    def heading(self) -> str:
        """How many independences are violated, and how many in permuted graphs."""
        tested = len(self._independences) - len(self.untested)
        about = self._about
        records = f"{about['records']:,} records of {about['patients']:,} patients"
        text = f"{len(self.violated)} of {tested} implied independences are violated on {records}"
        if len(self._permuted):
            counts = self._permuted["violated"]
            good = round(self.as_good * len(counts))
            text += (
                f"; {good} of {len(counts)} permuted graphs are as good (median "
                f"{counts.median():g} violated)"
            )
        return f"{text}; false discovery rate {about['alpha']:g}, least {about['least']:g}"

    def summary(self) -> pd.DataFrame:
        """Return one row per suggested edit and violation, and one with the counts of verdicts."""
        rows = [
            (
                "add",
                f"{row['parent']} {'--' if row['either'] else '->'} {row['child']}",
                *_cells(row),
            )
            for _, row in self._additions.iterrows()
        ]
        rows += [
            ("remove", f"{row['parent']} -> {row['child']}", *_cells(row))
            for _, row in self.removals.iterrows()
        ]
        rows += [("violated", _words(row), *_cells(row)) for _, row in self.violated.iterrows()]
        counts = self._independences["verdict"].value_counts()
        words = ", ".join(f"{counts.get(each, 0)} {each}" for each in _VERDICTS)
        rows.append(("verdicts", words, None, None, None, None))
        columns = ["what", "where", "effect", "low", "high", "q"]
        table = pd.DataFrame(rows, columns=columns)
        return table.set_index("what")

    def plot(self, path: str | Path | None = None) -> "Page":
        """Draw the graph with the violated independences.

        Args:
            path: A file to write the picture to, PNG.
        """
        from causalcxr.cohort.graph_test.plot import draw

        return draw(self, path)

    def _rows(self, verdict: str) -> pd.DataFrame:
        table = self._independences
        return table[table["verdict"] == verdict].reset_index(drop=True)


def _cells(row: pd.Series) -> tuple[float, float, float, float]:
    return row["effect"], row["low"], row["high"], row["q"]


def _words(row: pd.Series) -> str:
    given = f" | {row['given']}" if row["given"] else ""
    return f"{row['variable']}, {row['other']}{given}"
