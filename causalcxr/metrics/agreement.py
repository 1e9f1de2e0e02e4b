"""Agreement of raters beyond chance: Cohen's, weighted and Fleiss' kappa, with intervals."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import pandas as pd

from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError
from causalcxr.common.percentile_interval import percentile_interval
from causalcxr.metrics.bootstrap import resampled
from causalcxr.metrics.inputs import read_patients

__all__ = ["Agreement", "agreement_table", "cohen_kappa", "fleiss_kappa"]

Weights = Literal["none", "linear", "quadratic"]
Answers = Sequence[object] | np.ndarray | pd.Series


@dataclass(frozen=True)
class Agreement:
    """Hold a kappa with its interval.

    Args:
        kappa: 1 for full agreement, 0 for agreement by chance; NaN if all answers are the same, so
            that agreement by chance is full.
        low: The lower end of the interval; NaN if over 5 % of draws have no kappa.
        high: The upper end.
        observed: The observed agreement, with partial credit if there are weights.
        expected: The agreement expected by chance.
        n: The number of trials used.
        clusters: The number of resampled units: trials, or patients.
    """

    kappa: float
    low: float
    high: float
    observed: float
    expected: float
    n: int
    clusters: int


@rows_by_id("first", "second", "clusters")
def cohen_kappa(
    first: Answers,
    second: Answers,
    *,
    weights: Weights = "none",
    levels: Sequence[object] | None = None,
    clusters: Answers | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Return the kappa of two ratings of the same trials: of two raters, or of one rater twice.

    kappa = 1 - sum_ij w_ij o_ij / sum_ij w_ij e_ij, where o_ij is the share of trials with answer
    i of the first rater and j of the second, e_ij the product of their shares, and w_ij the weight
    of the disagreement: [i != j], |i - j| or (i - j)^2.

    References:
        A coefficient of agreement for nominal scales (Cohen, 1960),
        doi:10.1177/001316446002000104.
        Weighted kappa (Cohen, 1968), doi:10.1037/h0026256.

    Args:
        first: Answers, (n,); a trial is used if neither is missing.
        second: Likewise.
        weights: Of disagreements.
        levels: The answers in their order, which weights need; by default sorted.
        clusters: Units that the bootstrap resamples, such as patients, (n,); by default trials.
        draws: Of the bootstrap.
        level: Coverage.
        seed: Of the draws.

    Raises:
        CausalCXRError: If shapes differ, no trial has both answers, an answer is not a level, or
            the weights are unknown.

    Example:
        >>> result = cohen_kappa([0, 0, 1, 1, 1, 0], [0, 0, 1, 1, 0, 1])
        >>> round(result.kappa, 6), round(result.observed, 6), result.n
        (0.333333, 0.666667, 6)
    """
    one, two = pd.Series(first).reset_index(drop=True), pd.Series(second).reset_index(drop=True)
    if len(one) != len(two):
        raise CausalCXRError(
            f"kappa: {len(one)} and {len(two)} answers; give both answers of each trial"
        )
    group = read_patients(clusters, len(one))
    # Only trials that both answered; others say nothing about agreement.
    both = (one.notna() & two.notna()).to_numpy()
    codes = _codes([one[both], two[both]], levels)
    k = int(codes.max(initial=0)) + 1 if levels is None else len(levels)
    # One cell of the k x k table per trial, flattened, so that clusters can be summed.
    table = np.zeros((len(codes[0]), k * k))
    table[np.arange(len(table)), codes[0] * k + codes[1]] = 1
    return _agreement(
        _by_cluster(table, group[both]),
        lambda sums: _cohen(sums, _weights(weights, k)),
        len(table),
        (draws, level, seed),
    )


