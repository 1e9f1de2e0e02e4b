"""The accuracy of counterfactuals of this package and of its peers.

    python -m benchmarks.scm.accuracy [--quick] [--seeds 3] [--cells] [SUITES]

Every model has the same training rows and the same interventions (each quartile or level of each
variable that has effects), and is compared with the true counterfactuals of the test rows.
causalcxr runs in its default configuration: the graph with names, types and parents, then
`SCM.fit`. The environment variable CAUSALCXR_PEERS names the Python of the peers; without it they
are left out.
"""

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path
from statistics import median

import numpy as np
from rich.console import Console

from benchmarks import Row, stopwatch
from benchmarks.__main__ import show
from benchmarks.scm import peers
from benchmarks.scm.suites import SUITES
from benchmarks.scm.task import Cell, Task, pool
from causalcxr import SCM, Cohort, do

__all__ = ["command", "fit_and_predict", "main"]

ROWS = (20_000, 2_500, 2_500)
QUICK = (2_000, 250, 500)
DRAWS = 50


def fit_and_predict(task: Task) -> tuple[Iterable[np.ndarray], Row]:
    """Fit this package and return its twins for each action, and other measurements.

    Returns:
        The twins, (draws, n, d) for each action, and a row: seconds; how many values a null
        intervention changes, and with everything recomputed, the largest change in standard
        deviations (numbers are rounded to nine digits, so it is 0 for levels only); how many
        values no true equation could give.
    """
    graph, names = task.suite.graph(), list(task.suite.nodes)
    frame = task.frame()
    columns = {name: frame[name].to_numpy(float) for name in names}
    cohort = Cohort.from_columns(graph, columns, frame.index, splits=frame["split"].to_numpy())
    with stopwatch() as fit:
        model = SCM(graph).fit(cohort, seed=task.seed, progress=False)
    test = cohort.split("test")
    facts = test.columns(graph)
    n_changed, recomputed_error = 0, 0.0
    for name in dict.fromkeys(name for name, _ in task.actions):
        null_twins = model.counterfactual(test, {name: lambda x: x}).columns(graph)
        n_changed += sum(int((null_twins[each] != facts[each]).sum()) for each in names)
        null_twins = model.counterfactual(test, {name: lambda x: x}, recompute=True).columns(graph)
        recomputed_error = max(
            recomputed_error,
            *(np.abs(null_twins[n] - facts[n]).max() / columns[n].std() for n in names),
        )
    twins, impossible = [], 0
    with stopwatch() as predicting:
        noise = model.abduct(test.repeat(task.draws), seed=task.seed)
        for name, value in task.actions:
            levels = task.suite.nodes[name].levels
            level = levels[int(value)] if levels else value
            twin = model.do(do({name: level}), beyond_range=True).predict(noise).columns(graph)
            impossible += task.suite.impossible(twin)
            rows = np.stack([twin[each] for each in names], 1)
            twins.append(rows.reshape(len(test), task.draws, -1).swapaxes(0, 1))
    seconds = {"fit s": fit.seconds, "twins s": predicting.seconds}
    return twins, {
        **seconds,
        "null differs": n_changed,
        "recomputed": float(recomputed_error),
        "impossible": impossible,
    }


def answers(
    task: Task, models: list[str], python: Path | None, epochs: int
) -> Iterable[tuple[str, list[Cell], Row]]:
    """Yield the cells of each model that can do the task, and of the bounds."""
    twins, row = fit_and_predict(task)
    yield "causalcxr", task.score(twins), row
    if task.suite.discrete:
        yield "copy the factual", task.score(task.copies()), {}
        yield "oracle", task.score(task.oracle()), {}
    for model in models if python else []:
        if task.suite.discrete and model in peers.CONTINUOUS_ONLY:
            continue  # it cannot abduct a level
        try:
            results = peers.run_peer(model, task, python, epochs=epochs)
        except RuntimeError as error:
            yield model, [], {"failed": str(error)[:120]}
            continue
        row = {"fit s": float(results["fit"]), "twins s": float(results["twin"])}
        yield model, task.score(results["twins"]), row


