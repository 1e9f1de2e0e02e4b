"""Intervals by resampling patients: a patient's rows go or stay together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import percentile_interval
from causalcxr.metrics.inputs import Array, read_patients

__all__ = ["Interval", "mean_interval", "resampled", "summary"]

_CELLS = 2**22  # numbers that are drawn at once


@dataclass(frozen=True)
class Interval:
    """Hold a figure and how well it is known.

    Args:
        value: The figure; NaN where it is not defined.
        low: The lower end; NaN where there is one patient, or over 5 % of draws are undefined.
        high: The upper end.
        n: Rows that count.
        patients: Patients that they are of.
    """

    value: float
    low: float
    high: float
    n: int
    patients: int


def resampled(tallies: np.ndarray, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Return the sums of tallies over as many patients as there are, drawn with replacement.

    Args:
        tallies: What each patient adds to m sums, shape (p, m).
        draws: How many draws.
        seed: Of them: tables of the same patients and seed use the same draws.

    Returns:
        Shape (draws, m).

    Example:
        >>> resampled(np.ones((3, 1)), draws=2).tolist()
        [[3.0], [3.0]]
    """
    generator = np.random.default_rng(seed)
    p, m = tallies.shape
    out = np.empty((draws, m))
    step = max(1, _CELLS // max(1, p * m))
    for start in range(0, draws, step):
        count = min(step, draws - start)
        out[start : start + count] = tallies[generator.integers(p, size=(count, p))].sum(1)
    return out


@rows_by_id("values", "patients")
def mean_interval(
    values: Array,
    patients: Array | Sequence[object] | None = None,
    *,
    over: np.ndarray | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Return the mean of values, or their sum over another, with an interval over patients.

    Args:
        values: Shape (n,); rows with NaN do not count.
        patients: Whose each row is, (n,); by default every row is a patient.
        over: What the sum of values is divided by the sum of, (n,); by default rows.
        draws: Of the bootstrap.
        level: Coverage of the percentile interval.
        seed: Of the draws.

    Raises:
        CausalCXRError: If shapes do not fit.

    Example:
        >>> found = mean_interval(np.array([1.0, 2.0, 3.0, np.nan]), ["a", "a", "b", "b"])
        >>> found.value, found.low, found.high, found.n, found.patients
        (2.0, 1.5, 3.0, 3, 2)
    """
    top = np.asarray(values, dtype=np.float64)
    below = np.ones(top.shape) if over is None else np.asarray(over, dtype=np.float64)
    if top.ndim != 1 or below.shape != top.shape:
        raise CausalCXRError(
            f"values: shapes {top.shape} and {below.shape}, not (n,); give one figure a row"
        )
    person = read_patients(patients, len(top))
    known = ~(np.isnan(top) | np.isnan(below))
    person = np.unique(person[known], return_inverse=True)[1]
    n, count = int(known.sum()), int(person.max(initial=-1)) + 1
    sums = (np.bincount(person, each[known], minlength=count) for each in (top, below))
    tallies = np.stack(list(sums), axis=1)
    value = float(_ratio(tallies.sum(0)[None])[0])
    ends = (float("nan"), float("nan"))
    if count > 1:
        drawn = _ratio(resampled(tallies, draws=draws, seed=seed))
        bounds = percentile_interval(drawn, level)
        ends = (float(bounds.low), float(bounds.high))
    return Interval(value, *ends, n, count)


@rows_by_id("figures", "patients")
def summary(
    figures: Mapping[str, Array],
    patients: Array | Sequence[object] | None = None,
    *,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return a table of the means of figures, each with an interval over patients.

    Args:
        figures: Name -> shape (n,), as the functions of axioms give them.
        patients: Whose each row is, (n,).
        draws: Of the bootstrap.
        level: Coverage.
        seed: Of the draws.

    Returns:
        Columns `measure`, `value`, `low`, `high`, `n`, `patients`.

    Example:
        >>> summary({"L1": np.array([0.1, 0.3])})["value"].tolist()
        [0.2]
    """
    rows = [
        {"measure": name}
        | asdict(mean_interval(values, patients, draws=draws, level=level, seed=seed))
        for name, values in figures.items()
    ]
    return pd.DataFrame(rows, columns=["measure", "value", "low", "high", "n", "patients"])


def _ratio(sums: np.ndarray) -> np.ndarray:
    """Return the first column over the second, NaN where that is 0."""
    full = np.full(len(sums), np.nan)
    return np.divide(sums[:, 0], sums[:, 1], out=full, where=sums[:, 1] != 0)
