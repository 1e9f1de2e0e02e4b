"""`causalcxr compare`: how the twins of two models differ, and why."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from causalcxr.apps.cli.options import CohortName, ModelFolder
from causalcxr.apps.cli.question import TwinQuestionOptions

if TYPE_CHECKING:
    from causalcxr.scm.questions.model_comparison import ModelComparison

__all__ = ["CompareOptions", "compare"]


@dataclass(frozen=True, kw_only=True)
class CompareOptions(TwinQuestionOptions):
    """Two models and the records of their twins."""

    model: ModelFolder
    other: Annotated[
        Path, typer.Argument(help="Another, such as the edited one.", show_default=False)
    ]
    cohort: CohortName


def compare(options: CompareOptions) -> None:
    """Show how the twins of two models differ, and which equations are the reason."""
    action = options.action("compare")
    from causalcxr.common.progress import Progress
    from causalcxr.scm.identity import model_identity
    from causalcxr.scm.scm import SCM

    other = SCM.load(options.other)
    model, cohort = options.load(action, options.hold)
    with Progress("Twins"):
        # Both models answer for the same records with the same seed.
        result = model.compare(
            other,
            cohort,
            action,
            hold=options.hold,
            draws=options.twin_draws,
            seed=options.seed,
        )
    _show(result)
    about = {
        "action": action.bind(model.graph).to_json(),
        "draws": options.draws,
        "records": len(cohort),
        **{f"second_{key}": value for key, value in model_identity(other).items()},
    }
    options.write("compare", model, cohort, {"comparison": result.table}, about)


def _show(result: "ModelComparison") -> None:
    """Show the variables on which two models differ, in their twins or in their equation."""
    from causalcxr.apps.cli.answer_screen import show

    table = result.table
    # Variables whose equation differs, or whose twins do.
    is_other = ~table["equation"].isin(["same", "none"])
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
        for name, row in table[is_other | (table["differ"] > 0)].iterrows()
    ]
    title = f"{len(result.twins):,} twins of two models under {result.action}"
    show(title, lines, "equations and twins are the same")
    if lines and not result.affected:
        print("  the twins are the same")
