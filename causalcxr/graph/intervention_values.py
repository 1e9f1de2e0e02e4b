"""The setting of one variable: a level, number, shift, function, column or distribution."""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.common.errors import InterventionError, brief
from causalcxr.graph.distributions import Categorical, Distribution, Normal, Resample, is_number
from causalcxr.graph.value_codes import (
    as_python,
    code_of,
    codes_of,
    is_scalar,
    is_series,
    refuse,
    rule_of,
    within_range,
)
from causalcxr.graph.variables import Variable

if TYPE_CHECKING:
    import pandas as pd

    from causalcxr.common.random_numbers import Draws

__all__ = [
    "Setting",
    "Shift",
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


def checked(name: str, value: Any) -> Setting:
    """Refuse a value that is invalid for every graph; copy a column."""
    if value is None or (isinstance(value, float | np.floating) and not math.isfinite(value)):
        text = f"{value} cannot be set; leave the variable out"
        raise InterventionError(f"intervention {name!r}: {text}")
    if is_scalar(value) or isinstance(value, Shift | Distribution) or callable(value):
        return value
    try:
        # dtype object keeps the values as given: numpy would turn mixed ones into texts.
        column = np.array(value, dtype=object)
    except (TypeError, ValueError):
        column = np.array(None)
    if column.ndim != 1:
        text = f"{brief(value)} is not a level, number, shift, function or column"
        raise InterventionError(f"intervention {name!r}: {text}")
    if is_series(value):
        return type(value)(column, index=value.index)
    column.flags.writeable = False  # the caller's array may change later
    return column


def needs_fact(value: Setting) -> bool:
    """Return whether a setting depends on the factual value, as a shift or a function does."""
    return isinstance(value, Shift) or callable(value)


def canonical(variable: Variable, value: Setting, beyond_range: bool) -> Setting:
    """Return a setting in canonical form: the level as declared, a number on its lattice.

    Raises:
        InterventionError: If the value is not a level, not a number, or out of range.
    """
    # A level may be spelled like a shift, such as +1.
    if isinstance(value, Shift) and variable.is_discrete:
        if str(value) not in variable.levels:
            refuse(variable, f"shift {value} needs a continuous variable; {rule_of(variable)}")
        value = str(value)
    if isinstance(value, Distribution):
        return _fitting(variable, value, beyond_range)
    # Checked only when the factual values are known.
    if needs_fact(value):
        return value
    if not is_scalar(value):
        codes_of(variable, value, beyond_range)
        return value
    code = code_of(variable, value, beyond_range)
    return variable.levels[int(code)] if variable.is_discrete else code


def evaluate(
    variable: Variable,
    value: Setting,
    observed: np.ndarray,
    beyond_range: bool,
    draws: "Draws | None" = None,
    index: "pd.Index | None" = None,
) -> np.ndarray:
    """Return the code that every record is set to: a number, or the position of a level.

    Args:
        variable: The variable that is set.
        value: Its setting, in canonical form.
        observed: The factual codes, shape (n,), NaN where missing.
        beyond_range: Whether numbers outside the range are allowed.
        draws: The random numbers of the n records, required by a distribution.
        index: The ids of the n records; a Series is aligned to them.

    Raises:
        InterventionError: If a value is invalid, with the number of records and the first.
    """
    if isinstance(value, Distribution):
        return _drawn(variable, value, len(observed), beyond_range, draws)
    if isinstance(value, Shift):
        return within_range(
            variable, observed + value.amount, beyond_range, np.arange(len(observed))
        )
    if callable(value):
        return _called(variable, value, observed, beyond_range, index)
    # A Series is aligned by ids; an array or a list must be in order.
    if is_series(value):
        if index is None:
            refuse(variable, "the ids of the records are unknown here; give values in order")
        return codes_of(variable, _by_id(variable, value, index), beyond_range)
    if is_scalar(value):
        return np.full(len(observed), code_of(variable, value, beyond_range))
    if len(value) != len(observed):
        text = f"{len(value)} values for {len(observed)} records; give one for each"
        refuse(variable, text)
    return codes_of(variable, value, beyond_range)


def _by_id(variable: Variable, values: "pd.Series", index: "pd.Index") -> np.ndarray:
    """Return the values of records, by their ids."""
    from causalcxr.common.alignment import aligned  # imports pandas

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
    if not is_scalar(value):
        return f"{name}=<{len(value)} values>"
    return f"{name}={value:g}" if is_number(value) else f"{name}={value}"


def jsonable(value: Setting) -> Any:
    """Return the entry of a setting in a manifest."""
    if isinstance(value, Shift):
        return {"shift": float(value.amount)}
    if isinstance(value, Distribution):
        return value.to_json()
    if callable(value):
        return {"function": _name_of(value)}
    if is_scalar(value):
        return as_python(value)
    # A column may be long: its digest stands for it.
    by_id = is_series(value)
    lines = value.items() if by_id else enumerate(value)
    texts = [f"{key}\t{as_python(item)}" if by_id else str(as_python(item)) for key, item in lines]
    content = "\n".join(texts)
    return {"records": len(value), "sha256": hashlib.sha256(content.encode()).hexdigest()}


def _fitting(variable: Variable, distribution: Distribution, beyond_range: bool) -> Distribution:
    """Return a distribution in canonical form: levels in order, numbers inside the range."""
    if isinstance(distribution, Resample):
        codes_of(variable, distribution.values, beyond_range)
        return distribution
    # A normal distribution needs numbers, a categorical one levels.
    if isinstance(distribution, Normal) == variable.is_discrete:
        kind = (
            "a continuous variable"
            if isinstance(distribution, Normal)
            else "a variable with levels"
        )
        refuse(variable, f"{distribution} needs {kind}; {rule_of(variable)}")
    if isinstance(distribution, Categorical):
        codes = codes_of(variable, np.array(distribution.levels, dtype=object), beyond_range)
        if len(set(codes)) < len(codes):
            refuse(variable, f"{distribution} names a level twice; keep one")
        # In the order of the levels, so that the order of writing does not matter.
        mass = sorted(zip(codes, distribution.probabilities.values(), strict=True))
        return Categorical({variable.levels[int(code)]: p for code, p in mass})
    if beyond_range or not variable.range:
        return distribution
    # The mean and finite ends must lie in the range; the tails are cut at its ends.
    ends = [end for end in (distribution.low, distribution.high) if math.isfinite(end)]
    within_range(
        variable, np.array([distribution.mean, *ends], dtype=np.float64), beyond_range, None
    )
    low, high = variable.range
    return replace(distribution, low=max(distribution.low, low), high=min(distribution.high, high))


def _drawn(
    variable: Variable,
    distribution: Distribution,
    n: int,
    beyond_range: bool,
    draws: "Draws | None",
) -> np.ndarray:
    """Draw one value for each record, from a random stream of its own."""
    if draws is None or len(draws) != n:
        available = "none" if draws is None else f"those of {len(draws)} records"
        text = f"{distribution} needs random numbers of {n} records, not {available}"
        refuse(variable, f"{text}; pass draws=Draws(record_keys(cohort.records))")
    # A stream of its own, apart from the variable's noise.
    u = draws.on(f"do {variable.name}").uniform()[:, 0]
    if isinstance(distribution, Categorical):
        positions = np.array(
            [variable.levels.index(level) for level in distribution.levels], dtype=float
        )
        return positions[distribution.positions(u)]
    if isinstance(distribution, Resample):
        # Sorted, so that the value rises with u.
        codes = np.sort(codes_of(variable, distribution.values, beyond_range))
        return codes[(u * len(codes)).astype(int)]
    return within_range(variable, distribution.quantile(u), beyond_range, np.arange(n))


def _called(
    variable: Variable,
    function: Callable,
    observed: np.ndarray,
    beyond_range: bool,
    index: "pd.Index | None",
) -> np.ndarray:
    """Apply a function to the column in raw units, and code its result.

    The column is a Series by record. A returned Series is aligned by its index; other results are
    in the order of the records.
    """
    import pandas as pd  # slow to import, and graphs do not need it

    # The function gets levels as text, and None or NaN where a value is missing.
    missing = np.isnan(observed)
    column: Any = observed.copy()
    if variable.is_discrete:
        column = np.full(len(observed), None, dtype=object)
        column[~missing] = np.array(variable.levels, dtype=object)[observed[~missing].astype(int)]
    try:
        result = function(pd.Series(column, index=index, name=variable.name))
    except Exception as fault:  # a user's function may raise anything
        what = " ".join(f"{type(fault).__name__}: {fault}".split())[:120]
        raise InterventionError(
            f"intervention on {variable.name!r}: the function failed ({what}); it gets the "
            f"column of {len(observed)} records and must return one value for each"
        ) from fault
    # A Series is aligned by ids; one value is set for all records.
    if is_series(result):
        records = pd.RangeIndex(len(observed)) if index is None else index
        result = _by_id(variable, result, records)
    if is_scalar(result):
        result = np.full(len(observed), result, dtype=object)
    result = np.asarray(result, dtype=object)
    if result.shape != observed.shape:
        text = f"the function returned shape {result.shape} for {len(observed)} records"
        refuse(variable, f"{text}; return one value for each")
    # A missing value stays missing, whatever the function returns.
    codes = np.full(len(observed), np.nan)
    rows = np.flatnonzero(~missing)
    codes[rows] = codes_of(variable, result[rows], beyond_range, rows)
    return codes


def _name_of(function: Callable) -> str:
    name = getattr(function, "__name__", "<lambda>")
    return "<callable>" if name == "<lambda>" else name
