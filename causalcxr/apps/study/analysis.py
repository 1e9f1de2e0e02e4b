"""The analysis of a study, by reader and presentation, with intervals and tests."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.apps.study.detection import Roc, detection, roc
from causalcxr.apps.study.plan import StudyPlan
from causalcxr.apps.study.responses import read_responses
from causalcxr.apps.study.share_tests import against_chance, paired_difference
from causalcxr.audit.intervals import clopper_pearson, wilson
from causalcxr.audit.multiple_testing import holm
from causalcxr.common.errors import StudyError
from causalcxr.metrics.agreement import cohen_kappa

__all__ = ["Analysis", "analyse", "analyse_responses"]

_DRAWS = 10_000  # of kappa
_SHUFFLES = 5000
_LEARNING = (
    "reader", "presentation", "n", "difference", "low", "high", "gained", "lost", "p",
)  # fmt: skip
_AGREEMENT = (
    "kind", "first", "second", "presentations", "n", "agreement", "kappa", "low", "high",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Analysis:
    """Hold the tables of a study.

    Args:
        plan: The plan of the study.
        responses: One row for each answer, see `responses`.
        accuracy: By reader and presentation: share of right answers with exact and Wilson
            intervals, the exact two-sided test against one half and its p-value, Holm-adjusted
            over all rows; seconds per trial (median and quartiles), and the server's time.
        agreement: Cohen's kappa with intervals over trials: within a reader between presentations,
            and between readers within a presentation.
        learning: By reader: accuracy of each later presentation minus the first, paired by trial.
        trend: By reader and presentation: change of accuracy over 100 trials, with a permutation
            test.
        detection: By reader and presentation: sensitivity, specificity, d', criterion, AUROC.
        strata: Accuracy by reader, presentation and stratum.
        curves: The ROC curve of each reader and presentation.
    """

    plan: StudyPlan
    responses: pd.DataFrame
    accuracy: pd.DataFrame
    agreement: pd.DataFrame
    learning: pd.DataFrame
    trend: pd.DataFrame
    detection: pd.DataFrame
    strata: pd.DataFrame
    curves: Mapping[tuple[str, int], Roc]

    @property
    def expected(self) -> int:
        """The number of answers of a complete study."""
        return self.plan.steps * len(self.plan.readers)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name, in the order of the report."""
        names = (
            "accuracy", "agreement", "learning", "trend", "detection", "strata", "responses",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}


def analyse(folder: str | Path, *, seed: int = 0) -> Analysis:
    """Analyse the answers that a study has so far.

    Args:
        folder: The study.
        seed: Of resamples and shuffles.

    Raises:
        StudyError: If there is no study or no answer, or a file is damaged.
    """
    plan = StudyPlan.load(folder)
    return analyse_responses(plan, read_responses(folder, plan), seed=seed)


def analyse_responses(plan: StudyPlan, responses: pd.DataFrame, *, seed: int = 0) -> Analysis:
    """Analyse responses that were read or simulated.

    Args:
        plan: The plan.
        responses: As `responses` returns them.
        seed: Of resamples and shuffles.

    Raises:
        StudyError: If there is no answer.
    """
    if responses.empty:
        raise StudyError("the study has no answers yet; serve it to its readers first")
    # A sitting is one presentation to one reader.
    sittings = dict(list(responses.groupby(["reader", "presentation"], sort=False)))
    curves = {
        key: roc(rows["signal"].to_numpy(), rows["score"].to_numpy(), seed=seed)
        for key, rows in sittings.items()
    }
    accuracy = _table(sittings, _accuracy)
    # Holm over the sittings: one test each against chance, and one each of learning.
    accuracy.insert(
        accuracy.columns.get_loc("p") + 1, "p_holm", holm(accuracy["p"].to_numpy()).adjusted
    )
    # Learning: the same trials in a later presentation, paired by trial.
    learning = _learning(responses)
    learning["p_holm"] = holm(learning["p"].to_numpy()).adjusted
    return Analysis(
        plan,
        responses,
        accuracy,
        _agreement(responses, seed),
        learning,
        _table(sittings, lambda rows: _trend(rows, seed)),
        _table(sittings, lambda rows: _detection(rows, plan.kind, curves)),
        _strata(responses),
        curves,
    )


def _table(
    sittings: Mapping[tuple[str, int], pd.DataFrame],
    summarise: Callable[[pd.DataFrame], dict[str, Any]],
) -> pd.DataFrame:
    """Return one row for each sitting."""
    rows = [
        {"reader": reader, "presentation": presentation} | summarise(responses)
        for (reader, presentation), responses in sittings.items()
    ]
    return pd.DataFrame(rows)


