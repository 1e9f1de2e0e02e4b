"""Conditions: selection of rows by `Age > 60 and Sex == 'F'`, for any types of columns.

A condition is evaluated in three-valued logic. A comparison with a missing value is unknown, also
under `!=` and `not`, and a record whose condition is unknown is not selected. `is missing` selects
missing values.
"""

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas.api import types

from causalcxr.cohort.cells import present, spelled
from causalcxr.cohort.condition_syntax import (
    AllOf,
    AnyOf,
    Column,
    Condition,
    Literal,
    Member,
    Missing,
    Not,
    Operand,
    Relation,
    parse_condition,
    refuse,
)
from causalcxr.common.errors import nearest
from causalcxr.graph.variables import same_name

__all__ = ["matching_rows"]

_SIGNS: dict[str, Callable] = {
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
_KINDS = {  # pandas' kind of a column -> how its values are compared
    "string": "texts",
    "integer": "numbers",
    "floating": "numbers",
    "mixed-integer-float": "numbers",
    "decimal": "numbers",
    "boolean": "truth values",
    "empty": "nothing",
}
_DATES = ("datetime", "datetime64", "date", "time", "timedelta", "timedelta64", "period")


def matching_rows(query: str, table: pd.DataFrame, beside: Mapping[str, Any]) -> np.ndarray:
    """Return the positions of the rows for which a condition is true.

    Names match whatever the case and with `_` for a space. Numbers compare with numbers, texts
    with quoted texts; a column that holds both is compared as texts.

    Args:
        query: A condition over columns, such as `Age > 60 and Sex == 'F'`.
        table: The columns.
        beside: More columns by name that are not in the table; None is absent.

    Raises:
        CohortError: If the condition cannot be read, or does not fit the columns.

    Example:
        >>> ages = pd.DataFrame({"Age": pd.array([61, 47, None], dtype="Int64")})
        >>> matching_rows("age > 60", ages, {}), matching_rows("not age > 60", ages, {})
        (array([0]), array([1]))
    """
    tree = parse_condition(query)
    answer = _Evaluation(query, table, beside).answer(tree)
    return np.flatnonzero(answer.true & answer.known)


@dataclass(frozen=True)
class _Answer:
    """For each row, whether the condition is true, and whether this is known."""

    true: np.ndarray
    known: np.ndarray


@dataclass(frozen=True)
class _Values:
    """An operand as numpy compares it: a value for each row, or one for all."""

    kind: str  # "numbers", "truth values", "texts", "both", "nothing"
    values: Any
    known: np.ndarray | bool
    name: str = ""  # of the column; empty for a value in the condition

    @property
    def numeric(self) -> bool:
        return self.kind in ("numbers", "truth values")

    def as_texts(self) -> "_Values":
        """Return the values as texts: 1 and 1.0 are '1'."""
        if not self.name:
            return _Values("texts", spelled(self.values), True)
        texts = np.array([spelled(value) for value in self.values], dtype=object)
        return _Values("texts", texts, self.known, self.name)


class _Evaluation:
    """The evaluation of a condition on a table."""

    def __init__(self, query: str, table: pd.DataFrame, beside: Mapping[str, Any]) -> None:
        self.query, self.n = query, len(table)
        self.columns: dict[str, Any] = {str(k): k for k in beside} | {
            str(label): label for label in table
        }
        self.table, self.beside = table, beside
        self.read: dict[str, _Values] = {}
        self.levels: dict[str, dict[str, list[str]]] = {}

    def answer(self, tree: Condition) -> _Answer:
        match tree:
            case Not():
                answer = self.answer(tree.condition)
                # What is unknown stays unknown when it is negated.
                return _Answer(~answer.true, answer.known)
            case AllOf():
                return self._joined(tree.conditions, false=True)
            case AnyOf():
                return self._joined(tree.conditions, false=False)
            case Missing():
                return _Answer(self._missing(tree.column), np.ones(self.n, dtype=bool))
            case Member():
                equalities = [Relation(tree.column, "==", each) for each in tree.literals]
                if equalities:
                    return self._joined(tuple(equalities), false=False)
                no_row = np.zeros(self.n, dtype=bool)
                return _Answer(no_row, no_row | self._values(tree.column).known)
            case Relation():
                return self._compared(tree)
            case Column():
                return self._flag(tree)

    def _joined(self, conditions: tuple[Condition, ...], *, false: bool) -> _Answer:
        """Return the conjunction (false decides) or the disjunction (true decides)."""
        decided = np.zeros(self.n, dtype=bool)
        is_known = np.ones(self.n, dtype=bool)
        for condition in conditions:
            answer = self.answer(condition)
            decided |= answer.known & (answer.true != false)
            is_known &= answer.known
        return _Answer(decided != false, decided | is_known)

    def _missing(self, column: Operand) -> np.ndarray:
        if isinstance(column, Literal):
            refuse(self.query, f"{column.value!r} is not a column; write Age is missing")
        return ~present(self._column(column.name)[1].to_numpy(dtype=object))

    def _flag(self, column: Column) -> _Answer:
        values = self._values(column)
        if values.kind == "nothing":
            no_row = np.zeros(self.n, dtype=bool)
            return _Answer(no_row, no_row)
        if values.kind != "truth values":
            refuse(
                self.query,
                f"column {values.name!r} is not a condition; compare it, such as Age > 60",
            )
        return _Answer(np.asarray(values.values, dtype=bool), np.asarray(values.known))

    def _compared(self, comparison: Relation) -> _Answer:
        left, right = (self._values(side) for side in (comparison.left, comparison.right))
        if not (left.name or right.name):
            refuse(self.query, f"{left.values!r} {comparison.sign} {right.values!r} has no column")
        # A comparison with a missing cell is unknown, neither true nor false.
        is_known = np.broadcast_to(np.logical_and(left.known, right.known), self.n)
        if "nothing" in (left.kind, right.kind):
            return _Answer(np.zeros(self.n, dtype=bool), np.zeros(self.n, dtype=bool))
        if "both" in (left.kind, right.kind):
            left, right = left.as_texts(), right.as_texts()
        if left.numeric != right.numeric:
            self._refuse_kinds(left, right)
        if not left.numeric:
            self._check_texts(left, comparison.sign, right)
        true = _SIGNS[comparison.sign](left.values, right.values)
        return _Answer(np.broadcast_to(np.asarray(true, dtype=bool), self.n) & is_known, is_known)

    def _check_texts(self, left: _Values, sign: str, right: _Values) -> None:
        """Refuse an order of texts, and a text that occurs only in another case."""
        if sign not in ("==", "!="):
            name = left.name or right.name
            refuse(
                self.query,
                f"texts such as those of {name!r} have no order; use ==, != or in [...]",
            )
        # A text that differs only in case from the column's is probably a slip.
        for column, literal in ((left, right), (right, left)):
            if literal.name or not column.name:
                continue
            if literal.values == "":
                refuse(self.query, f"an empty cell is missing; write `{column.name}` is missing")
            alike = self._levels(column).get(literal.values.lower(), ())
            if alike and literal.values not in alike:
                refuse(
                    self.query,
                    f"no value {literal.values!r} in column {column.name!r}; write {alike[0]!r}",
                )

    def _levels(self, column: _Values) -> dict[str, list[str]]:
        """Return the texts of a column by their lower-case form."""
        if column.name not in self.levels:
            levels = self.levels[column.name] = {}
            for text in pd.unique(column.values[np.asarray(column.known)]):
                levels.setdefault(text.lower(), []).append(text)
        return self.levels[column.name]

    def _refuse_kinds(self, left: _Values, right: _Values) -> None:
        column, other = (left, right) if left.name else (right, left)
        if other.name:
            kinds = f"column {column.name!r} holds {column.kind}, {other.name!r} {other.kind}"
            refuse(self.query, f"{kinds}; they cannot be compared")
        remedy = "write the number" if column.numeric else f"write '{spelled(other.values)}'"
        if column.numeric and column.kind == "truth values":
            remedy = "write True or False"
        elif column.numeric and _reads_as_number(other.values):
            remedy = f"write {other.values.strip()} without quotes"
        refuse(
            self.query,
            f"column {column.name!r} holds {column.kind}, and {other.values!r} is "
            f"{'a text' if column.numeric else 'not a text'}; {remedy}",
        )

    # Operands

    def _values(self, operand: Operand) -> _Values:
        if isinstance(operand, Literal):
            value = operand.value
            kind = {bool: "truth values", str: "texts"}.get(type(value), "numbers")
            return _Values(kind, value, True)
        if operand.name not in self.read:
            name, column = self._column(operand.name)
            self.read[operand.name] = self._in_kind(name, column)
        return self.read[operand.name]

    def _column(self, name: str) -> tuple[str, pd.Series]:
        """Return a column by its exact name, or else ignoring case and `_` for a space."""
        matches = [name] if name in self.columns else []
        if not matches:
            matches = [each for each in self.columns if same_name(each) == same_name(name)]
        if len(matches) > 1:
            names = ", ".join(f"`{each}`" for each in matches[:4])
            refuse(self.query, f"{name!r} may be any of the columns {names}; write it exactly")
        if not matches and name in ("None", "nan", "NaN", "NA", "null"):
            refuse(self.query, f"{name} compares with nothing; write Age is missing")
        if not matches:
            hint = nearest(name, self.columns) or f"; the columns are {_listed(self.columns)}"
            refuse(self.query, f"no column {name!r}{hint}")
        label = self.columns[matches[0]]
        if label in self.table:
            alike = [str(each) == matches[0] for each in self.table]  # 1 and "1" among them
            if sum(alike) > 1:
                refuse(self.query, f"{sum(alike)} columns are called {matches[0]!r}; keep one")
            return matches[0], self.table[label]
        if self.beside[label] is None:
            refuse(self.query, f"the cohort has no {label}s; use assign_splits() first")
        return matches[0], pd.Series(self.beside[label])

    def _in_kind(self, name: str, column: pd.Series) -> _Values:
        """Return a column as numpy compares it."""
        if types.is_numeric_dtype(column.dtype) and column.dtype.kind in "iufb":
            return _numbers(name, column)
        cells = column.to_numpy(dtype=object)
        is_present = present(cells)
        what = types.infer_dtype(cells[is_present], skipna=True)
        kind = _KINDS.get(what, "")
        if not kind and all(
            isinstance(each, str | int | float | np.number | np.bool_)
            for each in cells[is_present]
        ):
            kind = "both"
        if not kind:
            held = "dates or times" if what in _DATES else "neither numbers nor texts"
            remedy = "add a column of numbers, such as years, or give select a mask"
            refuse(self.query, f"column {name!r} holds {held}; {remedy}")
        if kind in ("numbers", "truth values"):
            # Whole numbers stay integers: floats hold only 53 bits.
            exact = {"integer": np.int64, "boolean": bool}.get(what, np.float64)
            return _Values(kind, _filled(cells, is_present, exact), is_present, name)
        values = cells.copy()
        values[~is_present] = ""
        return _Values(kind, values, is_present, name)


def _numbers(name: str, column: pd.Series) -> _Values:
    """Return a column of numbers or truth values, nullable and Arrow columns included."""
    is_present = ~column.isna().to_numpy(dtype=bool)
    kind = column.dtype.kind
    dtype = {"b": bool, "i": np.int64, "u": np.uint64}.get(kind, np.float64)
    if is_present.all():
        values = column.to_numpy(dtype=dtype)
    else:
        # Any number may stand for a missing one, as `is_present` excludes it.
        values = column.to_numpy(dtype=dtype, na_value=np.nan if kind == "f" else dtype(0))
    if kind == "f":
        # A nullable column can hold NaN beside its own NA.
        is_present = is_present & ~np.isnan(values)
    return _Values("truth values" if kind == "b" else "numbers", values, is_present, name)


def _filled(cells: np.ndarray, is_present: np.ndarray, dtype: type) -> np.ndarray:
    values = np.zeros(len(cells), dtype=dtype)
    try:
        values[is_present] = cells[is_present].astype(dtype)
    except OverflowError:  # whole numbers beyond 64 bits compare as Python does
        values = np.where(is_present, cells, 0)
    return values


def _reads_as_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(names: Mapping[str, Any]) -> str:
    listed = [f"`{name}`" if not name.isidentifier() else name for name in list(names)[:12]]
    return ", ".join(listed) + (", ..." if len(names) > 12 else "")
