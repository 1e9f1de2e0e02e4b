"""Features of a variable: what a test compares, and what it conditions on."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.special import ndtri

from causalcxr.graph.variables import Variable

__all__ = ["VariableFeatures", "conditioning_basis", "features_of"]

_FEW_VALUES = 5  # a number with at most so many distinct values is treated as levels
_MOST_LEVELS = 8  # further levels, the rarest, are pooled with the most frequent one
_FEWEST = 10  # records of a level, or of a joint level, that get a column of their own
_MOST_COLUMNS = 150  # of a conditioning basis
_PER_COLUMN = 12  # patients for each column of a conditioning basis


@dataclass(frozen=True)
class VariableFeatures:
    """The columns that stand for a variable, NaN where it is missing.

    Args:
        name: The variable.
        tested: Shape (n, k): indicators of levels without the most frequent one, or the normal
            score and the second Legendre polynomial of the rank.
        codes: The position of each value among the v distinct ones, shape (n,); -1 where missing.
        main: Shape (v, m): a basis of functions of the variable to condition on.
        crossed: Shape (v, c): fewer such columns, for products with other variables.
        levels: The level of each indicator; empty for a number.
    """

    name: str
    tested: np.ndarray
    codes: np.ndarray
    main: np.ndarray
    crossed: np.ndarray
    levels: tuple[str, ...] = ()

    @property
    def missing(self) -> np.ndarray:
        """Whether the variable is missing, shape (n,)."""
        return self.codes < 0


def features_of(variable: Variable, column: np.ndarray) -> VariableFeatures | None:
    """Return the features of a column, or None if it is constant.

    Args:
        variable: The variable.
        column: Shape (n,), positions of levels or numbers, NaN where missing.

    Example:
        >>> column = np.array([0.0, 1.0] * 20)
        >>> features_of(Variable("Edema", "binary"), column).levels
        ('P',)
    """
    values, counts = np.unique(column[~np.isnan(column)], return_counts=True)
    if len(values) < 2:
        return None
    if variable.is_discrete or len(values) <= _FEW_VALUES:
        return _of_levels(variable, column, values, counts)
    return _of_numbers(variable.name, column, values, counts)


def conditioning_basis(
    given: Sequence[VariableFeatures], rows: np.ndarray, patients: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns to regress on: one, each variable, and products of variables.

    Products of two variables come first, then of three, and so on, until there is one column for
    every 12 patients, or 150. With few levels the basis is saturated: one column a joint level.

    Args:
        given: The variables of the conditioning set.
        rows: The positions of the records, none of which is missing.
        patients: The number of patients.

    Returns:
        The columns for each distinct joint value, shape (m, p), and the joint value of each
        record, shape (n,).

    Example:
        >>> sex = features_of(Variable("Sex", "binary"), np.array([0.0, 1.0] * 50))
        >>> basis, joint = conditioning_basis([sex], np.arange(100), 100)
        >>> basis.shape, joint.shape
        ((2, 2), (100,))
    """
    cells, joint = _joint_values(given, rows)
    counts = np.bincount(joint, minlength=len(cells[0]) if cells else 1)
    room = max(1, min(_MOST_COLUMNS, patients // _PER_COLUMN))
    columns = [np.ones((len(counts), 1))]
    blocks = {
        kind: [getattr(each, kind)[cell] for each, cell in zip(given, cells, strict=True)]
        for kind in ("main", "crossed")
    }
    columns += [_wide_enough(block, counts) for block in blocks["main"]]
    used = sum(block.shape[1] for block in columns)
    for size in range(2, len(given) + 1):
        # The finest products, if there is room for those of all combinations.
        for kind in ("main", "crossed"):
            products = [
                _wide_enough(_product(chosen), counts)
                for chosen in combinations(blocks[kind], size)
            ]
            if used + sum(block.shape[1] for block in products) <= room:
                break
        for block in products:
            if used + block.shape[1] <= room:
                columns.append(block)
                used += block.shape[1]
        if used >= room:
            break
    basis = np.concatenate(columns, axis=1)
    return basis / np.sqrt(counts @ basis**2 / len(rows)), joint


def _joint_values(
    given: Sequence[VariableFeatures], rows: np.ndarray
) -> tuple[list[np.ndarray], np.ndarray]:
    """Return the codes of each distinct joint value, and the joint value of each record."""
    joint = np.zeros(len(rows), dtype=np.int64)
    first = np.zeros(1, dtype=np.int64)
    for each in given:
        # Renumbered after each variable, so that the product never overflows.
        joint = joint * len(each.main) + each.codes[rows]
        _, first, joint = np.unique(joint, return_index=True, return_inverse=True)
    return [each.codes[rows[first]] for each in given], joint


def _of_levels(
    variable: Variable, column: np.ndarray, values: np.ndarray, counts: np.ndarray
) -> VariableFeatures:
    # The most frequent level is the reference, so that the reference is never rare.
    order = np.argsort(-counts, kind="stable")[1:_MOST_LEVELS]
    main = (values[:, None] == values[np.sort(order)]).astype(np.float64)
    codes = _codes(column, values)
    levels = tuple(
        variable.levels[int(value)] if variable.is_discrete else f"{value:g}"
        for value in values[np.sort(order)]
    )
    return VariableFeatures(variable.name, _at(main, codes), codes, main, main, levels)


def _of_numbers(
    name: str, column: np.ndarray, values: np.ndarray, counts: np.ndarray
) -> VariableFeatures:
    n = counts.sum()
    u = (np.cumsum(counts) - counts / 2) / n  # the middle of the ranks of tied values
    z = ndtri(u)
    low = np.column_stack([z, 6 * u**2 - 6 * u + 1])
    crossed = np.column_stack([low, (2 * u - 1) * (10 * u**2 - 10 * u + 1)])
    codes = _codes(column, values)
    return VariableFeatures(name, _at(low, codes), codes, _spline(z, n), crossed)


def _codes(column: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.where(np.isnan(column), -1, np.searchsorted(values, column))


def _at(rows: np.ndarray, codes: np.ndarray) -> np.ndarray:
    return np.where(codes[:, None] < 0, np.nan, rows[codes])


def _spline(z: np.ndarray, n: int) -> np.ndarray:
    """Return a restricted cubic spline: linear beyond its outer knots (Harrell, 2001, 2.4.5)."""
    count = int(np.clip(2.2 * n**0.18, 5, 14))
    # Equal steps of the normal score, as functions of a number bend in the tails too.
    reach = -ndtri(np.clip(15 / n, 0.001, 0.03))
    knots = np.unique(np.clip(np.linspace(-reach, reach, count), z[0], z[-1]))
    if len(knots) < 3:
        return z[:, None]
    first, before, last = knots[0], knots[-2], knots[-1]

    def cube(knot: float) -> np.ndarray:
        return np.maximum(z - knot, 0.0) ** 3

    columns = [z]
    for knot in knots[:-2]:
        right = (cube(before) * (last - knot) - cube(last) * (before - knot)) / (last - before)
        columns.append((cube(knot) - right) / (last - first) ** 2)
    return np.column_stack(columns)


def _product(blocks: Sequence[np.ndarray]) -> np.ndarray:
    product = blocks[0]
    for block in blocks[1:]:
        product = (product[:, :, None] * block[:, None, :]).reshape(len(block), -1)
    return product


def _wide_enough(block: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Leave out the columns that are zero in all but a few records."""
    return block[:, counts @ (block != 0) >= _FEWEST]
