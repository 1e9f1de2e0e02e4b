"""Choosing a patient: filters over a cohort, pages of thumbnails, controls for each variable."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from causalcxr.apps.explorer.image_encoding import thumbnail, to_uint16
from causalcxr.apps.explorer.question import worded_value
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph.graph import Graph
from causalcxr.graph.variables import Variable

__all__ = ["PatientList", "controls", "doses"]

PAGE = 12  # thumbnails at a time
_CAPTION = 3  # variables under a thumbnail
_DOSES = 7


class PatientList:
    """List the patients of a cohort, filtered and in pages.

    Args:
        cohort: The records.
        graph: Its variables are the columns.

    Raises:
        CohortError: If the graph lacks a value of the cohort.
    """

    def __init__(self, cohort: Cohort, graph: Graph) -> None:
        self.cohort, self.graph = cohort, graph
        self.columns = cohort.columns(graph)
        images = cohort.images
        self._has_image = np.zeros(len(cohort), bool) if images is None else images.available

    def page(self, filters: Mapping[str, Mapping[str, Any]], number: int = 0) -> dict[str, Any]:
        """Return one page of the records that pass all filters; those with an image come first.

        Args:
            filters: Variable -> {"level"} ("" for missing), or {"low", "high"} or one of them.
            number: Of the page, from 0.

        Raises:
            CohortError: If a variable or a value of a filter is unknown.
        """
        keep = np.ones(len(self.cohort), bool)
        for name, rule in filters.items():
            keep &= self._passes(name, rule)
        rows = np.flatnonzero(keep)
        rows = rows[np.argsort(~self._has_image[rows], kind="stable")]
        pages = max(1, -(-len(rows) // PAGE))
        number = min(max(number, 0), pages - 1)
        shown = rows[number * PAGE : (number + 1) * PAGE]
        items = [self._item(int(row)) for row in shown]
        return {"count": len(rows), "page": number, "pages": pages, "items": items}

    def thumbnail(self, row: int) -> bytes:
        """Return a small picture of a record, PNG.

        Raises:
            CohortError: If the record has no image.
        """
        if not (0 <= row < len(self.cohort) and self._has_image[row]):
            raise CohortError("this record has no image")
        image = self.cohort.images.select([row])
        return thumbnail(to_uint16(image[0]), synthetic=bool(image.synthetic[0]))

    def _item(self, row: int) -> dict[str, Any]:
        values = [self._value(name, row) for name in self.graph.tabular[:_CAPTION]]
        label = str(self.cohort.records[row])
        has_image = bool(self._has_image[row])
        return {"row": row, "label": label, "caption": " · ".join(values), "image": has_image}

    def _value(self, name: str, row: int) -> str:
        return f"{name} {worded_value(self.graph[name], float(self.columns[name][row]))}"

    def _passes(self, name: str, rule: Mapping[str, Any]) -> np.ndarray:
        if name not in self.columns:
            raise CohortError(f"no variable {name!r} to filter by")
        column, levels = self.columns[name], self.graph[name].levels
        if "level" in rule:
            level = str(rule["level"])
            # The empty level selects missing values.
            if not level:
                return np.isnan(column)
            if level not in levels:
                raise CohortError(f"{name} has no level {level!r}; it has {', '.join(levels)}")
            return column == levels.index(level)
        # A range; comparison with NaN is false, so missing values are left out.
        ends = rule.get("low", -np.inf), rule.get("high", np.inf)
        try:
            low, high = (float(end) for end in ends)
        except (ValueError, OverflowError):
            raise CohortError(f"{name}: give numbers from and to, or a level") from None
        return (column >= low) & (column <= high)


def controls(graph: Graph, columns: Mapping[str, np.ndarray]) -> list[dict[str, Any]]:
    """Return the controls of a page for each variable: its levels, or its range and step.

    Args:
        graph: The graph.
        columns: Of a cohort; they give the range of numbers without a declared one.
    """
    return [
        {"name": name, "levels": list(variable.levels), "parents": list(variable.parents)}
        | (_slider(variable, columns[name]) if not variable.is_discrete else {})
        for name, variable in ((name, graph[name]) for name in graph.tabular)
    ]


def doses(variable: Variable, column: np.ndarray) -> list[float]:
    """Return evenly spaced values between the 5th and 95th percentile of a cohort.

    Raises:
        CohortError: If the variable is discrete, or the cohort has no value of it.

    Example:
        >>> age = Variable("Age", "continuous", range=[0, 105], resolution=1)
        >>> doses(age, np.arange(101.0))
        [5.0, 20.0, 35.0, 50.0, 65.0, 80.0, 95.0]
    """
    observed = column[~np.isnan(column)]
    if variable.is_discrete or not len(observed):
        raise CohortError(f"{variable.name}: no numbers to vary; choose another variable")
    low, high = np.quantile(observed, [0.05, 0.95])
    step = variable.resolution or 10.0 ** (np.floor(np.log10(max(high - low, 1e-9))) - 2)
    values = np.round(np.linspace(low, high, _DOSES) / step) * step
    return [float(value) for value in dict.fromkeys(np.round(values, 9))]


def _slider(variable: Variable, column: np.ndarray) -> dict[str, Any]:
    observed = column[~np.isnan(column)]
    low, high = variable.range or (
        (observed.min(), observed.max()) if len(observed) else (0.0, 1.0)
    )
    step = variable.resolution or (high - low) / 200 or 1.0
    return {"low": float(low), "high": float(high), "step": step, "unit": variable.unit or ""}
