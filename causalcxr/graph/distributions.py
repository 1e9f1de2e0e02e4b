"""Distributions that a variable can be set to: normal, categorical, resampled values.

Each distribution is a quantile function of the record's uniform number. The value therefore
belongs to the record, and a record gets similar values from two similar distributions.
"""

import hashlib
import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from causalcxr.common.errors import InterventionError, brief
from causalcxr.common.frozen_dict import FrozenDict

__all__ = ["Categorical", "Distribution", "Normal", "Resample", "read_distribution"]

_CALL = re.compile(r"(\w+)\s*\((.*)\)")
_MIN_MASS = 1e-9  # of a normal distribution between its bounds; below it quantiles lose digits


class Distribution:
    """A distribution to draw each record's value from: `do(age=Normal(60, 10))`."""

    def to_json(self) -> dict[str, Any]:
        """Return the entry for a manifest."""
        raise NotImplementedError


@dataclass(frozen=True)
class Normal(Distribution):
    """A normal distribution, truncated to an interval if bounds are given.

    `do` truncates it to the declared range of the variable, unless `beyond_range=True`. The text
    of the intervention and the manifest state the bounds.

    Args:
        mean: Mean before truncation, in the variable's unit.
        sd: Standard deviation before truncation, above zero.
        low: Lower bound.
        high: Upper bound.

    Raises:
        InterventionError: If a number does not fit, or no mass is left between the bounds.

    Example:
        >>> str(Normal(60, 10, 18, 90))
        'normal(60, 10, 18, 90)'
        >>> Normal(60, 10).quantile(np.array([0.5, 0.975])).round(1).tolist()
        [60.0, 79.6]
    """

    mean: float
    sd: float
    low: float = -math.inf
    high: float = math.inf

    def __post_init__(self) -> None:
        numbers = (self.mean, self.sd, self.low, self.high)
        if not all(map(is_number, numbers)) or any(map(math.isnan, numbers)):
            raise InterventionError(f"{self}: give numbers: mean, sd, low, high")
        if not math.isfinite(self.mean) or not 0 < self.sd < math.inf:
            raise InterventionError(f"{self}: the mean must be finite, and the sd above zero")
        low, high, _ = self._ends()
        if self.low >= self.high or high - low < _MIN_MASS:
            raise InterventionError(f"{self}: no mass between {self.low:g} and {self.high:g}")

    def quantile(self, u: np.ndarray) -> np.ndarray:
        """Return the values at levels u in (0, 1), shape (n,)."""
        from scipy.special import ndtri

        low, high, sign = self._ends()
        z = sign * ndtri(low + (high - low) * (u if sign > 0 else 1 - u))
        return np.clip(self.mean + self.sd * z, self.low, self.high)

    def to_json(self) -> dict[str, Any]:
        """Return the parameters; an absent bound is None."""
        bounds = [None if math.isinf(end) else float(end) for end in (self.low, self.high)]
        return {"normal": {"mean": float(self.mean), "sd": float(self.sd), "bounds": bounds}}

    def __str__(self) -> str:
        ends = () if self.low == -math.inf and self.high == math.inf else (self.low, self.high)
        return f"normal({', '.join(_number_text(n) for n in (self.mean, self.sd, *ends))})"

    def _ends(self) -> tuple[float, float, int]:
        """Return the mass below each bound, computed in the tail of the bounds for precision."""
        from scipy.special import ndtr  # slow to import; few interventions need it

        low, high = ((end - self.mean) / self.sd for end in (self.low, self.high))
        sign = -1 if low > 0 else 1
        low, high = (low, high) if sign > 0 else (-high, -low)
        return float(ndtr(low)), float(ndtr(high)), sign


