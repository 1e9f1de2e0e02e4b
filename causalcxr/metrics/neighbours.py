"""Nearest neighbours among many vectors: candidates in float32, decisions in float64.

scikit-learn's brute-force search is as fast for neighbours alone, but its distances come from
|a|^2 + |b|^2 - 2 a b: far from the origin they lose digits, and other neighbours come out.
"""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.centred import Centred, Watch, centred, distances, products
from causalcxr.metrics.inputs import Array, read_vectors

__all__ = ["Neighbours", "neighbours", "others", "radii", "squared_below", "squared_limit"]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Hold the nearest neighbours, nearest first.

    Args:
        distances: Shape (n, k), float64.
        rows: Their positions, shape (n, k); ties are in the order of rows.
    """

    distances: np.ndarray
    rows: np.ndarray


def neighbours(vectors: Array, among: Array, k: int = 1) -> Neighbours:
    """Return the k nearest vectors of one set for each vector of another, as in plain float64.

    Products of blocks in float32 exclude vectors that cannot be among the nearest, whatever the
    rounding; the distances of the others are computed from differences in float64.

    Args:
        vectors: Shape (n, d).
        among: Shape (m, d).
        k: The number of neighbours, up to m.

    Raises:
        CausalCXRError: If k is out of range, widths differ or a vector is not finite.

    Example:
        >>> nearest = neighbours(np.array([[0.0], [9.0]]), np.array([[8.0], [1.0], [8.0]]))
        >>> nearest.distances.ravel().tolist(), nearest.rows.ravel().tolist()
        ([1.0, 1.0], [1, 0])
    """
    queries = read_vectors("vectors", vectors, least=1, varied=False)
    candidates = read_vectors("among", among, least=1, varied=False)
    _check(k, len(candidates))
    a, b = centred(queries, candidates)
    best = _Best(len(a), k)
    for rows, columns, block in products(a, b):
        squared = squared_below(a, b, rows, columns, block)
        # The first block of each row sets limits that exclude most later pairs.
        if columns.start == 0:
            best.offer(a, b, *_seeds(squared, rows, columns, k))
        best.offer(a, b, *_near(squared, best.limits(a)[rows][:, None], rows, columns))
    return Neighbours(best.distances, best.rows)


def others(vectors: Array, k: int = 1) -> Neighbours:
    """Return the k nearest others of each vector of a set, as in plain float64.

    Args:
        vectors: Shape (n, d).
        k: The number of neighbours, below n.

    Raises:
        CausalCXRError: As `neighbours` does.

    Example:
        >>> others(np.array([[0.0], [1.0], [3.0]])).distances.ravel().tolist()
        [1.0, 1.0, 2.0]
    """
    array = read_vectors("vectors", vectors, varied=False)
    _check(k, len(array) - 1)
    best = _within(centred(array)[0], k)
    return Neighbours(best.distances, best.rows)


def radii(a: Centred, k: int, watch: Watch | None = None) -> np.ndarray:
    """Return the distance of each vector to its k-th nearest other, (n,).

    Args:
        a: More than k vectors.
        k: Which neighbour.
        watch: Called with every block of products.
    """
    return _within(a, k, watch).distances[:, -1]


def squared_below(
    a: Centred, b: Centred, rows: slice, columns: slice, block: Tensor
) -> np.ndarray:
    """Turn a block of products into lower bounds of the squared distances."""
    squared = block.numpy()
    squared += (b.squares - b.slack)[columns].astype(np.float32)
    squared += (a.squares - a.slack)[rows].astype(np.float32)[:, None]
    return squared


def squared_limit(radius: np.ndarray, scale: float) -> np.ndarray:
    """Return an upper bound of (radius / scale)^2 in float32; no distance is below radius 0."""
    with np.errstate(over="ignore"):
        limit = np.nextafter(np.square(radius / scale).astype(np.float32), np.float32(np.inf))
    return np.where(radius > 0, limit, np.float32(-np.inf))


def _within(a: Centred, k: int, watch: Watch | None = None) -> "_Best":
    best = _Best(len(a), k)
    for rows, columns, block in products(a, a):
        if watch is not None:
            watch(a, a, rows, columns, block)
        squared = squared_below(a, a, rows, columns, block)
        # A vector is not its own neighbour.
        if rows == columns:
            np.fill_diagonal(squared, np.inf)
            best.offer(a, a, *_seeds(squared, rows, columns, k))
        # Blocks above the diagonal only, each used for its rows and its columns.
        limits = best.limits(a)
        pairs = _near(squared, limits[rows][:, None], rows, columns)
        if rows != columns:
            # The block below the diagonal is the transpose of this one.
            mirrored = _near(squared, limits[columns], rows, columns)[::-1]
            pairs = tuple(np.concatenate(both) for both in zip(pairs, mirrored, strict=True))
        best.offer(a, a, *pairs)
    return best


class _Best:
    """The k nearest so far of n vectors.

    Args:
        n: The number of vectors.
        k: The number of neighbours.
    """

    def __init__(self, n: int, k: int) -> None:
        self.distances = np.full((n, k), np.inf)
        self.rows = np.full((n, k), -1)

    def limits(self, a: Centred) -> np.ndarray:
        """Return the limits below which squared distances matter, (n,) float32."""
        return squared_limit(self.distances[:, -1], a.scale)

    def offer(self, a: Centred, b: Centred, rows: np.ndarray, columns: np.ndarray) -> None:
        """Add pairs that may be near: rows of a and of b, (p,) each."""
        if not len(rows):
            return
        # Decide by distances in float64.
        apart = distances(a.source, rows, b.source, columns)
        k = self.distances.shape[1]
        # Merge the new pairs with the k best so far, row by row.
        touched, place = np.unique(rows, return_inverse=True)
        place = np.concatenate([np.repeat(np.arange(len(touched)), k), place])
        apart = np.concatenate([self.distances[touched].ravel(), apart])
        which = np.concatenate([self.rows[touched].ravel(), columns])
        # By row, then distance; equal distances by position, so that the result is unique.
        order = np.lexsort((which, apart, place))
        place, apart, which = place[order], apart[order], which[order]
        again = (np.diff(place) == 0) & (np.diff(which) == 0) & (which[1:] >= 0)
        once = np.append(True, ~again)  # a pair may occur twice: as a seed, and as near
        place, apart, which = place[once], apart[once], which[once]
        first = np.arange(len(place)) - np.searchsorted(place, np.arange(len(touched)))[place] < k
        self.distances[touched] = apart[first].reshape(-1, k)
        self.rows[touched] = which[first].reshape(-1, k)


def _seeds(
    squared: np.ndarray, rows: slice, columns: slice, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return about k near pairs of each row of a block, which exclude most of the others."""
    k = min(k, squared.shape[1] - (rows == columns))
    if k < 1:
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
    # A partition, not a sort: the order within the k does not matter.
    chosen = np.argpartition(squared, k - 1, axis=1)[:, :k]
    return np.repeat(np.arange(rows.start, rows.stop), k), chosen.ravel() + columns.start


def _near(
    squared: np.ndarray, limits: np.ndarray, rows: slice, columns: slice
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a block that are within the limits."""
    i, j = np.divmod(np.flatnonzero(squared < limits), squared.shape[1])
    return i + rows.start, j + columns.start


def _check(k: int, most: int) -> None:
    if not 1 <= k <= most:
        raise CausalCXRError(
            f"k = {k}: there are {most} candidates; give between 1 and {most}, or add vectors"
        )
