"""Two models under one intervention: which twins differ, and why."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.cohort.comparison import Comparison
from causalcxr.common.errors import ModelError
from causalcxr.common.result import Shown
from causalcxr.graph.arguments import Action, action_of
from causalcxr.graph.diff import declaration, declaration_changes
from causalcxr.scm.recipe import recipe_changes

if TYPE_CHECKING:
    from causalcxr.common.figure import Page
    from causalcxr.scm.scm import SCM

__all__ = ["ModelComparison", "compare"]


@dataclass(frozen=True)
class ModelComparison(Shown):
    """The differences between the twins of the same records under two models.

    Args:
        action: The intervention, in words.
        equations: The variables whose equation differs, and why.
        twins: The twins of both models, value by value; the first model's count as factual.
    """

    action: str
    equations: Mapping[str, str]
    twins: Comparison
    _table: pd.DataFrame = field(repr=False)

    @property
    def table(self) -> pd.DataFrame:
        """One row per variable, in the order of the second model's graph.

        Columns: `equation` (same, other, only in the first, only in the second, none);
        `changed_before` and `changed_after` (the share of twins that differ from their patient
        under each model); `differ` (the share of twins on which the models disagree; missing
        equals missing); `mean_shift` (second minus first, in the variable's unit); `size` (the
        mean absolute difference of numbers over their factual standard deviation); `what` value
        became which one; `why` the equation differs.
        """
        return self._table.copy()

    @property
    def affected(self) -> tuple[str, ...]:
        """The variables on which the models disagree, most frequent first."""
        rows = self._table[self._table["differ"] > 0]
        return tuple(rows.sort_values("differ", ascending=False, kind="stable").index)

    @property
    def heading(self) -> str:
        """The question, in one line."""
        return f"{len(self.twins):,} twins of two models under {self.action}"

    def summary(self) -> pd.DataFrame:
        """Return the variables on which the twins or the equations differ."""
        differ = ~self._table["equation"].isin(["same", "none"]) | (self._table["differ"] > 0)
        columns = ["equation", "changed_before", "changed_after", "differ", "what", "why"]
        return self._table.loc[differ, columns]

    def plot(self, path: str | Path | None = None) -> "Page":
        """Draw the share of twins that the models disagree on, by variable.

        Args:
            path: A file to write the picture to, PNG.
        """
        from causalcxr.common.bar_chart import bars

        share = self._table["differ"]
        label = "share of twins that differ between the models"
        return bars(list(share.index), share, title=self.heading, label=label, path=path)

    def __str__(self) -> str:
        lines = [self.heading]
        lines += [f"  equation of {name}: {why}" for name, why in self.equations.items()]
        for name in self.affected:
            row = self._table.loc[name]
            lines.append(f"  {name}: {row['differ']:.1%} of the twins differ ({row['what']})")
        return "\n".join(lines if self.affected else [*lines, "  the twins are equal"])


def compare(
    a: "SCM",
    b: "SCM",
    cohort: Records,
    action: Action = None,
    /,
    *,
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    missing: str = "keep",
    seed: int = 0,
    recompute: bool = False,
    beyond_range: bool = False,
    **values: Any,
) -> ModelComparison:
    """Compute the twins of one cohort under two models, from the same random numbers.

    Random numbers belong to a record and a variable. So a variable whose equation and ancestors
    are the same in both models has bit-exact twins; every difference is due to the equations that
    differ.

    Args:
        a: A fitted model, such as the one before an edit.
        b: Another, such as the one after it.
        cohort: Factual records; images are not compared.
        action: The intervention: `do(sex="M")`.
        hold: Variables, or one, that keep their factual value.
        draws: Posterior samples per record; the index is (record, draw) unless it is None.
        missing: See `SCM.abduct`.
        seed: Of the posterior samples.
        recompute: See `SCM.predict`.
        beyond_range: See `SCM.do`.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        ModelError: If the models have no variable in common.
        CausalCXRError: As `SCM.counterfactual` does, of either model.

    Example:
        >>> from causalcxr import SCM, Graph
        >>> graph = Graph.parse("variables: {A: {type: binary}, B: {type: binary, parents: [A]}}")
        >>> cohort = Cohort(pd.DataFrame({"A": ["N", "P"] * 100, "B": ["N", "P"] * 100}))
        >>> model = SCM(graph).fit(cohort)
        >>> edited = model.with_graph(graph.remove_edge("A", "B")).fit(cohort)
        >>> compare(model, edited, cohort, a="P").equations
        {'B': 'edge A -> B removed'}
    """
    # Compare tabular variables: images are left out.
    common = [name for name in b.graph.tabular if name in a.graph.variables]
    if not common:
        raise ModelError(
            f"compare: the graphs {a.graph.name!r} and {b.graph.name!r} have no variable in "
            "common; compare a model with its edited version"
        )
    action = action_of(action, values, beyond_range)
    records = as_cohort(cohort).with_images(None)
    # The same seed, so that twins differ by the models alone.
    both = [
        model.counterfactual(
            records,
            action,
            hold=hold,
            draws=draws,
            missing=missing,
            seed=seed,
            recompute=recompute,
        )
        for model in (a, b)
    ]
    twins, equations = Comparison(*both), _equations(a, b)
    extra = [name for name in a.graph.tabular if name not in b.graph.variables]
    # One row per variable, those of the second model first.
    table = pd.DataFrame(index=pd.Index([*b.graph.tabular, *extra], name="variable"))
    table["equation"] = [_state(a, b, name, equations) for name in table.index]
    for column, each in zip(("changed_before", "changed_after"), both, strict=True):
        table[column] = records.compare(each).changed.mean().reindex(table.index)
    table["differ"] = twins.changed.mean().reindex(table.index)
    summary = twins.summary().reindex(table.index)
    table["mean_shift"] = summary["mean_shift"]
    table["size"] = [_size(a, b, records, both, name) for name in table.index]
    table["what"] = summary["what"].fillna("")
    table["why"] = [equations.get(name, "") for name in table.index]
    return ModelComparison(both[1].notes[-1], equations, twins, table)


def _equations(a: "SCM", b: "SCM") -> dict[str, str]:
    """Return the variables of both models whose equation differs, and why."""
    both = [name for name in b.fitted if name in a.fitted]
    return {name: _why(a, b, name) for name in both if a.fitted[name].hash != b.fitted[name].hash}


def _why(a: "SCM", b: "SCM", name: str) -> str:
    one, two = a.fitted[name], b.fitted[name]
    if one.recipe and two.recipe:
        return "; ".join(recipe_changes(one.recipe, two.recipe)) or "its content differs"
    changes = declaration_changes(declaration(a.graph, name), declaration(b.graph, name))
    return "; ".join(changes) or "other data, seed or version of the package"


def _state(a: "SCM", b: "SCM", name: str, equations: Mapping[str, str]) -> str:
    """Return whether an equation is the same in both models, in words."""
    if name in a.fitted and name in b.fitted:
        return "other" if name in equations else "same"
    if name in a.fitted or name in b.fitted:
        return "only in the first" if name in a.fitted else "only in the second"
    return "none"


def _size(a: "SCM", b: "SCM", records: Cohort, twins: list[Cohort], name: str) -> float:
    """Return the mean absolute difference of numbers over their factual standard deviation."""
    graphs = (a.graph, b.graph)
    if any(name not in g.variables or g[name].is_discrete for g in graphs):
        return np.nan
    one, two = (
        each.columns(g, beyond_range=True)[name] for each, g in zip(twins, graphs, strict=True)
    )
    fact = records.columns(b.graph)[name]
    gap = np.abs(two - one)
    if np.isnan(gap).all():
        return np.nan
    size = float(np.nanmean(gap))
    return size / float(np.nanstd(fact)) if size else 0.0
