"""Support: how many training records stand behind an intervention."""

from collections.abc import Mapping
from itertools import combinations

import numpy as np

from causalcxr.errors import InterventionError
from causalcxr.graph import Graph
from causalcxr.interventions import BoundIntervention

__all__ = ["count_support", "require_support"]


def count_support(graph: Graph, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count the records of every level, and of every pair of levels of two discrete variables.

    Returns:
        `"Sex=F"` -> n and `"Sex=F & View=AP"` -> n; in pairs, the names in alphabetical order.
    """
    names = sorted(n for n in graph.tabular if graph[n].is_discrete)
    known = np.concatenate(
        [(columns[n][:, None] == np.arange(len(graph[n].levels))) for n in names], 1
    ).astype(np.float32)
    labels = [f"{n}={level}" for n in names for level in graph[n].levels]
    owner = [n for n in names for _ in graph[n].levels]
    joint = (known.T @ known).astype(int)
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
) -> None:
    """Refuse an intervention into a cell of the population that training never saw.

    Raises:
        InterventionError: Naming the cell; `beyond_range=True` overrides it, and is recorded.
    """
    if action.beyond_range or not counts:
        return
    reached = {
        name: [graph[name].levels[int(k)] for k in np.unique(column[~np.isnan(column)])]
        for name, column in sorted(values.items())
        if graph[name].is_discrete
    }
    cells = [f"{name}={level}" for name, levels in reached.items() for level in levels]
    constant = [f"{name}={levels[0]}" for name, levels in reached.items() if len(levels) == 1]
    cells += [" & ".join(pair) for pair in combinations(constant, 2)]
    for cell in cells:
        if counts.get(cell, 0) == 0:
            raise InterventionError(
                f"{action.describe()}: 0 training records have {cell}, so its twins would be guesses; choose another"
                " value or pass beyond_range=True"
            )
