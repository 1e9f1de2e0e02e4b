"""Random numbers for many particles per record: evenly spread, and specific to the record."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.stats import qmc

from causalcxr.common.random_numbers import Draws

__all__ = ["RotatedDraws"]


@dataclass(frozen=True)
class RotatedDraws(Draws):
    """Give the particles of a record randomly rotated points of the Sobol' sequence.

    A rotation modulo 1 keeps the numbers of every particle uniform, and the points spread them
    evenly: the error of an average of a smooth function falls nearly as 1/size, not as
    1/sqrt(size).

    Args:
        size: Particles per record, a power of two; `keys` repeats each record this many times.
        first: The first dimension of the points; other variables use other dimensions.

    Example:
        >>> draws = RotatedDraws(np.repeat(np.uint64(7), 8), size=8)
        >>> sorted((draws.uniform()[:, 0] * 8).astype(int).tolist())
        [0, 1, 2, 3, 4, 5, 6, 7]
    """

    size: int = 1
    first: int = 0

    def uniform(self, k: int = 1) -> np.ndarray:
        """Return k numbers per particle, strictly between 0 and 1, shape (n, k), float64."""
        draw = self.draw[:: self.size] if isinstance(self.draw, np.ndarray) else self.draw
        shift = Draws(self.keys[:: self.size], self.seed, self.stream, draw).uniform(k)
        points = _points(self.size, self.first + k)[:, self.first :]
        u = (shift[:, None] + points) % 1.0
        return u.clip(2.0**-53, 1 - 2.0**-53).reshape(-1, k)


@lru_cache(maxsize=64)
def _points(size: int, dimensions: int) -> np.ndarray:
    """Return the first points of the Sobol' sequence, shape (size, dimensions)."""
    points = qmc.Sobol(dimensions, scramble=False).random_base2(size.bit_length() - 1)
    points.flags.writeable = False
    return points
