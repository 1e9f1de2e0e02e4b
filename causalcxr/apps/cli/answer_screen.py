"""Answers on the screen: one table each, with what must be said beside it."""

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
from causalcxr.scm.questions.check_result import Check
from causalcxr.scm.questions.effect_result import Effect
from causalcxr.scm.questions.model_comparison import ModelComparison
from causalcxr.scm.questions.sensitivity import Sensitivity

__all__ = [
    "console",
    "show",
    "show_check",
    "show_comparison",
    "show_effect",
    "show_probabilities",
    "show_sensitivity",
]

_WIDE = 1000  # characters of a line in a file or a pipe: tables take what they need


def console() -> Console:
    """Return a console that breaks no line of what a file or a pipe gets."""
    screen = sys.stdout.isatty()
    return Console(width=None if screen else _WIDE, soft_wrap=not screen)


def show(title: str, lines: Sequence[Mapping[str, Any]], nothing: str = "nothing changes") -> None:
    """Print a table, figures to the right.

    Args:
        title: The line above it.
        lines: Its rows, by heading; all have the same.
        nothing: What to say where there is none.

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
        # Text, not markup: a level such as [bold] must be shown as it is.
        table.add_row(*(Text(visible(_worded(value))) for value in line.values()))
    print(visible(title))
    if not lines:
        print(f"  {nothing}")
        return
    plain = console()
    with plain.capture() as captured:
        plain.print(table)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()))


def show_check(found: Check) -> None:
    """Show one line an equation, the failed ones first, and what could not be tested."""
    failed = found.failed
    lines = []
    for name, part in found.table.groupby("variable", sort=False):
        gain = found.likelihood.loc[name]
        worst = part.sort_values(["q", "effect"], ascending=[True, False]).iloc[0]
        against = f" of {worst['against']}" if worst["against"] else ""
        lines.append(
            {
                "equation": name,
                "records": int(gain["n"]),
                "gain, nats": f"{gain['gain']:+.4f} ± {gain['error']:.4f}",
                "tests": len(part),
                "effect": float(worst["effect"]),
                "q": float(worst["q"]),
                "of the worst test": f"{worst['test']}{against}",
                "verdict": f"FAILS: {'; '.join(failed[name])}" if name in failed else "ok",
            }
        )
    lines.sort(key=lambda line: line["equation"] not in failed)
    show(found.heading, lines, "no equation could be tested")
    for name, why in found.untested.items():
        print(f"not tested: {name}: {why}")


def show_effect(found: Effect, graph: Graph) -> None:
    """Show the mean of every outcome that changes in some record, under both twins."""
    about, table = found.about, found.table
    moved, lines = _once(table[table["changed"] > 0], graph), []
    recant = any(name in found.recanting for name in moved["variable"])
    for row in moved.itertuples():
        unit = graph[row.variable].unit
        number = f"{row.variable} ({unit})" if unit else row.variable
        line = {
            "outcome": f"{row.variable} = {row.level}" if row.level else number,
            "records": row.n,
            "baseline": row.baseline,
            "active": row.active,
            "change": f"{row.change:+.4f} ± {row.se:.4f}",
            "changed": f"{row.changed:.2%}",
        }
        if recant:
            line["recanting witness"] = ", ".join(found.recanting.get(row.variable, ()))
        lines.append(line)
    show(found.words, lines)
    if about["kind"] in ("direct", "indirect") and about["mediators"] is None:
        print("each outcome has its other parents as mediators: no joint world of all outcomes")
    print("change: its mean and standard error over patients, as if the equations were known")
    if found.recanting:
        print(
            "with a recanting witness, a mean rests on the form of the equations, not data alone"
        )


def show_probabilities(means: pd.DataFrame, title: str, graph: Graph) -> None:
    """Show the mean probability of each level, of two levels the second.

    Args:
        means: One row a level: `variable`, `level` and what else there is to show.
        title: The line above.
        graph: What the levels are.
    """
    show(title, _once(means, graph).to_dict("records"), "no probability can change")


def show_sensitivity(found: Sensitivity) -> None:
    """Show the mean probability of change under each coupling, and the bounds of any."""
    columns = found.changes.drop(columns=["width", "relative_width"]).reset_index()
    title = f"{found.action}: mean probability of change under each coupling"
    show(title, columns.to_dict("records"))
    print("lower, upper: the bounds of every coupling that keeps the learned laws")


def show_comparison(found: ModelComparison) -> None:
    """Show the variables on which two models differ, in their twins or in their equation."""
    table = found.table
    other = ~table["equation"].isin(["same", "none"])
    lines = [
        {
            "variable": name,
            "equation": row["equation"],
            "changed, first": f"{row['changed_before']:.2%}",
            "changed, second": f"{row['changed_after']:.2%}",
            "differ": f"{row['differ']:.2%}",
            "what": row["what"],
            "why": row["why"],
        }
        for name, row in table[other | (table["differ"] > 0)].iterrows()
    ]
    title = f"{len(found.twins):,} twins of two models under {found.action}"
    show(title, lines, "equations and twins are the same")
    if lines and not found.affected:
        print("  the twins are the same")


def _once(table: pd.DataFrame, graph: Graph) -> pd.DataFrame:
    """Return the rows without the first of two levels, which says one less the other."""
    names = table["variable"]
    two = np.array([len(graph[name].levels) == 2 for name in names], dtype=bool)
    first = np.array([(graph[name].levels or ("",))[0] for name in names], dtype=object)
    return table[~(two & (table["level"].to_numpy(dtype=object) == first))]


def _is_figure(value: Any) -> bool:
    text = str(value).lstrip("+-")
    return isinstance(value, int | float | np.number) or text[:1].isdigit()


def _worded(value: Any) -> str:
    if isinstance(value, float | np.floating):
        return "" if np.isnan(value) else f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int | np.integer) else str(value)
