"""Arrays: labels, scores and weights of a user, checked; ratios that may be undefined."""

from collections.abc import Sequence

import numpy as np

from causalcxr.common.errors import CausalCXRError

__all__ = ["ratio", "read_labels", "read_scores", "read_weights"]


def read_labels(labels: np.ndarray | Sequence[float]) -> np.ndarray:
    """Return labels as float64, refusing what is not 0, 1 or NaN."""
    found = np.asarray(labels, dtype=float)
    if found.ndim != 1:
        raise CausalCXRError(f"labels: shape {found.shape}, not (n,); give one label a row")
    good = (found == 0) | (found == 1) | np.isnan(found)
    return _refused("labels", found, ~good, "is not 0, 1 or NaN; recode it")


def read_scores(
    scores: np.ndarray | Sequence[float], n: int, rows: np.ndarray | None = None
) -> np.ndarray:
    """Return n scores as float64, refusing what is not finite in the rows that count."""
    found = _column("scores", scores, n)
    wrong = ~np.isfinite(found) & (True if rows is None else rows)
    return _refused("scores", found, wrong, "is not finite; score it, or drop the row")


def read_weights(weights: np.ndarray | Sequence[float], n: int) -> np.ndarray:
    """Return n weights as float64, refusing what is negative or not finite."""
    found = _column("weights", weights, n)
    wrong = ~(np.isfinite(found) & (found >= 0))
    return _refused("weights", found, wrong, "is not finite and >= 0; correct it")


def _refused(name: str, values: np.ndarray, wrong: np.ndarray, rule: str) -> np.ndarray:
    """Return values, or name the first wrong one."""
    if wrong.any():
        row = int(wrong.argmax())
        raise CausalCXRError(f"{name}: row {row}: {values[row]:g} {rule}")
    return values


def _column(name: str, values: np.ndarray | Sequence[float], n: int) -> np.ndarray:
    found = np.asarray(values, dtype=float)
    if found.shape != (n,):
        raise CausalCXRError(f"{name}: shape {found.shape} beside {n} labels; give one a label")
    return found


def ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a / b, NaN where b is 0 or unknown."""
    full = np.full(np.broadcast_shapes(np.shape(a), np.shape(b)), np.nan)
    return np.divide(a, b, out=full, where=b > 0)
