"""Rows: the positions of records from a mask, from positions, or from ids."""

from typing import Any

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError, brief, nearest

__all__ = ["by_id", "by_mask", "by_position"]


def by_mask(mask: Any, index: pd.Index) -> np.ndarray:
    """Return the positions, from 0, of the rows for which a mask is true.

    Args:
        mask: True or False for each row; missing is False. A Series is aligned by its index: rows
            that it lacks are False. A mask by record applies to all draws of the record.
            Other masks need one value for each row.
        index: The ids of the n rows.

    Raises:
        CohortError: If it is not a mask, has another length, or has other records.

    Example:
        >>> mask = pd.Series([True, None], index=["b", "a"], dtype="boolean")
        >>> by_mask(mask, pd.Index(["a", "b", "c"]))
        array([1])
    """
    if isinstance(mask, slice):
        raise CohortError("select takes a mask or a query; use at(slice(0, 10)) for positions")
    cells = np.asarray(mask) if _is_list(mask) else None
    if cells is None or cells.ndim != 1:
        raise CohortError(
            f"select takes a mask or a query, not {type(mask).__name__}; use at for positions, "
            "loc for record ids"
        )
    true = cells if cells.dtype == bool else _true(cells.astype(object))
    # A Series is aligned by ids; other masks are in order.
    if isinstance(mask, pd.Series):
        return np.flatnonzero(_aligned(true, mask.index, index))
    if len(true) != len(index):
        raise CohortError(
            f"a mask of {len(true)} values for {len(index)} records; give one for each, "
            "or a Series with record ids"
        )
    return np.flatnonzero(true)


def by_position(rows: Any, n: int) -> np.ndarray:
    """Return positions from 0 of rows given by position.

    Args:
        rows: A whole number, a list of them, or a slice; negative ones count from the end.
        n: The number of rows.

    Raises:
        CohortError: If one is not a whole number, or there is no such row.

    Example:
        >>> by_position([-1, 0], 4), by_position(slice(1, 3), 4)
        (array([3, 0]), array([1, 2]))
    """
    if isinstance(rows, slice):
        return np.arange(n)[rows]
    cells = np.atleast_1d(np.asarray(rows if _is_list(rows) else [rows]))
    if cells.ndim != 1:
        raise CohortError(f"at takes a list of positions, not {cells.ndim} dimensions")
    if cells.dtype.kind not in "iu":
        for each in cells.astype(object):
            if _is_truth(each):
                raise CohortError("at takes positions, not a mask; use select(mask)")
            if not isinstance(each, int | np.integer):
                raise CohortError(f"at takes positions, not {brief(each)}; use loc for record ids")
    places = cells.astype(np.int64)
    if (outside := (places < -n) | (places >= n)).any():
        raise CohortError(f"no row at position {places[outside][0]}; the cohort has {n}")
    # Negative positions count from the end.
    return np.where(places < 0, places + n, places)


def by_id(ids: Any, index: pd.Index) -> np.ndarray:
    """Return the positions, from 0, of records in the order of their ids.

    Args:
        ids: The id of a record, which selects all of its draws; a pair (record, draw); or a list
            of either.
        index: The ids of the n rows.

    Raises:
        CohortError: If there is no such record, or the argument is a mask or a slice.

    Example:
        >>> by_id(["b"], pd.Index(["a", "b"])), by_id(10, pd.Index([30, 20, 10]))
        (array([1]), array([2]))
    """
    if isinstance(ids, slice):
        raise CohortError("loc takes record ids, not a slice; use at(slice(0, 10)) for positions")
    draws = index.nlevels == 2
    if isinstance(ids, pd.Index):
        wanted = ids
    elif draws and isinstance(ids, tuple):
        wanted = pd.MultiIndex.from_tuples([ids])
    else:
        wanted = _index_of(list(ids) if _is_list(ids) else [ids], draws=draws)
    if wanted.dtype == bool or (
        wanted.dtype == object and any(_is_truth(each) for each in wanted)
    ):
        raise CohortError("loc takes record ids, not a mask; use select(mask)")
    # A record without a draw stands for all its draws.
    if draws and wanted.nlevels == 1:
        index = index.get_level_values(0)
    if wanted.nlevels > index.nlevels:
        what = "ids, or (record, draw)" if draws else "ids; the cohort has no draws"
        raise CohortError(f"loc takes record {what}, not {brief(wanted[0])}")
    places, absent = index.get_indexer_non_unique(wanted)
    if len(absent):
        raise CohortError(_absent(wanted[absent], index))
    return places.astype(np.int64)


def _true(cells: np.ndarray) -> np.ndarray:
    """Return which cells of a nullable mask are true; missing ones are not."""
    empty = pd.isna(cells)
    if other := [each for each in cells[~empty] if not _is_truth(each)]:
        raise CohortError(
            f"select takes a mask or a query, not {brief(other[0])}; use at([...]) for "
            "positions, loc[[...]] for record ids"
        )
    return np.where(empty, False, cells).astype(bool)


def _aligned(true: np.ndarray, mine: pd.Index, index: pd.Index) -> np.ndarray:
    """Return a mask in the order of an index, by record if the index has draws."""
    target = index
    if index.nlevels > mine.nlevels:
        target = index.get_level_values(0)
    if mine.has_duplicates:
        twice = mine[mine.duplicated()]
        raise CohortError(
            f"the mask has record {brief(twice[0])} more than once ({len(twice):,} too many); "
            "keep one value for each"
        )
    foreign = mine.nlevels > target.nlevels or ~mine.isin(target)
    if np.any(foreign):
        absent = mine if foreign is True else mine[foreign]
        raise CohortError(
            f"the mask has record {brief(absent[0])}, which is not in the cohort ({len(absent):,} "
            "such records); use the cohort's index, or mask.to_numpy() if the order is the same"
        )
    # Records that the mask does not have are left out.
    places = mine.get_indexer(target)
    return np.where(places < 0, False, true[places]) if len(true) else places >= 0


def _index_of(ids: list, *, draws: bool) -> pd.Index:
    """Return ids as an index; pairs (record, draw) if all of them are pairs."""
    if draws and ids and all(isinstance(each, tuple) and len(each) == 2 for each in ids):
        return pd.MultiIndex.from_tuples(ids)
    return pd.Index(ids, tupleize_cols=False) if ids else pd.Index([], dtype=object)


def _absent(ids: pd.Index, index: pd.Index) -> str:
    """Return the message about unknown ids, with the nearest id or the other type."""
    first, records = ids[0], index.get_level_values(0)[:10_000]
    alike = [each for each in records if str(each) == str(first)]
    hint = nearest(str(first), map(str, records))
    if alike:
        hint = f"; did you mean {brief(alike[0])} ({type(alike[0]).__name__})?"
    return f"no record {brief(first)} ({len(ids)} not found){hint}"


def _is_list(values: Any) -> bool:
    return hasattr(values, "__len__") and not isinstance(values, str | bytes | tuple | dict | set)


def _is_truth(value: object) -> bool:
    return isinstance(value, bool | np.bool_)
