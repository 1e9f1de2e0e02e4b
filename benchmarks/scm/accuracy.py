"""How near to the truth are counterfactuals, of this package and of its peers?

    python -m benchmarks.scm.accuracy [--quick] [--seeds 3] [--cells] [SUITES]

Every model reads the same training rows, answers the same interventions (each quartile or level of
each variable that has effects), and is compared with the true counterfactuals of the test rows.
Our configuration is the default one throughout: the graph with names, types and parents, then
`SCM.fit`. The peers' Python is named by the environment variable CAUSALCXR_PEERS; without it they
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
from benchmarks.scm.task import Cell, Task, pooled
from causalcxr import SCM, Cohort, do

__all__ = ["command", "main", "ours"]

ROWS = (20_000, 2_500, 2_500)
QUICK = (2_000, 250, 500)
DRAWS = 50


def ours(task: Task) -> tuple[Iterable[np.ndarray], Row]:
    """Fit this package and return its twins for each action, with what else was measured.

    Returns:
        The twins, (draws, n, d) for each action, and a row: seconds; how many values of null
        interventions are not the very facts, and where everything is computed anew, the largest
        distance in standard deviations (numbers are rounded to nine digits, so zero is only for
        levels); how many values no true equation could give.
    """
    graph, names = task.suite.graph(), list(task.suite.nodes)
    frame = task.frame()
    columns = {name: frame[name].to_numpy(float) for name in names}
    cohort = Cohort.from_columns(graph, columns, frame.index, splits=frame["split"].to_numpy())
    with stopwatch() as fit:
        model = SCM(graph).fit(cohort, seed=task.seed, progress=False)
    test = cohort.split("test")
    facts = test.columns(graph)
    null, anew = 0, 0.0
    for name in dict.fromkeys(name for name, _ in task.actions):
        same = model.counterfactual(test, {name: lambda x: x}).columns(graph)
        null += sum(int((same[each] != facts[each]).sum()) for each in names)
        same = model.counterfactual(test, {name: lambda x: x}, recompute=True).columns(graph)
        anew = max(anew, *(np.abs(same[n] - facts[n]).max() / columns[n].std() for n in names))
    twins, impossible = [], 0
    with stopwatch() as answering:
        noise = model.abduct(test.repeat(task.draws), seed=task.seed)
        for name, value in task.actions:
            levels = task.suite.nodes[name].levels
            spot = levels[int(value)] if levels else value
            twin = model.do(do({name: spot}), beyond_range=True).predict(noise).columns(graph)
            impossible += task.suite.impossible(twin)
            rows = np.stack([twin[each] for each in names], 1)
            twins.append(rows.reshape(len(test), task.draws, -1).swapaxes(0, 1))
    seconds = {"fit s": fit.seconds, "twins s": answering.seconds}
    return twins, {**seconds, "null differs": null, "anew": float(anew), "impossible": impossible}


def answers(
    task: Task, models: list[str], python: Path | None, epochs: int
) -> Iterable[tuple[str, list[Cell], Row]]:
    """Yield the cells of each model that can answer the task, the bounds among them."""
    twins, row = ours(task)
    yield "causalcxr", task.score(twins), row
    if task.suite.discrete:
        yield "copy the factual", task.score(task.copies()), {}
        yield "oracle", task.score(task.oracle()), {}
    for model in models if python else []:
        if task.suite.discrete and model in peers.CONTINUOUS_ONLY:
            continue  # it cannot abduct a level
        try:
            found = peers.ask(model, task, python, epochs=epochs)
        except RuntimeError as error:
            yield model, [], {"failed": str(error)[:120]}
            continue
        row = {"fit s": float(found["fit"]), "twins s": float(found["twin"])}
        yield model, task.score(found["twins"]), row


def summary(suite: str, found: dict[str, list[tuple[list[Cell], Row]]]) -> list[Row]:
    """Return a row for each model: medians over the seeds, and the ratio to the best peer."""
    rows: list[Row] = []
    for model, runs in found.items():
        figures = [pooled(cells) | row for cells, row in runs]
        row: Row = {"suite": suite, "model": model}
        for key in dict.fromkeys(key for each in figures for key in each):
            values = [each[key] for each in figures if key in each]
            number = not isinstance(values[0], str)
            middle = median(values) if number else values[0]
            if not (number and np.isnan(middle)):
                row[key] = middle
        rows.append(row)
    for key, ratio in (("scaled", "ratio"), ("brier", "brier ratio")):
        mine = rows[0].get(key)
        theirs = [row[key] for row in rows if row["model"] in peers.PEERS and key in row]
        if mine is not None and theirs:
            rows[0][ratio] = mine / min(theirs)
    return rows


def details(suite: str, model: str, cells: list[Cell]) -> list[Row]:
    """Return a row for each cause and outcome, over its values: where the error comes from."""
    pairs = dict.fromkeys((cell.cause, cell.outcome) for cell in cells)
    rows = []
    for cause, outcome in pairs:
        some = [c for c in cells if (c.cause, c.outcome) == (cause, outcome)]
        figures = {k: v for k, v in pooled(some).items() if not np.isnan(v)}
        rows.append({"suite": suite, "model": model, "do": cause, "of": outcome, **figures})
    return rows


def parsed(arguments: list[str] | None) -> argparse.Namespace:
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
    for names, known in ((args.suites, SUITES), (args.peers, peers.PEERS)):
        if unknown := [name for name in names if name not in known]:
            parser.error(f"{unknown[0]!r} is not known; there are {', '.join(known)}")
    args.rows = tuple(args.rows or (QUICK if args.quick else ROWS))
    args.seeds = args.seeds or (1 if args.quick else 3)
    args.epochs = args.epochs or (10 if args.quick else 120)
    return args


def compared(name: str, args: argparse.Namespace) -> dict[str, list[tuple[list[Cell], Row]]]:
    """Return what each model answers in one suite, a run a seed."""
    found: dict[str, list[tuple[list[Cell], Row]]] = {}
    for seed in range(args.seeds):
        task = Task.of(SUITES[name], args.rows, seed=seed, draws=args.draws)
        for model, cells, row in answers(task, args.peers, peers.interpreter(), args.epochs):
            found.setdefault(model, []).append((cells, row))
    return found


def main(quick: bool = False) -> list[Row]:
    """Return a row a suite and model; two suites where it is to be quick."""
    args = parsed(["--quick"] if quick else [])
    names = ("chain-nlin", "mixed-0") if quick else SUITES
    return [row for name in names for row in summary(name, compared(name, args))]


def command(arguments: list[str] | None = None) -> int:
    """Print a table a suite; return 1 if a peer failed."""
    args, console, failed = parsed(arguments), Console(width=170), False
    if peers.interpreter() is None:
        console.print(f"{peers.VARIABLE} names no Python: the peers are left out\n")
    for name in args.suites or SUITES:
        found = compared(name, args)
        rows = summary(name, found)
        failed = failed or any("failed" in row for row in rows)
        show(console, f"{name}, {args.rows} rows, {args.seeds} seeds", rows)
        if args.cells:
            for model, runs in found.items():
                cells = [cell for some, _ in runs for cell in some]
                show(console, f"{name}, {model}: each effect", details(name, model, cells))
        console.print()
    return int(failed)


if __name__ == "__main__":
    sys.exit(command())
