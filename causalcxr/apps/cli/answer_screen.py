"""Answers on the screen: one table each, with notes beside it."""

import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from causalcxr.common.terminal import visible
from causalcxr.graph.graph import Graph

__all__ = [
    "console",
    "print_couplings",
    "rounded_rows",
    "show",
    "show_calibration",
    "without_first_level",
]

_WIDE = 1000  # characters of a line in a file or a pipe, so that tables are never folded


def console() -> Console:
    """Return a console that never wraps lines in a file or a pipe."""
    screen = sys.stdout.isatty()
    return Console(width=None if screen else _WIDE, soft_wrap=not screen)


def show(title: str, lines: Sequence[Mapping[str, Any]], nothing: str = "nothing changes") -> None:
    """Print a table, figures to the right.

    Args:
        title: The line above it.
        lines: Its rows, by heading; all have the same.
        nothing: The line to print where there are no rows.

    Example:
        >>> show("two cells", [{"outcome": "Edema", "change": 0.25}])
        two cells
        outcome  change
        Edema    0.2500
    """
    table = Table(box=None, pad_edge=False)
    for heading in lines[0] if lines else ():
        figures = any(_is_figure(line[heading]) for line in lines)
        table.add_column(heading, justify="right" if figures else "left", overflow="fold")
    for line in lines:
        # Text, not markup: a level such as [bold] must be shown literally.
        table.add_row(*(Text(visible(_cell(value))) for value in line.values()))
    print(visible(title))
    if not lines:
        print(f"  {nothing}")
        return
    # Through a capture, as rich pads lines with spaces at their end.
    plain = console()
    with plain.capture() as captured:
        plain.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def rounded_rows(table: pd.DataFrame) -> list[dict[str, str]]:
    """Return the rows of a table for the screen, numbers with four digits."""

    def cell(value: Any) -> str:
        if isinstance(value, float):
            return "" if pd.isna(value) else f"{value:.4g}"
        return str(value)

    return [{k: cell(v) for k, v in row.items()} for row in table.to_dict("records")]


def show_calibration(calibration: Sequence[Mapping[str, Any]], *, is_used: bool = True) -> None:
    """Print calibrated weights.

    Args:
        calibration: A row a variable, see `causalcxr.radit.calibration.Calibration.rows`.
        is_used: Whether twins are made with these weights.
    """
    note = "" if is_used else " (not used: guidance is a number)"
    rows = rounded_rows(pd.DataFrame(list(calibration)).dropna())
    show(f"Weights of transport, calibrated without twins{note}", rows, "no effect was measured")
    if others := [row["variable"] for row in calibration if row["slope"] is None]:
        print(visible(f"no effect in the regression: {', '.join(others)}"))


def print_couplings(named: Mapping[str, str]) -> None:
    """Print the couplings that an answer assumes, on one line; nothing if there are none.

    Example:
        >>> print_couplings({"Edema": "monotone", "Image": "transport"})
        assumed couplings: monotone (Edema), transport (Image)
    """
    from causalcxr.scm.identity import coupling_words

    if named:
        print(visible(f"assumed couplings: {coupling_words(named)}"))


def without_first_level(table: pd.DataFrame, graph: Graph) -> pd.DataFrame:
    """Return the rows without the first level of binary variables: it is 1 minus the second.

    Args:
        table: One row a level, with the columns `variable` and `level`.
        graph: The graph of the variables.
    """
    names = table["variable"]
    two = np.array([len(graph[name].levels) == 2 for name in names], dtype=bool)
    first = np.array([(graph[name].levels or ("",))[0] for name in names], dtype=object)
    return table[~(two & (table["level"].to_numpy(dtype=object) == first))]


def _is_figure(value: Any) -> bool:
    text = str(value).lstrip("+-")
    return isinstance(value, int | float | np.number) or text[:1].isdigit()


def _cell(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)
