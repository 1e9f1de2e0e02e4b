"""Support: the number of training records that have the values of an intervention."""

from collections.abc import Iterator, Mapping
from itertools import combinations

import numpy as np

from causalcxr.common.errors import InterventionError
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import BoundIntervention

__all__ = ["count_support", "equal", "require_support"]


def count_support(graph: Graph, columns: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Count the records with each level, and with each pair of levels of two discrete variables.

    Args:
        graph: Declares the columns.
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
    indicators = [columns[name][:, None] == np.arange(len(graph[name].levels)) for name in names]
    hot = np.concatenate(indicators, axis=1).astype(np.float32)
    # One product counts all levels (the diagonal) and all pairs.
    joint = (hot.T @ hot).astype(int)
    counts = {label: int(joint[i, i]) for i, label in enumerate(labels)}
    # Two levels of one variable never occur together.
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
    """Refuse an intervention into a cell of the population without a training record.

    Only rows that the intervention changes count: setting the observed value is always allowed.
    Cells are levels, and pairs of levels where two variables are set.

    Args:
        graph: Declares the columns.
        counts: The result of `count_support`.
        action: The intervention.
        values: The values that each variable is set to, (n,) each.
        factual: The values before, (n,) each.

    Raises:
        InterventionError: Naming the cell; `beyond_range=True` overrides it, and is recorded.
    """
    if action.beyond_range:
        return
    # Only discrete variables have cells, and only changed rows need support.
    levels = {name: codes for name, codes in values.items() if graph[name].is_discrete}
    moved = {name: codes != factual[name] for name, codes in levels.items()}
    for cell in _cells(graph, levels, moved):
        if counts.get(cell, 0) == 0:
            raise InterventionError(
                f"{action.describe()}: 0 training records have {cell}, so its twins would be "
                "guesses; choose another value or pass beyond_range=True (--beyond-range)"
            )


def equal(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return where two columns are equal; missing is equal to missing."""
    return (a == b) | (np.isnan(a) & np.isnan(b))


def _cells(
    graph: Graph, levels: Mapping[str, np.ndarray], moved: Mapping[str, np.ndarray]
) -> Iterator[str]:
    """Yield the cells that rows move into, single levels first."""
    for name, codes in sorted(levels.items()):
        for code in np.unique(codes[moved[name] & ~np.isnan(codes)]):
            yield f"{name}={graph[name].levels[int(code)]}"
    for (a, one), (b, two) in combinations(sorted(levels.items()), 2):
        rows = (moved[a] | moved[b]) & ~np.isnan(one) & ~np.isnan(two)
        for i, j in np.unique(np.stack([one[rows], two[rows]], axis=1), axis=0).astype(int):
            yield f"{a}={graph[a].levels[i]} & {b}={graph[b].levels[j]}"
