"""Weighted sums: what measures are computed from, for many weightings of the same rows at once."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property

import numpy as np

from causalcxr.audit.checked_arrays import ratio, read_labels, read_scores, read_weights
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError

__all__ = ["PARTS", "RankedScores", "WeightedSums"]

PARTS = ("threshold", "ranks", "precision", "probability", "bins")
# Rows from which `_dots` sums one row at a time.
_LONG = 4096


@dataclass(frozen=True, eq=False)
class WeightedSums:
    """Hold sums of weights, one for each weighting; parts that were not computed are None.

    Args:
        positives: Weight of the rows whose label is 1, shape (...).
        negatives: Weight of the rows whose label is 0.
        true_positives: Weight of the positives with score >= threshold.
        false_positives: Weight of the negatives with score >= threshold.
        concordant: Weight of the pairs (positive, negative) in the right order, ties half.
        precision: Sum over positives of weight x precision at their score.
        score: Sum of weight x score.
        brier: Sum of weight x (score - label)^2.
        bin_positives: As `positives`, a bin of scores, shape (..., bins).
        bin_negatives: As `negatives`, a bin.
        bin_score: As `score`, a bin.
        bin_size: Effective number of records of a bin, (sum of weights)^2 / sum of squares.
    """

    positives: np.ndarray
    negatives: np.ndarray
    true_positives: np.ndarray | None = None
    false_positives: np.ndarray | None = None
    concordant: np.ndarray | None = None
    precision: np.ndarray | None = None
    score: np.ndarray | None = None
    brier: np.ndarray | None = None
    bin_positives: np.ndarray | None = None
    bin_negatives: np.ndarray | None = None
    bin_score: np.ndarray | None = None
    bin_size: np.ndarray | None = None

    def stacked(self, others: Iterable["WeightedSums"], axis: int) -> "WeightedSums":
        """Return these sums and others as one, along a new axis."""
        tallies = [self, *others]
        names = [f.name for f in fields(WeightedSums) if getattr(self, f.name) is not None]
        return WeightedSums(
            **{name: np.stack([getattr(t, name) for t in tallies], axis) for name in names}
        )


class RankedScores:
    r"""Hold rows sorted by score, so that the sums of any weighting take a few passes.

    With the cumulative weights C_1(s), C_0(s) of positives and negatives below a score s,
    every measure of discrimination follows: $\mathrm{TPR}(t) = 1 - C_1(t) / C_1(\infty)$ and
    $\mathrm{AUROC} = \sum_i w_i [C_0(s_i) + C_0(s_i^+)] / 2 / (C_1(\infty) C_0(\infty))$ over the
    positives i, where s+ is just above s, so that ties count half.

    The weight of a row is its base weight times the count of its patient. Base weights state how
    much a record stands for, counts how often it was drawn: only base weights reduce the
    effective number of records.

    References:
        Fast Implementation of DeLong's Algorithm for Comparing the Areas Under Correlated Receiver
        Operating Characteristic Curves (Sun & Xu, 2014), for the ranks.

    Args:
        scores: Shape (n,), finite.
        labels: Shape (n,), 0 or 1; rows with NaN are left out.
        weights: Base weights, shape (n,), finite and not negative; rows of weight 0 are left out.
        units: Position of each row's count, shape (n,); by default each row has its own.
        edges: Edges of the bins of scores, see `curves.bin_edges`; without them there are no bins.

    Raises:
        CausalCXRError: If an array has another length, or a value is not as described.

    Example:
        >>> rows = RankedScores([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
        >>> rows.sums(np.ones((1, 4)), needs={"ranks"}).concordant
        array([3.])
    """

    @rows_by_id("scores", "labels", "weights", "units")
    def __init__(
        self,
        scores: np.ndarray | Sequence[float],
        labels: np.ndarray | Sequence[float],
        *,
        weights: np.ndarray | None = None,
        units: np.ndarray | None = None,
        edges: np.ndarray | None = None,
    ) -> None:
        labels = read_labels(labels)
        units = np.arange(len(labels)) if units is None else np.asarray(units)
        counted = ~np.isnan(labels)
        if weights is not None:
            weights = read_weights(weights, len(labels))
            counted &= weights > 0
        scores = read_scores(scores, len(labels), counted)
        self.is_probability = bool(((scores[counted] >= 0) & (scores[counted] <= 1)).all())
        inner = None if edges is None else np.asarray(edges)[1:-1]
        self.positive, self.negative = (
            _RowsOfLabel.from_arrays(scores, weights, units, counted & (labels == label), inner)
            for label in (1, 0)
        )
        # For each positive, the negatives below it, and those below or tied with it.
        above, below = self.positive.scores, self.negative.scores
        self._under = np.searchsorted(below, above, side="left")
        upto = np.searchsorted(below, above, side="right")
        self._upto = upto if (upto != self._under).any() else None
        self._tied = np.searchsorted(above, above, side="left")

    @property
    def size(self) -> int:
        """Number of rows with a label and a positive weight."""
        return len(self.positive.scores) + len(self.negative.scores)

    def require_probabilities(self, what: str) -> None:
        """Refuse scores outside [0, 1].

        Raises:
            CausalCXRError: If some lie outside; the message names what needs probabilities.
        """
        if not self.is_probability:
            raise CausalCXRError(
                f"{what} needs probabilities, but some scores lie outside [0, 1]; give "
                "probabilities, such as the sigmoid of logits"
            )

    def sums(
        self,
        counts: np.ndarray,
        threshold: np.ndarray | float | None = None,
        needs: Iterable[str] = (),
    ) -> WeightedSums:
        """Return the sums under each weighting.

        Args:
            counts: Number of times that each unit is drawn, shape (k, units); integers stay exact.
            threshold: Shape (k,) or a number, for the part "threshold"; NaN gives NaN.
            needs: Which of `PARTS` are computed.
        """
        needs = frozenset(needs)
        if counts.dtype.itemsize < 4:
            counts = counts.astype(np.int32)  # sums would overflow a byte
        # Weights of the sorted rows, and their cumulative sums, from which all parts follow.
        pos, neg = self.positive.weighed(counts), self.negative.weighed(counts)
        up, down = _cumulative(pos), _cumulative(neg)
        sums = {"positives": up[:, -1] * 1.0, "negatives": down[:, -1] * 1.0}
        if "threshold" in needs:
            cut = np.broadcast_to(np.asarray(threshold, dtype=float), len(counts))
            sums["true_positives"] = self.positive.above(up, cut)
            sums["false_positives"] = self.negative.above(down, cut)
        # Weight of the negatives below each positive.
        if needs & {"ranks", "precision"}:
            pos = pos.astype(float, copy=False)
            under = np.take(down, self._under, axis=1).astype(float, copy=False)
            upto = under if self._upto is None else np.take(down, self._upto, axis=1)
        if "ranks" in needs:
            sums["concordant"] = _dots(pos, under if upto is under else (under + upto) / 2)
        if "precision" in needs:
            # Precision at each positive: positives at or above its score, over all rows there.
            hit = up[:, -1:] - np.take(up, self._tied, axis=1)
            share = ratio(hit, hit + (down[:, -1:] - under))
            sums["precision"] = _dots(pos, np.where(pos > 0, share, 0.0))
        if needs & {"probability", "bins"}:
            sums |= self._probabilities(pos, neg, up, down, needs)
        return WeightedSums(**sums)

    def curve(
        self, counts: np.ndarray, *, positives_only: bool = False
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scores (m,), and the weight at or above each of positives, negatives, (k, m).

        The scores are those that occur, in rising order, and one just above the greatest.

        Args:
            counts: Number of times that each unit is drawn, shape (k, units).
            positives_only: Leave out the scores of negatives, except the lowest one of all.
        """
        seen, *places = self._steps[positives_only]
        sums = []
        for side, at in zip((self.positive, self.negative), places, strict=True):
            running = _cumulative(side.weighed(counts))
            sums.append((running[:, -1:] - np.take(running, at, axis=1)).astype(float, copy=False))
        return seen, sums[0], sums[1]

    def greatest(self, counts: np.ndarray) -> np.ndarray:
        """Return the greatest score that is drawn, (k,); -inf if none is."""
        greatest = np.full(len(counts), -np.inf)
        for side in (self.positive, self.negative):
            drawn = np.where(side.weighed(counts) > 0, side.scores, -np.inf)
            greatest = np.maximum(greatest, drawn.max(axis=1, initial=-np.inf))
        return greatest

    @cached_property
    def _steps(self) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], ...]:
        """The scores of `curve`, all and of positives, and how many of each side lie below."""
        steps = []
        both = self.positive.scores, self.negative.scores
        # The sides are sorted, so their ends are the lowest and the greatest score.
        ends = [end for side in both if len(side) for end in (side[0], side[-1])]
        low, top = (min(ends), max(ends)) if ends else (np.nan, np.nan)
        for scores in (np.concatenate(both), np.append(both[0], low)):
            seen = np.append(np.unique(scores[~np.isnan(scores)]), np.nextafter(top, np.inf))
            steps.append((seen, *(np.searchsorted(side, seen, side="left") for side in both)))
        return tuple(steps)

    def _probabilities(
        self, pos: np.ndarray, neg: np.ndarray, up: np.ndarray, down: np.ndarray, needs: frozenset
    ) -> dict[str, np.ndarray]:
        """Return the sums that need probabilities."""
        sides = ((self.positive, pos.astype(float, copy=False), up, 1.0),)
        sides += ((self.negative, neg.astype(float, copy=False), down, 0.0),)
        sums: dict[str, np.ndarray] = {}
        if "probability" in needs:
            sums["score"] = sum(_dots(w, side.scores) for side, w, _, _ in sides)
            sums["brier"] = sum(_dots(w, (s.scores - y) ** 2) for s, w, _, y in sides)
        if "bins" in needs:
            for name, (side, _, running, _) in zip(("positives", "negatives"), sides, strict=True):
                ends = np.take(running, side.cuts, axis=1)
                sums[f"bin_{name}"] = np.diff(ends, axis=1).astype(float)
            sums["bin_score"] = sum(side.binned(w, side.scores) for side, w, _, _ in sides)
            total = sums["bin_positives"] + sums["bin_negatives"]
            # Without base weights, the number of records itself.
            sums["bin_size"] = total
            if self.positive.base is not None:
                squares = sum(side.binned(w, side.base) for side, w, _, _ in sides)
                sums["bin_size"] = ratio(total**2, squares)
        return sums


