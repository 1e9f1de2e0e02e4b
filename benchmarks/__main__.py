"""Run benchmarks and print their tables: `python -m benchmarks [--quick] [--resume] [NAMES]`.

Each table is kept in `runs/bench/`, with its date, machine and commit. With `--resume` a table
that this commit made already is printed and not made again, so that a long run may be stopped.
With `--jobs 2` two tables are made at a time, each on one thread: sooner done, and its seconds
count for less.
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
from benchmarks._making import commit, machine, made
from causalcxr.common.files import atomic_write

_HERE = Path(__file__).parent
_KEPT = Path("runs/bench")
_LAST = ("proxies",)  # it reads what others have trained


def _names() -> list[str]:
    """Return the modules that make a table, those that read other ones' work last."""
    files = [p for part in ("", "audit/", "scm/") for p in _HERE.glob(f"{part}*.py")]
    names = [".".join(p.relative_to(_HERE).with_suffix("").parts) for p in files]
    tables = [
        name
        for name, p in zip(names, files, strict=True)
        if not p.stem.startswith("_") and "def main(quick" in p.read_text()
    ]
    return sorted(tables, key=lambda name: (name in _LAST, name))


NAMES = _names()


def show(console: Console, title: str, rows: list[Row]) -> None:
    """Print rows under the command that makes them."""
    headings = list(dict.fromkeys(key for row in rows for key in row))
    table = Table(title=Text(title), title_justify="left", box=None, pad_edge=False)
    for heading in headings:
        number = any(isinstance(row.get(heading), int | float) for row in rows)
        table.add_column(heading, justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(Text(worded(row.get(heading, ""))) for heading in headings))
    console.print(table)


def worded(value: object) -> str:
    """Return a figure as it is read: three decimals, small ones by their power of ten."""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    return f"{value:.1e}" if 0 < abs(value) < 1e-3 else f"{value:.3f}"


def parsed() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rows, seconds not minutes")
    parser.add_argument("--resume", action="store_true", help="skip what this commit has made")
    parser.add_argument("--jobs", type=int, default=1, help="tables at a time (1)")
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"some of {', '.join(NAMES)}")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    return args


def tables(names: list[str], quick: bool, jobs: int) -> Iterator[tuple[str, Future]]:
    """Make tables, and yield each when it is there; those that read others' work come last."""
    if jobs == 1:
        for name in names:
            done: Future = Future()
            try:
                done.set_result(made(name, quick))
            except Exception as error:
                done.set_exception(error)
            yield name, done
        return
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        for part in ([n for n in names if n not in _LAST], [n for n in names if n in _LAST]):
            begun = {pool.submit(made, name, quick): name for name in part}
            yield from ((begun[done], done) for done in as_completed(begun))


def run() -> int:
    """Run what is asked for; a benchmark that fails is named, and the others go on."""
    args, failed, now = parsed(), [], commit()
    console = Console(
        soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160
    )
    console.print(f"{machine()}; commit {now or 'unknown'}\n")
    folder, missing = _KEPT / ("quick" if args.quick else "full"), []
    command = f"python -m benchmarks {'--quick ' if args.quick else ''}"

    def told(name: str, found: dict[str, Any], kept: str = "") -> None:
        load = f", load {found['load']}" if "load" in found else ""
        show(console, f"{command}{name}  ({found['seconds']:.0f} s{load}{kept})", found["rows"])
        console.print()

    for name in args.names or NAMES:
        place = folder / f"{name}.json"
        found = json.loads(place.read_text()) if args.resume and place.exists() else {}
        if found and found["commit"] == now:
            told(name, found, f", kept from {found['date']}")
        else:
            missing.append(name)
    for name, done in tables(missing, args.quick, args.jobs):
        if error := done.exception():
            failed.append(name)
            console.print(Text(f"{command}{name}: failed, {type(error).__name__}: {error}\n"))
        else:
            atomic_write(folder / f"{name}.json", json.dumps(done.result(), default=str))
            told(name, done.result())
    if failed:
        console.print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
