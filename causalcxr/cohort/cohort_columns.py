"""Cohort columns: conversion of a table in raw units to codes for equations, and back."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from causalcxr.cohort.columns import encode, frame, matches, no_column, replace
from causalcxr.graph.graph import Graph

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort

__all__ = ["CohortColumns"]


class CohortColumns:
    """The methods of a `Cohort` that read and replace columns."""

    @property
    def words(self) -> dict[str, np.ndarray]:
        """By column, shape (n,), the words for missing values in a file; "" elsewhere."""
        return {name: each for name, each in self._words.items() if name in self._table}

    def columns(self, graph: Graph, *, beyond_range: bool = False) -> dict[str, np.ndarray]:
        """Return every tabular variable of a graph as the equations read it.

        Args:
            graph: The graph.
            beyond_range: Whether numbers may lie outside their range, as those of twins may
                after an intervention.

        Returns:
            Shape (n,) each, float64: positions of levels, or numbers; NaN if missing, all NaN
            if the table has no such column.

        Raises:
            CohortError: If a value is not a level, not a finite number, or outside its range, or
                no column is a variable.
        """
        headings = matches(graph, self._table.columns, self._place)
        if not headings and graph.tabular and len(self._table.columns):
            raise no_column(graph, self._table.columns, self._place)
        table = self.as_declared(graph)._table
        return {
            name: encode(
                table[headings[name]],
                graph.variables[name],
                self._place,
                beyond_range=beyond_range,
            )
            if name in headings
            else np.full(len(self), np.nan)
            for name in graph.tabular
        }

    def with_columns(
        self,
        graph: Graph,
        columns: Mapping[str, np.ndarray],
        old: Mapping[str, np.ndarray] | None = None,
    ) -> "Cohort":
        """Return the cohort with some columns replaced, in raw units; the images stay.

        A value that does not change stays bit-exact and keeps its spelling; other columns are
        kept.

        Args:
            graph: The graph.
            columns: Shape (n,) each, as `columns` returns them.
            old: The result of `columns` for this cohort, if available, to save time.

        Raises:
            CohortError: If there is not one new value for each record, or the graph does not
                declare a value.
        """
        headings = matches(graph, self._table.columns, self._place)
        table = self._table.copy(deep=False)  # columns are replaced, never modified
        for name, column in columns.items():
            variable = graph.variables[graph.find(name)]
            if variable.name in headings:
                values = self._table[headings[variable.name]]
                previous = (old or {}).get(variable.name)
                table[headings[variable.name]] = replace(values, column, variable, previous)
            else:
                fresh = frame(graph, {name: column}, self.index)[variable.name]
                # A new column without a single value would add nothing.
                if not fresh.isna().all():
                    table[variable.name] = fresh
        return self._copy(_table=table)

    def remembering(self, words: Mapping[str, np.ndarray]) -> "Cohort":
        """Return the cohort with the words of the cells that were read as missing.

        Args:
            words: By column, shape (n,): the word, or "".
        """
        kept = {name: np.asarray(each, dtype=object) for name, each in words.items() if any(each)}
        return self._copy(_words=kept)

    def as_declared(self, graph: Graph) -> "Cohort":
        """Return the cohort with missing cells filled in if their word is a level of a graph.

        `NA` in a file is missing, unless the graph declares a level `NA`.

        Example:
            >>> from causalcxr import Cohort
            >>> cohort = Cohort(pd.DataFrame({"Race": [None]})).remembering({"Race": ["NA"]})
            >>> graph = Graph.parse("variables: {Race: {type: binary, levels: [Asian, NA]}}")
            >>> cohort.as_declared(graph).table["Race"].tolist()
            ['NA']
        """
        table, words = self._table.copy(deep=False), self.words
        for name in self.words:
            words_of_graph = (*graph[name].levels, *graph[name].codes) if name in graph else ()
            filled = np.isin(self._words[name], words_of_graph) & table[name].isna().to_numpy()
            if filled.any():
                cells = table[name].to_numpy(dtype=object, copy=True)
                cells[filled] = self._words[name][filled]
                table[name] = pd.Series(cells, index=table.index).infer_objects()
                del words[name]
        return self if words == self._words else self._copy(_table=table, _words=words)
