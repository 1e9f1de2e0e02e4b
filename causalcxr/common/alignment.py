"""Alignment: a Series belongs to its records by their ids, whatever the order of its rows."""

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import pandas as pd

from causalcxr.common.errors import CausalCXRError, brief

__all__ = ["aligned", "in_order", "rows_by_id"]

Rows = TypeVar("Rows", pd.Series, pd.DataFrame)
Function = TypeVar("Function", bound=Callable[..., Any])


def aligned(
    values: Rows,
    index: pd.Index,
    what: str,
    *,
    more: bool = False,
    error: type[CausalCXRError] = CausalCXRError,
) -> Rows:
    """Return the rows of a Series or a table in the order of some records, by their ids.

    Args:
        values: One row an id: a record, or (record, draw).
        index: The ids of the n records, or (record, draw); then values by record serve all draws.
        what: The name of the values in messages.
        more: Whether values of other records are allowed; they are left out.
        error: The class of the error to raise.

    Raises:
        CausalCXRError: If an id occurs twice, has no value, or is none of the records.

    Example:
        >>> ages = pd.Series([60, 50], index=["b", "a"])
        >>> aligned(ages, pd.Index(["a", "b"]), "ages").tolist()
        [50, 60]
    """
    if values.index.equals(index):
        return values
    # Values by record serve all draws of the record.
    ids, own = index, values.index
    if own.nlevels < index.nlevels:
        ids = index.get_level_values(0)
    elif own.nlevels > index.nlevels:
        raise error(f"{what}: its index has {own.nlevels} levels, the records have one; take one")
    if own.has_duplicates:
        twice = own[own.duplicated()]
        raise error(
            f"{what}: record {brief(twice[0])} has more than one value ({len(twice):,} too "
            "many); keep one"
        )
    # The place of each record's value, -1 where it has none.
    places = own.get_indexer(ids)
    if (absent := places < 0).any():
        raise error(
            f"{what}: no value for record {brief(ids[absent.argmax()])} ({absent.sum():,} of "
            f"{len(ids):,} records); index it by record, or give .to_numpy() for values in the "
            "order of the records"
        )
    # Values of other records would be dropped without a word.
    if not more and (foreign := ~own.isin(ids)).any():
        raise error(
            f"{what}: record {brief(own[foreign.argmax()])} is not one of the {len(index):,} "
            f"records ({foreign.sum():,} such values); select the values of the records: "
            "values.loc[cohort.index]"
        )
    return values.iloc[places].set_axis(index)


def in_order(**columns: Any) -> list[Any]:
    """Return columns row by row: each Series in the order of the first Series.

    Arrays and lists have no ids; they are returned as they are, in the order of the first Series.

    Args:
        **columns: Series, tables, mappings of Series, or anything in order; None stays None.

    Raises:
        CausalCXRError: If two of them are not of the same records.

    Example:
        >>> scores = pd.Series([0.9, 0.1], index=["a", "b"])
        >>> labels = pd.Series([0, 1], index=["b", "a"])
        >>> in_order(scores=scores, labels=labels)[1].tolist()
        [1, 0]
    """
    # The order is that of the first Series, also one inside a mapping.
    parts = [c.values() if isinstance(c, Mapping) else (c,) for c in columns.values()]
    first = next((each for part in parts for each in part if _has_ids(each)), None)
    if first is None:
        return list(columns.values())
    return [_ordered(column, first.index, name) for name, column in columns.items()]


def rows_by_id(*names: str) -> Callable[[Function], Function]:
    """Decorate a function whose arguments of these names hold one value a row; see `in_order`.

    Example:
        >>> @rows_by_id("scores", "labels")
        ... def right(scores, labels):
        ...     return [bool(s > 0.5) == bool(y) for s, y in zip(scores, labels)]
        >>> right(pd.Series([0.9, 0.1], ["a", "b"]), labels=pd.Series([0, 1], ["b", "a"]))
        [True, True]
    """

    def decorated(function: Function) -> Function:
        signature = inspect.signature(function)

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            # Arguments that were left out keep their defaults.
            given = {name: bound.arguments[name] for name in names if name in bound.arguments}
            bound.arguments.update(zip(given, in_order(**given), strict=True))
            return function(*bound.args, **bound.kwargs)

        return call

    return decorated


def _has_ids(column: Any) -> bool:
    return isinstance(column, pd.Series | pd.DataFrame)


def _ordered(column: Any, index: pd.Index, name: str) -> Any:
    if _has_ids(column):
        return aligned(column, index, name)
    if isinstance(column, Mapping):
        return {key: _ordered(each, index, f"{name} {key!r}") for key, each in column.items()}
    return column
