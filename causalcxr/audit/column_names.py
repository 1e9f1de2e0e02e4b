"""Names of columns in an audit: the variable that is predicted, and the columns of groups."""

from collections.abc import Sequence

import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.columns import frame
from causalcxr.common.errors import AuditError, CausalCXRError, nearest
from causalcxr.graph.arguments import names_of
from causalcxr.graph.graph import Graph

__all__ = ["by_names", "label_of", "named_columns"]

# Columns of `Audit.records`, which a column of groups must not replace.
_RESERVED = (
    "patient", "label", "label_twin", "factual", "twin", "null", "direct", "why", "valid",
)  # fmt: skip


def label_of(graph: Graph, label: str) -> str:
    """Return the canonical name of the variable that is predicted, which has two levels.

    Raises:
        AuditError: If there is no such variable, or it does not have two levels.
    """
    try:
        name = graph.find(label)
    except CausalCXRError:
        raise AuditError(
            f"label {label!r}: there is no such variable{nearest(label, graph.tabular)}"
        ) from None
    if len(graph[name].levels) != 2:
        raise AuditError(
            f"label {name!r} has {len(graph[name].levels)} levels; choose one with two"
        )
    return name


def by_names(graph: Graph, cohort: Cohort, by: str | Sequence[str]) -> tuple[str, ...]:
    """Return the columns of groups, by their canonical names if the graph has them.

    Raises:
        AuditError: If there is no such column.
    """
    names, table = [], cohort.table
    for word in names_of(by):
        try:
            # Names of the graph first; other columns must be spelled as in the table.
            names.append(graph.find(word))
        except CausalCXRError:
            if word not in table:
                hint = nearest(word, [*graph.tabular, *table.columns])
                raise AuditError(f"groups by {word!r}: there is no such column{hint}") from None
            names.append(word)
        if names[-1] in _RESERVED:
            raise AuditError(
                f"groups by {names[-1]!r}: the name is reserved for the result; rename the column"
            )
    # Two spellings of one name are one column.
    return tuple(dict.fromkeys(names))


def named_columns(graph: Graph, cohort: Cohort) -> pd.DataFrame:
    """Return the table of a cohort, variables of the graph by their canonical names."""
    variables = frame(graph, cohort.columns(graph, beyond_range=True), cohort.index)
    other = cohort.table.drop(columns=[c for c in cohort.table if c in variables])
    return pd.concat([variables, other], axis=1)
