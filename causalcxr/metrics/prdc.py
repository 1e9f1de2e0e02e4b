"""Precision, recall, density and coverage of two sets of features, by balls around vectors."""

from dataclasses import dataclass

import numpy as np

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics.centred import Centred, Watch, centred, distances, products
from causalcxr.metrics.inputs import Array, read_vectors
from causalcxr.metrics.neighbours import radii, squared_below, squared_limit

__all__ = ["PRDC", "prdc", "prdc_of", "read_sets"]


@dataclass(frozen=True)
class PRDC:
    """Hold four shares of two sets of vectors.

    Args:
        precision: Generated vectors in a ball of a real one, see `prdc`.
        recall: Real vectors in a ball of a generated one.
        density: The number of real balls that contain a generated vector, over k: 1 if the
            distributions are equal, and it may be more.
        coverage: Real vectors with a generated one in their ball.
        k: The neighbour that sets the radius of balls.
    """

    precision: float
    recall: float
    density: float
    coverage: float
    k: int


def prdc(real: Array, generated: Array, *, k: int = 5, watch: Watch | None = None) -> PRDC:
    """Return precision, recall, density and coverage, as in plain float64.

    The radius of a vector's ball B(x_i), which is open, is the distance to its k-th nearest other
    in its own set:

        precision = mean_j [y_j in some B(x_i)],   recall = mean_i [x_i in some B(y_j)],
        density = sum_ij [y_j in B(x_i)] / (k m),  coverage = mean_i [some y_j in B(x_i)].

    Distances come from products of blocks in float32; wherever rounding could change a decision,
    the two vectors are subtracted in float64. So the figures equal those from all distances in
    float64, with a few blocks in memory beside the vectors.

    References:
        Improved precision and recall metric (Kynkaanniemi et al.), arXiv:1904.06991.
        Reliable fidelity and diversity metrics (Naeem et al.), arXiv:2002.09797.

    Args:
        real: x, shape (n, d), n > k.
        generated: y, shape (m, d), m > k.
        k: Which neighbour.
        watch: Called with every block of products; see `causalcxr.metrics.fidelity`.

    Raises:
        CausalCXRError: If k is out of range, widths differ, or vectors are not finite or all the
            same.

    Example:
        >>> x = np.arange(10.0)[:, None]
        >>> prdc(x, x[2:6] + 0.25, k=1)
        PRDC(precision=1.0, recall=0.5, density=2.0, coverage=0.5, k=1)
    """
    return prdc_of(*read_sets(real, generated, k), k=k, watch=watch)


def read_sets(real: Array, generated: Array, k: int) -> tuple[Centred, ...]:
    """Return both sets checked and centred; see `prdc`."""
    sets = {"real": read_vectors("real", real), "generated": read_vectors("generated", generated)}
    for name, array in sets.items():
        if not 1 <= k < len(array):
            raise CausalCXRError(
                f"{name}: {len(array)} vectors and k = {k}; k must be at least 1 and below the "
                "number of vectors"
            )
    return centred(*sets.values())


def prdc_of(real: Centred, generated: Centred, *, k: int, watch: Watch | None = None) -> PRDC:
    """Return `prdc` of vectors that are checked and centred."""
    # The radius of each ball: the distance of its k-th neighbour in its own set.
    reach, others_reach = radii(real, k, watch), radii(generated, k, watch)
    limits = squared_limit(reach, real.scale)[:, None]
    others_limits = squared_limit(others_reach, real.scale)
    balls = np.zeros(len(generated), dtype=np.int64)
    covered, recalled = np.zeros(len(real), bool), np.zeros(len(real), bool)
    for rows, columns, block in products(real, generated):
        if watch is not None:
            watch(real, generated, rows, columns, block)
        squared = squared_below(real, generated, rows, columns, block)
        # Real balls with generated vectors inside: precision, density and coverage.
        i, j = _inside(real, generated, squared, limits[rows], reach, rows, columns, 0)
        balls += np.bincount(j, minlength=len(balls))
        covered[i] = True
        # Generated balls with real vectors inside: recall.
        limit = others_limits[columns]
        i, _ = _inside(real, generated, squared, limit, others_reach, rows, columns, 1)
        recalled[i] = True
    return PRDC(
        float((balls > 0).mean()),
        float(recalled.mean()),
        float(balls.mean() / k),
        float(covered.mean()),
        k,
    )


def _inside(
    a: Centred,
    b: Centred,
    squared: np.ndarray,
    limits: np.ndarray,
    reach: np.ndarray,
    rows: slice,
    columns: slice,
    side: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs of a block whose distance is below the radius of one of the two.

    Args:
        a: Vectors of the rows.
        b: Vectors of the columns.
        squared: Lower bounds of the block's squared distances.
        limits: Upper bounds of the squared radii.
        reach: The radius of each vector, of a for side 0 and of b for side 1.
        rows: The rows of the block.
        columns: Its columns.
        side: 0 for the radii of a, 1 for those of b.
    """
    # Candidates: pairs whose lower bound is below the limit.
    i, j = np.divmod(flat := np.flatnonzero(squared < limits), squared.shape[1])
    above = squared.ravel()[flat].astype(np.float64)
    i, j = i + rows.start, j + columns.start
    radius = reach[(i, j)[side]]
    # Pairs whose upper bound is inside are near; the others are decided in float64.
    above += 2 * (a.slack[i] + b.slack[j])
    near = above < np.square(radius / a.scale)
    unclear = np.flatnonzero(~near)
    near[unclear] = distances(a.source, i[unclear], b.source, j[unclear]) < radius[unclear]
    return i[near], j[near]
