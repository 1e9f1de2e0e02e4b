"""Columns: conversion between a table in raw units and codes (positions of levels, numbers).

Every value is checked when it is read, and every error is one line with the file, the column, the
record, the value, the rule and the remedy.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, time, timedelta

import numpy as np
import pandas as pd

from causalcxr.cohort.cells import present, spelled, with_levels, with_numbers
from causalcxr.common.errors import CohortError, brief, nearest
from causalcxr.graph.graph import Graph, Variable
from causalcxr.graph.variables import LARGEST
from causalcxr.graph.yaml_file import flow

__all__ = [
    "MISSING_WORDS",
    "column_summary",
    "decode",
    "encode",
    "frame",
    "matches",
    "no_column",
    "replace",
]

# The words of spreadsheets and statistics programs for an empty cell.
MISSING_WORDS = ("NA", "NaN", "nan")
_LISTED = 6  # levels whose shares are listed
_UNKNOWN = (*MISSING_WORDS, "U")  # U means unknown in harmonised tables
_DATES = (date, timedelta, time, pd.Period, np.datetime64, np.timedelta64)


def column_summary(column: pd.Series) -> str:
    """Return a description of a column: a mean, or the shares of its levels.

    Example:
        >>> column_summary(pd.Series(["F", "M", "F", None])), column_summary(pd.Series([60.0, 50]))
        ('F 67 %, M 33 %', 'mean 55, sd 7.071')
    """
    filled = column.dropna()
    if not len(filled):
        return "nothing"
    if pd.api.types.is_numeric_dtype(filled) and not pd.api.types.is_bool_dtype(filled):
        values = filled.to_numpy(dtype=np.float64)
        spread = f", sd {values.std(ddof=1):.4g}" if len(values) > 1 else ""
        return f"mean {values.mean():.4g}{spread}"
    shares = filled.astype(str).value_counts(normalize=True, sort=True)
    if len(shares) > _LISTED:
        return f"{len(shares):,} different values"
    return ", ".join(f"{level} {100 * share:.0f} %" for level, share in shares.items())


def matches(graph: Graph, names: Iterable[str], place: str = "table") -> dict[str, str]:
    """Return the column of a table for each tabular variable of a graph.

    Args:
        graph: The graph.
        names: The columns of the table.
        place: The name of the table in messages.

    Returns:
        The name of the column by the name of the variable, without absent columns.

    Example:
        >>> graph = Graph.parse("variables: {Pleural Effusion: {type: binary}}")
        >>> matches(graph, ["pleural_effusion", "source_size"])
        {'Pleural Effusion': 'pleural_effusion'}
    """
    headings: dict[str, str] = {}
    for name in names:
        if name not in graph:
            continue
        variable = graph.find(name)
        if variable in headings:
            raise CohortError(
                f"{place}: columns {headings[variable]!r} and {name!r} are both the variable "
                f"{variable!r}; keep one of them"
            )
        if variable in graph.tabular:
            headings[variable] = name
    return headings


def no_column(graph: Graph, names: Iterable[str], place: str) -> CohortError:
    """Return the error for a table of which no column is a variable of a graph."""
    names = [str(name) for name in names]
    close = [nearest(name, graph.tabular) for name in names[:100]]
    hint = next(filter(None, close), "")
    return CohortError(
        f"{place}: no column is a variable of graph {graph.name!r}; the table has "
        f"{_listed(names)}; the graph has {_listed(graph.tabular)}; rename the columns{hint}"
    )


def _listed(names: Sequence[str]) -> str:
    shown_names = ", ".join(name[:30] for name in names[:6])
    return f"{shown_names} and {len(names) - 6:,} more" if len(names) > 6 else shown_names


def encode(
    values: pd.Series, variable: Variable, place: str = "table", *, beyond_range: bool = False
) -> np.ndarray:
    """Return a column as codes: positions of levels, or numbers.

    Args:
        values: The column in raw units, its index the records.
        variable: The variable of the column.
        place: The name of the table in messages.
        beyond_range: Whether numbers may lie outside the range, as those of twins may.

    Returns:
        Shape (n,), float64: positions of levels, or numbers; NaN if a value is missing. Empty
        cells are missing, and so are `NA`, `NaN`, `nan` and `U` unless they are levels.

    Raises:
        CohortError: If a value is not a level, not a finite number (dates and durations are
            not numbers), or outside the range.

    Example:
        >>> encode(pd.Series(["F", None, "M"]), Variable("Sex", "binary", levels=["F", "M"]))
        array([ 0., nan,  1.])
    """
    place = f"{place}: column {values.name or variable.name!r}"
    if variable.is_discrete:
        return _positions(values, variable, place)
    return _numbers(values, variable, place, beyond_range)


def decode(column: np.ndarray, variable: Variable) -> np.ndarray:
    """Return a column in raw units: levels as text, numbers as floats, NaN if missing.

    Example:
        >>> decode(np.array([1.0, np.nan]), Variable("Sex", "binary", levels=["F", "M"]))
        array(['M', nan], dtype=object)
    """
    column = np.asarray(column, dtype=np.float64)
    if not variable.is_discrete:
        return column.copy()
    is_present = ~np.isnan(column)
    # A missing value gets position 0 for now, and NaN below.
    positions = np.where(is_present, column, 0).astype(np.int64)
    if is_present.any() and not (
        (positions[is_present] == column[is_present]).all()
        and positions.min() >= 0
        and positions.max() < len(variable.levels)
    ):
        raise CohortError(
            f"{variable.name!r} has positions outside its {len(variable.levels)} levels"
        )
    raw = np.array(variable.levels, dtype=object)[positions]
    raw[~is_present] = np.nan
    return raw


def replace(
    values: pd.Series, column: np.ndarray, variable: Variable, old: np.ndarray | None = None
) -> pd.Series:
    """Return a column in raw units with new values, in its dtype and spelling; see `cells`.

    Unchanged cells are kept.

    Args:
        values: The present column, in raw units.
        column: The new values, shape (n,), as `encode` gives them.
        variable: The variable of the column.
        old: The column as `encode` gives it, if available.

    Raises:
        CohortError: If there is not one new value for each record, or a value is invalid.
    """
    column = np.asarray(column, dtype=np.float64)
    _check_length(variable.name, column, values.index)
    old = encode(values, variable) if old is None else old
    changed = ~((old == column) | (np.isnan(old) & np.isnan(column)))
    if not changed.any():
        return values
    if variable.is_discrete:
        return with_levels(values, changed, old, column, variable)
    return with_numbers(values, changed, column, variable)


def _positions(values: pd.Series, variable: Variable, place: str) -> np.ndarray:
    """Return positions of levels; Python loops over distinct values only."""
    codes, distinct = pd.factorize(values.to_numpy(dtype=object))
    empty = ~present(distinct)
    lookup = np.full(len(distinct) + 1, np.nan)  # the last entry is for code -1: missing
    places = {level: float(k) for k, level in enumerate(variable.levels)}
    for k, value in enumerate(distinct):
        if empty[k]:
            continue
        if (level := _level_of(value, variable)) is not None:
            lookup[k] = places[level]
        elif value not in _UNKNOWN:
            raise _unknown_level(value, values[codes == k], variable, place, distinct)
    return lookup[codes]


def _level_of(value: object, variable: Variable) -> str | None:
    """Return the level of a cell; True and False are 1 and 0 if these are levels or codes."""
    level = variable.level_of(spelled(value))
    if level is None and isinstance(value, bool | np.bool_):
        return variable.level_of(str(int(value)))
    return level


def _unknown_level(
    value: object, cells: pd.Series, variable: Variable, place: str, distinct: np.ndarray
) -> CohortError:
    where = f"{place}, record {brief(cells.index[0])}: {brief(value)}"
    counted = f"({len(cells):,} record{'s' if len(cells) > 1 else ''})"
    levels = ", ".join(variable.levels)
    if spelled(value) == "-1":
        return CohortError(
            f"{where} is a code for uncertain, not a level {counted}; "
            f"leave it empty, or write one of {levels}"
        )
    text = f"{where} is not a level of {variable.name!r} {counted}; allowed: {levels}, or empty"
    if isinstance(value, bool | int | float | np.number | np.bool_):
        # True and False become 1 and 0, as YAML readers interpret them differently.
        filled = distinct[present(distinct)]
        texts = {str(int(v)) if isinstance(v, bool | np.bool_) else spelled(v) for v in filled}
        written = sorted(text for text in texts if variable.level_of(text) is None)
        pairs = zip(written, variable.levels, strict=False)
        codes = ", ".join(f"{text}: {flow(level)}" for text, level in pairs)
        return CohortError(
            f"{text}; if these are codes, declare them in the graph: codes: {{{codes}}}"
        )
    hint = nearest(value, variable.levels)
    return CohortError(f"{text} if unknown{hint}")


def _numbers(values: pd.Series, variable: Variable, place: str, beyond_range: bool) -> np.ndarray:
    if values.dtype.kind in "iuf":
        numbers = values.to_numpy(dtype=np.float64, copy=True)
    else:
        cells = values.to_numpy(dtype=object)
        _refuse_dates(cells, values, place)
        # Casting a complex number to a real one would drop its imaginary part.
        complex_cells = np.array([isinstance(cell, complex) for cell in cells], dtype=bool)
        _refuse(complex_cells, values, "is not a real number", "write a real number", place)
        numbers = pd.to_numeric(pd.Series(cells), errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        # Empty cells and words for missing values are no errors.
        unread = np.isnan(numbers)
        unread[unread] = present(cells[unread]) & ~np.isin(cells[unread].astype(str), _UNKNOWN)
        _refuse(unread, values, "is not a number", _remedy(cells[unread]), place)
    _refuse(np.isinf(numbers), values, "is not finite", "leave it empty if unknown", place)
    rule = f"is too large: at most {LARGEST:g}"
    _refuse(np.abs(numbers) > LARGEST, values, rule, "correct it, or use another unit", place)
    if variable.range is not None and not beyond_range:
        low, high = variable.range
        rule = f"is outside the range {low:g} to {high:g} of {variable.name!r}"
        remedy = "correct it, leave it empty, or widen the range in the graph"
        _refuse((numbers < low) | (numbers > high), values, rule, remedy, place)
    return numbers


def _refuse_dates(cells: np.ndarray, values: pd.Series, place: str) -> None:
    """Refuse dates and durations: as numbers they would be counts of varying units."""
    dated = np.array([isinstance(cell, _DATES) and not pd.isna(cell) for cell in cells], bool)
    if values.dtype.kind in "mM":  # also a column of NaT only
        dated[:] = True
    if not dated.any():
        return
    lasts = isinstance(cells[dated.argmax()], timedelta | np.timedelta64)
    kind = "a duration" if lasts else "a date or time"
    remedy = "column.dt.days / 365.25 for years" if lasts else "column.dt.year"
    remedy = f"convert the column to numbers first, such as {remedy}"
    _refuse(dated, values, f"is {kind}, not a number", remedy, place)


def _remedy(unread: np.ndarray) -> str:
    """Return what to do about cells that are not numbers."""
    if len(unread) and re.fullmatch(r"\s*-?\d+,\d+\s*", str(unread[0])):
        return f"write it with a decimal point: {str(unread[0]).strip().replace(',', '.')}"
    return "write a number or leave it empty"


def _refuse(invalid: np.ndarray, values: pd.Series, rule: str, remedy: str, place: str) -> None:
    """Raise if any value breaks a rule, with the first record and the number of records."""
    if not invalid.any():
        return
    first, n = int(np.argmax(invalid)), int(invalid.sum())
    counted = f"({n:,} record{'s' if n > 1 else ''})"
    value = brief(values.iloc[first])
    raise CohortError(
        f"{place}, record {brief(values.index[first])}: {value} {rule} {counted}; {remedy}"
    )


def frame(graph: Graph, columns: Mapping[str, np.ndarray], index: pd.Index) -> pd.DataFrame:
    """Return a table in raw units from columns of codes."""
    decoded = {}
    for name, column in columns.items():
        variable = graph.variables[graph.find(name)]
        _check_length(name, column, index)
        decoded[variable.name] = pd.Series(decode(column, variable), index=index)
    return pd.DataFrame(decoded, index=index)


def _check_length(name: str, column: np.ndarray, index: pd.Index) -> None:
    if np.shape(column) != (len(index),):
        raise CohortError(
            f"column {name!r} has shape {np.shape(column)}; expected ({len(index)},)"
        )