@dataclass(frozen=True, init=False)
class Categorical(Distribution):
    """Levels and their probabilities; other levels have probability zero.

    Args:
        probabilities: The probability of each level; they sum to one.

    Raises:
        InterventionError: If a probability is negative, or they do not sum to one.

    Example:
        >>> sex = Categorical({"F": 0.3, "M": 0.7})
        >>> str(sex), sex.positions(np.array([0.2, 0.4, 0.9])).tolist()
        ('categorical(F=0.3, M=0.7)', [0, 1, 1])
    """

    probabilities: Mapping[str, float]

    def __init__(self, probabilities: Mapping[str, float]) -> None:
        example = "give levels and probabilities, such as Categorical({'F': 0.3, 'M': 0.7})"
        if not isinstance(probabilities, Mapping) or not probabilities:
            raise InterventionError(f"categorical of {brief(probabilities)}: {example}")
        if invalid := [p for p in probabilities.values() if not is_number(p) or not 0 <= p <= 1]:
            raise InterventionError(f"categorical: probability {brief(invalid[0])}; {example}")
        total = math.fsum(probabilities.values())
        if abs(total - 1) > 1e-6:
            raise InterventionError(f"categorical: the probabilities sum to {total:g}, not to 1")
        plain = {level: float(p) for level, p in probabilities.items()}
        object.__setattr__(self, "probabilities", FrozenDict(plain))

    @property
    def levels(self) -> tuple[str, ...]:
        """The levels named, in the order given."""
        return tuple(self.probabilities)

    def positions(self, u: np.ndarray) -> np.ndarray:
        """Return which of `levels` stands at u in (0, 1), shape (n,): never one of mass zero."""
        mass = np.array(list(self.probabilities.values()))
        possible = np.flatnonzero(mass > 0)
        edges = np.cumsum(mass[possible])[:-1]
        return possible[np.searchsorted(edges, u)]

    def to_json(self) -> dict[str, Any]:
        """Return the probabilities by level."""
        return {"categorical": {str(level): p for level, p in self.probabilities.items()}}

    def __str__(self) -> str:
        return f"categorical({', '.join(f'{k}={p:g}' for k, p in self.probabilities.items())})"


@dataclass(frozen=True, init=False, eq=False)
class Resample(Distribution):
    """The values of some records, such as the training table's, each as likely as another.

    The values are given here and not taken from the cohort at hand: a record's draw must not
    depend on which other records it stands beside.

    Args:
        values: Numbers or levels, none missing; their order does not matter.

    Raises:
        InterventionError: If there is none, or one is missing.

    Example:
        >>> str(Resample([61, 47, 52]))
        'resample(3 values)'
    """

    values: np.ndarray

    def __init__(self, values: Iterable[Any]) -> None:
        column = np.array([] if isinstance(values, str) else list(values), dtype=object)
        if column.ndim != 1 or not len(column):
            raise InterventionError(f"resample of {brief(values)}: give a column of values")
        gaps = [value is None or value != value for value in column.tolist()]
        if any(gaps):
            text = f"resample: {sum(gaps)} of {len(column)} values are missing; drop them first"
            raise InterventionError(f"{text} (.dropna())")
        column.flags.writeable = False
        object.__setattr__(self, "values", column)

    def to_json(self) -> dict[str, Any]:
        """Return the number of values, and the SHA-256 of the sorted values."""
        content = "\n".join(sorted(map(str, self.values.tolist())))
        digest = hashlib.sha256(content.encode()).hexdigest()
        return {"resample": {"records": len(self.values), "sha256": digest}}

    def __str__(self) -> str:
        return f"resample({len(self.values)} values)"


def read_distribution(text: str) -> Distribution:
    """Read a distribution as the command line writes it.

    Raises:
        InterventionError: If it is malformed.

    Example:
        >>> read_distribution("categorical(F=.3, M=.7)")
        Categorical(probabilities={'F': 0.3, 'M': 0.7})
    """
    match = _CALL.fullmatch(text.strip())
    readers: dict[str, Callable] = {"normal": _read_normal, "categorical": _read_categorical}
    try:
        return readers[match[1].lower()](match[2].split(",")) if match else _malformed(text)
    except (KeyError, TypeError, ValueError) as fault:
        if isinstance(fault, InterventionError):
            raise
        return _malformed(text)


def _read_normal(words: list[str]) -> Normal:
    return Normal(*map(float, words))


def _read_categorical(words: list[str]) -> Categorical:
    pairs = [word.rpartition("=") for word in words]
    if len({level.strip() for level, _, _ in pairs}) < len(pairs):
        raise ValueError("a level is named twice")
    return Categorical({level.strip(): float(p) for level, _, p in pairs})


def _malformed(text: str) -> Distribution:
    example = "write normal(mean, sd), normal(mean, sd, low, high) or categorical(F=.3, M=.7)"
    raise InterventionError(f"distribution {brief(text)}: {example}") from None


def is_number(value: Any) -> bool:
    """Return whether a value is a number; True and False are not."""
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _number_text(number: Any) -> str:
    return f"{number:g}" if is_number(number) else brief(number)
