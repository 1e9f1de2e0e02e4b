"""What the verbs that ask a model do: load, ask, show a table, write the answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import EllipsisType
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from rich.text import Text

from causalcxr.apps.cli.answer_folder import Answer, check_place, write_answer
from causalcxr.apps.cli.answer_screen import (
    console,
    show_check,
    show_comparison,
    show_effect,
    show_probabilities,
    show_sensitivity,
)
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.fingerprints import fingerprint
from causalcxr.cohort.selection import Selection
from causalcxr.common.errors import InterventionError
from causalcxr.common.progress import Progress
from causalcxr.graph.interventions import Intervention, parse
from causalcxr.scm.questions.probabilities_result import Probabilities
from causalcxr.scm.scm import SCM

__all__ = [
    "Asked",
    "Selection",
    "check_job",
    "compare_job",
    "effect_job",
    "probabilities_job",
    "sensitivity_job",
]


@dataclass(frozen=True)
class Asked:
    """What every question has: a model, records, mostly an action.

    Args:
        model: A fitted model's folder.
        records: Which records.
        do: The action, `NAME=VALUE` each.
        hold: Variables that keep their factual value.
        draws: Posterior draws a record.
        beyond_range: Allow values outside range or support; recorded.
        out: Where the answer goes beside the screen: a .csv, a .png, or a folder.
        seed: Of the posterior draws.
        overwrite: Replace the answer at `out`, even the same one.
    """

    model: Path
    records: Selection
    do: Sequence[str] = ()
    hold: Sequence[str] = ()
    draws: int = 1
    beyond_range: bool = False
    out: Path | None = None
    seed: int = 0
    overwrite: bool = False

    def action(self, verb: str) -> Intervention:
        """Return what is done.

        Raises:
            InterventionError: If it is nothing, or malformed.
        """
        if not self.do:
            raise InterventionError(
                f"{verb}: nothing to do; give --do NAME=VALUE, such as --do sex=M"
            )
        return parse(self.do, beyond_range=self.beyond_range)

    def load(self, action: Intervention | None = None, *, drawn: bool) -> tuple[SCM, Cohort]:
        """Return the model, and the records without images; refuse what can be refused first.

        Args:
            action: What is done, to be checked against the model.
            drawn: Whether the answer has a picture.

        Raises:
            CausalCXRError: As `SCM.load`, `SCM.do`, `Cohort.load` and `check_place` do.
        """
        if self.out is not None:
            check_place(self.out, drawn=drawn)
        model = SCM.load(self.model)
        if action is not None:
            model.do(action, hold=self.hold)
        return model, self.records.load().with_images(None)

    def write(
        self,
        question: str,
        model: SCM,
        cohort: Cohort,
        tables: Mapping[str, pd.DataFrame],
        about: Mapping[str, Any],
        page: Figure | None = None,
    ) -> None:
        """Write the answer, if it is to be written, and say where it is."""
        if self.out is None:
            return
        options = {name: model.graph[name].mechanism.options for name in model.graph.tabular}
        asked = {
            "cohort": self.records.cohort,
            "fingerprint": fingerprint(cohort),
            "where": self.records.where,
            "split": self.records.split,
            "limit": self.records.limit,
            "hold": [model.graph.find(name) for name in self.hold],
            "seed": self.seed,
            "graph": model.graph.name,
            "graph_hash": model.graph.hash,
            "coupling": {n: o["coupling"] for n, o in options.items() if "coupling" in o},
            "mechanisms": {name: fitted.hash for name, fitted in model.fitted.items()},
            **about,
        }
        answer = write_answer(
            Answer(question, tables, asked, page), self.out, overwrite=self.overwrite
        )
        for path, what in answer.items():
            console().print(Text(f"  {path}", style="bold"), Text(what))


def check_job(asked: Asked, *, split: str = "", rows: int = 20_000, alpha: float = 0.01) -> int:
    """Test every equation of a saved model, and show one line each.

    Args:
        asked: Model and records; nothing is done.
        split: Of the records: test, val, train or all; by default what was held out.
        rows: At most so many records.
        alpha: The false discovery rate.

    Returns:
        1 where an equation fails, else 0.

    Raises:
        CausalCXRError: As `Asked.load` and `SCM.check` do.
    """
    model, cohort = asked.load(drawn=True)
    with Progress("Tests"):
        found = model.check(cohort, split=split or None, rows=rows, alpha=alpha, seed=asked.seed)
    show_check(found)
    about = {
        "records": found.rows,
        "split": found.where,
        "alpha": alpha,
        "least": found.least,
        "failed": {name: list(why) for name, why in found.failed.items()},
        "untested": dict(found.untested),
    }
    tables = {"tests": found.table, "likelihood": found.likelihood}
    asked.write("check", model, cohort, tables, about, found.plot() if asked.out else None)
    return 1 if found.failed else 0


def effect_job(
    asked: Asked,
    *,
    baseline: Sequence[str] = (),
    direct: bool = False,
    indirect: bool = False,
    mediators: Sequence[str] | None = None,
    through: Sequence[str] | None = None,
) -> None:
    """Show what an action changes on average, for every variable that it changes.

    Args:
        asked: Model, records and action.
        baseline: What the action is compared with, `NAME=VALUE` each; by default the facts.
        direct: Ask for the direct effect.
        indirect: Ask for the indirect effect.
        mediators: Of either.
        through: Paths such as `Sex>Edema`, for the effect along them.

    Raises:
        CausalCXRError: As `Asked.load` and `SCM.effect` do.
    """
    action = asked.action("effect")
    if direct and indirect:
        raise InterventionError("effect: --direct and --indirect are two questions; ask one")
    against = parse(baseline, beyond_range=asked.beyond_range) if baseline else None
    model, cohort = asked.load(action, drawn=True)
    with Progress("Twins"):
        found = model.do(hold=asked.hold).effect(
            cohort,
            action,
            against,
            kind="direct" if direct else "indirect" if indirect else "total",
            mediators=mediators,
            through=[_path(text) for text in through] if through else None,
            draws=None if asked.draws == 1 else asked.draws,
            seed=asked.seed,
        )
    show_effect(found, model.graph)
    tables = {"effect": found.table, "record by record": found.differences}
    page = found.plot() if asked.out else None
    asked.write("effect", model, cohort, tables, {**found.about, "records": len(cohort)}, page)


def probabilities_job(asked: Asked, *, variables: Sequence[str] | None = None) -> None:
    """Show how probable each level is under an action, beside how frequent it is.

    Args:
        asked: Model, records and action.
        variables: Those asked about; by default all that can change.

    Raises:
        CausalCXRError: As `Asked.load` and `SCM.probabilities` do.
    """
    action = asked.action("probabilities")
    model, cohort = asked.load(action, drawn=False)
    with Progress("Probabilities"):
        found = model.probabilities(
            cohort,
            action,
            variables=variables,
            hold=asked.hold,
            draws=asked.draws,
            seed=asked.seed,
        )
    means, bound = _means(found, model, cohort), action.bind(model.graph)
    title = f"{bound.describe()}, {len(cohort):,} records: mean probability of each level"
    show_probabilities(means, title, model.graph)
    about = {"action": bound.to_json(), "draws": asked.draws, "records": len(cohort)}
    asked.write(
        "probabilities", model, cohort, {"probabilities": found.table, "means": means}, about
    )


def sensitivity_job(
    asked: Asked, *, variables: Sequence[str] | None = None, vary: str = "all"
) -> None:
    """Show how probable a change is under each coupling, and between which bounds under any.

    Args:
        asked: Model, records and action.
        variables: Those asked about; by default all that can change.
        vary: "all" or "one": which couplings are exchanged at a time.

    Raises:
        CausalCXRError: As `Asked.load` and `SCM.sensitivity` do.
    """
    action = asked.action("sensitivity")
    model, cohort = asked.load(action, drawn=True)
    with Progress("Couplings"):
        found = model.sensitivity(
            cohort,
            action,
            variables=variables,
            vary=vary,
            hold=asked.hold,
            draws=asked.draws,
            seed=asked.seed,
        )
    show_sensitivity(found)
    told = action.bind(model.graph).to_json()
    about = {"action": told, "vary": vary, "draws": asked.draws, "records": len(cohort)}
    page = found.plot() if asked.out else None
    asked.write("sensitivity", model, cohort, {"sensitivity": found.table}, about, page)


def compare_job(asked: Asked, other: Path) -> None:
    """Show on which variables the twins of two models differ, and which equations are why.

    Args:
        asked: The first model, records and action.
        other: The second model's folder.

    Raises:
        CausalCXRError: As `Asked.load` and `SCM.compare` do.
    """
    action = asked.action("compare")
    second = SCM.load(other)
    model, cohort = asked.load(action, drawn=False)
    draws = None if asked.draws == 1 else asked.draws
    with Progress("Twins"):
        found = model.compare(
            second, cohort, action, hold=asked.hold, draws=draws, seed=asked.seed
        )
    show_comparison(found)
    about = {
        "action": action.bind(model.graph).to_json(),
        "draws": asked.draws,
        "records": len(cohort),
        "second_graph": second.graph.name,
        "second_graph_hash": second.graph.hash,
        "second_mechanisms": {name: fitted.hash for name, fitted in second.fitted.items()},
    }
    asked.write("compare", model, cohort, {"comparison": found.table}, about)


def _path(text: str) -> tuple[str | EllipsisType, ...]:
    """Return the names of a path such as `Sex>Edema>...`."""
    words = [word.strip() for word in text.split(">")]
    return tuple(... if word == "..." else word for word in words)


def _means(found: Probabilities, model: SCM, cohort: Cohort) -> pd.DataFrame:
    """Return, for each level, its share among the facts and its mean probability."""
    facts = cohort.columns(model.graph)
    lines = []
    for name, level in found.table.columns:
        fact = facts[name][~np.isnan(facts[name])]
        position = model.graph[name].levels.index(level)
        lines.append(
            {
                "variable": name,
                "level": level,
                "factual": float((fact == position).mean()) if len(fact) else np.nan,
                "probability": float(found[name, level].mean()),
                "records": int(found[name, level].notna().sum()),
                "method": found.method[name],
                "largest standard error": found.standard_error[name],
            }
        )
    return pd.DataFrame(lines)
