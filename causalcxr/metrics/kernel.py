"""Kernel distance between two sets of features: over all pairs, and over subsets of them."""

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.centred import Centred, centred, products
from causalcxr.metrics.inputs import Array, read_vectors, row_blocks

__all__ = ["Cubes", "KernelSubsets", "kernel", "kernel_from_cubes", "kernel_subsets", "subsets"]

_AT_ONCE = 2000  # up to this many vectors, all pairs at once in float64


@dataclass(frozen=True, eq=False)
class KernelSubsets:
    """Hold kernel distances over subsets.

    Args:
        values: One per subset, shape (s,).
    """

    values: np.ndarray

    @property
    def mean(self) -> float:
        """The mean over subsets."""
        return float(self.values.mean())

    @property
    def std(self) -> float:
        """The standard deviation over subsets, divided by their number, as KID reports it."""
        return float(self.values.std())


def kernel(real: Array, generated: Array) -> float:
    """Return the unbiased squared distance of two sets under k(x, y) = (x y / d + 1)^3.

    MMD^2 = mean_{i != i'} k(x_i, x_i') + mean_{j != j'} k(y_j, y_j') - 2 mean_ij k(x_i, y_j),
    over all pairs; with Rad-DINO's vectors it is the KDD. It may be negative.

    References:
        Demystifying MMD GANs (Binkowski et al.), arXiv:1801.01401.

    Args:
        real: x, shape (n, d), n > 1.
        generated: y, shape (m, d), m > 1.

    Raises:
        CausalCXRError: If there are too few vectors, widths differ, or vectors are not finite or
            all the same.

    Example:
        >>> a, b = np.array([[0.0], [1.0]]), np.array([[1.0], [2.0]])
        >>> kernel(a, b)  # 1 + 27 - (1 + 1 + 8 + 27) / 2
        9.5
    """
    a, b = read_vectors("real", real), read_vectors("generated", generated)
    # Small sets: the plain sum in float64.
    if a.shape[1] == b.shape[1] and max(len(a), len(b)) <= _AT_ONCE:
        return _all_pairs(a.astype(np.float64), b.astype(np.float64))
    one, two = centred(a, b)
    cubes = Cubes()
    # Large sets: the cubes in float32, where they are small, and all else in float64.
    for left, right in ((one, one), (two, two), (one, two)):
        for rows, columns, block in products(left, right):
            cubes.add(left, right, rows, columns, block)
    return kernel_from_cubes(one, two, cubes)


def kernel_subsets(
    real: Array, generated: Array, *, size: int = 1000, number: int = 100, seed: int = 0
) -> KernelSubsets:
    """Return kernel distances over random subsets, drawn without replacement, as KID does.

    Args:
        real: Shape (n, d).
        generated: Shape (m, d).
        size: Vectors in each subset, at most n and m.
        number: The number of subsets.
        seed: Of the subsets.

    Raises:
        CausalCXRError: As `kernel` does, or if a subset is larger than a set.

    Example:
        >>> x = np.random.default_rng(0).normal(size=(60, 4))
        >>> result = kernel_subsets(x, x + 1, size=30, number=5)
        >>> len(result.values), result.mean > 3 * result.std
        (5, True)
    """
    a, b = read_vectors("real", real), read_vectors("generated", generated)
    if a.shape[1] != b.shape[1]:
        raise CausalCXRError(
            f"features: widths {a.shape[1]} and {b.shape[1]}; use one extractor for both"
        )
    if not 2 <= size <= min(len(a), len(b)) or number < 1:
        raise CausalCXRError(
            f"{number} subsets of {size} from {len(a)} real and {len(b)} generated vectors; take "
            "at least one subset, of 2 vectors up to the smaller set"
        )
    # Two streams: the subsets of both sets are independent.
    drawn = zip(
        subsets(len(a), size, number, (seed, 0)),
        subsets(len(b), size, number, (seed, 1)),
        strict=True,
    )
    values = [_all_pairs(a[i].astype(np.float64), b[j].astype(np.float64)) for i, j in drawn]
    return KernelSubsets(np.array(values))


