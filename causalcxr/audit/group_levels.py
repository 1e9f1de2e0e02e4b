"""Levels of a column of groups: categories, numbers in bins, missing values as "unknown"."""

from collections.abc import Sequence
from datetime import date
from itertools import pairwise

import numpy as np
import pandas as pd

from causalcxr.common.errors import CausalCXRError

__all__ = ["AGE_EDGES", "UNKNOWN", "levels_of"]

UNKNOWN = "unknown"
AGE_EDGES = (0.0, 18.0, 40.0, 60.0, 80.0, np.inf)
_MANY = 12  # distinct numbers up to which a number is a level
_MOST_LEVELS = 50  # of other columns


def levels_of(column: pd.Series, edges: Sequence[float] | None = None) -> pd.Categorical:
    """Return the level of each row, "unknown" if it is missing, as an ordered categorical.

    Args:
        column: Texts, truth values or numbers.
        edges: Edges of bins, for numbers; Age has default edges.

    Raises:
        CausalCXRError: If edges do not rise, a value is outside, or there are too many levels.

    Example:
        >>> list(levels_of(pd.Series([3.0, 18.0, None], name="Age")))
        ['0-18', '18-40', 'unknown']
    """
    name = str(column.name)
    numeric = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
    # Only ages have default bins.
    if edges is None and numeric and name.casefold() == "age":
        edges = AGE_EDGES
    if edges is not None:
        return _binned(column, name, np.asarray(edges, dtype=float))
    # Many different numbers are a measurement, not levels.
    if numeric and column.nunique() > _MANY:
        raise CausalCXRError(
            f"groups: column {name!r} has {column.nunique()} different numbers; give "
            f"edges={{{name!r}: [...]}}"
        )
    levels = column.dropna().unique()
    _check_levels(name, levels, numeric)
    missing = column.isna().to_numpy()
    # The order of a categorical is kept; other levels are sorted.
    if isinstance(column.dtype, pd.CategoricalDtype):
        order = [str(level) for level in column.cat.categories]
    else:
        order = [str(level) for level in sorted(levels, key=_sortable)]
    # Missing values are a level of their own, so that no row is lost silently.
    words = np.where(missing, UNKNOWN, column.astype(object).map(str, na_action="ignore"))
    present = set(words)
    # Levels without rows are left out; "unknown" comes last.
    order = [level for level in dict.fromkeys(order) if level in present - {UNKNOWN}]
    return pd.Categorical(words, categories=order + [UNKNOWN] * (UNKNOWN in present))


def _check_levels(name: str, levels: Sequence[object], numeric: bool) -> None:
    """Refuse too many levels, and levels of the same text."""
    if len(levels) > _MOST_LEVELS:
        dates = any(isinstance(level, date | np.datetime64 | pd.Period) for level in levels)
        remedy = f"such as table[{name!r}].dt.year" if dates else "or bins"
        raise CausalCXRError(
            f"groups: column {name!r} has {len(levels):,} different "
            f"{'dates' if dates else 'values'}, more than {_MOST_LEVELS}; make a column of fewer "
            f"levels, {remedy}"
        )
    texts = [str(level) for level in levels]
    if repeated := [text for text in texts if texts.count(text) > 1]:
        raise CausalCXRError(
            f"groups: column {name!r} has two levels {repeated[0]!r} of different types; "
            "give both the same type"
        )


def _binned(column: pd.Series, name: str, edges: np.ndarray) -> pd.Categorical:
    """Return the bin of each number: `0-18` includes 0, not 18; `80+` has no upper edge."""
    if len(edges) < 2 or not (np.diff(edges) > 0).all():
        raise CausalCXRError(f"groups: edges {list(edges)} of {name!r} do not rise; sort them")
    values = pd.to_numeric(column).to_numpy(dtype=float, na_value=np.nan)
    outside = (values < edges[0]) | (values >= edges[-1])
    if outside.any():
        row = int(outside.argmax())
        raise CausalCXRError(
            f"groups: row {row}: {name}={values[row]:g} lies outside the edges "
            f"{edges[0]:g} to {edges[-1]:g}; widen them or correct it"
        )
    names = [f"{a:g}+" if b == np.inf else f"{a:g}-{b:g}" for a, b in pairwise(edges)]
    # side="right": a number on an edge belongs to the bin above.
    codes = np.searchsorted(edges, values, side="right") - 1
    missing = np.isnan(values)
    codes = np.where(missing, len(names), codes)
    present = np.unique(codes)
    order = [*names, UNKNOWN]
    return pd.Categorical(
        np.array(order, dtype=object)[codes], categories=[order[code] for code in present]
    )


def _sortable(level: object) -> tuple[bool, object]:
    """Return a key that sorts numbers by value, before texts."""
    number = isinstance(level, int | float | np.number)
    return not number, float(level) if number else str(level)