@dataclass(frozen=True, eq=False)
class _RowsOfLabel:
    """Hold the rows of one label, sorted by rising score.

    Args:
        scores: Shape (n,).
        base: Base weights, or None if all are 1.
        units: Positions of the rows' counts.
        cuts: First row of each bin, and n: shape (bins + 1,).
    """

    scores: np.ndarray
    base: np.ndarray | None
    units: np.ndarray
    cuts: np.ndarray

    @classmethod
    def from_arrays(
        cls,
        scores: np.ndarray,
        weights: np.ndarray | None,
        units: np.ndarray,
        rows: np.ndarray,
        inner: np.ndarray | None,
    ) -> "_RowsOfLabel":
        at = np.flatnonzero(rows)
        # Stable: equal scores keep the order of the rows, so that sums are always added alike.
        at = at[np.argsort(scores[at], kind="stable")]
        sorted_scores = scores[at]
        inside = () if inner is None else np.searchsorted(sorted_scores, inner, side="right")
        cuts = np.concatenate([[0], inside, [len(at)]]).astype(int)
        base = None if weights is None else weights[at]
        return cls(sorted_scores, base, units[at], cuts)

    def weighed(self, counts: np.ndarray) -> np.ndarray:
        """Return the weight of each row, (k, n)."""
        drawn = np.take(counts, self.units, axis=1)
        return drawn if self.base is None else drawn * self.base

    def above(self, running: np.ndarray, cut: np.ndarray) -> np.ndarray:
        """Return the weight at or above each weighting's own threshold, (k,)."""
        at = np.searchsorted(self.scores, cut, side="left")
        above = (running[:, -1] - running[np.arange(len(cut)), at]).astype(float)
        return np.where(np.isnan(cut), np.nan, above)

    def binned(self, weights: np.ndarray, values: np.ndarray) -> np.ndarray:
        """Return the sum of weight x value in each bin, (k, bins)."""
        sums = np.zeros((len(weights), len(self.cuts) - 1))
        filled = np.diff(self.cuts) > 0
        if filled.any():
            # `reduceat` gives a single value, not 0, for an empty bin.
            starts = self.cuts[:-1][filled]
            sums[:, filled] = np.add.reduceat(weights * values, starts, axis=1)
        return sums


def _cumulative(weights: np.ndarray) -> np.ndarray:
    """Return the weight of the first i rows, i = 0 .. n, shape (k, n + 1)."""
    running = np.zeros((len(weights), weights.shape[1] + 1), dtype=weights.dtype)
    np.cumsum(weights, axis=1, out=running[:, 1:])
    return running


def _dots(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the sum of a x b in each row of a, (k,).

    BLAS is not used, as its sums depend on the number of rows and threads. Long rows are summed
    one by one, which is four times as fast.
    """
    if a.shape[1] < _LONG:
        return np.einsum("kn,n->k" if b.ndim == 1 else "kn,kn->k", a, b)
    rows = b if b.ndim == 2 else np.broadcast_to(b, a.shape)
    return np.array([np.einsum("n,n->", x, y) for x, y in zip(a, rows, strict=True)])
