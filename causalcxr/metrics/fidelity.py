"""Fidelity of generated images: all distances between two sets of features in one pass."""

from dataclasses import asdict, dataclass

import pandas as pd

from causalcxr.metrics.frechet import Moments, frechet_of
from causalcxr.metrics.inputs import Array
from causalcxr.metrics.kernel import Cubes, kernel_from_cubes
from causalcxr.metrics.prdc import prdc_of, read_sets

__all__ = ["Fidelity", "fidelity"]


@dataclass(frozen=True)
class Fidelity:
    """Hold the distances between the distributions of generated and real features.

    Args:
        frechet: See `frechet`; with Rad-DINO's vectors the FDD.
        kernel: See `kernel`; with Rad-DINO's vectors the KDD.
        precision: See `prdc`.
        recall: Likewise.
        density: Likewise.
        coverage: Likewise.
        real: The number of real vectors.
        generated: The number of generated ones.
        k: The neighbour that sets the radius of balls.
    """

    frechet: float
    kernel: float
    precision: float
    recall: float
    density: float
    coverage: float
    real: int
    generated: int
    k: int

    @property
    def table(self) -> pd.DataFrame:
        """The same as a table of one row."""
        return pd.DataFrame([asdict(self)])


def fidelity(real: Array, generated: Array, *, k: int = 5) -> Fidelity:
    """Return Frechet and kernel distance, precision, recall, density and coverage.

    They are those of `frechet`, `kernel` and `prdc`; the kernel and the balls share the products
    of all pairs, so that both cost little more than one of them.

    References:
        CheXGenBench, arXiv:2505.10496, reports these for Rad-DINO's vectors with k = 5.

    Args:
        real: Shape (n, d), n > k.
        generated: Shape (m, d), m > k.
        k: The neighbour that sets the radius of balls.

    Raises:
        CausalCXRError: If there are too few vectors, widths differ, or vectors are not finite or
            all the same.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> result = fidelity(rng.normal(size=(200, 3)), rng.normal(size=(200, 3)))
        >>> result.frechet < 0.1, abs(result.kernel) < 0.1, result.coverage > 0.9
        (True, True, True)
    """
    a, b = read_sets(real, generated, k)
    # One pass over the products serves the balls and the kernel.
    cubes = Cubes()
    balls = prdc_of(a, b, k=k, watch=cubes.add)
    return Fidelity(
        frechet_of(Moments.from_vectors(a.source), Moments.from_vectors(b.source)),
        kernel_from_cubes(a, b, cubes),
        balls.precision,
        balls.recall,
        balls.density,
        balls.coverage,
        len(a),
        len(b),
        k,
    )
