"""How long do counterfactuals of many patients take, here and in a causal normalising flow?

    python -m benchmarks.scm.speed [--quick] [--patients 100000] [--threads 2] [--million]

A model of 19 continuous variables with three parents each (fewer at the start), fitted on a few
rows: how long an answer takes does not depend on how good the fit is. One variable is set, and
everything downstream of it is computed anew; the first answer, of few patients, is not counted.
Both models answer on one thread of the same machine in the same run, ours also on `--threads`; the
peer's Python is named by CAUSALCXR_PEERS. The peer is asked for fewer patients and its seconds are
multiplied where a row says `extrapolated`.
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


def ours(patients: int, threads: int = 1) -> Row:
    """Measure this package; run it in a process of its own, so that the peak is its own."""
    suite = wide()
    model = fitted(suite)
    cohort = Cohort(pd.DataFrame(suite.values(suite.noise(patients, seed=1))))
    before = peak()
    torch.set_num_threads(threads)
    model.counterfactual(cohort.head(1000), x0=0.5)
    with stopwatch() as watch:
        twins = model.counterfactual(cohort, x0=0.5)
    moved = int((twins.table["x18"] != cohort.table["x18"]).sum())
    figures = {"seconds": watch.seconds, "peak MiB": peak(), "before MiB": before}
    who = {"model": "causalcxr", "threads": threads, "patients": patients}
    return {**who, **figures, "changed": moved}


def apart(patients: int, threads: int = 1) -> Row:
    """Return what `ours` measures in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(ours, (patients, threads))


def theirs(patients: int, asked: int) -> Row:
    """Measure the peer on some patients; its seconds are scaled to all of them."""
    whole = Task.of(wide(), (FIT_ROWS, 200, asked), seed=0, draws=1)
    task = Task(whole.suite, whole.parts, whole.noise, (("x0", 0.5),), 1, 0)
    found = peers.ask("causalflows-nsf", task, peers.interpreter(), epochs=2)
    seconds = float(found["twin"]) * patients / asked
    who = {"model": "causalflows-nsf", "threads": 1, "patients": patients}
    row: Row = {**who, "seconds": seconds}
    return row | ({"extrapolated": f"from {asked:,}"} if asked < patients else {})


def main(quick: bool = False) -> list[Row]:
    """Return a row a model; the peer answers 5,000 patients at most."""
    return measured(10_000 if quick else 100_000, asked=1_000 if quick else 5_000)


def measured(patients: int, *, asked: int, threads: int = 1) -> list[Row]:
    """Return a row for each number of threads, and one for the peer where it is installed."""
    rows = [apart(patients, each) for each in sorted({1, threads})]
    if peers.interpreter() is not None:
        rows.append(theirs(patients, min(asked, patients)))
        for row in rows[:-1]:
            row["ratio"] = float(rows[-1]["seconds"]) / float(row["seconds"])
    return rows


def command(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scm.speed")
    parser.add_argument("--quick", action="store_true", help="10,000 patients")
    parser.add_argument("--patients", type=int)
    parser.add_argument("--asked", type=int, help="how many the peer answers (default all)")
    parser.add_argument("--threads", type=int, default=1, help="measure ours on so many, too")
    parser.add_argument("--million", action="store_true", help="also 1,000,000 patients")
    args = parser.parse_args(arguments)
    patients = args.patients or (10_000 if args.quick else 100_000)
    rows = measured(patients, asked=args.asked or patients, threads=args.threads)
    if args.million:
        rows.append(apart(1_000_000, args.threads))
    show(Console(width=140), f"{VARIABLES} variables, do(x0=0.5)", rows)
    return 0


if __name__ == "__main__":
    sys.exit(command())
