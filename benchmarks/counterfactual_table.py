"""Time and memory of the tabular twins of 100,000 patients.

    python -m benchmarks counterfactual_table

The 19 equations of cxr7, do(sex="M"), one posterior draw. Target: 2 s.
"""

import resource
import sys

from benchmarks import Row, stopwatch
from causalcxr import SCM, Cohort, Graph, do

__all__ = ["main"]

TARGET = 2.0


def peak() -> float:
    """Return the peak resident memory of this process so far, in MiB."""
    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return largest / (2**20 if sys.platform == "darwin" else 2**10)


def main(quick: bool = False) -> list[Row]:
    """Return the seconds of each step, and of `counterfactual` as a whole."""
    n = 10_000 if quick else 100_000
    patients = Cohort.load("phantom", n=n, seed=1).with_images(None)
    graph = Graph.load("cxr7").without_variable("Image")
    model = SCM(graph).fit(patients.head(5000), progress=False)
    before = peak()
    with stopwatch() as columns:
        patients.columns(graph)
    with stopwatch() as abduct:
        noise = model.abduct(patients)
    with stopwatch() as predict:
        model.do(sex="M").predict(noise)
    with stopwatch() as counterfactual:
        twins = model.counterfactual(patients, do(sex="M"))
    with stopwatch() as recomputed:
        model.counterfactual(patients, do(sex="M"), recompute=True)
    changed = int(patients.compare(twins).changed.to_numpy().any(axis=1).sum())
    steps = {"read the columns": columns, "abduct (with reading)": abduct, "act, predict": predict}
    table: list[Row] = [{"step": step, "seconds": w.seconds} for step, w in steps.items()]
    table.append(
        {"step": f"counterfactual (target {TARGET:g})", "seconds": counterfactual.seconds}
    )
    table.append({"step": "counterfactual, recompute=True", "seconds": recomputed.seconds})
    table[-2] |= {"patients": n, "changed": changed, "peak MiB": peak(), "before MiB": before}
    return table
