"""The speed of the bootstrap over patients, compared with a plain loop of scikit-learn.

    python -m benchmarks.audit.bootstrap [--quick] [--patients 100000] [--threads 1 2]

One record per patient, ten overlapping groups, all measures, including AUROC, average precision
and calibration; Youden's threshold is chosen in each draw. Each row of ours runs in a separate
process, so that its peak memory is its own. The loop resamples rows and computes AUROC, average
precision, confusion matrix, Brier score and reliability of each group by scikit-learn: fewer
measures than ours, in a few draws; its time is extrapolated. A ratio is its time over ours.
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

__all__ = ["CASES", "cohort", "command", "in_a_process", "main"]

CASES = {
    "10 groups, a third of all on average": False,
    "10 groups, each of all": True,
}
THRESHOLD = 0.2


def cohort(patients: int, full: bool) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
    """Return scores, labels and ten groups: all, sexes, views, intersections; or all ten times.

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
    """Measure this package; run this in a separate process."""
    scores, labels, groups = cohort(patients, CASES[case])
    before, start = peak(), time.process_time()
    with stopwatch() as watch:
        result = bootstrap(
            scores, labels, groups, threshold=rule, draws=draws, threads=threads, blocks=0
        )
    spent = time.process_time() - start
    figures = {"draws": draws, "threads": threads, "measures": len(result.measures)}
    row: Row = {"case": case, "of": "causalcxr", "threshold": rule, "patients": patients}
    figures |= {"seconds": watch.seconds, "processor s": spent}
    return row | figures | {"peak MiB": peak(), "before MiB": before}


def in_a_process(case: str, patients: int, draws: int, threads: int, rule: str = "youden") -> Row:
    """Return what `ours` measures in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(ours, (case, patients, draws, threads, rule))


def plain(case: str, patients: int, draws: int, n_measured: int) -> Row:
    """Measure the loop for a few draws; its time is extrapolated to all of them."""
    scores, labels, groups = cohort(patients, CASES[case])
    rng = np.random.default_rng(0)
    with stopwatch() as watch:
        for _ in range(n_measured):
            rows = rng.integers(0, patients, patients)
            p, y = scores[rows], labels[rows]
            fpr, tpr, at = roc_curve(y, p)
            predicted = p >= at[np.argmax(tpr - fpr)]
            for mask in groups.values():
                in_group = mask[rows]
                by_scikit_learn(p[in_group], y[in_group], predicted[in_group])
    seconds = watch.seconds * draws / n_measured
    row: Row = {
        "case": case,
        "of": f"scikit-learn, from {n_measured} draws",
        "threshold": "youden",
    }
    return row | {"patients": patients, "draws": draws, "threads": 1, "seconds": seconds}


def by_scikit_learn(p: np.ndarray, y: np.ndarray, predicted: np.ndarray) -> tuple:
    """Return the measures of one group, by scikit-learn."""
    rates = confusion_matrix(y, predicted, labels=[0, 1])
    reliability = calibration_curve(y, p, n_bins=10)
    ranks = roc_auc_score(y, p), average_precision_score(y, p)
    return rates, reliability, ranks, brier_score_loss(y, p)


def main(quick: bool = False) -> list[Row]:
    """Return one row per case and implementation."""
    return compared(*((10_000, 200) if quick else (100_000, 2000)))


def compared(patients: int, draws: int, threads: Sequence[int] = (1,)) -> list[Row]:
    """Return one row per case and number of threads, and one for the plain loop."""
    rows: list[Row] = []
    for case in CASES:
        loop = plain(case, patients, draws, 3)
        for each in threads:
            row = in_a_process(case, patients, draws, each)
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
