"""Tests of paired effects, such as f(twin) - f(record), with one vote per patient."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import binomtest, wilcoxon

from causalcxr.audit.bootstrap import patient_counts
from causalcxr.audit.checked_arrays import ratio
from causalcxr.audit.intervals import clopper_pearson
from causalcxr.cohort.ids import patient_numbers
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import Bounds, percentile_interval

__all__ = [
    "FlipTest",
    "MeanDraws",
    "PairedTest",
    "bootstrap_mean",
    "mcnemar",
    "patient_means",
    "sign_flip",
    "signed_rank",
]

Values = np.ndarray | Sequence[float]
Patients = np.ndarray | Sequence[object] | None
ALTERNATIVES = ("two-sided", "greater", "less")
_EXACT = 14  # patients whose 2^14 assignments of signs are all counted
_CELLS = 2**21  # signs that are held at once


@dataclass(frozen=True)
class PairedTest:
    """Hold a test that effects are symmetric around 0.

    Args:
        estimate: The mean over patients of their mean effects.
        p: NaN if there is no patient.
        patients: How many have a known effect.
        exact: Whether every assignment was counted; otherwise p is a Monte Carlo or asymptotic
            value.
        method: In words.
    """

    estimate: float
    p: float
    patients: int
    exact: bool
    method: str


@dataclass(frozen=True)
class FlipTest:
    """Hold a test that decisions flip as often up as down.

    Args:
        up: Patients with more flips 0 -> 1 than 1 -> 0.
        down: Patients with more flips 1 -> 0 than 0 -> 1.
        tied: Patients who flip as often up as down: they have no vote.
        patients: How many have a known pair.
        records_up: Pairs that flip 0 -> 1.
        records_down: Pairs that flip 1 -> 0.
        p: Exact, two-sided; 1 if no patient votes, NaN if there is none.
        share_up: up / (up + down); NaN if no patient votes.
        low: Clopper-Pearson bound of it, at 95 %.
        high: Its upper bound.
    """

    up: int
    down: int
    tied: int
    patients: int
    records_up: int
    records_down: int
    p: float
    share_up: float
    low: float
    high: float


@dataclass(frozen=True, eq=False)
class MeanDraws:
    """Hold means over patients, in the data and in each draw of patients.

    Args:
        estimate: Shape (...).
        draws: Shape (draws, ...).
        patients: How many have a known effect, shape (...).
    """

    estimate: np.ndarray
    draws: np.ndarray
    patients: np.ndarray

    def interval(self, level: float = 0.95) -> Bounds:
        """Return the percentile interval."""
        return percentile_interval(self.draws, level)


@rows_by_id("effects", "patients")
def patient_means(effects: Values, patients: Patients = None) -> np.ndarray:
    """Return each patient's mean effect, NaN where none is known, in the order of appearance.

    Args:
        effects: Shape (n,) or (n, k); NaN is unknown.
        patients: Who each row is of; by default every row is a patient.

    Example:
        >>> patient_means([1.0, 3.0, 5.0], ["a", "a", "b"]).tolist()
        [2.0, 5.0]
    """
    effects = _effects(effects)
    codes, _ = patient_numbers(patients, len(effects), "effects")
    means = pd.DataFrame(effects if effects.ndim == 2 else effects[:, None]).groupby(codes).mean()
    return means.to_numpy().reshape(-1, *effects.shape[1:])


@rows_by_id("effects", "patients")
def sign_flip(
    effects: Values,
    patients: Patients = None,
    *,
    alternative: str = "two-sided",
    draws: int = 9999,
    seed: int = 0,
) -> PairedTest:
    """Test that effects are symmetric around 0, by flipping the signs of whole patients.

    All assignments of signs are counted if at most 14 patients have an effect other than 0.
    Otherwise p = (b + 1) / (m + 1), where b of m random assignments have a mean at least as great.

    References:
        The design of experiments (Fisher, 1935). Permutation p-values should never be zero
        (Phipson & Smyth, 2010).

    Args:
        effects: Shape (n,); NaN is unknown and left out.
        patients: Who each row is of.
        alternative: "two-sided", "greater" (effects lie above 0) or "less".
        draws: Random assignments, m.
        seed: Of these.

    Raises:
        CausalCXRError: If the alternative is unknown or arrays do not fit.

    Example:
        >>> sign_flip([1.0, 2.0, 3.0, 4.0]).p
        0.125
    """
    means = _known_means(effects, patients)
    side = _side(alternative)
    # Flipped signs: all of them for few patients, else random ones.
    moved = means[means != 0]  # zero effects do not change the mean, whatever their sign
    exact = len(moved) <= _EXACT
    method = "sign flips of patients, " + ("all" if exact else f"{draws:,} draws")
    if len(means) == 0:
        return PairedTest(np.nan, np.nan, 0, exact, method)
    observed = side(moved.sum())
    # The observed assignment must not fall below itself by rounding.
    limit = observed - 1e-10 * np.abs(moved).sum()
    if exact:
        # Every assignment of signs, as the bits of a number.
        bits = (np.arange(2 ** len(moved))[:, None] >> np.arange(len(moved))) & 1
        p = float((side((1 - 2 * bits) @ moved) >= limit).mean())
    else:
        rng, count, remaining = np.random.default_rng(seed), 0, draws
        while remaining:
            rows = min(remaining, max(1, _CELLS // len(moved)))
            count += int((side(_signed_sums(rng, rows, moved)) >= limit).sum())
            remaining -= rows
        # The observed assignment counts as a draw, so that p is never 0 and the test valid.
        p = (count + 1) / (draws + 1)
    return PairedTest(float(means.mean()), p, len(means), exact, method)


@rows_by_id("effects", "patients")
def signed_rank(
    effects: Values, patients: Patients = None, *, alternative: str = "two-sided"
) -> PairedTest:
    """Test that effects are symmetric around 0, by Wilcoxon's signed ranks of patient means.

    Zero effects are left out, as Wilcoxon did. p is exact for 50 patients or fewer without ties.

    References:
        Individual comparisons by ranking methods (Wilcoxon, 1945).

    Args:
        effects: Shape (n,); NaN is unknown and left out.
        patients: Who each row is of.
        alternative: As in `sign_flip`.

    Example:
        >>> signed_rank([1.0, 2.0, 3.0, 4.0]).p
        0.125
    """
    means = _known_means(effects, patients)
    _side(alternative)
    moved = means[means != 0]
    # The exact distribution of the ranks assumes that there are no ties.
    exact = len(moved) <= 50 and len(np.unique(np.abs(moved))) == len(moved)
    method = "Wilcoxon's signed ranks of patients"
    if len(moved) == 0:
        estimate, p = (np.nan, np.nan) if len(means) == 0 else (0.0, 1.0)
        return PairedTest(estimate, p, len(means), True, method)
    how = "exact" if exact else "asymptotic"
    p = float(wilcoxon(moved, alternative=alternative, method=how).pvalue)
    return PairedTest(float(means.mean()), p, len(means), exact, method)


@rows_by_id("before", "after", "patients")
def mcnemar(before: Values, after: Values, patients: Patients = None) -> FlipTest:
    """Test that decisions flip as often from 0 to 1 as from 1 to 0, exactly.

    Each patient has one vote: up if more pairs flip up than down, down if fewer. Among those who
    vote, the number of up votes is binomial with probability 1/2 if flips have no direction.

    References:
        Note on the sampling error of the difference between correlated proportions or percentages
        (McNemar, 1947).

    Args:
        before: Decisions, shape (n,): 0, 1, or NaN, which is left out.
        after: The same of the twins.
        patients: Who each row is of.

    Raises:
        CausalCXRError: If a decision is neither 0 nor 1.

    Example:
        >>> mcnemar([0, 0, 0, 1], [1, 1, 1, 1]).p
        0.25
    """
    before, after = (_decisions(each) for each in (before, after))
    if before.shape != after.shape:
        raise CausalCXRError(
            f"flips: {len(before)} decisions before and {len(after)} after; give pairs"
        )
    codes, distinct = patient_numbers(patients, len(before), "flips")
    # Pairs of which both decisions are known.
    change = after - before
    both_known = ~np.isnan(change)
    change, codes = change[both_known], codes[both_known]
    # One vote a patient, as the pairs of a patient are not independent.
    balance = np.bincount(codes, change, minlength=len(distinct))
    flipped = np.bincount(codes, np.abs(change), minlength=len(distinct))
    up, down = int((balance > 0).sum()), int((balance < 0).sum())
    tied, present = int(((balance == 0) & (flipped > 0)).sum()), len(np.unique(codes))
    p = binomtest(up, up + down).pvalue if up + down else (1.0 if present else np.nan)
    bounds = clopper_pearson(up, up + down)
    share = (float(ratio(up, up + down)), float(bounds.low), float(bounds.high))
    counts = (int((change > 0).sum()), int((change < 0).sum()))
    return FlipTest(up, down, tied, present, *counts, float(p), *share)


@rows_by_id("effects", "patients")
def bootstrap_mean(
    effects: Values, patients: Patients = None, *, draws: int = 2000, seed: int = 0
) -> MeanDraws:
    """Return the mean over patients of their mean effects, in the data and in draws of patients.

    The draws are those of `bootstrap` for the same seed and patients.

    Args:
        effects: Shape (n,) or (n, k), such as f(twin) - f(record); NaN is unknown.
        patients: Who each row is of.
        draws: How many.
        seed: Of the draws.

    Example:
        >>> mean = bootstrap_mean([0.1, 0.3, 0.2], draws=99)
        >>> round(float(mean.estimate), 3), mean.draws.shape
        (0.2, (99,))
    """
    means = patient_means(effects, patients)
    flat = means if means.ndim == 2 else means[:, None]
    # A mean is a ratio of two sums, of the known effects and of their number.
    known = ~np.isnan(flat)
    both = np.concatenate([np.where(known, flat, 0), known], axis=1)
    sums = np.empty((draws, both.shape[1]))
    rows = max(1, _CELLS // max(len(means), 1))
    for first in range(0, draws, rows):
        part = range(first, min(first + rows, draws))
        counts = patient_counts(len(means), part, seed)
        sums[part.start : part.stop] = counts.astype(float) @ both
    total, count = np.split(sums, 2, axis=1)
    drawn, patients = ratio(total, count), known.sum(0)
    estimate = ratio(both[:, : flat.shape[1]].sum(0), patients)
    # In the shape of the input: a number or (k,).
    shape = means.shape[1:]
    return MeanDraws(estimate.reshape(shape), drawn.reshape(-1, *shape), patients.reshape(shape))


def _signed_sums(rng: np.random.Generator, rows: int, values: np.ndarray) -> np.ndarray:
    """Return sums of values under random signs, (rows,); a bit a sign."""
    # Rounded up to whole bytes.
    wide = -(-len(values) // 8)
    bits = np.frombuffer(rng.bytes(rows * wide), dtype=np.uint8).reshape(rows, wide)
    signs = np.unpackbits(bits, axis=1, count=len(values)).astype(float)
    # With bits for signs, the signed sum is the sum less twice what is flipped.
    return values.sum() - 2 * (signs @ values)


def _side(alternative: str) -> Callable[[np.ndarray], np.ndarray]:
    """Return the statistic that is large under the alternative."""
    if alternative not in ALTERNATIVES:
        raise CausalCXRError(
            f"paired test: alternative {alternative!r} is unknown; choose from "
            f"{', '.join(ALTERNATIVES)}"
        )
    return {"two-sided": np.abs, "greater": np.positive, "less": np.negative}[alternative]


def _effects(effects: Values) -> np.ndarray:
    effects = np.asarray(effects, dtype=float)
    if effects.ndim not in (1, 2) or np.isinf(effects).any():
        raise CausalCXRError(
            "effects: infinite, or not of shape (n,) or (n, k); give numbers, NaN if unknown"
        )
    return effects


def _known_means(effects: Values, patients: Patients) -> np.ndarray:
    means = patient_means(effects, patients)
    if means.ndim != 1:
        raise CausalCXRError(f"effects: {means.shape[1]} columns; test one at a time")
    return means[~np.isnan(means)]


def _decisions(values: Values) -> np.ndarray:
    decisions = np.asarray(values, dtype=float)
    valid = (decisions == 0) | (decisions == 1) | np.isnan(decisions)
    if decisions.ndim != 1 or not valid.all():
        raise CausalCXRError(
            "flips: a decision is neither 0 nor 1; apply a threshold to the scores"
        )
    return decisions
