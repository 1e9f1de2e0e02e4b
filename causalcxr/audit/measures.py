"""Measures of a classifier at a threshold, of its ranking and of its calibration."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from causalcxr.audit.checked_arrays import ratio
from causalcxr.audit.curves import bin_edges, quantile_edges, reliability, roc_curve
from causalcxr.audit.weighted_sums import RankedScores, WeightedSums
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError, nearest

__all__ = [
    "MEASURES",
    "Measure",
    "bin_edges",
    "find_measures",
    "measured",
    "quantile_edges",
    "reliability",
    "roc_curve",
    "underdiagnosis",
]

Values = np.ndarray | Sequence[float]
Figure = Callable[[WeightedSums], np.ndarray]


@dataclass(frozen=True)
class Measure:
    """Compute one figure from weighted sums, or from scores and labels.

    A record is called positive if score >= threshold. A figure with a denominator of 0, such as
    the sensitivity of a group without positives, is NaN (undefined), never 0.

    Args:
        name: Its key in `MEASURES`.
        words: Its name in a table, in words.
        needs: The parts of the sums that it needs, see `weighted_sums.PARTS`.
        function: WeightedSums -> array of its shape; for proportions, the ratio of the two below.
        numerator: For proportions, sums -> weight.
        denominator: For proportions, sums -> weight; None for other measures.
        better: 1 if more is better, -1 if less is, 0 if neither.

    Example:
        >>> MEASURES["tpr"]([0.9, 0.2, 0.6], [1, 1, 0], threshold=0.5)
        0.5
        >>> MEASURES["auroc"]([0.9, 0.2], [1, 1])
        nan
    """

    name: str
    words: str
    needs: frozenset[str]
    function: Figure
    numerator: Figure | None = None
    denominator: Figure | None = None
    better: int = 0

    @property
    def is_proportion(self) -> bool:
        """Whether it is a share of records, with a numerator and a denominator."""
        return self.denominator is not None

    def from_sums(self, sums: WeightedSums) -> np.ndarray:
        """Return the figure under each weighting."""
        return self.function(sums)

    def __call__(
        self,
        scores: Values,
        labels: Values,
        *,
        threshold: float | None = None,
        weights: np.ndarray | None = None,
        bins: int | Sequence[float] = 10,
    ) -> float:
        """Return the figure; see `measured` for arguments and errors."""
        options = {"threshold": threshold, "weights": weights, "bins": bins}
        return measured(scores, labels, measures=[self.name], **options)[self.name]


@rows_by_id("scores", "labels", "weights")
def measured(
    scores: Values,
    labels: Values,
    *,
    threshold: float | None = None,
    weights: np.ndarray | None = None,
    bins: int | Sequence[float] = 10,
    measures: Iterable[str] | None = None,
) -> dict[str, float]:
    """Return measures of scores against labels, by name.

    Args:
        scores: Shape (n,).
        labels: Shape (n,), 0 or 1; rows with an unknown label (NaN) are left out.
        threshold: Records at or above it are called positive.
        weights: Weight of each record, shape (n,).
        bins: Bins of the calibration errors, see `bin_edges`.
        measures: Names; by default all that the arguments allow.

    Raises:
        CausalCXRError: If a measure is unknown, needs a threshold, or needs probabilities and
            scores lie outside [0, 1].

    Example:
        >>> measured([0.9, 0.2, 0.6, 0.1], [1, 1, 0, 0], measures=["auroc", "brier"])
        {'auroc': 0.75, 'brier': 0.255}
    """
    rows = RankedScores(scores, labels, weights=weights, edges=bin_edges(bins))
    if measures is None:
        without = {"threshold"} if threshold is None else set()
        without |= set() if rows.is_probability else {"probability", "bins"}
        measures = [name for name, m in MEASURES.items() if not m.needs & without]
    chosen = find_measures(measures, threshold=threshold is not None, rows=rows)
    needs = frozenset().union(*(measure.needs for measure in chosen))
    counts = np.ones((1, len(np.asarray(labels))), dtype=np.int32)
    sums = rows.sums(counts, threshold, needs)
    return {measure.name: float(measure.from_sums(sums)[0]) for measure in chosen}


def find_measures(
    names: Iterable[str], *, threshold: bool = True, rows: RankedScores | None = None
) -> list["Measure"]:
    """Return measures by name; those that cannot be computed are refused.

    Args:
        names: Keys of `MEASURES`.
        threshold: Whether there is a threshold.
        rows: The rows to be measured.

    Raises:
        CausalCXRError: See `measured`.
    """
    measures = []
    for name in [names] if isinstance(names, str) else names:
        if name not in MEASURES:
            hint = nearest(name, MEASURES) or f"; choose from {', '.join(MEASURES)}"
            raise CausalCXRError(f"measures: {name!r} is unknown{hint}")
        measure = MEASURES[name]
        if "threshold" in measure.needs and not threshold:
            raise CausalCXRError(f"measures: {name!r} needs a threshold; give threshold=")
        if rows is not None and measure.needs & {"probability", "bins"}:
            rows.require_probabilities(f"measures: {name!r}")
        measures.append(measure)
    return measures


def underdiagnosis(finding: str) -> Measure:
    """Return the rate of underdiagnosis of a finding: how often ill patients are called healthy.

    For a finding it is P(called negative | positive), the false negative rate. For "No Finding" it
    is P(called No Finding | not No Finding), the false positive rate.

    References:
        Underdiagnosis bias of artificial intelligence algorithms applied to chest radiographs in
        under-served patient populations (Seyyed-Kalantari et al., 2021).

    Example:
        >>> underdiagnosis("Edema").name, underdiagnosis("no_finding").name
        ('underdiagnosis', 'underdiagnosis_no_finding')
    """
    healthy = finding.replace("_", " ").strip().casefold() == "no finding"
    return MEASURES["underdiagnosis_no_finding" if healthy else "underdiagnosis"]


def _youden(t: WeightedSums) -> np.ndarray:
    return ratio(t.true_positives, t.positives) - ratio(t.false_positives, t.negatives)


def _in_the_large(t: WeightedSums) -> np.ndarray:
    return ratio(t.positives - t.score, t.positives + t.negatives)


def _gaps(t: WeightedSums) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the weight, rate - score and rate of each bin; 0 in empty bins."""
    weight = t.bin_positives + t.bin_negatives
    safe = np.where(weight > 0, weight, 1)
    rate = t.bin_positives / safe
    return weight, rate - t.bin_score / safe, rate