def summary(suite: str, results: dict[str, list[tuple[list[Cell], Row]]]) -> list[Row]:
    """Return one row per model: medians over the seeds, and the ratio to the best peer."""
    rows: list[Row] = []
    for model, runs in results.items():
        figures = [pool(cells) | row for cells, row in runs]
        row: Row = {"suite": suite, "model": model}
        for key in dict.fromkeys(key for each in figures for key in each):
            values = [each[key] for each in figures if key in each]
            number = not isinstance(values[0], str)
            middle = median(values) if number else values[0]
            if not (number and np.isnan(middle)):
                row[key] = middle
        rows.append(row)
    for key, ratio in (("scaled", "ratio"), ("brier", "brier ratio")):
        own_error = rows[0].get(key)
        peer_errors = [row[key] for row in rows if row["model"] in peers.PEERS and key in row]
        if own_error is not None and peer_errors:
            rows[0][ratio] = own_error / min(peer_errors)
    return rows


def details(suite: str, model: str, cells: list[Cell]) -> list[Row]:
    """Return one row per cause and outcome, pooled over the values of the cause."""
    pairs = dict.fromkeys((cell.cause, cell.outcome) for cell in cells)
    rows = []
    for cause, outcome in pairs:
        group = [c for c in cells if (c.cause, c.outcome) == (cause, outcome)]
        figures = {k: v for k, v in pool(group).items() if not np.isnan(v)}
        rows.append({"suite": suite, "model": model, "do": cause, "of": outcome, **figures})
    return rows


def parse_arguments(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scm.accuracy")
    parser.add_argument("suites", nargs="*", metavar="SUITES", help=", ".join(SUITES))
    parser.add_argument("--quick", action="store_true", help="2,000 rows, 10 epochs, one seed")
    parser.add_argument("--rows", type=int, nargs=3, metavar=("TRAIN", "VAL", "TEST"))
    parser.add_argument("--seeds", type=int, help="how many, from 0 (default 3)")
    parser.add_argument("--epochs", type=int, help="of the peers (default 120)")
    parser.add_argument("--draws", type=int, default=DRAWS, help="where there are levels")
    parser.add_argument("--peers", nargs="*", default=list(peers.PEERS), metavar="PEERS")
    parser.add_argument("--cells", action="store_true", help="also each cause and outcome")
    args = parser.parse_args(arguments)
    for names, allowed in ((args.suites, SUITES), (args.peers, peers.PEERS)):
        if unknown := [name for name in names if name not in allowed]:
            parser.error(f"unknown name {unknown[0]!r}; choose from {', '.join(allowed)}")
    args.rows = tuple(args.rows or (QUICK if args.quick else ROWS))
    args.seeds = args.seeds or (1 if args.quick else 3)
    args.epochs = args.epochs or (10 if args.quick else 120)
    return args


def compare(name: str, args: argparse.Namespace) -> dict[str, list[tuple[list[Cell], Row]]]:
    """Return the results of each model in one suite, one run per seed."""
    results: dict[str, list[tuple[list[Cell], Row]]] = {}
    for seed in range(args.seeds):
        task = Task.draw(SUITES[name], args.rows, seed=seed, draws=args.draws)
        for model, cells, row in answers(task, args.peers, peers.interpreter(), args.epochs):
            results.setdefault(model, []).append((cells, row))
    return results


def main(quick: bool = False) -> list[Row]:
    """Return one row per suite and model; two suites if `quick`."""
    args = parse_arguments(["--quick"] if quick else [])
    names = ("chain-nlin", "mixed-0") if quick else SUITES
    return [row for name in names for row in summary(name, compare(name, args))]


def command(arguments: list[str] | None = None) -> int:
    """Print one table per suite; return 1 if a peer failed."""
    args, console, failed = parse_arguments(arguments), Console(width=170), False
    if peers.interpreter() is None:
        console.print(f"{peers.VARIABLE} names no Python: the peers are left out\n")
    for name in args.suites or SUITES:
        results = compare(name, args)
        rows = summary(name, results)
        failed = failed or any("failed" in row for row in rows)
        show(console, f"{name}, {args.rows} rows, {args.seeds} seeds", rows)
        if args.cells:
            for model, runs in results.items():
                cells = [cell for group, _ in runs for cell in group]
                show(console, f"{name}, {model}: each effect", details(name, model, cells))
        console.print()
    return int(failed)


if __name__ == "__main__":
    sys.exit(command())
