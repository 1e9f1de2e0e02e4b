"""Bootstrap intervals over patients: the rows of a patient are resampled together."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import percentile_interval
from causalcxr.metrics.inputs import Array, read_patients

__all__ = ["Interval", "mean_interval", "resampled", "summary"]

_CELLS = 2**22  # numbers in memory at once


@dataclass(frozen=True)
class Interval:
    """Hold a figure with its interval.

    Args:
        value: The figure; NaN where it is not defined.
        low: The lower end; NaN if there is one patient, or over 5 % of draws are undefined.
        high: The upper end.
        n: The number of rows without missing values.
        patients: The number of their patients.
    """

    value: float
    low: float
    high: float
    n: int
    patients: int


def resampled(tallies: np.ndarray, *, draws: int = 2000, seed: int = 0) -> np.ndarray:
    """Return sums of tallies over p patients who are drawn with replacement.

    Args:
        tallies: The contribution of each patient to m sums, shape (p, m).
        draws: The number of draws.
        seed: Of the draws: tables of the same patients with the same seed use the same draws.

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
    """Return a mean, or a ratio of sums, with an interval over patients.

    Args:
        values: Shape (n,); rows with NaN do not count.
        patients: The patient of each row, (n,); by default every row is a patient.
        over: The denominator: the sum of values is divided by its sum, (n,); by default 1 per row.
        draws: Of the bootstrap.
        level: Coverage of the percentile interval.
        seed: Of the draws.

    Raises:
        CausalCXRError: If shapes do not fit.

    Example:
        >>> mean = mean_interval(np.array([1.0, 2.0, 3.0, np.nan]), ["a", "a", "b", "b"])
        >>> mean.value, mean.low, mean.high, mean.n, mean.patients
        (2.0, 1.5, 3.0, 3, 2)
    """
    numerator = np.asarray(values, dtype=np.float64)
    ones = np.ones(numerator.shape)
    denominator = ones if over is None else np.asarray(over, dtype=np.float64)
    if numerator.ndim != 1 or denominator.shape != numerator.shape:
        raise CausalCXRError(
            f"values: shapes {numerator.shape} and {denominator.shape}, not (n,); give one figure "
            "per row"
        )
    # Sums per patient, over the rows without missing values.
    patient = read_patients(patients, len(numerator))
    complete = ~(np.isnan(numerator) | np.isnan(denominator))
    patient = np.unique(patient[complete], return_inverse=True)[1]
    n, count = int(complete.sum()), int(patient.max(initial=-1)) + 1
    parts = (numerator[complete], denominator[complete])
    sums = (np.bincount(patient, part, minlength=count) for part in parts)
    tallies = np.stack(list(sums), axis=1)
    # The ratio of sums; it is the mean if the denominator is one per row.
    value = float(_ratio(tallies.sum(0)[None])[0])
    ends = (float("nan"), float("nan"))
    # One patient has no spread, so there is no interval.
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
        figures: Name -> shape (n,), as the functions of `axioms` return them.
        patients: The patient of each row, (n,).
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
