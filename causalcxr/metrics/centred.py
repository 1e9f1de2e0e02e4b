"""Feature vectors centred for block products in float32, with a bound on the rounding error."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.inputs import row_blocks

__all__ = ["Centred", "Watch", "centred", "distances", "products"]

BLOCK = 2048
_PAIRS = 2048  # vectors that are subtracted from each other at once
_TINY = 1e-30  # beside a largest norm of 1; below it float32 has no digits left


@dataclass(frozen=True, eq=False)
class Centred:
    """Hold vectors x as a = (x - m) / s, with |a|^2 and the rounding error of float32 distances.

    m is the mean and s a power of two such that the largest |a| is at most 1; all sets of one
    comparison share both, so that distances are those of x divided by s.

    The product of float32 vectors of d entries, in any order of summation, is off by at most
    d u |a| |b| with u = 2^-24, see Higham, "Accuracy and stability of numerical algorithms",
    chapter 3. As 2 |a| |b| <= |a|^2 + |b|^2, a squared distance |a|^2 + |b|^2 - 2 a b in float32
    is within `slack` of a plus `slack` of b of the true one, where slack = u (2 d + 32) |a|^2
    also covers the sums and the conversion to float32.

    Args:
        source: x as given, shape (n, d).
        values: a, float32, shape (n, d).
        squares: |a|^2, float64, shape (n,).
        slack: Shape (n,), of squared distances.
        centre: m, shape (d,).
        scale: s.
    """

    source: np.ndarray
    values: Tensor
    squares: np.ndarray
    slack: np.ndarray
    centre: np.ndarray
    scale: float

    def __len__(self) -> int:
        return len(self.source)


#: Called with each block before it is used: the two sets, rows, columns, and -2 a b^T.
Watch = Callable[[Centred, Centred, slice, slice, Tensor], None]


def centred(*sets: np.ndarray) -> tuple[Centred, ...]:
    """Return checked sets of vectors around their common mean.

    Raises:
        CausalCXRError: If their numbers of features differ.

    Example:
        >>> a, b = centred(np.array([[0.0], [4.0]]), np.array([[8.0], [4.0]]))
        >>> a.centre.tolist(), a.scale, a.values.tolist(), b.values.tolist()
        ([4.0], 4.0, [[-1.0], [0.0]], [[1.0], [0.0]])
    """
    width = sets[0].shape[1]
    if others := [each for each in sets if each.shape[1] != width]:
        raise CausalCXRError(
            f"features: widths {width} and {others[0].shape[1]}; use one extractor for all"
        )
    # The common mean, in float64 and block by block.
    total = np.zeros(width)
    for each in sets:
        for rows in row_blocks(len(each)):
            total += each[rows].sum(0, dtype=np.float64)
    centre = total / sum(map(len, sets))
    # Squared norms in float64: distances are computed from them and the products.
    squares = [np.empty(len(each)) for each in sets]
    for each, lengths in zip(sets, squares, strict=True):
        for rows in row_blocks(len(each)):
            lengths[rows] = np.square(each[rows] - centre).sum(1)
    # Scale by a power of two, which rounds nothing.
    largest = np.sqrt(max(lengths.max() for lengths in squares))
    scale = float(2.0 ** np.ceil(np.log2(largest))) if largest > 0 else 1.0
    return tuple(_scaled(*pair, centre, scale) for pair in zip(sets, squares, strict=True))


def distances(a: np.ndarray, rows: np.ndarray, b: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return |a_i - b_j| of pairs, (p,), from differences in float64.

    Example:
        >>> distances(np.array([[0.0, 3.0]]), np.array([0]), np.array([[4.0, 0.0]]), np.array([0]))
        array([5.])
    """
    out = np.empty(len(rows))
    for part in row_blocks(len(rows), _PAIRS):
        # Subtracted in place, so that one buffer is enough.
        apart = a[rows[part]].astype(np.float64)
        apart -= b[columns[part]]
        out[part] = np.sqrt(np.square(apart, out=apart).sum(1))
    return out


def products(a: Centred, b: Centred) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield rows, columns and -2 a b^T, block by block, in a buffer that is reused.

    If a is b, only blocks on and above the diagonal are computed, those on it first: the others
    are their transposes.
    """
    tall, wide = list(row_blocks(len(a), BLOCK)), list(row_blocks(len(b), BLOCK))
    # A symmetric product: the diagonal blocks first, then those above it.
    if a is b:
        pairs = [(rows, rows) for rows in tall]
        pairs += [(one, two) for i, one in enumerate(tall) for two in tall[i + 1 :]]
    else:
        pairs = [(rows, columns) for rows in tall for columns in wide]
    buffer = torch.empty(BLOCK * BLOCK)
    for rows, columns in pairs:
        # The factor -2 of |a - b|^2 is exact in float32.
        left, right = a.values[rows], b.values[columns] * -2
        out = buffer[: len(left) * len(right)].view(len(left), len(right))
        yield rows, columns, torch.mm(left, right.T, out=out)


def _scaled(source: np.ndarray, squares: np.ndarray, centre: np.ndarray, scale: float) -> Centred:
    values = np.empty(source.shape, dtype=np.float32)
    for rows in row_blocks(len(source)):
        values[rows] = (source[rows] - centre) / scale
    squares = squares / scale**2
    # torch.set_float32_matmul_precision may allow products with fewer digits.
    unit = 2.0**-24 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8
    # A bound on the rounding error of a product of this width.
    slack = unit * (2 * source.shape[1] + 32) * (squares + _TINY)
    return Centred(source, torch.from_numpy(values), squares, slack, centre, scale)
