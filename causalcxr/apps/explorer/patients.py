"""Choosing a patient: filters over a cohort, pages of thumbnails, controls for each variable."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalcxr.apps.explorer.pictures import grey, thumbnail
from causalcxr.apps.explorer.question import worded_value
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph.graph import Graph
from causalcxr.graph.variables import Variable

__all__ = ["Ward", "controls", "doses"]

PAGE = 12  # thumbnails at a time
_CAPTION = 3  # variables under a thumbnail
_DOSES = 7


class Ward:
    """The patients of one cohort under one graph, to look through.

    Args:
        cohort: The records.
        graph: What the columns mean.

    Raises:
        CohortError: If a value is none that the graph declares.
    """

    def __init__(self, cohort: Cohort, graph: Graph) -> None:
        self.cohort, self.graph = cohort, graph
        self.columns = cohort.columns(graph)
        images = cohort.images
        self._seen = np.zeros(len(cohort), bool) if images is None else images.available

    def page(self, filters: Mapping[str, Mapping[str, Any]], number: int = 0) -> dict[str, Any]:
        """Return one page of the records that pass all filters, those with an image first.

        Args:
            filters: Variable -> {"level"} ("" for missing), or {"low", "high"} or one of them.
            number: Of the page, from 0.

        Raises:
            CohortError: If a filter is none of the graph's.
        """
        keep = np.ones(len(self.cohort), bool)
        for name, rule in filters.items():
            keep &= self._passes(name, rule)
        rows = np.flatnonzero(keep)
        rows = rows[np.argsort(~self._seen[rows], kind="stable")]
        pages = max(1, -(-len(rows) // PAGE))
        number = min(max(number, 0), pages - 1)
        shown = rows[number * PAGE : (number + 1) * PAGE]
        items = [self._item(int(row)) for row in shown]
        return {"found": len(rows), "page": number, "pages": pages, "items": items}

    def thumbnail(self, row: int) -> bytes:
        """Return the small picture of a record, PNG.

        Raises:
            CohortError: If it has none.
        """
        if not (0 <= row < len(self.cohort) and self._seen[row]):
            raise CohortError("this record has no image")
        image = self.cohort.images.select([row])
        return thumbnail(grey(image[0]), synthetic=bool(image.synthetic[0]))

    def _item(self, row: int) -> dict[str, Any]:
        told = [self._word(name, row) for name in self.graph.tabular[:_CAPTION]]
        label = str(self.cohort.records[row])
        image = bool(self._seen[row])
        return {"row": row, "label": label, "caption": " · ".join(told), "image": image}

    def _word(self, name: str, row: int) -> str:
        word = worded_value(self.graph[name], float(self.columns[name][row]))
        return f"{name} {word}"

    def _passes(self, name: str, rule: Mapping[str, Any]) -> np.ndarray:
        if name not in self.columns:
            raise CohortError(f"no variable {name!r} to filter by")
        column, levels = self.columns[name], self.graph[name].levels
        if "level" in rule:
            level = str(rule["level"])
            if not level:
                return np.isnan(column)
            if level not in levels:
                raise CohortError(f"{name} has no level {level!r}; it has {', '.join(levels)}")
            return column == levels.index(level)
        ends = rule.get("low", -np.inf), rule.get("high", np.inf)
        try:
            low, high = (float(end) for end in ends)
        except (ValueError, OverflowError):
            raise CohortError(f"{name}: give numbers from and to, or a level") from None
        return (column >= low) & (column <= high)


def controls(graph: Graph, columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return what a page needs to let each variable be set: its levels, or its range and step.

    Args:
        graph: The graph.
        columns: Of a cohort, for numbers without a declared range.
    """
    return [
        {"name": name, "levels": list(variable.levels), "parents": list(variable.parents)}
        | (_slider(variable, columns[name]) if not variable.is_discrete else {})
        for name, variable in ((name, graph[name]) for name in graph.tabular)
    ]


def doses(variable: Variable, column: np.ndarray) -> list[float]:
    """Return evenly spaced values between the 5th and 95th percentile of a cohort.

    Raises:
        CohortError: If the variable has levels, or the cohort has no value of it.

    Example:
        >>> age = Variable("Age", "continuous", range=[0, 105], resolution=1)
        >>> doses(age, np.arange(101.0))
        [5.0, 20.0, 35.0, 50.0, 65.0, 80.0, 95.0]
    """
    known = column[~np.isnan(column)]
    if variable.is_discrete or not len(known):
        raise CohortError(f"{variable.name}: no numbers to vary; choose another variable")
    low, high = np.quantile(known, [0.05, 0.95])
    step = variable.resolution or 10.0 ** (np.floor(np.log10(max(high - low, 1e-9))) - 2)
    values = np.round(np.linspace(low, high, _DOSES) / step) * step
    return [float(value) for value in dict.fromkeys(np.round(values, 9))]


def _slider(variable: Variable, column: np.ndarray) -> dict[str, Any]:
    known = column[~np.isnan(column)]
    low, high = variable.range or ((known.min(), known.max()) if len(known) else (0.0, 1.0))
    step = variable.resolution or (high - low) / 200 or 1.0
    return {"low": float(low), "high": float(high), "step": step, "unit": variable.unit or ""}
