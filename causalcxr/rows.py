"""Rows: positions of records, from masks, slices, positions, ids or a query."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.errors import CohortError, nearest

__all__ = ["answering", "positions", "shown"]


def positions(rows: Any, index: pd.Index) -> np.ndarray:
    """Return the positions, from 0, of some of the rows of an index.

    Args:
        rows: A slice, a boolean mask (a Series is aligned by its index), positions, or ids.
            Integers are always
            positions, so that nobody has to guess.
        index: The ids of the n rows.

    Raises:
        CohortError: If a row is not there, or a mask has another length.

    Example:
        >>> positions(["b"], pd.Index(["a", "b"])), positions([-1], pd.Index(["a", "b"]))
        (array([1]), array([1]))
    """
    n = len(index)
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    if isinstance(rows, pd.Series) and rows.dtype == bool and rows.index.is_unique:
        rows = rows.reindex(index, fill_value=False)
    rows = (
        rows
        if isinstance(rows, pd.Index)
        else pd.Index(np.atleast_1d(rows) if np.isscalar(rows) else list(rows))
    )
    if rows.dtype == bool:
        if len(rows) != n:
            raise CohortError(f"a mask of {len(rows)} values for {n} records")
        return np.flatnonzero(rows.to_numpy())
    if rows.dtype.kind in "iu" or not len(rows):
        places = rows.to_numpy(dtype=np.int64)
        outside = (places < -n) | (places >= n)
        if outside.any():
            raise CohortError(f"no row at position {places[outside][0]}; the cohort has {n}")
        return np.where(places < 0, places + n, places)
    return _places_of(rows, index)


def answering(query: str, table: pd.DataFrame, beside: Mapping[str, Any]) -> np.ndarray:
    """Return the positions of the rows that answer a query.

    Args:
        query: A condition over columns, such as `Age > 60 and Sex == 'F'`.
        table: The columns.
        beside: More columns by name, for what the table does not hold itself; None is skipped.

    Raises:
        CohortError: If the query cannot be understood, or is no condition.

    Example:
        >>> answering("Age > 60", pd.DataFrame({"Age": [61, 47]}), {})
        array([0])
    """
    more = {k: v for k, v in beside.items() if v is not None and k not in table}
    try:
        found = table.assign(**more).eval(query)
    except Exception as error:  # pandas raises whatever its parser, Python or a column raises
        reason = str(error).strip().split("\n")[0]
        raise CohortError(
            f"query {query!r}: {reason}; write it as in \"Age > 60 and Sex == 'F'\", "
            "with `backticks` around names with spaces"
        ) from None
    if not isinstance(found, pd.Series) or found.dtype != bool:
        raise CohortError(f"query {query!r} is not a condition, such as Age > 60")
    return np.flatnonzero(found.to_numpy())


def shown(value: object) -> str:
    """Return an id or a value for a message: short, on one line, without numpy's names.

    Example:
        >>> shown(np.int64(7)), shown("x" * 99)[-5:]
        ('7', "x...'")
    """
    text = repr(value.item() if isinstance(value, np.generic) else value)
    return text if len(text) <= 60 else f"{text[:56]}...{text[-1]}"


def _places_of(ids: pd.Index, index: pd.Index) -> np.ndarray:
    """Return the positions of ids; the id of a record stands for all of its draws."""
    if index.nlevels > ids.nlevels:
        records = index.get_level_values(0)
        absent = ids[~ids.isin(records)]
        places = np.flatnonzero(records.isin(ids))
    else:
        places = index.get_indexer(ids)
        absent = ids[places < 0]
    if len(absent):
        hint = nearest(str(absent[0]), map(str, index.get_level_values(0)[:10_000]))
        raise CohortError(f"no record {shown(absent[0])} ({len(absent)} not found){hint}")
    return places
