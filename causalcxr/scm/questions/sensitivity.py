"""Sensitivity: how much of a discrete counterfactual is data, and how much is the coupling."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import InterventionError
from causalcxr.common.figure import Page
from causalcxr.common.progress import progress
from causalcxr.common.random_numbers import Draws
from causalcxr.common.result import Shown
from causalcxr.common.threads import one_thread
from causalcxr.graph.arguments import Action
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.scm.questions.coupling_transitions import COUPLINGS
from causalcxr.scm.questions.enumeration import exact, exact_and_bounds
from causalcxr.scm.questions.probabilities import case_of, targets_of
from causalcxr.scm.questions.twin_distributions import Case, drawn

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalcxr.scm.scm import SCM

__all__ = ["Sensitivity", "sensitivity"]

_TRIED = ("model", *COUPLINGS)
_VARIED = ("all", "one")
_MARKS = {"monotone": "o", "gumbel": "s", "ot": "^", "independent": "D"}
_BAR, _INK, _GREY, _ACCENT = "#DCE8F4", "#1a1a1a", "#6a6a6a", "#b3261e"


@dataclass(frozen=True, eq=False, repr=False)
class Sensitivity(Shown):
    """What each coupling answers, and what any coupling at all must answer.

    Args:
        action: What is done, in words.
        vary: "all" or "one": which couplings are exchanged at a time, see `sensitivity`.
        draws: Posterior draws a record, where the answer is not enumerated.
    """

    action: str
    vary: str
    draws: int
    _table: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def table(self) -> pd.DataFrame:
        """Means over records, one row a (variable, outcome); the outcome `change` or a level.

        Columns: `factual`, the share of records that have the level; `model` and each coupling,
        the mean probability of the outcome; `lower` and `upper`, between which every coupling that
        keeps the learned laws must stay, NaN where draws were needed; `width`, their distance;
        `relative_width`, the width over the model's answer; `records`, how many are averaged;
        `method`, exact or draws.
        """
        return self._table.copy()

    @property
    def changes(self) -> pd.DataFrame:
        """The rows of `table` that tell how probable any change is, one a variable."""
        rows = self._table.index.get_level_values("outcome") == "change"
        return self._table[rows].droplevel("outcome").drop(columns="factual")

    @property
    def about(self) -> dict[str, Any]:
        """What was asked, for a manifest."""
        return {"action": self.action, "vary": self.vary, "draws": self.draws}

    @property
    def heading(self) -> str:
        """What was asked, in one line."""
        return f"{self.action}: mean probability of change under each coupling"

    def summary(self) -> pd.DataFrame:
        """Return the mean probability of change of each variable; see `changes`."""
        return self.changes.drop(columns=["width", "relative_width"])

    def plot(self, path: str | Path | None = None) -> Page:
        """Draw, for each variable, the bounds of the probability of change and every coupling.

        Args:
            path: A file to write the picture to, PNG.
        """
        rows = self.changes
        page = Page(figsize=(6.4, 1.3 + 0.3 * max(len(rows), 1)), layout="constrained")
        axes = page.subplots()
        _draw(axes, rows)
        axes.set_title(f"{self.action}: what the coupling decides", fontsize=10, loc="left")
        return page.written(path)

    def __repr__(self) -> str:
        told = ", ".join(
            f"{name} {row['model']:.2f} in [{row['lower']:.2f}, {row['upper']:.2f}]"
            for name, row in self.changes.iterrows()
        )
        return f"Sensitivity({self.action}; P(change): {told or 'nothing can change'})"


def sensitivity(
    model: "SCM",
    cohort: Records,
    action: Action = None,
    /,
    *,
    variables: str | Sequence[str] | None = None,
    vary: str = "all",
    hold: str | Iterable[str] = (),
    draws: int = 200,
    seed: int = 0,
    beyond_range: bool = False,
) -> Sensitivity:
    """Return what becomes of discrete answers when the couplings are exchanged.

    The learned laws p(x | parents) stay; only how a fact and its twin belong together differs.
    With `vary="all"` every discrete equation that the action reaches gets the coupling at once,
    and the bounds let all of them be anything. With `vary="one"` only the equation of the variable
    asked about does, and those above it keep the model's. Rules and continuous equations have no
    coupling to exchange. In all cases a fact stands where no parent changed. A coupling without a
    closed form (`dequantised`) is answered by draws; those tried in its place stay exact.

    Bounds are per record, then averaged. Those of a change are attained by one coupling of all
    records where the variable is one step from the action; those of a level need not be, as a
    coupling that gives positives the most may give negatives the least. Further down the graph
    they hold, and may be wider than the sharpest.

    Args:
        model: A fitted model, with or without interventions of its own.
        cohort: Factual records; those where the variable is missing do not count for it.
        action: What is done, as in `SCM.counterfactual`.
        variables: Discrete variables, or one; by default those that the action can change.
        vary: "all" or "one".
        hold: Variables, or one, that keep their factual value.
        draws: Posterior draws a record, where continuous ancestors move.
        seed: Of the draws.
        beyond_range: See `SCM.do`.

    Raises:
        CohortError, InterventionError, ModelError: As `probabilities` does.
        InterventionError: If a variable cannot change, or `vary` is another word.

    Example:
        >>> from causalcxr import SCM, Cohort, Graph
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": ["F", "M"] * 50, "Edema": ["N", "N", "P", "P"] * 25})
        >>> found = sensitivity(SCM(graph).fit(Cohort(table)), Cohort(table), {"sex": "M"})
        >>> found.changes[["model", "independent", "upper"]].round(1).loc["Edema"].tolist()
        [0.0, 0.2, 0.5]
    """
    if vary not in _VARIED:
        raise InterventionError(f"sensitivity: vary={vary!r}; it is one of {list(_VARIED)}")
    cohort = as_cohort(cohort)
    case, numbers = case_of(model, cohort, action, hold, beyond_range, seed)
    targets = targets_of(case, variables)
    if still := [name for name in targets if name not in case.moving]:
        raise InterventionError(
            f"sensitivity of {still[0]!r}: nothing that causes it changes; leave it out"
        )
    coupled = [n for n in case.moving if isinstance(case.mechanisms.get(n), DiscreteMechanism)]
    groups = (
        [(targets, coupled)]
        if vary == "all"
        else [([name], [name] if name in coupled else []) for name in targets]
    )
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for names, exchanged in progress(groups, "Exchanging couplings", "variables"):
        answers = _answers(case, names, exchanged, numbers, draws)
        for name in names:
            rows |= _rows(case, name, *answers[name])
    index = (
        pd.MultiIndex.from_tuples(rows, names=["variable", "outcome"])
        if rows
        else (pd.MultiIndex.from_arrays([[], []], names=["variable", "outcome"]))
    )
    table = pd.DataFrame(list(rows.values()), index=index, columns=_COLUMNS)
    words = model.do(action, hold=hold, beyond_range=beyond_range)._told()
    return Sensitivity(words, vary, draws, table)


_COLUMNS = [
    "factual",
    *_TRIED,
    "lower",
    "upper",
    "width",
    "relative_width",
    "records",
    "method",
]


def _answers(
    case: Case, names: Sequence[str], exchanged: Sequence[str], numbers: Draws, draws: int
) -> dict[str, tuple[dict[str, Tensor], tuple[Tensor, Tensor] | None, bool]]:
    """Return for each variable the law under each coupling, (n, K), and the bounds or None.

    And whether the model's own answer is exact, or from draws.
    """
    cases = {"model": case}
    cases |= {c: replace(case, couplings=dict.fromkeys(exchanged, c)) for c in COUPLINGS}
    free = replace(case, free=frozenset(exchanged))
    # A coupling of the model's own may have no closed form; those tried in its place have.
    closed = all(case.coupling(name) for name in exchanged)
    together = {c: each for c, each in cases.items() if closed or c != "model"}
    with torch.no_grad(), one_thread():
        summed, limits = exact_and_bounds(list(together.values()), free, names)
        known = {"model": {} if closed else exact(case, names)}
        known |= dict(zip(together, summed, strict=True))
        laws = {}
        for each, of in cases.items():
            laws[each] = dict(known[each])
            rest = [name for name in names if name not in laws[each]]
            laws[each] |= {name: law for name, (law, _) in drawn(of, rest, numbers, draws).items()}
    return {
        name: ({c: law[name] for c, law in laws.items()}, limits.get(name), name in known["model"])
        for name in names
    }


def _rows(
    case: Case,
    name: str,
    laws: Mapping[str, Tensor],
    limits: tuple[Tensor, Tensor] | None,
    summed: bool,
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows of one variable: any change, then each level."""
    x = case.factual[name]
    known = ~x.isnan() & ~torch.stack([law.isnan().all(1) for law in laws.values()]).any(0)
    here = x[known].long()[:, None]
    nothing = torch.full((int(known.sum()), len(case.graph[name].levels)), torch.nan)
    lower, upper = (each[known] for each in limits) if limits else (nothing, nothing)
    base = {"records": int(known.sum()), "method": "exact" if summed else "draws"}
    stays = {c: law[known].gather(1, here)[:, 0] for c, law in laws.items()}
    change = base | {c: _mean(1 - stay) for c, stay in stays.items()}
    change |= {"factual": 0.0}
    change |= _width(change["model"], 1 - upper.gather(1, here), 1 - lower.gather(1, here))
    rows = {(name, "change"): change}
    for k, level in enumerate(case.graph[name].levels):
        row = base | {c: _mean(law[known][:, k]) for c, law in laws.items()}
        row |= {"factual": _mean((here[:, 0] == k).double())}
        rows[name, level] = row | _width(row["model"], lower[:, k], upper[:, k])
    return rows


