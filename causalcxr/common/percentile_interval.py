"""Percentile intervals of bootstrap draws, some of which may be undefined."""

from dataclasses import dataclass

import numpy as np

from causalcxr.common.errors import CausalCXRError

__all__ = ["Bounds", "draw_quantile", "percentile_interval"]

# As a share of the draws; `percentile_interval` says why it is 5 %.
_MOST_UNDEFINED = 0.05


@dataclass(frozen=True, eq=False)
class Bounds:
    """Hold the bounds of one interval or many.

    Args:
        low: Lower bounds, shape (...); NaN where undefined.
        high: Upper bounds.
        level: The nominal coverage.
        undefined: Number of draws that were undefined and left out, shape (...); 0 without draws.
    """

    low: np.ndarray
    high: np.ndarray
    level: float
    undefined: np.ndarray


def percentile_interval(draws: np.ndarray, level: float = 0.95) -> Bounds:
    """Return the bounds between which the middle `level` of the draws lies.

    A draw is undefined (NaN) if its sample has no figure, such as a sensitivity without positives.
    Undefined draws are left out and counted. There is no interval if more than 5 % are undefined:
    draws become undefined because their samples are extreme, and what is left out then has as much
    mass as both tails of a 95 % interval, so that it alone could decide where the ends lie. A
    sensitivity has an interval from about three positive patients on, as exp(-3) = 0.05.

    Args:
        draws: Shape (draws, ...).
        level: Coverage.

    Returns:
        Bounds of shape (...), interpolated linearly as in `numpy.quantile`; NaN where more than
        5 % of the draws are undefined, or there are none.

    Raises:
        CausalCXRError: If the level is not above 0 and below 1.

    Example:
        >>> interval = percentile_interval(np.append(np.arange(101.0), np.nan), 0.5)
        >>> float(interval.low), float(interval.high), int(interval.undefined)
        (25.0, 75.0, 1)
    """
    if not 0 < level < 1:
        raise CausalCXRError(f"interval: level {level} is not above 0 and below 1; give 0.95")
    draws = np.asarray(draws, dtype=float)
    low, high = (draw_quantile(draws, q) for q in ((1 - level) / 2, (1 + level) / 2))
    return Bounds(low, high, level, np.isnan(draws).sum(0))


def draw_quantile(draws: np.ndarray, q: np.ndarray | float) -> np.ndarray:
    """Return a quantile of the defined draws of each figure; NaN where over 5 % are undefined.

    Unlike `numpy.nanquantile` it takes a probability of its own for each figure, as intervals with
    bias correction need; else both are bit-exact.

    Args:
        draws: Shape (draws, ...), NaN where undefined.
        q: Probabilities, one for all figures or shape (...); NaN gives NaN.

    Returns:
        Shape (...).

    Example:
        >>> draw_quantile(np.array([[3.0, 0.0], [1.0, 10.0]]), np.array([0.5, 0.1])).tolist()
        [2.0, 1.0]
    """
    ordered = np.sort(draws, axis=0)  # NaN at the end
    n_defined = (~np.isnan(draws)).sum(0)
    q = np.broadcast_to(q, n_defined.shape)
    # Without draws there is nothing to take a quantile of.
    if not len(draws):
        return np.full(n_defined.shape, np.nan)
    # The two draws beside the quantile, and the place between them.
    place = np.nan_to_num(q) * np.maximum(n_defined - 1, 0)
    lower = np.floor(place).astype(int)
    upper = np.minimum(lower + 1, np.maximum(n_defined - 1, 0))
    a, b = (np.take_along_axis(ordered, i[None], axis=0)[0] for i in (lower, upper))
    # Start from the nearer draw, as numpy does, so that the last digit is the same.
    t = place - lower
    value = np.where(t < 0.5, a + (b - a) * t, b - (b - a) * (1 - t))
    # Enough draws must be defined; a probability of NaN gives NaN.
    enough = (n_defined > 0) & (n_defined >= (1 - _MOST_UNDEFINED) * len(draws))
    return np.where(enough & ~np.isnan(q), value, np.nan)
