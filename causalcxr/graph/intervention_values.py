"""One setting and one variable: levels, numbers, shifts, functions, columns, distributions."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from causalcxr.common.errors import InterventionError, brief, nearest_to
from causalcxr.graph.distributions import Categorical, Distribution, Normal, Resample, is_number
from causalcxr.graph.variables import LARGEST, Variable

if TYPE_CHECKING:
    import pandas as pd

    from causalcxr.common.random_numbers import Draws

__all__ = [
    "Setting",
    "Shift",
    "Written",
    "canonical",
    "checked",
    "evaluate",
    "jsonable",
    "needs_fact",
    "worded",
]

# A level, a number, a Shift, a function of the column, a column of values in order, a Series of
# values by record, or a Distribution.
Setting = Any


@dataclass(frozen=True)
class Shift:
    """Add an amount to the factual value of a continuous variable, in its unit.

    Example:
        >>> str(Shift(-5))
        '-5'
    """

    amount: float

    def __post_init__(self) -> None:
        if not is_number(self.amount) or not math.isfinite(self.amount):
            raise InterventionError(f"a shift is a finite number, not {brief(self.amount)}")

    def __str__(self) -> str:
        return f"{self.amount:+g}"


class Written(str):
    """A value as the command line writes it: text, of which a number may be read.

    In Python a number is written as a number: there, text is no value of a continuous variable.
    """

    __slots__ = ()


def checked(name: str, value: Any) -> Setting:
    """Refuse at once what no graph could accept, and copy columns."""
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        text = f"{value} is no value to set; leave the variable out"
        raise InterventionError(f"intervention {name!r}: {text}")
    if _is_scalar(value) or isinstance(value, Shift | Distribution) or callable(value):
        return value
    try:
        column = np.array(value, dtype=object)
    except (TypeError, ValueError):
        column = np.array(None)
    if column.ndim != 1:
        text = f"{brief(value)} is no level, number, shift, function or column"
        raise InterventionError(f"intervention {name!r}: {text}")
    if _is_series(value):
        return type(value)(column, index=value.index)
    column.flags.writeable = False  # what happens to the caller's array changes nothing here
    return column


def needs_fact(value: Setting) -> bool:
    """Return whether a setting starts from the factual value: a shift or a function does."""
    return isinstance(value, Shift) or callable(value)


def canonical(variable: Variable, value: Setting, beyond_range: bool) -> Setting:
    """Return a setting as the variable spells it: the level's own text, a number on its lattice.

    Raises:
        InterventionError: If the value is no level, no number, or out of range.
    """
    if isinstance(value, Shift) and variable.is_discrete:
        if str(value) not in variable.levels:
            _refuse(variable, f"shift {value} needs a continuous variable; {_rule(variable)}")
        value = str(value)
    if isinstance(value, Distribution):
        return _fitting(variable, value, beyond_range)
    if needs_fact(value):
        return value
    if not _is_scalar(value):
        _codes(variable, value, beyond_range)
        return value
    code = _code(variable, value, beyond_range)
    return variable.levels[int(code)] if variable.is_discrete else code


def evaluate(
    variable: Variable,
    value: Setting,
    observed: np.ndarray,
    beyond_range: bool,
    draws: "Draws | None" = None,
    index: "pd.Index | None" = None,
) -> np.ndarray:
    """Return the code that every record is set to.

    Args:
        variable: The declaration of what is set.
        value: What it is set to, in canonical form.
        observed: The factual codes, shape (n,), NaN where missing.
        beyond_range: Whether numbers outside the range are allowed.
        draws: The random numbers of the n records, which a distribution needs.
        index: The ids of the n records, by which a Series is aligned.

    Raises:
        InterventionError: If a value does not fit, with the number of records and the first.
    """
    if isinstance(value, Distribution):
        return _drawn(variable, value, len(observed), beyond_range, draws)
    if isinstance(value, Shift):
        return _within(variable, observed + value.amount, beyond_range, np.arange(len(observed)))
    if callable(value):
        return _called(variable, value, observed, beyond_range, index)
    if _is_series(value):
        if index is None:
            _refuse(variable, "the ids of the records are unknown here; give values in order")
        return _codes(variable, _by_id(variable, value, index), beyond_range)
    if _is_scalar(value):
        return np.full(len(observed), _code(variable, value, beyond_range))
    if len(value) != len(observed):
        text = f"{len(value)} values for {len(observed)} records; give one for each"
        _refuse(variable, text)
    return _codes(variable, value, beyond_range)


def _by_id(variable: Variable, values: "pd.Series", index: "pd.Index") -> np.ndarray:
    """Return the values of records, by their ids."""
    from causalcxr.common.alignment import aligned  # stands on pandas

    what = f"intervention on {variable.name!r}: Series"
    return aligned(values, index, what, error=InterventionError).to_numpy(dtype=object)


def worded(name: str, value: Setting) -> str:
    """Return a setting in words, such as `Sex=M` or `Age+10`."""
    if isinstance(value, Shift):
        return f"{name}{value}"
    if isinstance(value, Distribution):
        return f"{name}~{value}"
    if callable(value):
        return f"{name}={_name_of(value)}"
    if not _is_scalar(value):
        return f"{name}=<{len(value)} values>"
    return f"{name}={value:g}" if is_number(value) else f"{name}={value}"


def jsonable(value: Setting) -> Any:
    """Return what a manifest keeps of a setting."""
    if isinstance(value, Shift):
        return {"shift": float(value.amount)}
    if isinstance(value, Distribution):
        return value.to_json()
    if callable(value):
        return {"function": _name_of(value)}
    if _is_scalar(value):
        return _plain(value)
    by_id = _is_series(value)
    lines = value.items() if by_id else enumerate(value)
    texts = [f"{key}\t{_plain(item)}" if by_id else str(_plain(item)) for key, item in lines]
    content = "\n".join(texts)
    return {"records": len(value), "sha256": hashlib.sha256(content.encode()).hexdigest()}


def _fitting(variable: Variable, law: Distribution, beyond_range: bool) -> Distribution:
    """Return a law as the variable spells it: levels in their order, numbers inside the range."""
    if isinstance(law, Resample):
        _codes(variable, law.values, beyond_range)
        return law
    if isinstance(law, Normal) == variable.is_discrete:
        kind = "a continuous variable" if isinstance(law, Normal) else "a variable with levels"
        _refuse(variable, f"{law} needs {kind}; {_rule(variable)}")
    if isinstance(law, Categorical):
        codes = _codes(variable, np.array(law.levels, dtype=object), beyond_range)
        if len(set(codes)) < len(codes):
            _refuse(variable, f"{law} names a level twice; keep one")
        mass = sorted(zip(codes, law.probabilities.values(), strict=True))
        return Categorical({variable.levels[int(code)]: p for code, p in mass})
    if beyond_range or not variable.range:
        return law
    ends = [end for end in (law.low, law.high) if math.isfinite(end)]
    _within(variable, np.array([law.mean, *ends], dtype=np.float64), beyond_range, None)
    low, high = variable.range
    return replace(law, low=max(law.low, low), high=min(law.high, high))


def _drawn(
    variable: Variable, law: Distribution, n: int, beyond_range: bool, draws: "Draws | None"
) -> np.ndarray:
    """Draw one value a record, from numbers that nothing else uses."""
    if draws is None or len(draws) != n:
        known = "none" if draws is None else f"those of {len(draws)} records"
        text = f"{law} needs random numbers of {n} records, not {known}"
        _refuse(variable, f"{text}; pass draws=Draws(record_keys(cohort.records))")
    u = draws.on(f"do {variable.name}").uniform()[:, 0]
    if isinstance(law, Categorical):
        positions = np.array([variable.levels.index(level) for level in law.levels], dtype=float)
        return positions[law.positions(u)]
    if isinstance(law, Resample):
        codes = np.sort(_codes(variable, law.values, beyond_range))
        return codes[(u * len(codes)).astype(int)]
    return _within(variable, law.quantile(u), beyond_range, np.arange(n))


def _called(
    variable: Variable,
    function: Callable,
    observed: np.ndarray,
    beyond_range: bool,
    index: "pd.Index | None",
) -> np.ndarray:
    """Apply a function to the column as a person reads it, and code what it returns.

    The column is a Series by record. A Series that comes back is aligned by its index; anything
    else is in the order of the records.
    """
    import pandas as pd  # slow to import, and a graph is read without it

    missing = np.isnan(observed)
    column: Any = observed.copy()
    if variable.is_discrete:
        column = np.full(len(observed), None, dtype=object)
        column[~missing] = np.array(variable.levels, dtype=object)[observed[~missing].astype(int)]
    try:
        result = function(pd.Series(column, index=index, name=variable.name))
    except Exception as fault:  # whatever a user's function may raise
        what = " ".join(f"{type(fault).__name__}: {fault}".split())[:120]
        raise InterventionError(
            f"intervention on {variable.name!r}: the function failed ({what}); it is given the "
            f"column of {len(observed)} records and returns one value for each"
        ) from fault
    if _is_series(result):
        known = pd.RangeIndex(len(observed)) if index is None else index
        result = _by_id(variable, result, known)
    if _is_scalar(result):
        result = np.full(len(observed), result, dtype=object)
    result = np.asarray(result, dtype=object)
    if result.shape != observed.shape:
        text = f"the function returned shape {result.shape} for {len(observed)} records"
        _refuse(variable, f"{text}; return one value for each")
    codes = np.full(len(observed), np.nan)
    rows = np.flatnonzero(~missing)
    codes[rows] = _codes(variable, result[rows], beyond_range, rows)
    return codes


def _code(variable: Variable, value: Any, beyond_range: bool) -> float:
    """Code the one value that all records are set to."""
    value = _plain(value)
    code = (_position if variable.is_discrete else _number)(variable, value)
    if code is None:
        _refuse_value(variable, value, "")
    if variable.is_discrete:
        return code
    return float(_within(variable, np.array([code]), beyond_range, None)[0])


def _codes(
    variable: Variable, values: np.ndarray, beyond_range: bool, rows: np.ndarray | None = None
) -> np.ndarray:
    """Code one value for each record; `rows` are the positions of the records."""
    rows = np.arange(len(values)) if rows is None else rows
    read = _position if variable.is_discrete else _number
    plain = [_plain(value) for value in values]
    keys = [(type(value), value) for value in plain]  # True is 1 to a dict, and no number here
    known = {key: read(variable, key[1]) for key in set(keys)}  # each distinct value is read once
    bad = np.array([known[key] is None for key in keys], dtype=bool)
    if bad.any():
        _refuse_value(variable, plain[int(np.flatnonzero(bad)[0])], _where(bad, rows))
    codes = np.array([known[key] for key in keys], dtype=np.float64)
    return codes if variable.is_discrete else _within(variable, codes, beyond_range, rows)


def _within(
    variable: Variable, values: np.ndarray, beyond_range: bool, rows: np.ndarray | None
) -> np.ndarray:
    """Round numbers to the variable's lattice and keep them to its range; NaN passes."""
    too_large = np.abs(values) > LARGEST
    if too_large.any():
        first = values[np.flatnonzero(too_large)[0]]
        where = "" if rows is None else _where(too_large, rows)
        text = f"value {first:g}{where} is too large: numbers reach {LARGEST:g} in size"
        _refuse(variable, f"{text}; correct it, or use another unit")
    values = _on_lattice(values, variable.resolution)
    low, high = (-np.inf, np.inf) if beyond_range or not variable.range else variable.range
    outside = (values < low) | (values > high)
    if outside.any():
        first = values[np.flatnonzero(outside)[0]]
        where = "" if rows is None else _where(outside, rows)
        unit = f" {variable.unit}" if variable.unit else ""
        text = f"value {first:g}{where} is outside the range [{low:g}, {high:g}]{unit}"
        _refuse(variable, f"{text}; if it is meant, pass beyond_range=True (--beyond-range)")
    return values


