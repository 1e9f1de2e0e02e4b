"""Labels, scores and weights from users, checked; ratios that may be undefined."""

from collections.abc import Sequence

import numpy as np

from causalcxr.common.errors import CausalCXRError

__all__ = ["ratio", "read_labels", "read_scores", "read_weights"]

Values = np.ndarray | Sequence[float]


def read_labels(labels: Values) -> np.ndarray:
    """Return labels as float64; values other than 0, 1 and NaN are refused."""
    labels = np.asarray(labels, dtype=float)
    if labels.ndim != 1:
        raise CausalCXRError(f"labels: shape {labels.shape}, not (n,); give one label per row")
    valid = (labels == 0) | (labels == 1) | np.isnan(labels)
    return _checked("labels", labels, valid, "is not 0, 1 or NaN; recode it")


def read_scores(scores: Values, n: int, rows: np.ndarray | None = None) -> np.ndarray:
    """Return n scores as float64; infinite or missing ones are refused in the given rows."""
    scores = _column("scores", scores, n)
    valid = np.isfinite(scores) | (False if rows is None else ~rows)
    return _checked("scores", scores, valid, "is not finite; score it, or drop the row")


def read_weights(weights: Values, n: int) -> np.ndarray:
    """Return n weights as float64; negative, infinite or missing ones are refused."""
    weights = _column("weights", weights, n)
    valid = np.isfinite(weights) & (weights >= 0)
    return _checked("weights", weights, valid, "is not finite and >= 0; correct it")


def _checked(name: str, values: np.ndarray, valid: np.ndarray, rule: str) -> np.ndarray:
    """Return values if all are valid; the error names the first row that is not."""
    if not valid.all():
        row = int((~valid).argmax())
        raise CausalCXRError(f"{name}: row {row}: {values[row]:g} {rule}")
    return values


def _column(name: str, values: Values, n: int) -> np.ndarray:
    column = np.asarray(values, dtype=float)
    if column.shape != (n,):
        raise CausalCXRError(f"{name}: shape {column.shape} for {n} labels; give one per label")
    return column


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, NaN where b is 0, negative or NaN."""
    quotient = np.full(np.broadcast_shapes(np.shape(a), np.shape(b)), np.nan)
    return np.divide(a, b, out=quotient, where=b > 0)