def subsets(n: int, size: int, number: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Return the positions of each subset, (number, size).

    Example:
        >>> subsets(5, 5, 2, 0).shape, sorted(subsets(5, 5, 1, 0)[0].tolist())
        ((2, 5), [0, 1, 2, 3, 4])
    """
    generator = np.random.default_rng(seed)
    return np.stack([generator.permutation(n)[:size] for _ in range(number)])


class Cubes:
    """Sums of (a b)^3 of centred vectors over blocks; the rest of the kernel has a closed form."""

    def __init__(self) -> None:
        self.sums: dict[tuple[Centred, Centred], float] = defaultdict(float)

    def add(self, a: Centred, b: Centred, rows: slice, columns: slice, block: Tensor) -> None:
        """Add a block from `products`: -2 a b^T; of one set with itself only half of them."""
        total = torch.linalg.vecdot(block.square(), block).double().sum().item() / -8
        self.sums[a, b] += 2 * total if a is b and rows != columns else total


def kernel_from_cubes(a: Centred, b: Centred, cubes: Cubes) -> float:
    """Return the kernel distance over all pairs, from the sums over blocks in float32.

    With x = m + a, y = m + b and the common mean m, k(x_i, y_j) = (u_i + v_j + r_ij)^3, where
    u_i = 1 + m m / d + m a_i / d, v_j = m b_j / d and r_ij = a_i b_j / d. Summed over pairs,

        sum (u + v)^3 + 3 (u + v)^2 r + 3 (u + v) r^2

    needs only weighted first and second moments of a and b, which are computed in float64. Only
    r^3, which is small and has both signs, is summed pair by pair in float32.

    Args:
        a: Real vectors.
        b: Generated ones, around the same centre.
        cubes: The sums over the blocks of (a, a), (b, b) and (a, b).
    """
    one, two = _Sums(a), _Sums(b)
    # Without the pairs of a vector with itself: the estimate is then unbiased.
    within = [
        (_pairs(sums, sums, cubes.sums[x, x]) - _diagonal(x)) / (len(x) * (len(x) - 1))
        for x, sums in ((a, one), (b, two))
    ]
    between = _pairs(one, two, cubes.sums[a, b]) / (len(a) * len(b))
    return float(sum(within) - 2 * between)


class _Sums:
    """Sums over centred vectors a, weighted by powers of p = m a / d.

    Args:
        x: The vectors.
    """

    def __init__(self, x: Centred) -> None:
        width = len(x.centre)
        self.scale, self.width = x.scale, width
        # With x and y around the common mean, x y / d + 1 = base + p_i + q_j + r_ij.
        self.base = 1 + x.centre @ x.centre / width
        self.powers = np.zeros(4)
        self.first = np.zeros((3, width))
        self.second = np.zeros((2, width, width))
        for rows in row_blocks(len(x)):
            a = x.source[rows] - x.centre
            # The part of each vector along the mean, and the sums of its powers.
            p = a @ x.centre / width
            power = p ** np.arange(4)[:, None]
            self.powers += power.sum(1)
            self.first += power[:3] @ a
            self.second[0] += a.T @ a
            self.second[1] += (a * p[:, None]).T @ a


def _pairs(a: _Sums, b: _Sums, cubes: float) -> float:
    """Return the sum of (c + p_i + q_j + r_ij)^3 over all pairs, c being the base."""
    c, d = a.base, a.width
    p, q = a.powers, b.powers
    # Sums of u^k with u = c + p, for k = 0 to 3.
    u = [p[0], c * p[0] + p[1], c * c * p[0] + 2 * c * p[1] + p[2]]
    u += [c**3 * p[0] + 3 * c * c * p[1] + 3 * c * p[2] + p[3]]
    # The cube of a sum, term by term: only r^3 needs all pairs.
    cube = u[3] * q[0] + 3 * u[2] * q[1] + 3 * u[1] * q[2] + u[0] * q[3]
    one = c * a.first[0] + a.first[1]
    two = c * c * a.first[0] + 2 * c * a.first[1] + a.first[2]
    square = (two @ b.first[0] + 2 * one @ b.first[1] + a.first[0] @ b.first[2]) / d
    weighted = c * a.second[0] + a.second[1]
    line = (np.vdot(weighted, b.second[0]) + np.vdot(a.second[0], b.second[1])) / d**2
    return float(cube + 3 * square + 3 * line + cubes * a.scale**6 / d**3)


def _diagonal(x: Centred) -> float:
    """Return the sum of k(x_i, x_i)."""
    squares = (np.square(x.source[rows], dtype=np.float64).sum(1) for rows in row_blocks(len(x)))
    return float(sum(((s / len(x.centre) + 1) ** 3).sum() for s in squares))


def _all_pairs(a: np.ndarray, b: np.ndarray) -> float:
    """Return the distance, with all pairs at once."""
    parts = []
    for x in (a, b):
        table = _table(x, x)
        parts.append((table.sum() - np.trace(table)) / (len(x) * (len(x) - 1)))
    return float(sum(parts) - 2 * _table(a, b).mean())


def _table(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.shape[1] != b.shape[1]:
        raise CausalCXRError(f"features: widths {a.shape[1]} and {b.shape[1]}; use one extractor")
    return (a @ b.T / a.shape[1] + 1) ** 3
