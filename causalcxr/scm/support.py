"""Support: how many training records stand behind an intervention."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from scipy.special import ndtr

from causalcxr.graph.arguments import Action
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import InterventionError
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import BoundIntervention
from causalcxr.mechanisms.encoding import ParentEncoder
from causalcxr.scm.questions.support_result import Support

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["count_support", "equal", "require_support", "support"]

_MEASURES = ("records", "beyond")


def count_support(graph: Graph, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count the records of every level, and of every pair of levels of two discrete variables.

    Args:
        graph: What the columns mean.
        columns: Positions of levels, (n,) each, NaN where missing.

    Returns:
        `"Sex=F"` -> n and `"Sex=F & View=AP"` -> n; in pairs, the names in alphabetical order.

    Example:
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> count_support(graph, {"Sex": np.array([0.0, 1.0, 1.0, np.nan])})
        {'Sex=F': 1, 'Sex=M': 2}
    """
    names = sorted(name for name in graph.tabular if graph[name].is_discrete)
    labels = [f"{name}={level}" for name in names for level in graph[name].levels]
    owner = [name for name in names for _ in graph[name].levels]
    if not names:
        return {}
    # float32 counts exactly up to 16,777,216 records, and multiplies fast.
    known = [columns[name][:, None] == np.arange(len(graph[name].levels)) for name in names]
    hot = np.concatenate(known, axis=1).astype(np.float32)
    joint = (hot.T @ hot).astype(int)
    counts = {label: int(joint[i, i]) for i, label in enumerate(labels)}
    for i, j in combinations(range(len(labels)), 2):
        if owner[i] != owner[j]:
            counts[f"{labels[i]} & {labels[j]}"] = int(joint[i, j])
    return counts


def require_support(
    graph: Graph,
    counts: Mapping[str, int],
    action: BoundIntervention,
    values: Mapping[str, np.ndarray],
    factual: Mapping[str, np.ndarray],
) -> None:
    """Refuse an intervention into a cell of the population that training never saw.

    Only rows that the intervention changes are looked at: to set what is observed is always
    allowed. Cells are levels, and pairs of levels where two variables are set.

    Args:
        graph: What the columns mean.
        counts: What `count_support` returned.
        action: What is done.
        values: What each variable is set to, (n,) each.
        factual: The values before, (n,) each.

    Raises:
        InterventionError: Naming the cell; `beyond_range=True` overrides it, and is recorded.
    """
    if action.beyond_range:
        return
    levels = {name: codes for name, codes in values.items() if graph[name].is_discrete}
    moved = {name: codes != factual[name] for name, codes in levels.items()}
    for cell in _cells(graph, levels, moved):
        if counts.get(cell, 0) == 0:
            raise InterventionError(
                f"{action.describe()}: 0 training records have {cell}, so its twins would be "
                "guesses; choose another value or pass beyond_range=True (--beyond-range)"
            )


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
        >>> from causalcxr import SCM, Cohort
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
    return Support(acted._told(), few, exact, table)


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


def equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return where two columns hold the same, missing beside missing included."""
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _cells(
    graph: Graph, levels: Mapping[str, np.ndarray], moved: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """Yield the cells that rows are moved into, single levels first."""
    for name, codes in sorted(levels.items()):
        for code in np.unique(codes[moved[name] & ~np.isnan(codes)]):
            yield f"{name}={graph[name].levels[int(code)]}"
    for (a, one), (b, two) in combinations(sorted(levels.items()), 2):
        rows = (moved[a] | moved[b]) & ~np.isnan(one) & ~np.isnan(two)
        for i, j in np.unique(np.stack([one[rows], two[rows]], axis=1), axis=0).astype(int):
            yield f"{a}={graph[a].levels[i]} & {b}={graph[b].levels[j]}"