def _ece(t: WeightedSums) -> np.ndarray:
    weight, gap, _ = _gaps(t)
    return ratio((weight * np.abs(gap)).sum(-1), weight.sum(-1))


def _calibration_error(t: WeightedSums) -> np.ndarray:
    weight, gap, _ = _gaps(t)
    return np.sqrt(ratio((weight * gap**2).sum(-1), weight.sum(-1)))


def _calibration_debiased(t: WeightedSums) -> np.ndarray:
    """Leave out bins of one record: their noise cannot be distinguished from an error."""
    weight, gap, rate = _gaps(t)
    enough = np.nan_to_num(t.bin_size) > 1 + 1e-9  # weights are rounded
    noise = ratio(rate * (1 - rate), np.where(enough, t.bin_size - 1, 0))
    weight = np.where(enough, weight, 0)
    squared = np.where(enough, weight * (gap**2 - noise), 0).sum(-1)
    return np.sqrt(np.maximum(ratio(squared, weight.sum(-1)), 0))


def _share(
    name: str,
    words: str,
    of: str,
    among: str,
    better: int,
    needs: tuple[str, ...] = ("threshold",),
) -> Measure:
    """Return a proportion: the records `of` among the records `among`."""
    above, below = _RECORDS[of], _RECORDS[among]
    return Measure(
        name, words, frozenset(needs), lambda t: ratio(above(t), below(t)), above, below, better
    )


def _other(name: str, words: str, needs: str, function: Figure, better: int) -> Measure:
    """Return a measure that is not a proportion."""
    return Measure(name, words, frozenset([needs]), function, better=better)


_RECORDS: Mapping[str, Figure] = {
    "ill": lambda t: t.positives,
    "well": lambda t: t.negatives,
    "all": lambda t: t.positives + t.negatives,
    "hits": lambda t: t.true_positives,
    "alarms": lambda t: t.false_positives,
    "misses": lambda t: t.positives - t.true_positives,
    "rejected": lambda t: t.negatives - t.false_positives,
    "called": lambda t: t.true_positives + t.false_positives,
    "not called": lambda t: (t.positives - t.true_positives) + (t.negatives - t.false_positives),
    "right": lambda t: t.true_positives + t.negatives - t.false_positives,
}

_IN_ORDER = (
    _other("auroc", "AUROC", "ranks", lambda t: ratio(t.concordant, t.positives * t.negatives), 1),
    _other(
        "average_precision",
        "average precision",
        "precision",
        lambda t: ratio(t.precision, t.positives),
        1,
    ),
    _share("tpr", "sensitivity", "hits", "ill", 1),
    _share("fpr", "false positive rate", "alarms", "well", -1),
    _share("tnr", "specificity", "rejected", "well", 1),
    _share("fnr", "false negative rate", "misses", "ill", -1),
    _share("ppv", "positive predictive value", "hits", "called", 1),
    _share("npv", "negative predictive value", "rejected", "not called", 1),
    _share("accuracy", "accuracy", "right", "all", 1),
    _other("youden", "Youden's J", "threshold", _youden, 1),
    _share("selection_rate", "called positive", "called", "all", 0),
    _share("prevalence", "prevalence", "ill", "all", 0, needs=()),
    _share("underdiagnosis", "underdiagnosis", "misses", "ill", -1),
    _share("underdiagnosis_no_finding", "underdiagnosis (No Finding)", "alarms", "well", -1),
    _other(
        "brier",
        "Brier score",
        "probability",
        lambda t: ratio(t.brier, t.positives + t.negatives),
        -1,
    ),
    _other("ece", "expected calibration error", "bins", _ece, -1),
    _other("calibration_error", "calibration error", "bins", _calibration_error, -1),
    _other(
        "calibration_debiased", "calibration error, debiased", "bins", _calibration_debiased, -1
    ),
    _other("calibration_in_the_large", "observed minus expected", "probability", _in_the_large, 0),
)

MEASURES: Mapping[str, Measure] = MappingProxyType({each.name: each for each in _IN_ORDER})
