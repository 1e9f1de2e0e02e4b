"""`causalcxr check`: does every equation fit held-out records?"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar

import typer

from causalcxr.apps.cli.question import FigureOut, QuestionOptions

if TYPE_CHECKING:
    from causalcxr.scm.questions.check_result import Check

__all__ = ["CheckOptions", "check"]


@dataclass(frozen=True, kw_only=True)
class CheckOptions(QuestionOptions):
    """Which records test the equations, and how strictly."""

    has_figure: ClassVar[bool] = True

    split: Annotated[
        str,
        typer.Option(
            help="test, val, train or all; by default test, else the fit's validation records."
        ),
    ] = ""
    rows: Annotated[int, typer.Option(help="The largest number of records.")] = 20_000
    alpha: Annotated[float, typer.Option(help="The false discovery rate.")] = 0.01
    out: FigureOut = None


def check(options: CheckOptions) -> int:
    """Test every equation on held-out records; exit status 1 where one fails, else 0."""
    from causalcxr.common.progress import Progress

    model, cohort = options.load()
    with Progress("Tests"):
        result = model.check(
            cohort,
            split=options.split or None,
            rows=options.rows,
            alpha=options.alpha,
            seed=options.seed,
        )
    _show(result)
    # The settings and the verdict, for the manifest.
    about = {
        "records": result.rows,
        "split": result.where,
        "alpha": options.alpha,
        "least": result.least,
        "failed": {name: list(reasons) for name, reasons in result.failed.items()},
        "untested": dict(result.untested),
    }
    tables = {"tests": result.table, "likelihood": result.likelihood}
    options.write("check", model, cohort, tables, about, result.plot() if options.out else None)
    return 1 if result.failed else 0


def _show(result: "Check") -> None:
    """Show one line an equation, the failed ones first, and what could not be tested."""
    from causalcxr.apps.cli.answer_screen import show

    failed = result.failed
    lines = []
    for name, tests in result.table.groupby("variable", sort=False):
        gain = result.likelihood.loc[name]
        # The smallest q; among equal ones, the largest effect.
        worst = tests.sort_values(["q", "effect"], ascending=[True, False]).iloc[0]
        against = f" of {worst['against']}" if worst["against"] else ""
        lines.append(
            {
                "equation": name,
                "records": int(gain["n"]),
                "gain, nats": f"{gain['gain']:+.4f} ± {gain['error']:.4f}",
                "tests": len(tests),
                "effect": float(worst["effect"]),
                "q": float(worst["q"]),
                "of the worst test": f"{worst['test']}{against}",
                "verdict": f"FAILS: {'; '.join(failed[name])}" if name in failed else "ok",
            }
        )
    # False sorts first: equations that fail come before the others.
    lines.sort(key=lambda line: line["equation"] not in failed)
    show(result.heading, lines, "no equation could be tested")
    for name, reason in result.untested.items():
        print(f"not tested: {name}: {reason}")
