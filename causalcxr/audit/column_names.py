"""Names in an audit: the variable that is predicted, and the columns of groups."""

from collections.abc import Sequence

import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.columns import frame
from causalcxr.common.errors import AuditError, CausalCXRError, nearest
from causalcxr.graph.arguments import names_of
from causalcxr.graph.graph import Graph

__all__ = ["by_names", "described", "label_of"]

# Columns of the records of an audit, which a column of that name would replace.
_RESERVED = (
    "patient", "label", "label_twin", "factual", "twin", "null", "direct", "why", "valid",
)  # fmt: skip


def label_of(graph: Graph, label: str) -> str:
    """Return the canonical name of the variable that is predicted: one with two levels.

    Raises:
        AuditError: If it is no such variable.
    """
    try:
        name = graph.find(label)
    except CausalCXRError:
        raise AuditError(
            f"label {label!r}: no such variable{nearest(label, graph.tabular)}"
        ) from None
    if len(graph[name].levels) != 2:
        raise AuditError(f"label {name!r} has {len(graph[name].levels)} levels; expected two")
    return name


def by_names(graph: Graph, cohort: Cohort, by: str | Sequence[str]) -> tuple[str, ...]:
    """Return the columns of groups, by their canonical names where the graph has them.

    Raises:
        AuditError: If there is no such column.
    """
    found, table = [], cohort.table
    for word in names_of(by):
        try:
            found.append(graph.find(word))
        except CausalCXRError:
            if word not in table:
                hint = nearest(word, [*graph.tabular, *table.columns])
                raise AuditError(f"groups by {word!r}: no such column{hint}") from None
            found.append(word)
        if found[-1] in _RESERVED:
            raise AuditError(
                f"groups by {found[-1]!r}: the table of an audit has a column of that name; "
                "rename yours"
            )
    return tuple(dict.fromkeys(found))


def described(graph: Graph, *cohorts: Cohort) -> list[pd.DataFrame]:
    """Return each cohort's columns, variables of the graph by their canonical names."""
    tables = []
    for cohort in cohorts:
        known = frame(graph, cohort.columns(graph, beyond_range=True), cohort.index)
        other = cohort.table.drop(columns=[c for c in cohort.table if c in known])
        tables.append(pd.concat([known, other], axis=1))
    return tables
