"""Four ways to abduct a level wrongly, beside the exact one: what docs/abduction.md shows.

A binary variable has P(1) = p under its factual parents and q under the twin's. Each way takes the
facts x, shape (n,), and returns the twins under p (the null intervention) and under q.
"""

from collections.abc import Callable

import numpy as np
import torch
from scipy.special import ndtr, ndtri

from causalcxr import Variable
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.discrete import DiscreteMechanism, MonotoneEquation

__all__ = ["WAYS", "measured"]

Way = Callable[[np.ndarray, float, float, Draws], tuple[np.ndarray, np.ndarray]]


def exact(x: np.ndarray, p: float, q: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Draw the noise from its cell: what the package does."""
    before, after = (_monotone(each) for each in (p, q))
    u = before.abduct(torch.from_numpy(x), draws)
    return before.predict(u).numpy(), after.predict(u).numpy()


def atom(x: np.ndarray, p: float, q: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Send each level to one point, as the inverse of a flow onto one-hot vectors does.

    Every noise of a cell flows into its atom, and the way back has but one: nothing is left of the
    distance to the cell's edge, so no twin ever crosses it.
    """
    return x, x


def even_lift(x: np.ndarray, p: float, q: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Lift x evenly into [x, x + 1), where the model's own law in the cell is not even."""
    return _lifted(x + draws.uniform()[:, 0], p, q)


def stray_lift(x: np.ndarray, p: float, q: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Lift x by a normal number of standard deviation .3 about the middle of its cell."""
    return _lifted(np.clip(x + 0.5 + 0.3 * draws.normal()[:, 0], 1e-9, 2 - 1e-9), p, q)


def late_gumbel(x: np.ndarray, p: float, q: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Truncate the losers' Gumbels at the winner's noise, not at noise plus log-probability."""
    level = x.astype(int)[:, None]
    before, after = (np.log([1 - each, each]) for each in (p, q))
    g = draws.gumbel(3)
    top = g[:, :1] - before[level]  # right for the winner: its value is g
    u = -np.logaddexp(-top, -(g[:, 1:] + before)) - before  # the value's bound is g, not top
    np.put_along_axis(u, level, top, 1)
    return (u + before).argmax(1).astype(float), (u + after).argmax(1).astype(float)


WAYS: dict[str, Way] = {
    "noise drawn from its cell (exact)": exact,
    "one point a level": atom,
    "an even lift": even_lift,
    "a lift that leaves the cell": stray_lift,
    "Gumbels truncated at the noise": late_gumbel,
}


def measured(p: float = 0.2, q: float = 0.5, n: int = 200_000) -> dict[str, tuple[float, ...]]:
    """Return, for each way: the share that a null intervention returns, P(1), P(0 -> 1).

    The three of the true coupling are 1, q, and max(0, q - p) / (1 - p).
    """
    draws = Draws(np.arange(n, dtype=np.uint64), stream="X")
    x = (draws.on("facts").uniform()[:, 0] < p).astype(float)
    found = {}
    for name, way in WAYS.items():
        null, twin = way(x, p, q, draws)
        found[name] = (float((null == x).mean()), float(twin.mean()), float(twin[x == 0].mean()))
    return found


def _monotone(p: float) -> MonotoneEquation:
    mechanism = DiscreteMechanism(Variable("X", "binary"), [])
    return MonotoneEquation(mechanism, torch.tensor([[1 - p, p]], dtype=torch.float64).log())


def _lifted(lifted: np.ndarray, p: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels of a flow x~ = 2 Phi(u + shift) whose upper half has the mass p, or q."""
    u = ndtri(lifted / 2) - ndtri(p)
    null, twin = (2 * ndtr(u + ndtri(each)) for each in (p, q))
    return (null >= 1).astype(float), (twin >= 1).astype(float)