@rows_by_id("ratings", "clusters")
def fleiss_kappa(
    ratings: pd.DataFrame | np.ndarray,
    *,
    clusters: Answers | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Return the kappa of several raters of the same trials.

    kappa = (P - P_e) / (1 - P_e), where P is the share of pairs of raters that agree on a trial,
    averaged over trials, and P_e the sum of squared shares of the answers.

    References:
        Measuring nominal scale agreement among many raters (Fleiss, 1971), doi:10.1037/h0031619.

    Args:
        ratings: Answers, (n, r), r > 1; every rater answers every trial.
        clusters: Units that the bootstrap resamples, (n,); by default trials.
        draws: Of the bootstrap.
        level: Coverage.
        seed: Of the draws.

    Raises:
        CausalCXRError: If there are fewer than two raters, no trial, or an answer is missing.

    Example:
        >>> round(fleiss_kappa(np.array([[0, 0, 1], [1, 1, 1], [0, 0, 0]])).kappa, 6)
        0.55
    """
    frame = pd.DataFrame(ratings)
    n, r = frame.shape
    if r < 2 or n == 0:
        raise CausalCXRError(
            f"Fleiss: {n} trials of {r} raters; give at least one trial and two raters"
        )
    missing = frame.isna().to_numpy().any(1)
    if missing.any():
        raise CausalCXRError(
            f"Fleiss: trial {int(missing.argmax())} lacks the answer of a rater; leave it out"
        )
    group = read_patients(clusters, n)
    # How many raters gave each answer, trial by trial.
    codes = np.stack(_codes([frame[name] for name in frame], None), axis=1)
    counts = np.zeros((n, int(codes.max()) + 1))
    np.add.at(counts, (np.arange(n)[:, None], codes), 1)
    # The share of pairs of raters who agree; the last column counts trials.
    agreed = (np.square(counts).sum(1) - r) / (r * (r - 1))
    tallies = np.column_stack([counts, agreed, np.ones(n)])
    return _agreement(_by_cluster(tallies, group), _fleiss, n, (draws, level, seed))


def agreement_table(
    answers: pd.DataFrame,
    *,
    weights: Weights = "none",
    levels: Sequence[object] | None = None,
    clusters: str | None = None,
    draws: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the agreement within raters, between pairs of them, and of all.

    Args:
        answers: Columns `rater`, `presentation`, `trial`, `answer`: one row per answer.
        weights: Of disagreements, see `cohen_kappa`; Fleiss' kappa has none.
        levels: The answers in their order.
        clusters: The column of the units that the bootstrap resamples, such as patients, with one
            value per trial. By default `trial`.
        draws: Of the bootstrap.
        level: Coverage.
        seed: Of the draws.

    Returns:
        Columns `kind` ("intra", "inter", "all"), `first`, `second`, `presentation`, and those of
        `Agreement`. "all" is Fleiss' kappa over the trials that every rater answered, where there
        are three raters or more.

    Raises:
        CausalCXRError: If a column is missing, or a rater answered a trial twice in one
            presentation.

    Example:
        >>> answers = pd.DataFrame({"rater": ["A", "A", "B", "B"], "presentation": 1,
        ...                         "trial": [1, 2, 1, 2], "answer": ["real", "made"] * 2})
        >>> agreement_table(answers)[["kind", "first", "second", "kappa"]].values.tolist()
        [['inter', 'A', 'B', 1.0]]
    """
    cluster = clusters or "trial"
    for name in ("rater", "presentation", "trial", "answer", cluster):
        if name not in answers:
            raise CausalCXRError(f"answers: no column {name!r}; add it")
    twice = answers.duplicated(["rater", "presentation", "trial"])
    if twice.any():
        row = answers[twice].iloc[0]
        raise CausalCXRError(
            f"answers: rater {row['rater']} answered trial {row['trial']} twice in "
            f"presentation {row['presentation']}; keep one"
        )
    # One column per rater and presentation, one row per trial.
    wide = answers.pivot(index="trial", columns=["rater", "presentation"], values="answer")
    group = answers.groupby("trial")[cluster].first().reindex(wide.index).to_numpy()
    options = {"draws": draws, "level": level, "seed": seed}
    rows = []
    # Pairs: one rater twice, or two raters in the same presentation.
    for one, two in combinations(wide.columns.sort_values(), 2):
        if one[0] != two[0] and one[1] != two[1]:
            continue
        kind, shown = ("intra", f"{one[1]}, {two[1]}") if one[0] == two[0] else ("inter", one[1])
        if not (wide[one].notna() & wide[two].notna()).any():
            continue
        kappa = cohen_kappa(
            wide[one], wide[two], weights=weights, levels=levels, clusters=group, **options
        )
        names = {"kind": kind, "first": one[0], "second": two[0], "presentation": shown}
        rows.append(names | asdict(kappa))
    # All raters together, where there are more than two.
    for shown in wide.columns.unique("presentation").sort_values():
        part = wide.xs(shown, axis=1, level="presentation")
        complete = part.notna().all(axis=1).to_numpy()
        if part.shape[1] > 2 and complete.any():
            kappa = fleiss_kappa(part[complete], clusters=group[complete], **options)
            names = {"kind": "all", "first": "", "second": "", "presentation": shown}
            rows.append(names | asdict(kappa))
    return pd.DataFrame(rows)


def _codes(columns: Sequence[pd.Series], levels: Sequence[object] | None) -> np.ndarray:
    """Return positions of levels, one row per column; (r, n)."""
    # Shared codes: an answer means the same in every column.
    values = pd.concat(columns, ignore_index=True)
    if not len(values):
        raise CausalCXRError("kappa: no trial has both answers; check for missing ones")
    try:
        allowed = sorted(values.unique()) if levels is None else list(levels)
    except TypeError as error:
        raise CausalCXRError(f"kappa: answers of several types ({error}); give levels") from error
    codes = pd.Index(allowed).get_indexer(values)
    if (codes < 0).any():
        unknown = values[codes < 0].iloc[0]
        raise CausalCXRError(f"kappa: answer {unknown!r} is none of {allowed}; recode it")
    return codes.reshape(len(columns), -1)


def _weights(name: Weights, k: int) -> np.ndarray:
    """Return the weight of each disagreement, (k, k)."""
    apart = np.abs(np.subtract.outer(np.arange(k), np.arange(k))).astype(float)
    kinds = {"none": apart > 0, "linear": apart, "quadratic": apart**2}
    if name not in kinds:
        raise CausalCXRError(f"weights: {name!r} is unknown; use one of {', '.join(kinds)}")
    # Divided by the largest, so that disagreements are between 0 and 1.
    return kinds[name] / max(k - 1, 1) ** {"none": 0, "linear": 1, "quadratic": 2}[name]


def _by_cluster(tallies: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return the sums over the rows of each cluster."""
    which = np.unique(group, return_inverse=True)[1]
    sums = np.zeros((which.max() + 1, tallies.shape[1]))
    np.add.at(sums, which, tallies)
    return sums


def _cohen(sums: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return observed and expected agreement of tables (draws, k * k)."""
    k = len(weights)
    tables = sums.reshape(-1, k, k) / sums.sum(1)[:, None, None]
    product = tables.sum(2)[:, :, None] * tables.sum(1)[:, None, :]
    return 1 - (tables * weights).sum((1, 2)), 1 - (product * weights).sum((1, 2))


def _fleiss(sums: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return observed and expected agreement from counts, agreements, numbers, (draws, k + 2)."""
    counts = sums[:, :-2]
    shares = counts / counts.sum(1, keepdims=True)
    return sums[:, -2] / sums[:, -1], np.square(shares).sum(1)


def _agreement(
    tallies: np.ndarray,
    measure: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    n: int,
    options: tuple[int, float, int],
) -> Agreement:
    """Return kappa from the tallies of clusters, with its interval."""
    draws, level, seed = options
    observed, expected = measure(tallies.sum(0)[None])
    ends = (float("nan"), float("nan"))
    if len(tallies) > 1:
        # Resample clusters, not trials: answers of one patient are not independent.
        drawn = _kappa(*measure(resampled(tallies, draws=draws, seed=seed)))
        bounds = percentile_interval(drawn, level)
        ends = (float(bounds.low), float(bounds.high))
    value = float(_kappa(observed, expected)[0])
    return Agreement(value, *ends, float(observed[0]), float(expected[0]), n, len(tallies))


def _kappa(observed: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Return (o - e) / (1 - e), NaN where that is 0 / 0."""
    room = 1 - expected
    full = np.full(len(room), np.nan)
    return np.divide(observed - expected, room, out=full, where=room > 1e-12)
