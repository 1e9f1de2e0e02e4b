"""Support: how much training data stands behind each record's twin."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr

from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.graph.arguments import Action
from causalcxr.mechanisms.encoding import ParentEncoder
from causalcxr.scm.questions.support_result import Support

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM
from causalcxr.scm.support import equal

__all__ = ["support"]

_MEASURES = ("records", "beyond")


def support(
    model: "SCM",
    cohort: Records,
    action: Action = None,
    /,
    *,
    hold: str | Iterable[str] = (),
    few: int = 20,
    seed: int = 0,
    beyond_range: bool = False,
) -> Support:
    """Return, for each record, how much training data its equations have where they are asked.

    An equation is asked under the factual parents of a record, and under those of its twin. For
    each equation of the table whose parents the action changes in some record:

    - `records` and `records_twin`: the training records with these levels of the discrete
      parents. With up to two such parents that is the count; with more it is the smallest count
      over their pairs, which the count cannot exceed. A missing parent is left out; NaN
      where there is none.
    - `beyond` and `beyond_twin`: how many of the training records lie further out than the most
      extreme continuous parent, on its side, read off the stored quantiles; below about 5 that
      is an extrapolation of them. NaN where there is no such parent.
    - `flag`: a parent changed, and fewer than `few` records share the twin's levels, or less
      than one lies beyond its numbers.

    Args:
        model: A fitted model, with or without interventions of its own.
        cohort: Factual records.
        action: What is done, as in `SCM.counterfactual`.
        hold: Variables, or one, that keep their factual value.
        few: Below how many records a parent configuration is flagged.
        seed: Of the twins, which are one posterior draw.
        beyond_range: See `SCM.do`.

    Returns:
        Its `table` has the columns (variable, measure), one row a record; `exact` says of which
        variables `records` are counts rather than upper bounds.

    Raises:
        CohortError, InterventionError, ModelError: As `SCM.counterfactual` does.

    Example:
        >>> from causalcxr import SCM, Cohort, Graph
        >>> yaml = "variables: {Sex: {type: binary, levels: [F, M]}, Edema: {type: binary, "
        >>> graph = Graph.parse(yaml + "levels: [N, P], parents: [Sex]}}")
        >>> table = pd.DataFrame({"Sex": ["F", "F", "M"] * 30, "Edema": ["N", "P"] * 45})
        >>> cohort = Cohort(table).assign_splits((1.0, 0.0, 0.0))
        >>> found = support(SCM(graph).fit(cohort), cohort, {"sex": "M"})
        >>> found["Edema"].iloc[0][["records", "records_twin", "flag"]].astype(float).tolist()
        [60.0, 30.0, 0.0]
    """
    acted = model.do(action, hold=hold, beyond_range=beyond_range)
    cohort = as_cohort(cohort)
    noise = model.abduct(cohort.with_images(None), seed=seed)
    facts = {name: column.numpy() for name, column in noise.columns.items()}
    twins = acted.predict(noise).columns(model.graph, beyond_range=True)
    moved = {name: ~equal(facts[name], twins[name]) for name in facts}
    settled = {*(acted._action.names if acted._action else ()), *acted._held}
    columns: dict[tuple[str, str], np.ndarray] = {}
    exact = {}
    for name in model.graph.tabular:
        parents = model.graph[name].parents
        changed = np.any([moved[p] for p in parents], axis=0) if parents else np.array(False)
        if name in settled or name not in model.fitted or not changed.any():
            continue
        for side, values in (("", facts), ("_twin", twins)):
            found = (_same_levels(model, name, values), _further_out(model, name, values))
            columns |= {
                (name, f"{measure}{side}"): column
                for measure, column in zip(_MEASURES, found, strict=True)
            }
        rare = columns[name, "records_twin"] < few
        columns[name, "flag"] = changed & (rare | (columns[name, "beyond_twin"] < 1))
        exact[name] = sum(model.graph[p].is_discrete for p in parents) <= 2
    index = pd.MultiIndex.from_tuples(columns, names=["variable", "measure"]) if columns else None
    table = pd.DataFrame(dict(enumerate(columns.values())), index=cohort.index)
    if index is not None:
        table.columns = index
    return Support(acted._described(), few, exact, table)


def _same_levels(model: "SCM", name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return the least count over the levels of the discrete parents and their pairs, (n,)."""
    graph, counts = model.graph, model.support
    parents = sorted(p for p in graph[name].parents if graph[p].is_discrete)
    found = [np.full(len(values[name]), np.nan)]
    for names in (*((p,) for p in parents), *combinations(parents, 2)):
        labels = [""]
        for p in names:
            labels = [f"{a}{' & ' * bool(a)}{p}={b}" for a in labels for b in graph[p].levels]
        known = np.array([counts.get(label, 0) for label in labels], dtype=np.float64)
        found.append(_looked_up(known, [values[p] for p in names], [graph[p] for p in names]))
    return np.fmin.reduce(found)


def _looked_up(known: np.ndarray, codes: Sequence[np.ndarray], variables: Sequence) -> np.ndarray:
    """Return the entry of each record in a table of levels, NaN where one is missing."""
    place = np.zeros(len(codes[0]))
    for code, variable in zip(codes, variables, strict=True):
        place = place * len(variable.levels) + code
    missing = np.isnan(place)
    return np.where(missing, np.nan, known[np.where(missing, 0, place).astype(int)])


def _further_out(model: "SCM", name: str, values: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return how many training records lie beyond the most extreme continuous parent, (n,)."""
    fitted = model.fitted[name]
    encoder = getattr(fitted.mechanism, "encoder", None)
    share = [np.full(len(values[name]), np.nan)]
    if isinstance(encoder, ParentEncoder):
        for score, (i, _) in zip(encoder.scores, encoder.continuous, strict=True):
            column = torch.from_numpy(values[encoder.parents[i].name])
            z = score(column.nan_to_num()).numpy()
            share.append(np.where(column.isnan().numpy(), np.nan, ndtr(-np.abs(z))))
    return np.fmin.reduce(share) * fitted.rows
