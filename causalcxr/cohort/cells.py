"""Cells: new levels and numbers, written in the form of the column's other values.

`==`, `groupby`, `select` and the encoders of scikit-learn then treat facts and twins alike. A
column keeps its dtype if the new values fit into it:

- A level is written as in the column's other cells: 1 in a column of integers, True in one of
  truth values, "1" in one of texts, its code if the column has the codes of the graph. A level
  that has no such form ("unknown" among integers) is written as text, and the column becomes one
  of objects.
- A Categorical gains missing categories after its own.
- Whole numbers become floats if a new value is not whole, or is missing and the dtype has no
  missing value (int64; bool becomes object). Floats that do not fit become float64.
"""

import contextlib
import math
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

import numpy as np
import pandas as pd
from pandas.api import types

from causalcxr.graph.variables import Variable

__all__ = ["kind_of", "present", "spelled", "with_levels", "with_numbers"]

_TRUTHS = {"True": True, "False": False, "1": True, "0": False}


def spelled(value: object) -> str:
    """Return a value as the text of a level: 1.0, from a column with missing values, is '1'.

    Example:
        >>> spelled(1.0), spelled(1), spelled("1"), spelled(0.5)
        ('1', '1', '1', '0.5')
    """
    if isinstance(value, float | np.floating) and float(value).is_integer():
        return str(int(value))
    return str(value)


def present(cells: np.ndarray) -> np.ndarray:
    """Return which cells have a value, shape (n,), bool; an empty text is missing.

    Example:
        >>> present(np.array(["a", "", None, 0], dtype=object)).tolist()
        [True, False, False, True]
    """
    is_present = ~pd.isna(cells)
    is_present[is_present] = [
        not (isinstance(each, str) and not each) for each in cells[is_present]
    ]
    return is_present


def with_levels(
    values: pd.Series, changed: np.ndarray, old: np.ndarray, new: np.ndarray, variable: Variable
) -> pd.Series:
    """Return a column with new levels in some rows.

    Args:
        values: The column in raw units.
        changed: Which rows change, shape (n,), bool.
        old: The positions of the column's levels, (n,), NaN where missing.
        new: The positions of the new levels, (n,), NaN where missing.
        variable: The variable of the column.

    Example:
        >>> sick = Variable("Sick", "binary", levels=["0", "1"])
        >>> changed, old, new = np.array([True, False]), np.ones(2), np.array([0.0, 1.0])
        >>> with_levels(pd.Series([1, 1], dtype="int8"), changed, old, new, sick).tolist()
        [0, 1]
    """
    # For each level that occurs, a cell as the column writes it.
    rows_with_level = np.flatnonzero(~np.isnan(old))
    places, rows = np.unique(old[rows_with_level], return_index=True)
    facts = {
        int(k): values.iloc[rows_with_level[row]] for k, row in zip(places, rows, strict=True)
    }
    # A column of codes gets codes for new levels, too.
    coded = any(_code_text(cell, variable) is not None for cell in facts.values())
    names = [variable.code_of(level) if coded else level for level in variable.levels]
    kind = kind_of(values)
    # The last cell stands for a missing value.
    cells = np.array([*(_level(each, kind) for each in names), np.nan], dtype=object)
    for k, cell in facts.items():
        cells[k] = (
            cell.item() if isinstance(cell, np.generic) else cell
        )  # in the form of the facts
    positions = np.where(np.isnan(new), len(variable.levels), new).astype(np.int64)
    return _written(values, changed, cells[positions[changed]])


