"""Rows with equal parents are computed once: levels and lattices have few combinations."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from causalcxr.common.threads import filled
from causalcxr.graph.graph import Variable

__all__ = ["per_distinct_row"]

_SAVING = 4  # at most one combination per this many rows, or it does not pay


def per_distinct_row(
    variables: Sequence[Variable],
    columns: dict[str, Tensor],
    compute: Callable[[dict[str, Tensor]], Tensor],
) -> Tensor:
    """Return `compute(columns)`, computed once for each combination of values.

    Every row is computed if a variable is neither discrete nor on a bounded lattice, if there are
    too many combinations, or if a value is not one of the variable's.

    Args:
        variables: The variables that the result depends on.
        columns: Their columns, (n,) each, NaN where missing.
        compute: Returns a tensor with one entry per row, which depends on that row alone.

    Example:
        >>> sex = Variable("Sex", "binary", levels=["F", "M"])
        >>> columns = {"Sex": torch.tensor([0.0, 1.0] * 200, dtype=torch.float64)}
        >>> computed = []
        >>> double = lambda c: computed.append(c) or 2 * c["Sex"]
        >>> doubled = per_distinct_row([sex], columns, double)
        >>> doubled[:3].tolist(), len(computed[0]["Sex"])
        ([0.0, 2.0, 0.0], 48)
    """
    distinct = _distinct(variables, columns)
    if distinct is None:
        return compute(columns)
    rows, place = distinct
    return compute({name: column[rows] for name, column in columns.items()})[place]


def _distinct(
    variables: Sequence[Variable], columns: dict[str, Tensor]
) -> tuple[Tensor, Tensor] | None:
    """Return one row per combination, and the position of each row's own; None if it fails."""
    if not variables or any(v.name not in columns for v in variables):
        return None
    n, sizes = len(columns[variables[0].name]), [_size(v) for v in variables]
    # Too many combinations for the rows: computing each row is cheaper.
    if math.prod(size + 1 for size in sizes) * _SAVING > n:
        return None
    # Number the combinations: a missing value is one more value of its variable.
    code = torch.zeros(n, dtype=torch.float64)
    for variable, size in zip(variables, sizes, strict=True):
        position = columns[variable.name]
        if not variable.is_discrete:
            position = ((position - variable.range[0]) / variable.resolution).round()
        position = position.clamp(0, size - 1)
        code = code * (size + 1) + torch.where(position.isnan(), size, position)
    code = code.long()
    # One row for each combination that occurs.
    last = torch.full((math.prod(size + 1 for size in sizes),), -1)
    last[code] = torch.arange(n)
    occurs = last >= 0
    place = (occurs.cumsum(0) - 1)[code]
    rows = last[occurs]
    # A value off the lattice or out of range shares a code with another: then give up.
    equal = ((c[rows][place] == c) | c.isnan() for c in (columns[v.name] for v in variables))
    if not all(same.all() for same in equal):
        return None
    return torch.from_numpy(filled(rows.numpy())), place


def _size(variable: Variable) -> float:
    """Return the number of values of a variable, which may be infinite."""
    if variable.is_discrete:
        return len(variable.levels)
    if variable.resolution is None or variable.range is None:
        return math.inf
    return math.floor((variable.range[1] - variable.range[0]) / variable.resolution) + 1
