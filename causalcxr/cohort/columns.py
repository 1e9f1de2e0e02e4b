"""Columns: a table in raw units on one side, positions of levels and numbers on the other.

Every value is checked on the way in, and every complaint is one line: the file, the column, the
record, the value,
the rule, the remedy.
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
    "decode",
    "encode",
    "frame",
    "matches",
    "no_column",
    "replace",
    "worded_column",
]

# How spreadsheets and statistics programs write an empty cell.
MISSING_WORDS = ("NA", "NaN", "nan")
_LISTED = 6  # levels whose shares are listed
_UNKNOWN = (*MISSING_WORDS, "U")  # U is how the harmonised tables of the field spell it
_DATES = (date, timedelta, time, pd.Period, np.datetime64, np.timedelta64)


def worded_column(column: pd.Series) -> str:
    """Return what a column holds, in words: a mean, or the shares of its levels.

    Example:
        >>> worded_column(pd.Series(["F", "M", "F", None])), worded_column(pd.Series([60.0, 50]))
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
    """Return which column of a table holds which tabular variable of a graph.

    Args:
        graph: The graph.
        names: The columns of the table.
        place: What to call the table in a message.

    Returns:
        The name of the column by the name of the variable, absent columns left out.

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
                f"{place}: columns {headings[variable]!r} and {name!r} both are the variable "
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
    """Return a column as the equations read it.

    Args:
        values: The column in raw units, its index the records.
        variable: What the column means.
        place: What to call the table in a message.
        beyond_range: Whether numbers may lie outside the range, as those of twins may.

    Returns:
        Shape (n,), float64: positions of levels, or numbers; NaN where a value is missing. Empty
        cells are missing, and so are `NA`, `NaN`, `nan` and `U` where they are no levels
        themselves.

    Raises:
        CohortError: If a value is no level, no finite number (dates and durations are none), or
            outside the range.

    Example:
        >>> encode(pd.Series(["F", None, "M"]), Variable("Sex", "binary", levels=["F", "M"]))
        array([ 0., nan,  1.])
    """
    place = f"{place}: column {values.name or variable.name!r}"
    if variable.is_discrete:
        return _positions(values, variable, place)
    return _numbers(values, variable, place, beyond_range)


def decode(column: np.ndarray, variable: Variable) -> np.ndarray:
    """Return a column in raw units: levels as text and numbers as floats, NaN where missing.

    Example:
        >>> decode(np.array([1.0, np.nan]), Variable("Sex", "binary", levels=["F", "M"]))
        array(['M', nan], dtype=object)
    """
    column = np.asarray(column, dtype=np.float64)
    if not variable.is_discrete:
        return column.copy()
    is_present = ~np.isnan(column)
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
    """Return a column in raw units with new values, in its own dtype and spelling; see `cells`.

    A cell that does not change is kept.

    Args:
        values: The column as it is, in raw units.
        column: The new values, shape (n,), as `encode` gives them.
        variable: What the column means.
        old: The column as `encode` gives it, if that is known.

    Raises:
        CohortError: If the new values are not one a record, or none of the variable's.
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
    """Return positions of levels; only the few distinct values are looked at in Python."""
    codes, distinct = pd.factorize(values.to_numpy(dtype=object))
    empty = ~present(distinct)
    lookup = np.full(len(distinct) + 1, np.nan)  # the last one serves code -1: missing
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
    """Return the level of a cell; True and False are 1 and 0 where those are levels or codes."""
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
            f"decide what it means: leave it empty, or write one of {levels}"
        )
    text = f"{where} is not a level of {variable.name!r} {counted}; allowed: {levels}, or empty"
    if isinstance(value, bool | int | float | np.number | np.bool_):
        # True and False are 1 and 0 here, as YAML's readers do not agree on them.
        filled = distinct[present(distinct)]
        texts = {str(int(v)) if isinstance(v, bool | np.bool_) else spelled(v) for v in filled}
        written = sorted(text for text in texts if variable.level_of(text) is None)
        pairs = zip(written, variable.levels, strict=False)
        codes = ", ".join(f"{text}: {flow(level)}" for text, level in pairs)
        return CohortError(f"{text}; if these are codes, the graph can say so: codes: {{{codes}}}")
    hint = nearest(str(value)[:80], variable.levels)
    return CohortError(f"{text} where it is not known{hint}")


def _numbers(values: pd.Series, variable: Variable, place: str, beyond_range: bool) -> np.ndarray:
    if values.dtype.kind in "iuf":
        numbers = values.to_numpy(dtype=np.float64, copy=True)
    else:
        cells = values.to_numpy(dtype=object)
        _refuse_dates(cells, values, place)
        # Casting a complex number to a real one would drop a part of it.
        complex_cells = np.array([isinstance(cell, complex) for cell in cells], dtype=bool)
        _refuse(complex_cells, values, "is not a real number", "write a real number", place)
        numbers = pd.to_numeric(pd.Series(cells), errors="coerce").to_numpy(
            dtype=np.float64, na_value=np.nan
        )
        unread = np.isnan(numbers)
        unread[unread] = present(cells[unread]) & ~np.isin(cells[unread].astype(str), _UNKNOWN)
        _refuse(unread, values, "is not a number", _remedy(cells[unread]), place)
    _refuse(np.isinf(numbers), values, "is not finite", "leave it empty if not known", place)
    rule = f"is too large: at most {LARGEST:g}"
    _refuse(np.abs(numbers) > LARGEST, values, rule, "correct it, or use another unit", place)
    if variable.range is not None and not beyond_range:
        low, high = variable.range
        rule = f"is outside the range {low:g} to {high:g} of {variable.name!r}"
        remedy = "correct it, leave it empty, or widen the range in the graph"
        _refuse((numbers < low) | (numbers > high), values, rule, remedy, place)
    return numbers


def _refuse_dates(cells: np.ndarray, values: pd.Series, place: str) -> None:
    """Refuse dates and durations: as numbers they would be counts of a unit that varies."""
    dated = np.array([isinstance(cell, _DATES) and not pd.isna(cell) for cell in cells], bool)
    if values.dtype.kind in "mM":  # a column of NaT alone is one of dates all the same
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
    """Return a table in raw units of columns as `encode` gives them."""
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
