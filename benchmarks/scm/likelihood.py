"""Held-out log-likelihood of the learned equations against gradient boosting, one by one.

    python -m benchmarks.scm.likelihood [--quick] [--seed 0]

Both read the same training records of ChestX-ray14 and stop early on the same validation records;
the figures are nats a record on test records, means over those where the variable is observed. The
rival is scikit-learn's HistGradientBoostingClassifier, one for each variable with parents, at its
defaults but for early stopping; it splits on missing parents natively. A variable without parents
is its training frequencies with half a count added to each value, whether a level or a year of
age. No mass is below 1e-6 on either side. Variables that are a rule of others are left out.
"""

import argparse
import sys
from collections.abc import Sequence

import numpy as np
from rich.console import Console
from sklearn.ensemble import HistGradientBoostingClassifier

from benchmarks import Row, stopwatch
from benchmarks.__main__ import show
from benchmarks.fit_nih import ROWS, data_folder
from causalcxr import SCM, Cohort, Graph
from causalcxr.graph import Variable

__all__ = ["boosted", "command", "counted", "main", "measured"]

_FLOOR = 1e-6
_ROUNDS = 500  # of boosting at most; early stopping ends it sooner
Columns = dict[str, np.ndarray]


def counted(x: np.ndarray, test: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return log-masses of test values from training frequencies, (n,), NaN where missing.

    Args:
        x: Training values, (m,).
        test: Test values, (n,).
        values: All values that there can be, in increasing order.

    Example:
        >>> levels = np.arange(2)
        >>> np.exp(counted(np.array([0.0, 1.0, 1.0]), np.array([1.0]), levels)).tolist()
        [0.625]
    """
    seen = np.searchsorted(values, x[~np.isnan(x)])
    count = np.bincount(seen, minlength=len(values)) + 0.5
    place = np.searchsorted(values, np.where(np.isnan(test), values[0], test))
    return np.where(np.isnan(test), np.nan, np.log(count / count.sum())[place])


def boosted(
    variable: Variable, parents: Sequence[Variable], parts: dict[str, Columns]
) -> np.ndarray:
    """Return log-masses of the test rows from a boosted classifier, (n,), NaN where missing.

    Args:
        variable: A variable with levels.
        parents: Its parents, at least one.
        parts: The columns of the "train", "val" and "test" rows.
    """
    inputs, codes = {}, {}
    for part, columns in parts.items():
        x = np.stack([columns[parent.name] for parent in parents], 1)
        keep = ~np.isnan(columns[variable.name])
        inputs[part] = x[keep] if part != "test" else x
        codes[part] = columns[variable.name][keep].astype(int)
    model = HistGradientBoostingClassifier(
        max_iter=_ROUNDS,
        early_stopping=True,
        categorical_features=[len(parent.levels) > 2 for parent in parents],
        random_state=0,
    )
    model.fit(inputs["train"], codes["train"], X_val=inputs["val"], y_val=codes["val"])
    mass = np.zeros((len(inputs["test"]), len(variable.levels)))
    mass[:, model.classes_] = model.predict_proba(inputs["test"])
    found = parts["test"][variable.name]
    taken = np.take_along_axis(mass, np.nan_to_num(found).astype(int)[:, None], 1)[:, 0]
    return np.where(np.isnan(found), np.nan, np.log(np.maximum(taken, _FLOOR)))


def measured(graph: Graph, cohort: Cohort, *, seed: int = 0) -> list[Row]:
    """Return a row for each variable that is learned, and their sum.

    Args:
        graph: Discrete variables, and continuous ones on a lattice that have no parents.
        cohort: Records with the splits "train", "val" and "test".
        seed: Of the fit.
    """
    parts = {part: cohort.split(part).columns(graph) for part in ("train", "val", "test")}
    with stopwatch() as fit:
        model = SCM(graph).fit(cohort, seed=seed, progress=False)
    ours = model.log_prob(cohort.split("test"))
    rows: list[Row] = []
    with stopwatch() as rival:
        for name in ours:
            variable = graph[name]
            if variable.mechanism.kind == "derived":
                continue
            parents = [graph[parent] for parent in variable.parents]
            if parents:
                theirs = boosted(variable, parents, parts)
            else:
                columns = [parts[part][name] for part in ("train", "test")]
                theirs = counted(*columns, _values(variable))
            gap = ours[name].to_numpy() - theirs
            gap = gap[~np.isnan(gap)]
            rows.append(
                {
                    "variable": name,
                    "rows": len(gap),
                    "causalcxr": float(ours[name].mean()),
                    "boosting": float(np.nanmean(theirs)),
                    "gain": float(gap.mean()),
                    "std. error": float(gap.std() / np.sqrt(len(gap))),
                }
            )
    total = {key: sum(row[key] for row in rows) for key in ("causalcxr", "boosting", "gain")}
    seconds = {"causalcxr s": fit.seconds, "boosting s": rival.seconds}
    return [*rows, {"variable": "all", **total, **seconds}]


def _values(variable: Variable) -> np.ndarray:
    if variable.levels:
        return np.arange(len(variable.levels))
    low, high = variable.range
    return np.arange(low, high + variable.resolution / 2, variable.resolution)


def main(quick: bool = False, seed: int = 0) -> list[Row]:
    """Return a row a variable; one that says what is absent where the records are."""
    if not (data_folder() / "nih").is_dir():
        return [{"variable": "skipped: no records of ChestX-ray14; name them in CAUSALCXR_DATA"}]
    cohort = Cohort.load(data_folder() / "nih").with_images(None)
    cohort = cohort.head(5_000 if quick else ROWS)
    cohort = cohort if cohort.splits is not None else cohort.assign_splits()
    return measured(Graph.load("nih").without_variable("Image"), cohort, seed=seed)


def command(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scm.likelihood")
    parser.add_argument("--quick", action="store_true", help="5,000 records")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    show(Console(width=140), "held-out nats a record", main(args.quick, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(command())
