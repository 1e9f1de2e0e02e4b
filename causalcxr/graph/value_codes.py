"""The codes of values: a level's position, or a number on its lattice and inside its range."""

import math
from typing import Any, NoReturn

import numpy as np

from causalcxr.common.errors import InterventionError, brief, nearest
from causalcxr.graph.distributions import is_number
from causalcxr.graph.variables import LARGEST, Variable

__all__ = [
    "Written",
    "as_python",
    "code_of",
    "codes_of",
    "is_scalar",
    "is_series",
    "refuse",
    "rule_of",
    "within_range",
]


class Written(str):
    """A value from the command line: text that may be a number.

    In Python, text is not a valid value of a continuous variable.
    """

    __slots__ = ()


def code_of(variable: Variable, value: Any, beyond_range: bool) -> float:
    """Return the code of one value, to which all records are set."""
    value = as_python(value)
    code = (_position if variable.is_discrete else _number)(variable, value)
    if code is None:
        _refuse_value(variable, value, "")
    if variable.is_discrete:
        return code
    return float(within_range(variable, np.array([code]), beyond_range, None)[0])


def codes_of(
    variable: Variable, values: np.ndarray, beyond_range: bool, rows: np.ndarray | None = None
) -> np.ndarray:
    """Return the code of one value for each record; `rows` are the positions of the records."""
    rows = np.arange(len(values)) if rows is None else rows
    read = _position if variable.is_discrete else _number
    plain = [as_python(value) for value in values]
    keys = [
        (type(value), value) for value in plain
    ]  # True equals 1 as a key, but is not a number here
    # Each distinct value is read once.
    codes_by_key = {key: read(variable, key[1]) for key in set(keys)}
    bad = np.array([codes_by_key[key] is None for key in keys], dtype=bool)
    if bad.any():
        _refuse_value(variable, plain[int(np.flatnonzero(bad)[0])], _where(bad, rows))
    codes = np.array([codes_by_key[key] for key in keys], dtype=np.float64)
    return codes if variable.is_discrete else within_range(variable, codes, beyond_range, rows)


def within_range(
    variable: Variable, values: np.ndarray, beyond_range: bool, rows: np.ndarray | None
) -> np.ndarray:
    """Round numbers to the variable's lattice, and refuse those outside its range; NaN passes."""
    # Before rounding, in which a huge number could overflow.
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        first = values[np.flatnonzero(too_large)[0]]
        where = "" if rows is None else _where(too_large, rows)
        text = f"value {first:g}{where} is too large: at most {LARGEST:g}"
        refuse(variable, f"{text}; correct it, or use another unit")
    # Round first: the rounded number must lie in the range.
    values = _on_lattice(values, variable.resolution)
    low, high = (-np.inf, np.inf) if beyond_range or not variable.range else variable.range
    outside = (values < low) | (values > high)
    if outside.any():
        first = values[np.flatnonzero(outside)[0]]
        where = "" if rows is None else _where(outside, rows)
        unit = f" {variable.unit}" if variable.unit else ""
        text = f"value {first:g}{where} is outside the range [{low:g}, {high:g}]{unit}"
        refuse(variable, f"{text}; if this is intended, pass beyond_range=True (--beyond-range)")
    return values


def _on_lattice(values: np.ndarray, step: float | None) -> np.ndarray:
    """Round halves upwards; a number on the lattice is returned bit-exact."""
    if not step:
        return values
    places = 9 - math.floor(math.log10(step))  # 3 steps of 0.1 are 0.3, not 0.30000000000000004
    rounded = np.round(np.floor(values / step + 0.5) * step, places)
    return np.where(np.abs(rounded - values) < 1e-9 * step, values, rounded)


def _position(variable: Variable, value: Any) -> float | None:
    """Return the position of a level by its exact text, or else ignoring case."""
    text = f"{value:g}" if is_number(value) else value
    if not isinstance(text, str):
        return None
    if (level := variable.level_of(text)) is not None:  # itself, or by its code
        return float(variable.levels.index(level))
    lowered = [level.lower() for level in variable.levels]
    return float(lowered.index(text.lower())) if lowered.count(text.lower()) == 1 else None


def _number(variable: Variable, value: Any) -> float | None:
    if isinstance(value, bool) or (isinstance(value, str) and not isinstance(value, Written)):
        return None
    if isinstance(value, np.datetime64 | np.timedelta64):  # float() would count its nanoseconds
        return None
    return _read_number(value)


def _read_number(value: Any) -> float | None:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _refuse_value(variable: Variable, value: Any, where: str) -> NoReturn:
    what, value = "level" if variable.is_discrete else "value", as_python(value)
    hint = nearest(value, variable.levels)
    missing = value is None or value != value or str(value) in ("<NA>", "NaT")
    if missing:
        hint = "; a function such as `lambda x: x` leaves missing values missing"
    elif not variable.is_discrete and isinstance(value, str):
        hint = _as_number(value)
    refuse(variable, f"{what} {brief(value)}{where}: {rule_of(variable)}{hint}")


def _as_number(text: str) -> str:
    """Return the remedy for a number that was given as text."""
    number = None if isinstance(text, Written) else _read_number(text)
    if number is None:
        return ""
    if text.strip()[:1] in "+-":
        return f"; write Shift({number:g}) to add it to the factual value, {number:g} to set it"
    return f"; write the number {number:g}, without quotes"


def refuse(variable: Variable, text: str) -> NoReturn:
    """Raise the error about what one variable is set to."""
    raise InterventionError(f"intervention on {variable.name!r}: {text}")


def rule_of(variable: Variable) -> str:
    """Return which values a variable takes, for a message."""
    if variable.is_discrete:
        return f"the levels are {', '.join(variable.levels)}"
    return "give a finite number"


def _where(bad: np.ndarray, rows: np.ndarray) -> str:
    first = int(rows[np.flatnonzero(bad)[0]])
    return f" ({int(bad.sum())} of {len(bad)} records, the first at position {first})"


def as_python(value: Any) -> Any:
    """Return a cell of a user's column as a value that can be hashed and written."""
    if isinstance(value, np.datetime64 | np.timedelta64):  # its item may be nanoseconds
        return str(value)
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | None) else str(value)


def is_series(value: Any) -> bool:
    """Return whether a value is a pandas Series, without importing pandas."""
    return hasattr(value, "reindex") and getattr(value, "ndim", 0) == 1


def is_scalar(value: Any) -> bool:
    """Return whether a value is one level or number."""
    return isinstance(value, str | bool | np.bool_) or is_number(value)