def _share(correct: pd.Series) -> dict[str, float]:
    n, k = len(correct), int(correct.sum())
    exact = clopper_pearson(k, n)
    bounds = {"exact_low": float(exact.low), "exact_high": float(exact.high)}
    return {"n": n, "right": k, "accuracy": k / n} | bounds


def _accuracy(rows: pd.DataFrame) -> dict[str, float]:
    share = _share(rows["correct"])
    score = wilson(share["right"], share["n"])
    quartiles = rows["seconds"].quantile([0.25, 0.5, 0.75])
    return share | {
        "wilson_low": float(score.low),
        "wilson_high": float(score.high),
        "p": against_chance(share["right"], share["n"]),
        "seconds_median": quartiles[0.5],
        "seconds_q1": quartiles[0.25],
        "seconds_q3": quartiles[0.75],
        "server_seconds_median": rows["server_seconds"].dropna().median(),
    }


def _detection(
    rows: pd.DataFrame, kind: str, curves: Mapping[tuple[str, int], Roc]
) -> dict[str, float]:
    reader = detection(rows["signal"].to_numpy(), rows["called"].to_numpy(), two=kind == "2afc")
    # The curve of the sitting is computed once, for the table and the figure.
    curve = curves[rows["reader"].iloc[0], rows["presentation"].iloc[0]]
    return {
        "signals": reader.signals,
        "noises": reader.noises,
        "sensitivity": reader.sensitivity,
        "specificity": reader.specificity,
        "d_prime": reader.d_prime,
        "criterion": reader.criterion,
        "auroc": curve.area,
        "auroc_low": curve.low,
        "auroc_high": curve.high,
    }


def _trend(rows: pd.DataFrame, seed: int) -> dict[str, float]:
    """Return the least-squares slope over the order, with a permutation test."""
    position = rows["position"].to_numpy(dtype=np.float64)
    position -= position.mean()
    right = rows["correct"].to_numpy(dtype=np.float64)
    spread = position @ position
    if spread == 0:
        return {"per_100_trials": float("nan"), "p": float("nan")}
    # Permuting the order keeps the number of right answers.
    slope = position @ right / spread
    shuffled = np.random.default_rng(seed).permuted(np.tile(position, (_SHUFFLES, 1)), axis=1)
    # Slopes that are equal up to rounding count as equal.
    beyond = np.abs(shuffled @ right / spread) >= abs(slope) - 1e-12
    return {"per_100_trials": 100 * slope, "p": (1 + beyond.sum()) / (1 + _SHUFFLES)}


def _learning(responses: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for reader, answers in responses.groupby("reader", sort=False):
        wide = answers.pivot(index="trial", columns="presentation", values="correct")
        for later in [p for p in wide.columns if p > 1]:
            # Trials answered in both presentations.
            both = wide[[1, later]].dropna().astype(bool)
            if both.empty:
                continue
            change = paired_difference(both[1].to_numpy(), both[later].to_numpy())
            cells = asdict(change) | {
                "reader": reader, "presentation": later, "difference": change.value,
            }  # fmt: skip
            rows.append({name: cells[name] for name in _LEARNING})
    return pd.DataFrame(rows, columns=list(_LEARNING))


def _agreement(responses: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return kappa within readers and between them; answers are paired by trial."""
    wide = responses.pivot(index="trial", columns=["reader", "presentation"], values="label")
    rows = []
    for first, second in combinations(wide.columns, 2):
        # Within a reader over presentations, or between readers in one presentation.
        same_reader, same_presentation = first[0] == second[0], first[1] == second[1]
        if not (same_reader or same_presentation):
            continue
        labels = wide[[first, second]].dropna()
        if labels.empty:  # no trial was answered in both yet
            continue
        result = cohen_kappa(labels[first], labels[second], draws=_DRAWS, seed=seed)
        kind = "intra" if same_reader else "inter"
        presentations = f"{first[1]} and {second[1]}" if same_reader else str(first[1])
        numbers = (result.n, result.observed, result.kappa, result.low, result.high)
        rows.append((kind, first[0], second[0], presentations, *numbers))
    table = pd.DataFrame(rows, columns=list(_AGREEMENT))
    return table.sort_values("kind", key=lambda k: k != "intra", kind="stable", ignore_index=True)


def _strata(responses: pd.DataFrame) -> pd.DataFrame:
    groups = responses.groupby(["reader", "presentation", "stratum"], sort=False)
    rows = [
        {"reader": reader, "presentation": p, "stratum": stratum} | _share(rows["correct"])
        for (reader, p, stratum), rows in groups
    ]
    table = pd.DataFrame(rows)
    order = {name: k for k, name in enumerate(pd.unique(responses["reader"]))}
    table["_"] = table["reader"].map(order)  # readers in the order of the plan
    return table.sort_values(["_", "presentation", "stratum"], ignore_index=True).drop(columns="_")
