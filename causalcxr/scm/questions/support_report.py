"""Support: how much training data each record's twin is based on."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr

from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.graph.arguments import Action, action_of, check_options
from causalcxr.mechanisms.encoding import ParentEncoder
from causalcxr.scm.questions.support_result import Support
from causalcxr.scm.support import equal

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["support_of"]


def support_of(
    model: "SCM",
    cohort: Records,
    action: Action = None,
    /,
    *,
    hold: str | Iterable[str] = (),
    few: int = 20,
    seed: int = 0,
    beyond_range: bool = False,
    **values: Any,
) -> Support:
    """Return how much training data the equations have at each record's parents and its twin's.

    For each tabular equation whose parents the action changes in some record:

    - `records` and `records_twin`: the number of training records with these levels of the
      discrete parents. With up to two such parents that is the count; with more it is the smallest
      count over their pairs, which is an upper bound. A missing parent is left out; NaN if there
      is none.
    - `beyond` and `beyond_twin`: how many training records are more extreme than the most extreme
      continuous parent, according to the stored quantiles; below about 5 this is an extrapolation.
      NaN if there is no such parent.
    - `flag`: a parent changed, and fewer than `few` records have the twin's levels, or less than
      one is more extreme.

    Args:
        model: A fitted model, with or without interventions of its own.
        cohort: Factual records.
        action: The intervention, as in `SCM.counterfactual`.
        hold: Variables, or one, that keep their factual value.
        few: Parent configurations with fewer training records are flagged.
        seed: Of the twins, which use one posterior sample.
        beyond_range: See `SCM.do`.
        **values: Names and values, as in `causalcxr.do`.

    Returns:
        A result whose `table` has the columns (variable, measure), one row per record; `exact` is
        true for variables whose `records` are counts rather than upper bounds.

    Raises:
        CohortError, InterventionError, ModelError: As `SCM.counterfactual` does.

    Example:
        >>> from causalcxr import SCM, Cohort, Graph
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": ["F", "F", "M"] * 30, "Edema": ["N", "P"] * 45})
        >>> cohort = Cohort(table).assign_splits((1.0, 0.0, 0.0))
        >>> result = support_of(SCM(graph).fit(cohort), cohort, {"sex": "M"})
        >>> result["Edema"].iloc[0][["records", "records_twin", "flag"]].astype(float).tolist()
        [60.0, 30.0, 0.0]
    """
    check_options(model.graph, hold=hold, few=few, seed=seed)
    action = action_of(action, values, beyond_range)
    acted = model.do(action, hold=hold, beyond_range=beyond_range)
    cohort = as_cohort(cohort)
    noise = model.abduct(cohort.with_images(None), seed=seed)
    facts = {name: column.numpy() for name, column in noise.columns.items()}
    twins = acted.predict(noise).columns(model.graph, beyond_range=True)
    moved = {name: ~equal(facts[name], twins[name]) for name in facts}
    fixed = {*(acted._action.names if acted._action else ()), *acted._held}
    columns: dict[tuple[str, str], np.ndarray] = {}
    exact = {}
    for name in model.graph.tabular:
        # Skip equations that compute nothing new: set, held, unlearned, or with unchanged parents.
        parents = model.graph[name].parents
        changed = np.any([moved[p] for p in parents], axis=0) if parents else np.array(False)
        if name in fixed or name not in model.fitted or not changed.any():
            continue
        for side, values in (("", facts), ("_twin", twins)):
            columns[name, f"records{side}"] = _same_levels(model, name, values)
            columns[name, f"beyond{side}"] = _more_extreme(model, name, values)
        # Flagged: few records with these levels, or none as extreme.
        rare = columns[name, "records_twin"] < few
        columns[name, "flag"] = changed & (rare | (columns[name, "beyond_twin"] < 1))
        # Counts are exact for one or two discrete parents; for more they are upper bounds.
        exact[name] = sum(model.graph[p].is_discrete for p in parents) <= 2
    index = pd.MultiIndex.from_tuples(columns, names=["variable", "measure"]) if columns else None
    table = pd.DataFrame(dict(enumerate(columns.values())), index=cohort.index)
    if index is not None:
        table.columns = index
    return Support(acted._described(), few, exact, table)


def _same_levels(model: "SCM", name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the lowest count over the levels of the discrete parents and their pairs, (n,)."""
    graph, counts = model.graph, model.support
    parents = sorted(p for p in graph[name].parents if graph[p].is_discrete)
    lowest = [np.full(len(values[name]), np.nan)]
    for names in (*((p,) for p in parents), *combinations(parents, 2)):
        # The keys of `count_support`, in the order of the table's axes.
        labels = [""]
        for p in names:
            labels = [f"{a}{' & ' * bool(a)}{p}={b}" for a in labels for b in graph[p].levels]
        table = np.array([counts.get(label, 0) for label in labels], dtype=np.float64)
        lowest.append(_looked_up(table, [values[p] for p in names], [graph[p] for p in names]))
    return np.fmin.reduce(lowest)


def _looked_up(table: np.ndarray, codes: Sequence[np.ndarray], variables: Sequence) -> np.ndarray:
    """Return the entry of each record in a table of levels, NaN where one is missing."""
    place = np.zeros(len(codes[0]))
    for code, variable in zip(codes, variables, strict=True):
        place = place * len(variable.levels) + code
    missing = np.isnan(place)
    return np.where(missing, np.nan, table[np.where(missing, 0, place).astype(int)])


def _more_extreme(model: "SCM", name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return how many training records exceed the most extreme continuous parent, (n,)."""
    fitted = model.fitted[name]
    encoder = getattr(fitted.mechanism, "encoder", None)
    share = [np.full(len(values[name]), np.nan)]
    if isinstance(encoder, ParentEncoder):
        for score, (i, _) in zip(encoder.scores, encoder.continuous, strict=True):
            # A normal score, as the encoder has it, gives the share in the nearer tail.
            column = torch.from_numpy(values[encoder.parents[i].name])
            z = score(column.nan_to_num()).numpy()
            share.append(np.where(column.isnan().numpy(), np.nan, ndtr(-np.abs(z))))
    return np.fmin.reduce(share) * fitted.rows