def with_numbers(
    values: pd.Series, changed: np.ndarray, new: np.ndarray, variable: Variable
) -> pd.Series:
    """Return a column with new numbers in some rows.

    Args:
        values: The column in raw units.
        changed: Which rows change, shape (n,), bool.
        new: The new numbers, (n,), NaN where missing.
        variable: The variable of the column.

    Example:
        >>> age, changed = Variable("Age", "continuous"), np.array([True, False])
        >>> with_numbers(pd.Series([61, 47]), changed, np.array([71.0, 47]), age).tolist()
        [71, 47]
    """
    numbers = np.asarray(new, dtype=np.float64)[changed]
    if isinstance(values.dtype, np.dtype) and values.dtype.kind in "iuf":
        array = _replaced_numbers(values.to_numpy(), changed, numbers, variable.range)
        return pd.Series(array, index=values.index, name=values.name)
    kind = kind_of(values)
    if kind == "string":
        cells: Sequence = [np.nan if math.isnan(each) else spelled(each) for each in numbers]
    elif kind == "boolean" and (np.isin(numbers, (0, 1)) | np.isnan(numbers)).all():
        cells = [each if math.isnan(each) else bool(each) for each in numbers.tolist()]
    elif kind in ("integer", "boolean", "mixed-integer-float"):
        cells = [int(each) if each.is_integer() else each for each in numbers.tolist()]
    else:
        cells = numbers.tolist()
    # Filled, not converted: numpy would give all cells one dtype.
    written = np.empty(len(cells), dtype=object)
    written[:] = cells
    return _written(values, changed, written, variable.range)


def kind_of(values: pd.Series) -> str:
    """Return the kind of a column's cells in the words of pandas; of its dtype if all are empty.

    Example:
        >>> kind_of(pd.Series([1, None], dtype=object))
        'integer'
    """
    dtype = values.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        dtype, values = dtype.categories.dtype, pd.Series(dtype.categories)
    for kind, test in (
        ("boolean", types.is_bool_dtype),
        ("integer", types.is_integer_dtype),
        ("floating", types.is_float_dtype),
    ):
        if test(dtype):
            return kind
    if types.is_string_dtype(dtype) and not types.is_object_dtype(dtype):
        return "string"
    # A column of objects: its cells decide.
    cells = values.to_numpy(dtype=object)
    return types.infer_dtype(cells[present(cells)])  # "empty" if there is none


def _code_text(cell: object, variable: Variable) -> str | None:
    """Return the code that a cell holds, None if it holds a level."""
    texts = [spelled(cell)]
    if isinstance(cell, bool | np.bool_):
        texts.append(str(int(cell)))
    return next((t for t in texts if t in variable.codes and t not in variable.levels), None)


def _level(level: str, kind: str) -> object:
    """Return a level in the form of a kind of column; as text if it has no such form."""
    try:
        value: object = {
            "boolean": lambda: _TRUTHS[level],
            "integer": lambda: int(level),
            "floating": lambda: float(level),
            "mixed-integer-float": lambda: float(level),
            "decimal": lambda: Decimal(level),
        }[kind]()
    except (KeyError, ValueError, InvalidOperation):
        return level
    # 01 and 1e3 stay texts: as numbers they would become other levels when read again.
    return value if kind == "boolean" or spelled(value) == level else level


def _written(
    values: pd.Series,
    changed: np.ndarray,
    cells: np.ndarray,
    range: tuple[float, float] | None = None,
) -> pd.Series:
    """Return a column with some cells replaced, in its dtype or the nearest wider one."""
    array: np.ndarray | pd.api.extensions.ExtensionArray
    if isinstance(values.dtype, pd.CategoricalDtype):
        array = _categorical(values, changed, cells)
    elif isinstance(values.dtype, np.dtype):
        array = _replaced(values.to_numpy(), changed, cells, range)
    else:
        array = _extended(values, changed, cells, range)
    written = pd.Series(array, index=values.index, name=values.name, dtype=array.dtype)
    return written.infer_objects() if kind_of(values) == "empty" else written


def _categorical(values: pd.Series, changed: np.ndarray, cells: np.ndarray) -> pd.Categorical:
    fresh = pd.unique(pd.Series(cells[~pd.isna(cells)], dtype=object))
    categories = values.cat.categories
    if len(lacking := [each for each in fresh if each not in categories]):
        categories = values.cat.add_categories(lacking).cat.categories
    codes = values.cat.codes.to_numpy(dtype=np.int64, copy=True)
    codes[changed] = categories.get_indexer(pd.Index(cells, dtype=object))
    return pd.Categorical.from_codes(codes, categories=categories, ordered=values.cat.ordered)


def _replaced_numbers(
    values: np.ndarray,
    changed: np.ndarray,
    numbers: np.ndarray,
    range: tuple[float, float] | None,
) -> np.ndarray:
    """Return a numpy column of numbers with some of them replaced."""
    dtypes = [values.dtype]
    if values.dtype.kind in "iu":
        are_whole = (numbers == np.rint(numbers)).all()  # missing is not
        dtypes = [values.dtype, np.dtype(np.int64)] if are_whole else []
    dtypes.append(np.dtype(np.float64))
    dtype = next(each for each in dtypes if _fits(numbers, each, range))
    array = values.astype(dtype, copy=True)
    array[changed] = numbers.astype(dtype)
    return array


