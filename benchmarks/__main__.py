"""Run benchmarks and print their tables: `python -m benchmarks [--quick] [--resume] [NAMES]`.

Each table is saved in `runs/bench/` with its date, machine and commit. With `--resume`, tables
that this commit has already made are printed and not made again, so an interrupted run can be
resumed. With `--jobs 2` two tables are made at a time, each on one thread: the run ends sooner,
but its times are less reliable.
"""

import argparse
import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks import Row
from benchmarks._table_runs import commit, machine, make_table
from causalcxr.common.files import atomic_write

_HERE = Path(__file__).parent
_SAVED = Path("runs/bench")
_LAST = ("proxies",)  # reads the weights that other benchmarks have trained


def _names() -> list[str]:
    """Return the modules that make a table; those that need results of others come last."""
    files = [p for folder in ("", "audit/", "scm/") for p in _HERE.glob(f"{folder}*.py")]
    names = [".".join(p.relative_to(_HERE).with_suffix("").parts) for p in files]
    tables = [
        name
        for name, p in zip(names, files, strict=True)
        if not p.stem.startswith("_") and "def main(quick" in p.read_text()
    ]
    return sorted(tables, key=lambda name: (name in _LAST, name))


NAMES = _names()


def show(console: Console, title: str, rows: list[Row]) -> None:
    """Print rows under a title."""
    headings = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        number = any(isinstance(row.get(heading), int | float) for row in rows)
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(format_value(row.get(heading, ""))) for heading in headings))
    console.print(table)


def format_value(value: object) -> str:
    """Return a value as text: three decimals, or scientific notation if it is small."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="less data: seconds instead of minutes"
    )
    parser.add_argument(
        "--resume", action="store_true", help="skip the tables that this commit has made"
    )
    parser.add_argument("--jobs", type=int, default=1, help="tables made at a time (default 1)")
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"some of {', '.join(NAMES)}")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"no benchmark {unknown[0]!r}; choose from {', '.join(NAMES)}")
    return args


def make_tables(names: list[str], quick: bool, jobs: int) -> Iterator[tuple[str, Future]]:
    """Make tables and yield each when it is ready; those that need results of others come last."""
    if jobs == 1:
        for name in names:
            future: Future = Future()
            try:
                future.set_result(make_table(name, quick))
            except Exception as error:
                future.set_exception(error)
            yield name, future
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for group in ([n for n in names if n not in _LAST], [n for n in names if n in _LAST]):
            futures = {pool.submit(make_table, name, quick): name for name in group}
            yield from ((futures[future], future) for future in as_completed(futures))


def run() -> int:
    """Run the chosen benchmarks; if one fails, report it and continue with the others."""
    args, failed, current = parse_arguments(), [], commit()
    console = Console(
        soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160
    )
    console.print(f"{machine()}; commit {current or 'unknown'}\n")
    folder, missing = _SAVED / ("quick" if args.quick else "full"), []
    command = f"python -m benchmarks {'--quick ' if args.quick else ''}"

    def show_table(name: str, record: dict[str, Any], note: str = "") -> None:
        load = f", load {record['load']}" if "load" in record else ""
        show(console, f"{command}{name}  ({record['seconds']:.0f} s{load}{note})", record["rows"])
        console.print()

    for name in args.names or NAMES:
        path = folder / f"{name}.json"
        record = json.loads(path.read_text()) if args.resume and path.exists() else {}
        if record and record["commit"] == current:
            show_table(name, record, f", saved on {record['date']}")
        else:
            missing.append(name)
    for name, future in make_tables(missing, args.quick, args.jobs):
        if error := future.exception():
            failed.append(name)
            console.print(Text(f"{command}{name}: failed, {type(error).__name__}: {error}\n"))
        else:
            atomic_write(folder / f"{name}.json", json.dumps(future.result(), default=str))
            show_table(name, future.result())
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
