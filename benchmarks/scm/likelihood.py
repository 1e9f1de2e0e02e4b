"""Held-out log-likelihood of each learned equation, compared with gradient boosting.

    python -m benchmarks.scm.likelihood [--quick] [--seed 0]

Both have the same training records of ChestX-ray14 and stop early on the same validation records;
results are nats per record on test records, means over those where the variable is observed. The
peer is HistGradientBoostingClassifier of scikit-learn, one for each variable with parents, with
default settings except for early stopping; it handles missing parents itself. A variable without
parents is predicted by its training frequencies with half a count added to each value (a level, or
a year of age). All probabilities are at least 1e-6. Derived variables are left out.
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

__all__ = ["boosted_log_masses", "command", "log_frequencies", "main", "measure"]

_FLOOR = 1e-6
_ROUNDS = 500  # at most; early stopping usually ends boosting sooner
Columns = dict[str, np.ndarray]


def log_frequencies(x: np.ndarray, test: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return log-probabilities of test values from training frequencies, (n,), NaN if missing.

    Args:
        x: Training values, (m,).
        test: Test values, (n,).
        values: All possible values, in increasing order.

    Example:
        >>> levels = np.arange(2)
        >>> np.exp(log_frequencies(np.array([0.0, 1.0, 1.0]), np.array([1.0]), levels)).tolist()
        [0.625]
    """
    positions = np.searchsorted(values, x[~np.isnan(x)])
    count = np.bincount(positions, minlength=len(values)) + 0.5
    position = np.searchsorted(values, np.where(np.isnan(test), values[0], test))
    return np.where(np.isnan(test), np.nan, np.log(count / count.sum())[position])


def boosted_log_masses(
    variable: Variable, parents: Sequence[Variable], parts: dict[str, Columns]
) -> np.ndarray:
    """Return log-probabilities of the test rows from a boosted classifier, (n,), NaN if missing.

    Args:
        variable: A discrete variable.
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
    observed = parts["test"][variable.name]
    observed_mass = np.take_along_axis(mass, np.nan_to_num(observed).astype(int)[:, None], 1)[:, 0]
    return np.where(np.isnan(observed), np.nan, np.log(np.maximum(observed_mass, _FLOOR)))


def measure(graph: Graph, cohort: Cohort, *, seed: int = 0) -> list[Row]:
    """Return one row per learned variable, and their sum.

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
    with stopwatch() as boosting:
        for name in ours:
            variable = graph[name]
            if variable.mechanism.kind == "derived":
                continue
            parents = [graph[parent] for parent in variable.parents]
            if parents:
                peer = boosted_log_masses(variable, parents, parts)
            else:
                columns = [parts[part][name] for part in ("train", "test")]
                peer = log_frequencies(*columns, _values(variable))
            difference = ours[name].to_numpy() - peer
            difference = difference[~np.isnan(difference)]
            rows.append(
                {
                    "variable": name,
                    "rows": len(difference),
                    "causalcxr": float(ours[name].mean()),
                    "boosting": float(np.nanmean(peer)),
                    "gain": float(difference.mean()),
                    "std. error": float(difference.std() / np.sqrt(len(difference))),
                }
            )
    total = {key: sum(row[key] for row in rows) for key in ("causalcxr", "boosting", "gain")}
    seconds = {"causalcxr s": fit.seconds, "boosting s": boosting.seconds}
    return [*rows, {"variable": "all", **total, **seconds}]


def _values(variable: Variable) -> np.ndarray:
    if variable.levels:
        return np.arange(len(variable.levels))
    low, high = variable.range
    return np.arange(low, high + variable.resolution / 2, variable.resolution)


def main(quick: bool = False, seed: int = 0) -> list[Row]:
    """Return one row per variable, or a note if the data are missing."""
    if not (data_folder() / "nih").is_dir():
        return [
            {"variable": "skipped: no records of ChestX-ray14; set CAUSALCXR_DATA to their folder"}
        ]
    cohort = Cohort.load(data_folder() / "nih").with_images(None)
    cohort = cohort.head(5_000 if quick else ROWS)
    cohort = cohort if cohort.splits is not None else cohort.assign_splits()
    return measure(Graph.load("nih").without_variable("Image"), cohort, seed=seed)


def command(arguments: list[str] | None = None) -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scm.likelihood")
    parser.add_argument("--quick", action="store_true", help="5,000 records")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args(arguments)
    show(Console(width=140), "held-out nats per record", main(args.quick, args.seed))
    return 0


if __name__ == "__main__":
    sys.exit(command())
