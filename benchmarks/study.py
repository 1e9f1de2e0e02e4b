"""Whether the analysis of a reader study recovers the properties of simulated readers.

    python -m benchmarks study

Three simulated, independent readers have the accuracies and the intra-rater kappas that the paper
reports for three experts in two presentations. Each study has 100 pairs, and each reader answers
them twice. Results are means over studies. The true inter-rater kappas are 0; the paper reports
the range of single ones, so the table has the interval that contains 95 % of ours. Coverage is the
share of exact intervals that contain the true accuracy; no bootstrap is drawn.
"""

import numpy as np
import pandas as pd

from benchmarks import Row
from causalcxr.apps.study.creation import draw_reader
from causalcxr.apps.study.plan import StudyPlan, Trial
from causalcxr.apps.study.responses import responses
from causalcxr.apps.study.simulate import Simulated, simulate
from causalcxr.audit.intervals import clopper_pearson
from causalcxr.metrics.agreement import cohen_kappa

__all__ = ["PAPER", "main", "make_plan"]

PAPER = {
    "expert 1": ((0.49, 0.54), 0.42),
    "expert 2": ((0.54, 0.54), 0.23),
    "expert 3": ((0.48, 0.60), 0.27),
}
_BETWEEN = (-0.08, 0.15)


def make_plan(trials: int = 100, seed: int = 0) -> StudyPlan:
    """Return the plan of a study of pairs; simulated readers do not need the images."""
    pairs = [
        Trial((f"{k}a", f"{k}b"), (k % 2 == 0, k % 2 == 1), (f"{k}", f"{k}"), {})
        for k in range(trials)
    ]
    readers = [draw_reader(k, name, pairs, 2, seed) for k, name in enumerate(PAPER)]
    return StudyPlan("2afc", "", seed, (), (64, 64), False, tuple(pairs), tuple(readers), {}, {})


def _kappa(answers: pd.DataFrame, first: tuple[str, int], second: tuple[str, int]) -> float:
    return cohen_kappa(answers[first].to_numpy(), answers[second].to_numpy(), draws=1).kappa


def _study(plan: StudyPlan, seed: int) -> dict[tuple[str, str], float]:
    """Return the accuracies, kappas and coverage of one simulated study."""
    readers = [Simulated(accuracy, kappa) for accuracy, kappa in PAPER.values()]
    rows = responses(plan, simulate(plan, readers, seed=seed))
    n_correct = rows.groupby(["reader", "presentation"])["correct"].sum()
    n = len(plan.trials)
    answers = rows.pivot(index="trial", columns=["reader", "presentation"], values="label")
    figures = {}
    for name, (accuracy, _) in PAPER.items():
        for p in (1, 2):
            bounds = clopper_pearson(int(n_correct[name, p]), n)
            figures[name, f"accuracy {p}"] = n_correct[name, p] / n
            figures[name, f"covered {p}"] = float(bounds.low <= accuracy[p - 1] <= bounds.high)
        figures[name, "kappa"] = _kappa(answers, (name, 1), (name, 2))
    names = list(PAPER)
    for k, name in enumerate(names):
        for other in names[k + 1 :]:
            for p in (1, 2):
                figures["between", f"{name} {other} {p}"] = _kappa(answers, (name, p), (other, p))
    return figures


def main(quick: bool = False) -> list[Row]:
    """Return one row per expert, and one for the kappas between them."""
    studies = 10 if quick else 400
    plan = make_plan()
    results = pd.DataFrame([_study(plan, seed) for seed in range(studies)])
    means = results.mean()
    table: list[Row] = []
    for name, (accuracy, kappa) in PAPER.items():
        row: Row = {"reader": name}
        for p in (1, 2):
            row[f"accuracy {p}, paper"] = accuracy[p - 1]
            row[f"accuracy {p}, mean"] = float(means[name, f"accuracy {p}"])
        row["kappa, paper"] = kappa
        row["kappa, mean"] = float(means[name, "kappa"])
        row["coverage"] = float((means[name, "covered 1"] + means[name, "covered 2"]) / 2)
        row["target"] = "accuracy within .01, kappa within .02, coverage >= .95"
        table.append(row)
    between = results[[key for key in results.columns if key[0] == "between"]].to_numpy()
    low, high = np.quantile(between, [0.025, 0.975])
    table.append(
        {
            "reader": "between readers",
            "kappa, paper": f"{_BETWEEN[0]} to {_BETWEEN[1]}",
            "kappa, mean": float(between.mean()),
            "95 % of ours": f"{low:.2f} to {high:.2f}",
            "target": "ours contains the paper's range",
        }
    )
    return table
