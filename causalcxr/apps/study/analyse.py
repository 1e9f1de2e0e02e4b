"""What the answers of a study say, reader by reader, with how well each number is known."""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.apps.study.detection import Roc, detection, roc
from causalcxr.apps.study.intervals import (
    against_chance,
    clopper_pearson,
    paired_difference,
    wilson,
)
from causalcxr.apps.study.plan import Plan
from causalcxr.apps.study.responses import read_responses
from causalcxr.audit.multiple_testing import holm
from causalcxr.common.errors import StudyError
from causalcxr.metrics.agreement import cohen_kappa

__all__ = ["Analysis", "analyse", "analysed"]

_DRAWS = 10_000  # of kappa
_SHUFFLES = 5000
_LEARNED = (
    "reader", "presentation", "n", "difference", "low", "high", "gained", "lost", "p",
)  # fmt: skip
_AGREED = (
    "kind", "first", "second", "presentations", "n", "agreement", "kappa", "low", "high",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Analysis:
    """Hold the tables of a study.

    Args:
        plan: What was asked of whom.
        responses: One row an answer, see `responses`.
        accuracy: By reader and presentation: share of right answers with exact and Wilson
            intervals, the exact two-sided test against one half and its p-value adjusted by Holm
            for all rows; seconds a trial (median and quartiles), and as the server saw it.
        agreement: Cohen's kappa with intervals over trials: within a reader between presentations,
            between readers within a presentation.
        learning: By reader: accuracy of each later presentation minus the first, paired by trial.
        trend: By reader and presentation: change of accuracy over 100 trials, with a permutation
            test.
        detection: By reader and presentation: sensitivity, specificity, d', criterion, AUROC.
        strata: Accuracy by reader, presentation and stratum.
        curves: The ROC of each reader and presentation.
    """

    plan: Plan
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
        """How many answers a complete study has."""
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
        StudyError: If there is no study, no answer, or something is damaged.
    """
    plan = Plan.load(folder)
    return analysed(plan, read_responses(folder, plan), seed=seed)


def analysed(plan: Plan, responses: pd.DataFrame, *, seed: int = 0) -> Analysis:
    """Analyse responses that were read or simulated.

    Args:
        plan: The plan.
        responses: As `responses` returns them.
        seed: Of resamples and shuffles.

    Raises:
        StudyError: If there is no answer.
    """
    if responses.empty:
        raise StudyError("no reader has answered yet; serve the study first")
    sittings = dict(list(responses.groupby(["reader", "presentation"], sort=False)))
    curves = {
        key: roc(rows["signal"].to_numpy(), rows["score"].to_numpy(), seed=seed)
        for key, rows in sittings.items()
    }
    accuracy = _table(sittings, _accuracy)
    accuracy.insert(
        accuracy.columns.get_loc("p") + 1, "p_holm", holm(accuracy["p"].to_numpy()).adjusted
    )
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


def _table(sittings: Mapping[tuple[str, int], pd.DataFrame], told: Any) -> pd.DataFrame:
    rows = [
        {"reader": reader, "presentation": presentation} | told(each)
        for (reader, presentation), each in sittings.items()
    ]
    return pd.DataFrame(rows)


def _share(correct: pd.Series) -> dict[str, float]:
    n, k = len(correct), int(correct.sum())
    low, high = clopper_pearson(k, n)
    return {"n": n, "right": k, "accuracy": k / n, "exact_low": low, "exact_high": high}


def _accuracy(rows: pd.DataFrame) -> dict[str, float]:
    told = _share(rows["correct"])
    low, high = wilson(told["right"], told["n"])
    quartiles = rows["seconds"].quantile([0.25, 0.5, 0.75])
    return told | {
        "wilson_low": low,
        "wilson_high": high,
        "p": against_chance(told["right"], told["n"]),
        "seconds_median": quartiles[0.5],
        "seconds_q1": quartiles[0.25],
        "seconds_q3": quartiles[0.75],
        "server_seconds_median": rows["server_seconds"].dropna().median(),
    }


def _detection(
    rows: pd.DataFrame, kind: str, curves: Mapping[tuple[str, int], Roc]
) -> dict[str, float]:
    found = detection(rows["signal"].to_numpy(), rows["called"].to_numpy(), two=kind == "2afc")
    curve = curves[rows["reader"].iloc[0], rows["presentation"].iloc[0]]
    return {
        "signals": found.signals,
        "noises": found.noises,
        "sensitivity": found.sensitivity,
        "specificity": found.specificity,
        "d_prime": found.d_prime,
        "criterion": found.criterion,
        "auroc": curve.area,
        "auroc_low": curve.low,
        "auroc_high": curve.high,
    }


def _trend(rows: pd.DataFrame, seed: int) -> dict[str, float]:
    """Return the least-squares slope over the order, against shuffled orders."""
    at = rows["position"].to_numpy(dtype=np.float64)
    at -= at.mean()
    right = rows["correct"].to_numpy(dtype=np.float64)
    spread = at @ at
    if spread == 0:
        return {"per_100_trials": float("nan"), "p": float("nan")}
    slope = at @ right / spread
    shuffled = np.random.default_rng(seed).permuted(np.tile(at, (_SHUFFLES, 1)), axis=1)
    # As far from zero up to rounding counts as as far.
    beyond = np.abs(shuffled @ right / spread) >= abs(slope) - 1e-12
    return {"per_100_trials": 100 * slope, "p": (1 + beyond.sum()) / (1 + _SHUFFLES)}


def _learning(responses: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for reader, each in responses.groupby("reader", sort=False):
        wide = each.pivot(index="trial", columns="presentation", values="correct")
        for later in [p for p in wide.columns if p > 1]:
            both = wide[[1, later]].dropna().astype(bool)
            if both.empty:
                continue
            found = paired_difference(both[1].to_numpy(), both[later].to_numpy())
            cells = (
                found.n,
                found.value,
                found.low,
                found.high,
                found.gained,
                found.lost,
                found.p,
            )
            rows.append((reader, later, *cells))
    return pd.DataFrame(rows, columns=list(_LEARNED))


def _agreement(responses: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return kappa within readers and between them; answers are paired by trial."""
    wide = responses.pivot(index="trial", columns=["reader", "presentation"], values="label")
    rows = []
    for first, second in combinations(wide.columns, 2):
        within, together = first[0] == second[0], first[1] == second[1]
        if not (within or together):
            continue
        labels = wide[[first, second]].dropna()
        if labels.empty:  # they share no trial yet
            continue
        found = cohen_kappa(labels[first], labels[second], draws=_DRAWS, seed=seed)
        rows.append(
            {
                "kind": "intra" if within else "inter",
                "first": first[0],
                "second": second[0],
                "presentations": f"{first[1]} and {second[1]}" if within else str(first[1]),
                "n": found.n,
                "agreement": found.observed,
                "kappa": found.kappa,
                "low": found.low,
                "high": found.high,
            }
        )
    columns = [
        "kind",
        "first",
        "second",
        "presentations",
        "n",
        "agreement",
        "kappa",
        "low",
        "high",
    ]
    table = pd.DataFrame(rows, columns=columns)
    table = table[table["n"] > 0]
    return table.sort_values("kind", key=lambda k: k != "intra", kind="stable", ignore_index=True)


def _strata(responses: pd.DataFrame) -> pd.DataFrame:
    groups = responses.groupby(["reader", "presentation", "stratum"], sort=False)
    rows = [
        {"reader": reader, "presentation": p, "stratum": stratum} | _share(rows["correct"])
        for (reader, p, stratum), rows in groups
    ]
    order = {name: k for k, name in enumerate(pd.unique(responses["reader"]))}
    table = pd.DataFrame(rows)
    table["_"] = table["reader"].map(order)
    return table.sort_values(["_", "presentation", "stratum"], ignore_index=True).drop(columns="_")
