"""Nearest neighbours among many vectors: found in float32, decided in float64, block by block."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.centred import Centred, Watch, centred, distances, products
from causalcxr.metrics.inputs import Array, read_vectors

__all__ = ["Neighbours", "neighbours", "others", "radii", "squared_below", "squared_limit"]


@dataclass(frozen=True, eq=False)
class Neighbours:
    """Hold the nearest of a set, nearest first.

    Args:
        distances: Shape (n, k), float64.
        rows: Which they are, shape (n, k); of two equally near ones the first comes first.
    """

    distances: np.ndarray
    rows: np.ndarray


def neighbours(vectors: Array, among: Array, k: int = 1) -> Neighbours:
    """Return the k nearest of one set for each vector of another, as in plain float64.

    Products of blocks in float32 leave those that may be among the nearest, whatever was
    rounded; their distances are then taken from differences in float64.

    Args:
        vectors: Shape (n, d).
        among: Shape (m, d).
        k: How many, up to m.

    Raises:
        CausalCXRError: If k is out of range, widths differ or a vector is not finite.

    Example:
        >>> found = neighbours(np.array([[0.0], [9.0]]), np.array([[8.0], [1.0], [8.0]]))
        >>> found.distances.ravel().tolist(), found.rows.ravel().tolist()
        ([1.0, 1.0], [1, 0])
    """
    asked = read_vectors("vectors", vectors, least=1, varied=False)
    known = read_vectors("among", among, least=1, varied=False)
    _check(k, len(known))
    a, b = centred(asked, known)
    best = _Best(len(a), k)
    for rows, columns, block in products(a, b):
        squared = squared_below(a, b, rows, columns, block)
        if columns.start == 0:
            best.offer(a, b, *_seeds(squared, rows, columns, k))
        best.offer(a, b, *_near(squared, best.limits(a)[rows][:, None], rows, columns))
    return Neighbours(best.distances, best.rows)


def others(vectors: Array, k: int = 1) -> Neighbours:
    """Return the k nearest others of each vector of a set, as in plain float64.

    Args:
        vectors: Shape (n, d).
        k: How many, below n.

    Raises:
        CausalCXRError: As `neighbours` does.

    Example:
        >>> others(np.array([[0.0], [1.0], [3.0]])).distances.ravel().tolist()
        [1.0, 1.0, 2.0]
    """
    found = read_vectors("vectors", vectors, varied=False)
    _check(k, len(found) - 1)
    best = _within(centred(found)[0], k)
    return Neighbours(best.distances, best.rows)


def radii(a: Centred, k: int, watch: Watch | None = None) -> np.ndarray:
    """Return the distance of each vector to its k-th nearest other, (n,).

    Args:
        a: Vectors, more than k.
        k: Which neighbour.
        watch: Told of every block of products.
    """
    return _within(a, k, watch).distances[:, -1]


def squared_below(
    a: Centred, b: Centred, rows: slice, columns: slice, block: Tensor
) -> np.ndarray:
    """Turn a block of products into squared distances that are not above the true ones."""
    squared = block.numpy()
    squared += (b.squares - b.slack)[columns].astype(np.float32)
    squared += (a.squares - a.slack)[rows].astype(np.float32)[:, None]
    return squared


def squared_limit(radius: np.ndarray, scale: float) -> np.ndarray:
    """Return float32 above (radius / scale)^2; no distance is below a radius of 0."""
    with np.errstate(over="ignore"):
        limit = np.nextafter(np.square(radius / scale).astype(np.float32), np.float32(np.inf))
    return np.where(radius > 0, limit, np.float32(-np.inf))


def _within(a: Centred, k: int, watch: Watch | None = None) -> "_Best":
    best = _Best(len(a), k)
    for rows, columns, block in products(a, a):
        if watch is not None:
            watch(a, a, rows, columns, block)
        squared = squared_below(a, a, rows, columns, block)
        if rows == columns:
            np.fill_diagonal(squared, np.inf)
            best.offer(a, a, *_seeds(squared, rows, columns, k))
        limits = best.limits(a)
        found = _near(squared, limits[rows][:, None], rows, columns)
        if rows != columns:
            mirrored = _near(squared, limits[columns], rows, columns)[::-1]
            found = tuple(np.concatenate(pair) for pair in zip(found, mirrored, strict=True))
        best.offer(a, a, *found)
    return best


class _Best:
    """Keep the k nearest so far of n vectors.

    Args:
        n: How many vectors.
        k: How many neighbours.
    """

    def __init__(self, n: int, k: int) -> None:
        self.distances = np.full((n, k), np.inf)
        self.rows = np.full((n, k), -1)

    def limits(self, a: Centred) -> np.ndarray:
        """Return what a squared distance must stay below to count, (n,) float32."""
        return squared_limit(self.distances[:, -1], a.scale)

    def offer(self, a: Centred, b: Centred, rows: np.ndarray, columns: np.ndarray) -> None:
        """Take pairs that may be near: vectors of a, and of b, (p,) each."""
        if not len(rows):
            return
        apart = distances(a.source, rows, b.source, columns)
        k = self.distances.shape[1]
        touched, place = np.unique(rows, return_inverse=True)
        place = np.concatenate([np.repeat(np.arange(len(touched)), k), place])
        apart = np.concatenate([self.distances[touched].ravel(), apart])
        which = np.concatenate([self.rows[touched].ravel(), columns])
        order = np.lexsort((which, apart, place))
        place, apart, which = place[order], apart[order], which[order]
        again = (np.diff(place) == 0) & (np.diff(which) == 0) & (which[1:] >= 0)
        once = np.append(True, ~again)  # a pair may come twice: as a seed, and as near
        place, apart, which = place[once], apart[once], which[once]
        first = np.arange(len(place)) - np.searchsorted(place, np.arange(len(touched)))[place] < k
        self.distances[touched] = apart[first].reshape(-1, k)
        self.rows[touched] = which[first].reshape(-1, k)


def _seeds(
    squared: np.ndarray, rows: slice, columns: slice, k: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return about k near ones of each row of a block: with them most others can be left out."""
    k = min(k, squared.shape[1] - (rows == columns))
    if k < 1:
        return np.empty(0, dtype=int), np.empty(0, dtype=int)
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
            f"k = {k}: there are {most} to choose from; take between 1 and {most}, or add vectors"
        )