def _width(value: float, lower: Tensor, upper: Tensor) -> dict[str, float]:
    """Return the mean bounds, and how far apart they are, also against the value."""
    low, high = _mean(lower), _mean(upper)
    relative = (high - low) / value if value > 0 else np.nan
    return {"lower": low, "upper": high, "width": high - low, "relative_width": relative}


def _mean(values: Tensor) -> float:
    return float(values.mean()) if values.numel() else np.nan


def _draw(axes: "Axes", rows: pd.DataFrame) -> None:
    """Draw one line a variable: a bar for the bounds, a mark for each coupling."""
    places = np.arange(len(rows))[::-1]
    span = (rows["upper"] - rows["lower"]).fillna(0.0)
    axes.barh(places, span, 0.62, rows["lower"].fillna(0.0), color=_BAR, label="any coupling")
    for coupling, mark in _MARKS.items():
        axes.plot(
            rows[coupling], places, mark, color=_GREY, fillstyle="none", markersize=5,
            linestyle="", label=coupling,
        )  # fmt: skip
    axes.plot(rows["model"], places, "|", color=_ACCENT, markersize=13, label="this model")
    axes.set_yticks(places, [str(name) for name in rows.index], fontsize=8, color=_INK)
    axes.set_xlabel("mean probability of change", fontsize=8, color=_INK)
    axes.set_xlim(left=0)
    axes.tick_params(axis="x", labelsize=8)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.legend(
        fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5), labelspacing=0.9
    )
