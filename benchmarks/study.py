"""Does the analysis of a reader study give back what its readers were made of?

    python -m benchmarks study

Three simulated readers have the accuracies and the intra-rater kappas that the paper's table gives
for three experts in two presentations, and share nothing. Each study is 100 pairs, answered twice
by each. Figures are means over studies; of kappas between readers, which are none in truth, the
paper tells the span of single ones, and so the table has the span in which 95 % of ours lie.
Coverage is how often the exact interval has the true accuracy in it; the bootstrap is left out.
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

__all__ = ["PAPER", "drawn", "main"]

PAPER = {
    "expert 1": ((0.49, 0.54), 0.42),
    "expert 2": ((0.54, 0.54), 0.23),
    "expert 3": ((0.48, 0.60), 0.27),
}
_BETWEEN = (-0.08, 0.15)


def drawn(trials: int = 100, seed: int = 0) -> StudyPlan:
    """Return the plan of a study of pairs without images, which simulated readers do not need."""
    pairs = [
        Trial((f"{k}a", f"{k}b"), (k % 2 == 0, k % 2 == 1), (f"{k}", f"{k}"), {})
        for k in range(trials)
    ]
    readers = [draw_reader(k, name, pairs, 2, seed) for k, name in enumerate(PAPER)]
    return StudyPlan("2afc", "", seed, (), (64, 64), False, tuple(pairs), tuple(readers), {}, {})


def _kappa(wide: pd.DataFrame, first: tuple[str, int], second: tuple[str, int]) -> float:
    return cohen_kappa(wide[first].to_numpy(), wide[second].to_numpy(), draws=1).kappa


def _study(plan: StudyPlan, seed: int) -> dict[tuple[str, str], float]:
    """Return accuracies, kappas and whether intervals cover, of one simulated study."""
    readers = [Simulated(accuracy, kappa) for accuracy, kappa in PAPER.values()]
    rows = responses(plan, simulate(plan, readers, seed=seed))
    right = rows.groupby(["reader", "presentation"])["correct"].sum()
    n = len(plan.trials)
    wide = rows.pivot(index="trial", columns=["reader", "presentation"], values="label")
    figures = {}
    for name, (accuracy, _) in PAPER.items():
        for p in (1, 2):
            bounds = clopper_pearson(int(right[name, p]), n)
            figures[name, f"accuracy {p}"] = right[name, p] / n
            figures[name, f"covered {p}"] = float(bounds.low <= accuracy[p - 1] <= bounds.high)
        figures[name, "kappa"] = _kappa(wide, (name, 1), (name, 2))
    names = list(PAPER)
    for k, name in enumerate(names):
        for other in names[k + 1 :]:
            for p in (1, 2):
                figures["between", f"{name} {other} {p}"] = _kappa(wide, (name, p), (other, p))
    return figures


def main(quick: bool = False) -> list[Row]:
    """Return a row an expert, and one of the kappas between them."""
    studies = 10 if quick else 400
    plan = drawn()
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
            "reader": "between",
            "kappa, paper": f"{_BETWEEN[0]} to {_BETWEEN[1]}",
            "kappa, mean": float(between.mean()),
            "95 % of ours": f"{low:.2f} to {high:.2f}",
            "target": "the paper's span within ours",
        }
    )
    return table
