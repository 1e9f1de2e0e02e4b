"""Run benchmarks and print their tables: `python -m benchmarks [--quick] [NAMES]`."""

import argparse
import os
import platform
import sys
from importlib import import_module
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks import Row, stopwatch

_HERE = Path(__file__).parent
NAMES = sorted(
    ".".join(p.relative_to(_HERE).with_suffix("").parts)
    for p in (*_HERE.glob("*.py"), *_HERE.glob("audit/*.py"))
    if not p.stem.startswith("_")
)


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
    parser.add_argument("names", nargs="*", metavar="NAMES", help=f"some of {', '.join(NAMES)}")
    args = parser.parse_args()
    if unknown := [name for name in args.names if name not in NAMES]:
        parser.error(f"no benchmark {unknown[0]!r}; there are {', '.join(NAMES)}")
    return args


def run() -> int:
    """Run what is asked for; a benchmark that fails is named, and the others go on."""
    args, failed = parsed(), []
    console = Console(
        soft_wrap=not sys.stdout.isatty(), width=None if sys.stdout.isatty() else 160
    )
    load = f", load {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    console.print(f"{platform.machine()}, {os.cpu_count()} cores{load}, {platform.platform()}\n")
    for name in args.names or NAMES:
        command = f"python -m benchmarks {'--quick ' if args.quick else ''}{name}"
        try:
            with stopwatch() as watch:
                rows = import_module(f"benchmarks.{name}").main(args.quick)
        except Exception as error:
            failed.append(name)
            console.print(Text(f"{command}: failed, {type(error).__name__}: {error}\n"))
            continue
        show(console, f"{command}  ({watch.seconds:.0f} s)", rows)
        console.print()
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(run())
