"""`causalcxr probabilities`: how probable each level of each twin is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from causalcxr.apps.cli.question import TwinQuestionOptions

if TYPE_CHECKING:
    import pandas as pd

    from causalcxr.cohort.cohort import Cohort
    from causalcxr.scm.questions.probabilities_result import Probabilities
    from causalcxr.scm.scm import SCM

__all__ = ["ProbabilitiesOptions", "ProbabilityDraws", "Variables", "probabilities"]

ProbabilityDraws = Annotated[
    int, typer.Option(help="Posterior samples of each record, where they are needed.")
]
Variables = Annotated[
    Sequence[str],
    typer.Option(help="A discrete variable of interest; may be given several times."),
]


@dataclass(frozen=True, kw_only=True)
class ProbabilitiesOptions(TwinQuestionOptions):
    """Of which variables."""

    variable: Variables = ()
    draws: ProbabilityDraws = 200


def probabilities(options: ProbabilitiesOptions) -> None:
    """Show how probable each level of each twin is, record by record; exact where possible."""
    from causalcxr.apps.cli.answer_screen import show, without_first_level
    from causalcxr.common.progress import Progress

    action = options.action("probabilities")
    model, cohort = options.load(action, options.hold)
    with Progress("Probabilities"):
        result = model.probabilities(
            cohort,
            action,
            variables=options.variable or None,
            hold=options.hold,
            draws=options.draws,
            seed=options.seed,
        )
    # The screen shows means; the table has every record.
    means, bound = _means(result, model, cohort), action.bind(model.graph)
    title = f"{bound.describe()}, {len(cohort):,} records: mean probability of each level"
    lines = without_first_level(means, model.graph).to_dict("records")
    show(title, lines, "no probability can change")
    about = {"action": bound.to_json(), "draws": options.draws, "records": len(cohort)}
    tables = {"probabilities": result.table, "means": means}
    options.write("probabilities", model, cohort, tables, about)


def _means(result: "Probabilities", model: "SCM", cohort: "Cohort") -> "pd.DataFrame":
    """Return, for each level, its share among the factual values and its mean probability."""
    import numpy as np
    import pandas as pd

    columns = cohort.columns(model.graph)
    lines = []
    for name, level in result.table.columns:
        # Shares are among the records whose factual value is known.
        factual = columns[name][~np.isnan(columns[name])]
        position = model.graph[name].levels.index(level)
        lines.append(
            {
                "variable": name,
                "level": level,
                "factual": float((factual == position).mean()) if len(factual) else np.nan,
                "probability": float(result[name, level].mean()),
                "records": int(result[name, level].notna().sum()),
                "method": result.method[name],
                "largest standard error": result.standard_error[name],
            }
        )
    return pd.DataFrame(lines)