def _replaced(
    values: np.ndarray,
    changed: np.ndarray,
    cells: np.ndarray,
    range: tuple[float, float] | None,
) -> np.ndarray:
    """Return a numpy column with some cells replaced."""
    missing = pd.isna(cells).any()
    truths, are_whole, numbers = _types_of(cells)
    # The column's own dtype first, then wider ones; objects if none fits.
    dtypes: list[np.dtype] = []
    if values.dtype.kind == "b" and truths:
        dtypes = [values.dtype] if not missing else []
    elif values.dtype.kind in "iufb" and numbers:
        if values.dtype.kind in "iu" and are_whole and not missing:
            dtypes = [values.dtype, np.dtype(np.int64)]
        elif values.dtype.kind == "f":
            dtypes = [values.dtype]
        dtypes.append(np.dtype(np.float64))
    for dtype in dtypes:
        if _fits(cells, dtype, range):
            array = values.astype(dtype, copy=True)
            array[changed] = cells.astype(dtype)
            return array
    array = values.astype(object, copy=True)
    array[changed] = cells
    return array


def _types_of(cells: np.ndarray) -> tuple[bool, bool, bool]:
    """Return whether the cells present are truth values, whole numbers, any numbers."""
    kinds = {type(each) for each in cells[~pd.isna(cells)]}
    truths = all(issubclass(kind, bool | np.bool_) for kind in kinds)
    are_whole = all(issubclass(kind, int | np.integer) for kind in kinds)
    return truths, are_whole, all(issubclass(kind, int | float | np.number) for kind in kinds)


def _fits(cells: np.ndarray, dtype: np.dtype, range: tuple[float, float] | None) -> bool:
    """Return whether numbers fit into a dtype; floats may be rounded if they stay in range."""
    cells = cells[~pd.isna(cells)]
    if dtype.kind in "iu":
        info = np.iinfo(dtype)
        return not len(cells) or (info.min <= int(cells.min()) and int(cells.max()) <= info.max)
    if dtype == np.float64 or dtype.kind == "b":
        return True
    with np.errstate(over="ignore"):
        exact, rounded = cells.astype(np.float64), cells.astype(dtype).astype(np.float64)
    # Rounding must not move a number out of the range.
    low, high = range or (-np.inf, np.inf)
    outside = (rounded < low) | (rounded > high) | np.isinf(rounded)
    return not (outside & (exact >= low) & (exact <= high)).any()


def _extended(
    values: pd.Series,
    changed: np.ndarray,
    cells: np.ndarray,
    range: tuple[float, float] | None,
) -> pd.api.extensions.ExtensionArray | np.ndarray:
    """Return a nullable, Arrow or text column with some cells replaced."""
    array = values.to_numpy(dtype=object, copy=True)
    array[changed] = cells
    array[pd.isna(array)] = None
    for dtype in _nullable(values, cells, range):
        with contextlib.suppress(TypeError, ValueError, OverflowError, NotImplementedError):
            return pd.array(array, dtype=dtype)
    array[pd.isna(array)] = np.nan
    return array


def _nullable(values: pd.Series, cells: np.ndarray, range: tuple[float, float] | None) -> list:
    """Return the extension dtypes to try: the column's own, then wider ones."""
    dtype = values.dtype
    truths, are_whole, numbers = _types_of(cells)
    if types.is_bool_dtype(dtype) and truths:
        return [dtype]
    if not (types.is_bool_dtype(dtype) or types.is_numeric_dtype(dtype)):
        return [dtype]
    if not numbers:
        return []
    arrow = isinstance(dtype, pd.ArrowDtype)
    integer, floating = ("int64[pyarrow]", "double[pyarrow]") if arrow else ("Int64", "Float64")
    if types.is_integer_dtype(dtype) and are_whole:
        return [dtype, integer, floating]
    width = getattr(dtype, "numpy_dtype", np.dtype(np.float64))
    if types.is_float_dtype(dtype) and _fits(cells, width, range):
        return [dtype, floating]
    return [floating]
