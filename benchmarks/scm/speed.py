"""The time of counterfactuals of many patients, compared with a causal normalising flow.

    python -m benchmarks.scm.speed [--quick] [--patients 100000] [--threads 2] [--million]

A model of 19 continuous variables with three parents each (fewer at the start), fitted on a few
rows, because the time does not depend on the quality of the fit. One variable is set, and all its
descendants are recomputed; a first run with few patients does not count. Both models run on one
thread of the same machine, ours also on `--threads`; CAUSALCXR_PEERS names the Python of the peer.
If a row says `extrapolated`, the peer had fewer patients and its time is scaled.
"""

import argparse
import multiprocessing
import sys

import numpy as np
import pandas as pd
import torch
from rich.console import Console

from benchmarks import Row, stopwatch
from benchmarks.__main__ import show
from benchmarks.counterfactual_table import peak
from benchmarks.scm import peers
from benchmarks.scm.suites import Node, Suite
from benchmarks.scm.task import Task
from causalcxr import SCM, Cohort

__all__ = ["command", "main", "wide"]

VARIABLES = 19
PARENTS = 3
FIT_ROWS = 2_000


def wide() -> Suite:
    """Return the model: x_i = mean of tanh of the three variables before it + u / 2.

    Example:
        >>> suite = wide()
        >>> len(suite.nodes), suite.nodes["x18"].parents
        (19, ('x15', 'x16', 'x17'))
    """

    def value(parents: tuple[str, ...]) -> Node:
        def equation(values: dict[str, np.ndarray], u: np.ndarray) -> np.ndarray:
            mean = sum(np.tanh(values[p]) for p in parents) / max(len(parents), 1)
            return mean + u / 2

        return Node(parents, equation)

    names = [f"x{i}" for i in range(VARIABLES)]
    nodes = {name: value(tuple(names[max(0, i - PARENTS) : i])) for i, name in enumerate(names)}
    return Suite("wide", nodes)


def fitted(suite: Suite) -> SCM:
    """Fit a model on a few rows."""
    values = suite.values(suite.noise(FIT_ROWS, seed=0))
    return SCM(suite.graph()).fit(Cohort(pd.DataFrame(values)), progress=False)


def measure_ours(patients: int, threads: int = 1) -> Row:
    """Measure this package; run this in a separate process, so that the peak is its own."""
    suite = wide()
    model = fitted(suite)
    cohort = Cohort(pd.DataFrame(suite.values(suite.noise(patients, seed=1))))
    before = peak()
    torch.set_num_threads(threads)
    model.counterfactual(cohort.head(1000), x0=0.5)
    with stopwatch() as watch:
        twins = model.counterfactual(cohort, x0=0.5)
    n_changed = int((twins.table["x18"] != cohort.table["x18"]).sum())
    figures = {"seconds": watch.seconds, "peak MiB": peak(), "before MiB": before}
    model_row = {"model": "causalcxr", "threads": threads, "patients": patients}
    return {**model_row, **figures, "changed": n_changed}


def in_a_process(patients: int, threads: int = 1) -> Row:
    """Return what `measure_ours` measures in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(measure_ours, (patients, threads))


def measure_peer(patients: int, n_peer: int) -> Row:
    """Measure the peer on some patients; its time is scaled to all of them."""
    large_task = Task.draw(wide(), (FIT_ROWS, 200, n_peer), seed=0, draws=1)
    task = Task(large_task.suite, large_task.parts, large_task.noise, (("x0", 0.5),), 1, 0)
    results = peers.run_peer("causalflows-nsf", task, peers.interpreter(), epochs=2)
    seconds = float(results["twin"]) * patients / n_peer
    model_row = {"model": "causalflows-nsf", "threads": 1, "patients": patients}
    row: Row = {**model_row, "seconds": seconds}
    return row | ({"extrapolated": f"from {n_peer:,}"} if n_peer < patients else {})


def main(quick: bool = False) -> list[Row]:
    """Return one row per model; the peer has at most 5,000 patients."""
    return compare(10_000 if quick else 100_000, n_peer=1_000 if quick else 5_000)


def compare(patients: int, *, n_peer: int, threads: int = 1) -> list[Row]:
    """Return one row per number of threads, and one for the peer if it is installed."""
    rows = [in_a_process(patients, each) for each in sorted({1, threads})]
    if peers.interpreter() is not None:
        rows.append(measure_peer(patients, min(n_peer, patients)))
        for row in rows[:-1]:
            row["ratio"] = float(rows[-1]["seconds"]) / float(row["seconds"])
    return rows


def command(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scm.speed")
    parser.add_argument("--quick", action="store_true", help="10,000 patients")
    parser.add_argument("--patients", type=int)
    parser.add_argument("--asked", type=int, help="patients of the peer (default all)")
    parser.add_argument(
        "--threads", type=int, default=1, help="also measure ours on this many threads"
    )
    parser.add_argument("--million", action="store_true", help="also 1,000,000 patients")
    args = parser.parse_args(arguments)
    patients = args.patients or (10_000 if args.quick else 100_000)
    rows = compare(patients, n_peer=args.asked or patients, threads=args.threads)
    if args.million:
        rows.append(in_a_process(1_000_000, args.threads))
    show(Console(width=140), f"{VARIABLES} variables, do(x0=0.5)", rows)
    return 0


if __name__ == "__main__":
    sys.exit(command())