def _on_lattice(values: np.ndarray, step: float | None) -> np.ndarray:
    """Round halves upwards; what is on the lattice already stays as it is, bit for bit."""
    if not step:
        return values
    places = 9 - math.floor(math.log10(step))  # 3 steps of 0.1 are 0.3, not 0.30000000000000004
    rounded = np.round(np.floor(values / step + 0.5) * step, places)
    return np.where(np.abs(rounded - values) < 1e-9 * step, values, rounded)


def _position(variable: Variable, value: Any) -> float | None:
    """Find a level by its exact text, else by its text whatever the case."""
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
    what, value = "level" if variable.is_discrete else "value", _plain(value)
    hint = nearest_to(value, variable.levels)
    missing = value is None or value != value or str(value) in ("<NA>", "NaT")
    if missing:
        hint = "; a function such as `lambda x: x` leaves missing values missing"
    elif not variable.is_discrete and isinstance(value, str):
        hint = _as_number(value)
    _refuse(variable, f"{what} {brief(value)}{where}: {_rule(variable)}{hint}")


def _as_number(text: str) -> str:
    """Return how a number that was given as text is written."""
    number = None if isinstance(text, Written) else _read_number(text)
    if number is None:
        return ""
    if text.strip()[:1] in "+-":
        return f"; write Shift({number:g}) to add it to the factual value, {number:g} to set it"
    return f"; write the number {number:g}, without quotes"


def _refuse(variable: Variable, text: str) -> NoReturn:
    raise InterventionError(f"intervention on {variable.name!r}: {text}")


def _rule(variable: Variable) -> str:
    if variable.is_discrete:
        return f"the levels are {', '.join(variable.levels)}"
    return "give a finite number"


def _where(bad: np.ndarray, rows: np.ndarray) -> str:
    first = int(rows[np.flatnonzero(bad)[0]])
    return f" ({int(bad.sum())} of {len(bad)} records, the first at position {first})"


def _plain(value: Any) -> Any:
    """Return a value that can be looked up and written, whatever a user put into a column."""
    if isinstance(value, np.datetime64 | np.timedelta64):  # its item may be nanoseconds
        return str(value)
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, str | int | float | None) else str(value)


def _is_series(value: Any) -> bool:
    """Return whether a value is a pandas Series, without importing pandas."""
    return hasattr(value, "reindex") and getattr(value, "ndim", 0) == 1


def _is_scalar(value: Any) -> bool:
    return isinstance(value, str | bool | np.bool_) or is_number(value)


def _name_of(function: Callable) -> str:
    name = getattr(function, "__name__", "<lambda>")
    return "<callable>" if name == "<lambda>" else name
