"""How long does the bootstrap over patients take, beside a plain loop of scikit-learn?

    python -m benchmarks.audit.bootstrap [--quick] [--patients 100000] [--threads 1 2]

One record a patient, ten overlapping groups, all measures, among them AUROC, average precision and
calibration; the threshold is Youden's of each draw. Each row of ours runs in a process of its own,
so that its peak of memory is its own. The loop draws rows, and asks scikit-learn for AUROC,
average precision, confusion matrix, Brier score and reliability of each group: fewer measures than
ours, in a few draws; its seconds are multiplied. A ratio is its seconds over ours.
"""

import argparse
import multiprocessing
import sys
import time
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from sklearn.calibration import calibration_curve
from sklearn.metrics import (
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    roc_auc_score,
    roc_curve,
)

from benchmarks import Row, stopwatch
from benchmarks.__main__ import show
from benchmarks.counterfactual_table import peak
from causalcxr.audit.bootstrap import bootstrap

__all__ = ["CASES", "apart", "cohort", "command", "main"]

CASES = {
    "10 groups, a third of all on average": False,
    "10 groups, each of all": True,
}
THRESHOLD = 0.2


def cohort(patients: int, full: bool) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return scores, labels, and as groups all, sexes, views and intersections, or all ten times.

    Example:
        >>> scores, labels, groups = cohort(1000, full=False)
        >>> len(groups), round(float(labels.mean()), 1)
        (10, 0.2)
    """
    rng = np.random.default_rng(0)
    sex, view = rng.integers(0, 2, patients), rng.integers(0, 3, patients)
    scores = 1 / (1 + np.exp(1.5 - rng.normal(size=patients)))
    labels = (rng.random(patients) < scores).astype(float)
    if full:
        return scores, labels, {str(i): np.ones(patients, bool) for i in range(10)}
    groups = {"all": np.ones(patients, bool)}
    groups |= {f"sex {i}": sex == i for i in range(2)}
    groups |= {f"view {i}": view == i for i in range(3)}
    pairs = [(i, j) for i in range(2) for j in range(2)]
    return scores, labels, groups | {f"{i} & {j}": (sex == i) & (view == j) for i, j in pairs}


def ours(case: str, patients: int, draws: int, threads: int, rule: str = "youden") -> Row:
    """Measure this package; run it in a process of its own."""
    scores, labels, groups = cohort(patients, CASES[case])
    before, begun = peak(), time.process_time()
    with stopwatch() as watch:
        found = bootstrap(
            scores, labels, groups, threshold=rule, draws=draws, threads=threads, blocks=0
        )
    spent = time.process_time() - begun
    figures = {"draws": draws, "threads": threads, "measures": len(found.measures)}
    row: Row = {"case": case, "of": "causalcxr", "threshold": rule, "patients": patients}
    figures |= {"seconds": watch.seconds, "processor s": spent}
    return row | figures | {"peak MiB": peak(), "before MiB": before}


def apart(case: str, patients: int, draws: int, threads: int, rule: str = "youden") -> Row:
    """Return what `ours` measures in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(ours, (case, patients, draws, threads, rule))


def plain(case: str, patients: int, draws: int, asked: int) -> Row:
    """Measure the loop for some draws; its seconds are scaled to all of them."""
    scores, labels, groups = cohort(patients, CASES[case])
    rng = np.random.default_rng(0)
    with stopwatch() as watch:
        for _ in range(asked):
            rows = rng.integers(0, patients, patients)
            p, y = scores[rows], labels[rows]
            fpr, tpr, at = roc_curve(y, p)
            called = p >= at[np.argmax(tpr - fpr)]
            for mask in groups.values():
                mine = mask[rows]
                measured(p[mine], y[mine], called[mine])
    seconds = watch.seconds * draws / asked
    row: Row = {"case": case, "of": f"scikit-learn, from {asked} draws", "threshold": "youden"}
    return row | {"patients": patients, "draws": draws, "threads": 1, "seconds": seconds}


def measured(p: np.ndarray, y: np.ndarray, called: np.ndarray) -> tuple:
    """Return measures of one group, by scikit-learn."""
    rates = confusion_matrix(y, called, labels=[0, 1])
    reliability = calibration_curve(y, p, n_bins=10)
    ranks = roc_auc_score(y, p), average_precision_score(y, p)
    return rates, reliability, ranks, brier_score_loss(y, p)


def main(quick: bool = False) -> list[Row]:
    """Return a row a case and model."""
    return compared(*((10_000, 200) if quick else (100_000, 2000)))


def compared(patients: int, draws: int, threads: Sequence[int] = (1,)) -> list[Row]:
    """Return a row a case and number of threads, and one for the plain loop."""
    rows: list[Row] = []
    for case in CASES:
        loop = plain(case, patients, draws, 3)
        for each in threads:
            row = apart(case, patients, draws, each)
            rows.append(row | {"ratio": float(loop["seconds"]) / float(row["seconds"])})
        rows.append(loop)
    return rows


def command(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit.bootstrap")
    parser.add_argument("--quick", action="store_true", help="10,000 patients, 200 draws")
    parser.add_argument("--patients", type=int)
    parser.add_argument("--draws", type=int)
    parser.add_argument("--threads", type=int, nargs="*", default=[1])
    args = parser.parse_args(arguments)
    patients = args.patients or (10_000 if args.quick else 100_000)
    rows = compared(patients, args.draws or (200 if args.quick else 2000), args.threads)
    show(Console(width=160), f"bootstrap of {patients:,} patients (target 60 s, 2,048 MiB)", rows)
    return 0


if __name__ == "__main__":
    sys.exit(command())
