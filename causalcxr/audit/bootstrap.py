"""The bootstrap over patients: every measure of every group in each draw."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields

import numpy as np

from causalcxr.audit.bootstrap_draws import BootstrapDraws
from causalcxr.audit.groups import Groups
from causalcxr.audit.measures import MEASURES, Measure, bin_edges, find_measures
from causalcxr.audit.thresholds import ThresholdRule
from causalcxr.audit.weighted_sums import RankedScores
from causalcxr.cohort.ids import patient_numbers
from causalcxr.common.alignment import in_order, rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.progress import Progress

__all__ = ["Validation", "bootstrap", "patient_counts"]

Values = np.ndarray | Sequence[float]
GroupsLike = Groups | Mapping[str, np.ndarray] | np.ndarray
_CELLS = 2**16  # rows x draws at a time: they fit the cache of a core
_VALIDATION = 1  # stream of random numbers for validation patients


@dataclass(frozen=True, eq=False)
class Validation:
    """Hold the data on which the threshold is chosen: patients other than those audited.

    Args:
        scores: Shape (n,).
        labels: Shape (n,), 0, 1 or NaN.
        patients: Patient of each row; by default every row is a patient.
        weights: Base weights, shape (n,).
    """

    scores: Values
    labels: Values
    patients: np.ndarray | Sequence[object] | None = None
    weights: np.ndarray | None = None

    def __post_init__(self) -> None:
        names = [each.name for each in fields(self)]
        ordered = in_order(**{name: getattr(self, name) for name in names})
        for name, column in zip(names, ordered, strict=True):
            object.__setattr__(self, name, column)


@rows_by_id("scores", "labels", "groups", "patients", "weights")
def bootstrap(
    scores: Values,
    labels: Values,
    groups: GroupsLike,
    *,
    patients: np.ndarray | Sequence[object] | None = None,
    weights: np.ndarray | None = None,
    threshold: ThresholdRule | float | str = 0.5,
    validation: Validation | None = None,
    measures: Sequence[str] | None = None,
    bins: int | Sequence[float] = 10,
    draws: int = 2000,
    seed: int = 0,
    blocks: int = 100,
    threads: int = 1,
    chunk: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> BootstrapDraws:
    """Return every measure of every group, in the data and in each draw of patients.

    In each draw, patients are drawn with replacement, as many as there are, each with all rows. A
    draw is a number of copies per patient, so rows are sorted once and only their weights change.
    A threshold given by a rule is chosen anew in each draw, on validation patients (who are drawn
    too) or on all rows; it is the same for all groups. Base weights do not change.

    Draw b depends only on the seed, b and the number of patients. So two classifiers on the same
    patients share their draws, and differences of their draws are paired.

    References:
        Bootstrap methods: another look at the jackknife (Efron, 1979). Bootstrap-based
        improvements for inference with clustered errors (Cameron, Gelbach & Miller, 2008).

    Args:
        scores: Shape (n,).
        labels: Shape (n,), 0, 1 or NaN; rows with NaN are left out.
        groups: Masks by name, shape (n,) each, which may overlap; `find_groups(...)`; or integers,
            shape (n,), where -1 means no group.
        patients: Patient of each row; by default every row is a patient.
        weights: Base weights, shape (n,), such as those of `balance`.
        threshold: A rule, a number, or words such as "sensitivity=0.9".
        validation: Data on which the rule chooses; by default the audited rows.
        measures: Names; by default all that the scores allow.
        bins: Bins of the calibration errors, see `bin_edges`.
        draws: Number of draws.
        seed: From 0 to 2^64 - 1.
        blocks: Number of blocks of patients left out in turn, for BCa intervals; 0 for none.
        threads: Number of threads; results do not depend on it.
        chunk: Number of draws at a time; results do not depend on it.
        progress: Called with the number of finished draws.

    Raises:
        CausalCXRError: If arrays, groups, measures or rules do not fit.

    Example:
        >>> scores, labels = np.linspace(0, 1, 40), np.tile([0, 1], 20)
        >>> groups = {"all": np.ones(40, dtype=bool)}
        >>> result = bootstrap(scores, labels, groups, measures=["tpr"], draws=9)
        >>> result.estimate.item(), result.draws.shape
        (0.5, (9, 1, 1))
    """
    plan = _BootstrapPlan.from_inputs(
        scores, labels, groups, patients, weights, threshold, validation, bins
    )
    plan.choose(measures)
    if draws < 1 or not 0 <= seed < 2**64:
        raise CausalCXRError(
            f"bootstrap: draws={draws}, seed={seed}; give draws >= 1 and seed >= 0"
        )
    # Draws in chunks: the counts of a chunk stay in cache, and threads share the chunks.
    chunk = chunk or max(1, min(256, _CELLS // max(plan.rows.size, 1)))
    parts = [range(first, min(first + chunk, draws)) for first in range(0, draws, chunk)]
    figures = np.empty((draws, len(plan.ranked), len(plan.measures)))
    thresholds = np.empty(draws)

    # Each chunk writes its own rows, so threads need no lock and the order does not matter.
    def work(part: range) -> int:
        counts, limits = plan.drawn(part, seed)
        thresholds[part.start : part.stop] = limits
        figures[part.start : part.stop] = plan.figures(counts, limits)
        return len(part)

    done = 0
    with Progress("Bootstrap", draws, "draws") as count:
        for finished in _each(work, parts, threads):
            done += finished
            count.add(finished)
            if progress is not None:
                progress(done)
    # The estimate: every patient once, through the same code as the draws.
    counts, limit = plan.data()
    return BootstrapDraws(
        groups=tuple(plan.ranked),
        measures=tuple(measure.name for measure in plan.measures),
        estimate=plan.figures(counts, limit)[0],
        draws=figures,
        jackknife=plan.jackknife(blocks, seed, chunk) if blocks else None,
        threshold=float(limit[0]),
        thresholds=thresholds,
        rule=plan.rule,
    )


def patient_counts(patients: int, draws: range, seed: int, stream: int = 0) -> np.ndarray:
    """Return how often each patient is drawn, shape (draws, patients), int32.

    Each row sums to the number of patients. Draw b depends only on (seed, stream, b): the
    generator is counter-based.

    Example:
        >>> patient_counts(5, range(2), seed=0).sum(1).tolist()
        [5, 5]
    """
    counts = np.empty((len(draws), patients), dtype=np.int32)
    bits = np.random.Philox(key=np.array([seed, stream << 48], dtype=np.uint64))
    # `state` is a copy; only its key is changed, so that draws can be computed in any order.
    fresh, rng = bits.state, np.random.Generator(bits)
    for row, draw in enumerate(draws):
        fresh["state"]["key"][1] = (stream << 48) + draw
        bits.state = fresh  # a fresh generator with this key
        drawn = rng.integers(0, max(patients, 1), patients, dtype=np.uint32)
        counts[row] = np.bincount(drawn, minlength=patients)
    return counts


@dataclass
class _BootstrapPlan:
    """Hold what is computed in each draw.

    Args:
        rows: All rows; a rule without validation chooses on them.
        ranked: The rows of each group.
        patients: Number of patients.
        rule: How the threshold is chosen.
        validation: The validation rows, or None.
        validation_patients: Number of validation patients.
        measures: The measures.
        needs: The parts of the sums that these need.
    """

    rows: RankedScores
    ranked: dict[str, RankedScores]
    patients: int
    rule: ThresholdRule
    validation: RankedScores | None
    validation_patients: int
    measures: list[Measure] = field(default_factory=list)
    needs: frozenset[str] = frozenset()

    @classmethod
    def from_inputs(
        cls,
        scores: Values,
        labels: Values,
        groups: GroupsLike,
        patients: np.ndarray | Sequence[object] | None,
        weights: np.ndarray | None,
        threshold: ThresholdRule | float | str,
        validation: Validation | None,
        bins: int | Sequence[float],
    ) -> "_BootstrapPlan":
        scores, labels = np.asarray(scores, dtype=float), np.asarray(labels, dtype=float)
        units, distinct = patient_numbers(patients, len(labels), "bootstrap")
        edges = bin_edges(bins)
        rows = RankedScores(scores, labels, weights=weights, units=units, edges=edges)
        # Sort each group once; a draw then only changes the weights.
        ranked = {}
        for name, mask in _masks(groups, len(labels)).items():
            base = None if weights is None else np.asarray(weights)[mask]
            parts = {"weights": base, "units": units[mask], "edges": edges}
            ranked[name] = RankedScores(scores[mask], labels[mask], **parts)
        # A fixed threshold needs no validation patients.
        rule = ThresholdRule.read(threshold)
        if validation is None or rule.kind == "fixed":
            return cls(rows, ranked, len(distinct), rule, None, 0)
        other_units, others = patient_numbers(
            validation.patients, len(validation.labels), "validation"
        )
        options = {"weights": validation.weights, "units": other_units}
        other = RankedScores(validation.scores, validation.labels, **options)
        return cls(rows, ranked, len(distinct), rule, other, len(others))

    def choose(self, names: Sequence[str] | None) -> None:
        """Set the measures."""
        if names is None:
            # Without probabilities, leave out the measures that need them.
            probable = self.rows.is_probability
            names = [
                name
                for name, measure in MEASURES.items()
                if probable or not measure.needs & {"probability", "bins"}
            ]
        self.measures = find_measures(names, rows=self.rows)
        self.needs = frozenset().union(*(measure.needs for measure in self.measures))

    def drawn(self, part: range, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the counts of patients in some draws, and the threshold of each draw."""
        counts = patient_counts(self.patients, part, seed)
        if self.validation is None:
            return counts, self.rule.choose_each(self.rows, counts)
        others = patient_counts(self.validation_patients, part, seed, _VALIDATION)
        return counts, self.rule.choose_each(self.validation, others)

    def data(self) -> tuple[np.ndarray, np.ndarray]:
        """Return one copy of each patient, and the threshold of the data."""
        counts = np.ones((1, self.patients), dtype=np.int32)
        if self.validation is None:
            return counts, self.rule.choose_each(self.rows, counts)
        others = np.ones((1, self.validation_patients), dtype=np.int32)
        return counts, self.rule.choose_each(self.validation, others)

    def figures(self, counts: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        """Return the measures, shape (k, groups, measures)."""
        # One call a measure for all groups and draws: the loop in Python is over measures only.
        first, *rest = (rows.sums(counts, thresholds, self.needs) for rows in self.ranked.values())
        sums = first.stacked(rest, axis=1)
        return np.stack([measure.from_sums(sums) for measure in self.measures], axis=2)

    def jackknife(self, blocks: int, seed: int, chunk: int) -> np.ndarray:
        """Return the measures without each block of patients, audited and validation, in turn."""
        # Blocks of the audited patients; the threshold follows only if it is chosen on them.
        ones, limit = self.data()
        figures = []
        for counts in _without(self.patients, blocks, seed, chunk):
            thresholds = np.repeat(limit, len(counts))
            if self.validation is None:
                thresholds = self.rule.choose_each(self.rows, counts)
            figures.append(self.figures(counts, thresholds))
        # Blocks of the validation patients: only the threshold changes.
        if self.validation is not None:
            for others in _without(self.validation_patients, blocks, seed, chunk):
                every = np.repeat(ones, len(others), axis=0)
                figures.append(self.figures(every, self.rule.choose_each(self.validation, others)))
        return np.concatenate(figures)


def _without(patients: int, blocks: int, seed: int, chunk: int) -> Iterator[np.ndarray]:
    """Yield counts (up to chunk, patients) without each block of randomly ordered patients."""
    # In random order, as neighbours in a table may be alike.
    order = np.random.default_rng(seed).permutation(patients)
    left_out = np.array_split(order, min(blocks, patients))
    for first in range(0, len(left_out), chunk):
        part = left_out[first : first + chunk]
        counts = np.ones((len(part), patients), dtype=np.int32)
        for row, block in enumerate(part):
            counts[row, block] = 0
        yield counts


def _masks(groups: GroupsLike, n: int) -> dict[str, np.ndarray]:
    """Return the mask of each group by name; no group and wrong lengths are refused."""
    if isinstance(groups, Groups):
        groups = groups.masks
    if not isinstance(groups, Mapping):
        codes = np.asarray(groups)
        if codes.dtype.kind not in "iu":
            raise CausalCXRError(
                "bootstrap: groups must be integers or named masks; give one of these"
            )
        # Negative codes mean no group.
        groups = {str(code): codes == code for code in np.unique(codes[codes >= 0])}
    masks = {str(name): np.asarray(mask) for name, mask in groups.items()}
    for name, mask in masks.items():
        if mask.dtype != bool or mask.shape != (n,):
            raise CausalCXRError(
                f"bootstrap: group {name!r} is {mask.dtype} of shape {mask.shape}; give {n} "
                "truth values"
            )
    if not masks:
        raise CausalCXRError(
            "bootstrap: there is no group; give at least one, such as {'all': mask}"
        )
    return masks


def _each(work: Callable[[range], int], parts: Sequence[range], threads: int) -> Iterator[int]:
    """Yield the results of the parts in order, computed by some threads."""
    if threads <= 1:
        yield from map(work, parts)
        return
    with ThreadPoolExecutor(threads) as pool:
        yield from pool.map(work, parts)
