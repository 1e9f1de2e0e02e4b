"""Thresholds: one number for all groups, chosen by a rule on validation data, then fixed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from causalcxr.audit.weighted_sums import RankedScores
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError, nearest

__all__ = ["KINDS", "ThresholdRule"]

KINDS = ("fixed", "youden", "sensitivity", "specificity", "fpr")
_SLACK = 1e-12  # sums of weights are rounded, and 0.9 of ten must be nine


@dataclass(frozen=True)
class ThresholdRule:
    """Choose the threshold t; a record is called positive if its score is at least t.

    - fixed: t = value.
    - youden: the highest observed score that maximises TPR(t) - FPR(t).
    - sensitivity: the highest observed score with TPR(t) >= value.
    - specificity: the lowest observed score with 1 - FPR(t) >= value.
    - fpr: the lowest observed score with FPR(t) <= value.

    If no observed score fits, t is just above the greatest one, so that no record is called
    positive. Validation data without the class that a rule needs give NaN (undefined).

    References:
        Index for rating diagnostic tests (Youden, 1950).

    Args:
        kind: One of `KINDS`.
        value: The number, or the target rate in [0, 1]; none for youden.

    Raises:
        CausalCXRError: If the kind is unknown or the value does not fit it.

    Example:
        >>> ThresholdRule("sensitivity", 0.5).choose([0.1, 0.4, 0.6, 0.8], [0, 1, 0, 1])
        0.8
        >>> ThresholdRule.read(0.3), ThresholdRule.read("fpr=0.1").words
        (ThresholdRule(kind='fixed', value=0.3), 'false positive rate at most 0.1')
    """

    kind: str
    value: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            hint = nearest(self.kind, KINDS) or f"; rules are {', '.join(KINDS)}"
            raise CausalCXRError(f"threshold: rule {self.kind!r} is unknown{hint}")
        if self.kind == "youden":
            if self.value is not None:
                raise CausalCXRError(
                    f"threshold: youden has no value, but {self.value} is given; leave it out"
                )
            return
        if self.value is None or not np.isfinite(self.value):
            raise CausalCXRError(f"threshold: {self.kind} needs a number, as {self.kind}=0.9")
        if self.kind != "fixed" and not 0 <= self.value <= 1:
            raise CausalCXRError(
                f"threshold: {self.kind}={self.value:g} is not a rate; give a number from 0 to 1"
            )

    @classmethod
    def read(cls, rule: "ThresholdRule | float | str") -> "ThresholdRule":
        """Return a rule from a rule, a number, or a text such as `youden` or `sensitivity=0.9`."""
        if isinstance(rule, cls):
            return rule
        if not isinstance(rule, str):
            return cls("fixed", float(rule))
        # A text is a number, the name of a rule, or name=value.
        kind, _, value = (part.strip() for part in rule.partition("="))
        try:
            return cls("fixed", float(kind)) if not value else cls(kind, float(value))
        except ValueError as error:
            if isinstance(error, CausalCXRError):
                raise
        if value:
            raise CausalCXRError(f"threshold: {value!r} in {rule!r} is not a number; give one")
        return cls(kind)

    @property
    def words(self) -> str:
        """The rule, such as `sensitivity at least 0.9`."""
        return {
            "fixed": f"fixed at {self.value}",
            "youden": "greatest sensitivity minus false positive rate",
            "sensitivity": f"sensitivity at least {self.value}",
            "specificity": f"specificity at least {self.value}",
            "fpr": f"false positive rate at most {self.value}",
        }[self.kind]

    @rows_by_id("scores", "labels", "weights")
    def choose(
        self,
        scores: np.ndarray | Sequence[float],
        labels: np.ndarray | Sequence[float],
        weights: np.ndarray | None = None,
    ) -> float:
        """Return the threshold of validation data.

        Args:
            scores: Shape (n,).
            labels: Shape (n,), 0, 1 or NaN; rows with NaN are left out.
            weights: Shape (n,).
        """
        rows = RankedScores(scores, labels, weights=weights)
        return float(
            self.choose_each(rows, np.ones((1, len(np.asarray(labels))), dtype=np.int32))[0]
        )

    def choose_each(self, rows: RankedScores, counts: np.ndarray) -> np.ndarray:
        """Return the threshold under each weighting of validation rows.

        Args:
            rows: The validation rows.
            counts: Number of times that each of their units is drawn, shape (k, units).

        Returns:
            Shape (k,), as if only the drawn rows had been observed.
        """
        if self.kind == "fixed":
            return np.full(len(counts), self.value, dtype=float)
        # For these rules t is the score of a positive, as sensitivity changes only there.
        by_hits = self.kind in ("youden", "sensitivity")
        seen, hits, alarms = rows.curve(counts, positives_only=by_hits)
        positives, negatives = hits[:, :1], alarms[:, :1]
        if self.kind == "youden":
            lacking = (positives == 0) | (negatives == 0)
            # Of counts, so that the comparison of integers is exact.
            best = _last_greatest(hits * negatives - alarms * positives)
        elif self.kind == "sensitivity":
            lacking = positives == 0
            best = _last_greatest(hits >= (self.value - _SLACK) * positives)
        else:
            lacking = negatives == 0
            target = self.value if self.kind == "fpr" else 1 - self.value
            # Scores that were not drawn do not count as observed.
            drawn = -np.diff(hits + alarms, axis=1, append=-1.0) > 0
            best = ((alarms <= (target + _SLACK) * negatives) & drawn).argmax(axis=1)
        chosen = seen[best]
        # No score fits: just above the greatest drawn one.
        none = np.flatnonzero(best == len(seen) - 1)
        if len(none):
            chosen[none] = np.nextafter(rows.greatest(counts[none]), np.inf)
        return np.where(lacking[:, 0], np.nan, chosen)


def _last_greatest(values: np.ndarray) -> np.ndarray:
    """Return the last position of the greatest value in each row."""
    return values.shape[1] - 1 - values[:, ::-1].argmax(axis=1)
