"""The quality of attribute readers on unseen patients, and what a reader is good enough to check.

References:
    Nonparametric analysis of clustered ROC curve data (Obuchowski), Biometrics 53 (1997), for the
    intervals of areas with several images of a patient.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.special import logit, ndtri
from scipy.stats import rankdata
from sklearn.linear_model import LogisticRegression

if TYPE_CHECKING:
    from causalcxr.audit.attribute_reader import AttributeReader
    from causalcxr.audit.cross_fitted_reader import CrossFittedReader

__all__ = [
    "level_quality",
    "number_quality",
    "quality_table",
    "reader_record",
    "readers_words",
    "unreadable",
]

_Z = float(ndtri(0.975))
_LEAST, _MOST = 1e-6, 1 - 1e-6  # probabilities whose log odds are finite


def unreadable(reader: "AttributeReader | CrossFittedReader", least: float | None) -> list[str]:
    """Return the attributes that a reader cannot read well enough for a quality check.

    Args:
        reader: The reader.
        least: Smallest AUROC; of numbers, the correlation must be 2 least - 1. None allows all.

    Returns:
        Names whose quality is below that or unknown, or whose 95 % interval, if there is one,
        includes guessing.
    """
    if least is None:
        return []
    low, names = reader.low, []
    for name, quality in reader.quality.items():
        # Guessing has an AUROC of .5, and a correlation of 0.
        limit, guess = (least, 0.5) if name in reader.levels else (2 * least - 1, 0.0)
        if not quality >= limit or low[name] <= guess:
            names.append(name)
    return names


def reader_record(reader: "AttributeReader | CrossFittedReader | None") -> dict[str, Any]:
    """Return what a manifest records of a reader: its quality, and how it was trained."""
    if reader is None:
        return {"reader": None}
    record: dict[str, Any] = {"reader": reader.quality.round(4).to_dict()}
    if details := reader.details:
        record["reader_details"] = dict(details)
    return record


def readers_words(row: Mapping[str, Any]) -> str:
    """Return the quality of one attribute in words, from a row of `CrossFittedReader.table`.

    Example:
        >>> readers_words({"measure": "AUROC", "value": 0.967, "low": 0.95, "high": 0.98,
        ...                "slope": 1.02, "n": 1701, "positives": 892})
        'AUROC 0.967 [0.950, 0.980], calibration slope 1.02, 892 of 1,701 images'
    """
    count = f"{row['n']:,} images"
    if row["measure"] == "AUROC" and row["positives"] >= 0:
        count = f"{row['positives']:,} of {count}"
    return (
        f"{row['measure']} {row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}], "
        f"calibration slope {row['slope']:.2f}, {count}"
    )


def level_quality(shares: np.ndarray, y: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """Return AUROC and calibration of probabilities of levels that cross-fitting gave.

    Args:
        shares: P(level), (n, k), rows sum to one.
        y: The number of the level, 0 to k - 1, (n,).
        patients: The number of the patient, (n,).

    Returns:
        `measure`, `value` (the mean of all pairs of levels, one against one), `low` and `high`,
        `slope` of the log odds (1 is calibrated, below 1 overconfident), `n`, `positives` (records
        of the second of two levels, else -1), `patients`.

    Example:
        >>> p = np.array([0.1, 0.4, 0.35, 0.8])
        >>> level_quality(np.stack([1 - p, p], 1), np.array([0, 0, 1, 1]), np.arange(4))["value"]
        0.75
    """
    k = shares.shape[1]
    # Two levels are one comparison; more are compared in pairs, by the score of each.
    pairs = (
        [(0, 1, 1)]
        if k == 2
        else [(a, b, c) for a in range(k) for b in range(a + 1, k) for c in (a, b)]
    )
    areas, parts = [], np.zeros(len(y))
    for a, b, scored in pairs:
        rows = (y == a) | (y == b)
        area, influence = _area(shares[rows, scored], y[rows] == scored)
        areas.append(area)
        parts[rows] += influence / len(pairs)
    value = float(np.mean(areas))
    low, high = _logit_interval(value, _clustered_error(parts, patients))
    return {
        "measure": "AUROC",
        "value": value,
        "low": low,
        "high": high,
        "slope": _slope(shares, y),
        "n": len(y),
        "positives": int((y == 1).sum()) if k == 2 else -1,
        "patients": len(np.unique(patients)),
    }


def number_quality(read: np.ndarray, y: np.ndarray, patients: np.ndarray) -> dict[str, Any]:
    """Return correlation and calibration of numbers that cross-fitting gave; see `level_quality`.

    The interval is Fisher's, with the number of patients as the number of observations.
    """
    value = float(np.corrcoef(read, y)[0, 1])
    people = len(np.unique(patients))
    half = _Z / np.sqrt(max(people - 3, 1))
    middle = np.arctanh(np.clip(value, -_MOST, _MOST))
    return {
        "measure": "correlation",
        "value": value,
        "low": float(np.tanh(middle - half)),
        "high": float(np.tanh(middle + half)),
        "slope": float(np.polyfit(read, y, 1)[0]) if np.std(read) else float("nan"),
        "n": len(y),
        "positives": -1,
        "patients": people,
    }


def _area(scores: np.ndarray, is_positive: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the area under the curve, and the influence of each record on it, (n,)."""
    m, n = is_positive.sum(), (~is_positive).sum()
    # DeLong's components, from ranks among all and among their own kind.
    ranks, parts = rankdata(scores), np.empty(len(scores))
    parts[is_positive] = (ranks[is_positive] - rankdata(scores[is_positive])) / n
    parts[~is_positive] = 1 - (ranks[~is_positive] - rankdata(scores[~is_positive])) / m
    area = float(parts[is_positive].mean())
    return area, (parts - area) / np.where(is_positive, m, n)


def _clustered_error(influence: np.ndarray, patients: np.ndarray) -> float:
    """Return the standard error of a mean of records of the same patients."""
    sums = np.bincount(np.unique(patients, return_inverse=True)[1], influence)
    return float(np.sqrt((sums**2).sum() * len(sums) / max(len(sums) - 1, 1)))


def _logit_interval(area: float, error: float) -> tuple[float, float]:
    """Return the 95 % interval of an area, symmetric in log odds; NaN at 0 and 1."""
    if not 0 < area < 1:
        return float("nan"), float("nan")
    half = _Z * error / (area * (1 - area))
    low, high = 1 / (1 + np.exp(-(logit(area) + np.array([-half, half]))))
    return float(low), float(high)


def _slope(shares: np.ndarray, y: np.ndarray) -> float:
    """Return the slope of the outcomes on the log odds of all levels (of two, the second)."""
    columns = [1] if shares.shape[1] == 2 else range(shares.shape[1])
    odds = np.concatenate([logit(np.clip(shares[:, k], _LEAST, _MOST)) for k in columns])
    outcomes = np.concatenate([y == k for k in columns])
    if np.ptp(odds) == 0:
        return float("nan")
    model = LogisticRegression(C=1e6, max_iter=1000).fit(odds[:, None], outcomes)
    return float(model.coef_[0, 0])


def quality_table(rows: Mapping[str, Mapping[str, Any]]) -> pd.DataFrame:
    """Return a row an attribute from their qualities."""
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("attribute")
