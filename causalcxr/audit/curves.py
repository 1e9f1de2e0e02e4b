"""Curves: the ROC curve and the reliability diagram, as points."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalcxr.audit.checked_arrays import ratio
from causalcxr.audit.weighted_sums import RankedScores
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError

__all__ = ["bin_edges", "quantile_edges", "reliability", "roc_curve"]

Values = np.ndarray | Sequence[float]


@rows_by_id("scores", "labels", "weights")
def roc_curve(
    scores: Values, labels: Values, *, weights: np.ndarray | None = None
) -> pd.DataFrame:
    """Return all points of the ROC curve.

    Args:
        scores: Shape (n,).
        labels: Shape (n,), 0, 1 or NaN.
        weights: Shape (n,).

    Returns:
        Columns `threshold` (falling, the first infinite), `fpr`, `tpr`; NaN where undefined.

    Example:
        >>> roc_curve([0.1, 0.4, 0.8], [0, 1, 1])["tpr"].tolist()
        [0.0, 0.5, 1.0, 1.0]
    """
    rows = RankedScores(scores, labels, weights=weights)
    seen, hits, alarms = rows.curve(np.ones((1, len(np.asarray(labels))), dtype=np.int32))
    seen, hits, alarms = seen[::-1], hits[0, ::-1], alarms[0, ::-1]
    rates = {"fpr": ratio(alarms, alarms[-1]), "tpr": ratio(hits, hits[-1])}
    return pd.DataFrame({"threshold": np.concatenate([[np.inf], seen[1:]]), **rates})


@rows_by_id("scores", "labels", "weights")
def reliability(
    scores: Values,
    labels: Values,
    *,
    weights: np.ndarray | None = None,
    bins: int | Sequence[float] = 10,
) -> pd.DataFrame:
    """Return the bins of a reliability diagram.

    Returns:
        A row a bin: `lower`, `upper` (included), `weight`, `positives` (weight), `records` (the
        effective number), and `score` and `rate`, the means that should agree; NaN if empty.

    Example:
        >>> reliability([0.2, 0.3, 0.9], [0, 1, 1], bins=2)["rate"].tolist()
        [0.5, 1.0]
    """
    edges = bin_edges(bins)
    rows = RankedScores(scores, labels, weights=weights, edges=edges)
    rows.require_probabilities("reliability")
    # One weighting, in which each row counts once.
    sums = rows.sums(np.ones((1, len(np.asarray(labels))), dtype=np.int32), needs={"bins"})
    weight = (sums.bin_positives + sums.bin_negatives)[0]
    return pd.DataFrame(
        {
            "lower": edges[:-1],
            "upper": edges[1:],
            "weight": weight,
            "positives": sums.bin_positives[0],
            "records": np.nan_to_num(sums.bin_size[0]),
            "score": ratio(sums.bin_score[0], weight),
            "rate": ratio(sums.bin_positives[0], weight),
        }
    )


def bin_edges(bins: int | Sequence[float] = 10) -> np.ndarray:
    """Return the edges of bins of probabilities; a bin includes its upper edge, the first both.

    Args:
        bins: Number of bins of equal width, or the edges, rising from 0 to 1.

    Raises:
        CausalCXRError: If the edges do not rise from 0 to 1.

    Example:
        >>> bin_edges(4)
        array([0.  , 0.25, 0.5 , 0.75, 1.  ])
    """
    is_number = isinstance(bins, int | np.integer)
    if is_number and bins < 1:
        raise CausalCXRError(f"bins: {bins} is less than 1; give a number such as 10")
    edges = np.linspace(0, 1, int(bins) + 1) if is_number else np.asarray(bins, dtype=float)
    if len(edges) < 2 or edges[0] != 0 or edges[-1] != 1 or not (np.diff(edges) > 0).all():
        raise CausalCXRError(f"bins: edges {list(edges)} do not rise from 0 to 1; give such edges")
    return edges


def quantile_edges(scores: Values, bins: int = 10) -> np.ndarray:
    """Return edges of bins with about equally many of these scores; fewer bins if scores tie.

    Example:
        >>> quantile_edges([0.01, 0.02, 0.03, 0.9], 2)
        array([0.   , 0.025, 1.   ])
    """
    inner = np.quantile(np.asarray(scores, dtype=float), np.arange(1, bins) / bins)
    return bin_edges(np.unique(np.concatenate([[0.0], inner[(inner > 0) & (inner < 1)], [1.0]])))
