"""A hidden common cause: how an effect moves as two noises are correlated, and what undoes it."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from torch import Tensor

from causalcxr.cohort.cohort_input import Records
from causalcxr.common.errors import InterventionError
from causalcxr.common.progress import progress
from causalcxr.graph.arguments import Action, action_of, check_options, names_of
from causalcxr.graph.graph import Variable
from causalcxr.scm.identity import couplings
from causalcxr.scm.questions.confounded_pairs import Between, Pair, confounded_pairs
from causalcxr.scm.questions.confounded_twins import ConfoundedTwins
from causalcxr.scm.questions.confounding_benchmark import parent_strengths
from causalcxr.scm.questions.confounding_bounds import outcome_bounds
from causalcxr.scm.questions.confounding_result import Confounding
from causalcxr.scm.questions.correlated_noise import LARGEST_RHO
from causalcxr.scm.questions.effect_result import clustered_mean

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["Confounding", "confounding"]

_GRID = tuple(round(-0.9 + 0.1 * k, 1) for k in range(19))
_ODDS = (1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, float("inf"))


def confounding(
    model: "SCM",
    cohort: Records,
    action: Action = None,
    /,
    baseline: Action = None,
    *,
    between: Between = None,
    rho: float | Sequence[float] | None = None,
    odds_ratio: float | Sequence[float] | None = None,
    variables: str | Sequence[str] | None = None,
    hold: str | Iterable[str] = (),
    draws: int | None = None,
    seed: int = 0,
    beyond_range: bool = False,
    **values: Any,
) -> Confounding:
    """Return how the total effect of an action moves if a common cause was left out of the graph.

    Two assumptions replace each other. Both are about one cause X that the action sets and one
    child Y of it, and both leave every learned distribution as it is, since data cannot exclude
    either.

    - `rho`: the noises of X and Y are correlated, with a Gaussian copula on their normal scores.
      The equation of Y is the one that then reproduces the learned p(y | parents) for every value
      of X. It is exact for this model, and a hidden cause may act otherwise. With rho = 0 it is
      the answer of `effect`.
    - `odds_ratio`: bounds for any hidden cause that changes the odds of the value of X by at most
      this factor (the marginal sensitivity model; Tan, 2006; Dorn & Guo, 2021). They are sharp
      for the mean of Y, and for the probability of each level of Y. X must be discrete.

    Positive rho: the hidden cause moves X and Y in the same direction, towards higher numbers and
    later levels. The parents of X and of Y count as observed causes of both.

    Args:
        model: A fitted model; both sides share its own interventions and held variables.
        cohort: Factual records, not selected by the outcome.
        action: The intervention: `do(sex="M")`, or write `sex="M"` here directly.
        baseline: The intervention to compare with; by default the records as they are.
        between: The cause and the outcome, such as ("Sex", "Edema"), or several such pairs. By
            default each variable that the action sets, with each of its children. Each pair is
            examined on its own.
        rho: Correlations of the noises, up to 0.95; by default from -0.9 to 0.9. Zero is added.
        odds_ratio: The largest odds ratios of the bounds, at least 1; by default up to infinity.
        variables: Report these, or one; by default the outcomes and all their descendants.
        hold: Variables, or one, that keep their factual value under action and baseline.
        draws: Posterior samples per record.
        seed: Of the samples: the same for every correlation.
        beyond_range: See `SCM.do`.
        **values: Names and values, as in `causalcxr.do`.

    Raises:
        InterventionError: If nothing is set, a strength is not allowed, or the noises of a pair
            cannot be correlated; see `confounded_pairs`.
        CausalCXRError: As `SCM.counterfactual` does.

    Example:
        >>> from causalcxr import SCM, Cohort, Graph, do
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": (["F"] * 5 + ["M"] * 5) * 200,
        ...                       "Edema": (["N"] * 3 + ["P"] * 2 + ["N"] * 1 + ["P"] * 4) * 200})
        >>> result = confounding(SCM(graph).fit(Cohort(table)), Cohort(table), do(sex="M"),
        ...                      do(sex="F"), between=("Sex", "Edema"), draws=2)
        >>> effect = result.tipping.loc[("Sex", "Edema", "Edema", "P")]
        >>> bool(effect["change"] > 0.3), bool(0.5 < effect["rho"] < 0.8)
        (True, True)
    """
    check_options(model.graph, hold=hold, draws=draws, variables=variables)
    check_options(model.graph, seed=seed, beyond_range=beyond_range)
    grid, odds = _correlations(rho), _odds_ratios(odds_ratio)
    model = model.do(hold=hold, beyond_range=beyond_range)
    acted = action_of(action, values, beyond_range).bind(model.graph)
    base = action_of(baseline).bind(model.graph)
    if not acted.settings:
        raise InterventionError("confounding: no action; give one, such as do(sex='M')")
    # Abduct once: all twins share the noise.
    noise, many = model.abduct(cohort, draws=draws, seed=seed), draws or 1
    active, before = (ConfoundedTwins(model, noise, each.repeat(many)) for each in (acted, base))
    causes = tuple(dict.fromkeys([*acted.settings, *base.settings]))
    pairs = confounded_pairs(model, causes, {*active.fixed, *before.fixed}, between)
    chosen = _reported(model, active, pairs, variables)
    patient = pd.factorize(noise.cohort.patients)[0]
    effects, bounds, strengths = [], [], []
    for pair in progress(pairs, "Correlating noises", "pairs"):
        names = [name for name in active.below(pair.outcome) if name in chosen]
        if pair.has_scores:
            effects += _effects(active, before, pair, grid, names, patient)
        if pair.has_levels and pair.outcome in names:
            bounds += _bounds(active, before, pair, odds, patient)
        known = {"cause": pair.cause, "outcome": pair.outcome}
        strengths += [known | row for row in parent_strengths(model, noise.columns, pair)]
    about = {
        "action": acted.to_json(),
        "baseline": base.to_json(),
        "words": acted.describe(),
        "baseline_words": base.describe() if base else "",
        "between": [[pair.cause, pair.outcome] for pair in pairs],
        "rho": list(grid),
        "odds_ratio": [str(each) for each in odds],
        "coupling": couplings(model),
        "draws": many,
        "seed": seed,
        "rows": len(noise),
    }
    units = {name: model.graph[name].unit or "" for name in model.graph.tabular}
    return Confounding.from_rows(about, effects, bounds, strengths, units)


def _correlations(rho: float | Sequence[float] | None) -> tuple[float, ...]:
    """Return the correlations in order, zero among them."""
    given = np.atleast_1d(np.asarray(_GRID if rho is None else rho, dtype=float))
    if given.ndim != 1 or not (np.abs(given) <= LARGEST_RHO).all():
        raise InterventionError(
            f"rho={rho!r}: correlations of noises must be numbers from -{LARGEST_RHO} to "
            f"{LARGEST_RHO}"
        )
    return tuple(sorted({0.0, *given.tolist()}))


def _odds_ratios(odds: float | Sequence[float] | None) -> tuple[float, ...]:
    """Return the odds ratios in order, one among them."""
    given = np.atleast_1d(np.asarray(_ODDS if odds is None else odds, dtype=float))
    if given.ndim != 1 or not (given >= 1).all():
        raise InterventionError(f"odds_ratio={odds!r}: odds ratios must be numbers of at least 1")
    return tuple(sorted({1.0, *given.tolist()}))


def _reported(
    model: "SCM",
    active: ConfoundedTwins,
    pairs: Sequence[Pair],
    variables: str | Sequence[str] | None,
) -> set[str]:
    """Return the names of the variables to report."""
    below = {name for pair in pairs for name in active.below(pair.outcome)}
    if variables is None:
        return below
    names = [model.graph.find(name) for name in names_of(variables)]
    if others := [name for name in names if name not in below]:
        outcomes = " or ".join(dict.fromkeys(pair.outcome for pair in pairs))
        raise InterventionError(
            f"confounding: {others[0]!r} is no descendant of {outcomes}, so that the hidden cause "
            "changes nothing; leave it out"
        )
    return set(names)


def _effects(
    active: ConfoundedTwins,
    before: ConfoundedTwins,
    pair: Pair,
    grid: Sequence[float],
    names: Sequence[str],
    patient: np.ndarray,
) -> list[dict[str, Any]]:
    """Return one row for each correlation, variable and level: both means and their difference."""
    rows = []
    sides = (side.under(pair, grid) for side in (active, before))
    for rho, after, base in zip(grid, *sides, strict=True):
        for name in names:
            variable = active.model.graph[name]
            levels, twins = _features(variable, after[name]), _features(variable, base[name])
            for level, column in levels.items():
                change, se = clustered_mean(column - twins[level], patient)
                observed = ~np.isnan(column - twins[level])
                row = {"cause": pair.cause, "outcome": pair.outcome, "rho": rho}
                row |= {"variable": name, "level": level, "n": int(observed.sum())}
                row |= {
                    "baseline": _mean(twins[level][observed]),
                    "active": _mean(column[observed]),
                }
                rows.append(row | {"change": change, "se": se})
    return rows


def _bounds(
    active: ConfoundedTwins,
    before: ConfoundedTwins,
    pair: Pair,
    odds: Sequence[float],
    patient: np.ndarray,
) -> list[dict[str, Any]]:
    """Return one row for each odds ratio and level: bounds of the change of the mean."""
    rows = []
    levels = active.model.graph[pair.outcome].levels or ("",)
    sides = (outcome_bounds(side, pair, odds) for side in (active, before))
    for ratio, after, base in zip(odds, *sides, strict=True):
        for k, level in enumerate(levels):
            row = {"cause": pair.cause, "outcome": pair.outcome, "odds_ratio": ratio}
            row["level"] = level
            low = (after.lower - base.upper)[:, k].numpy()
            high = (after.upper - base.lower)[:, k].numpy()
            row["lower"], row["lower_se"] = _bound_mean(low, patient)
            row["upper"], row["upper_se"] = _bound_mean(high, patient)
            rows.append(row)
    return rows


def _features(variable: Variable, column: Tensor) -> Mapping[str, np.ndarray]:
    """Return a number as it is, or an indicator per level, NaN where missing."""
    values = column.numpy()
    if not variable.is_discrete:
        return {"": values}
    return {
        level: np.where(np.isnan(values), np.nan, values == k)
        for k, level in enumerate(variable.levels)
    }


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else np.nan


def _bound_mean(values: np.ndarray, patient: np.ndarray) -> tuple[float, float]:
    """Return a mean and its standard error; a mean that has no bound has none."""
    if np.isinf(values).any():
        return float(values[np.isinf(values)][0]), np.nan
    return clustered_mean(values, patient)
