"""One exact and four incorrect ways to abduct a discrete variable, for docs/abduction.md.

A binary variable has P(1) = p given its factual parents and q given the twin's parents. Each way
takes the facts x, shape (n,), and returns the twins under p (the null intervention) and under q.
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
    """Draw the noise from its distribution within the cell, as the package does."""
    before, after = (_monotone(each) for each in (p, q))
    u = before.abduct(torch.from_numpy(x), draws)
    return before.predict(u).numpy(), after.predict(u).numpy()


def single_point(x: np.ndarray, p: float, q: float, draws: Draws) -> tuple[np.ndarray, np.ndarray]:
    """Map each level to one point, as the inverse of a flow to one-hot vectors does.

    The inverse gives the same noise to all records in a cell, so the distance from the edge of the
    cell is lost and no twin ever changes.
    """
    return x, x


def uniform_dequantisation(
    x: np.ndarray, p: float, q: float, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """Add uniform noise; but within a cell the distribution of the flow is not uniform."""
    return _by_flow(x + draws.uniform()[:, 0], p, q)


def normal_dequantisation(
    x: np.ndarray, p: float, q: float, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """Add normal noise of standard deviation .3 around the middle of the cell."""
    return _by_flow(np.clip(x + 0.5 + 0.3 * draws.normal()[:, 0], 1e-9, 2 - 1e-9), p, q)


def gumbel_bounded_by_noise(
    x: np.ndarray, p: float, q: float, draws: Draws
) -> tuple[np.ndarray, np.ndarray]:
    """Truncate the losing Gumbels at the winner's noise, not at noise plus log-probability."""
    level = x.astype(int)[:, None]
    before, after = (np.log([1 - each, each]) for each in (p, q))
    g = draws.gumbel(3)
    top = g[:, :1] - before[level]  # correct for the winner: its sum is g
    u = (
        -np.logaddexp(-top, -(g[:, 1:] + before)) - before
    )  # wrong: the bound of the sum is g, not top
    np.put_along_axis(u, level, top, 1)
    return (u + before).argmax(1).astype(float), (u + after).argmax(1).astype(float)


WAYS: dict[str, Way] = {
    "noise drawn from its cell (exact)": exact,
    "one point per level": single_point,
    "uniform dequantisation": uniform_dequantisation,
    "normal dequantisation": normal_dequantisation,
    "Gumbels truncated at the noise": gumbel_bounded_by_noise,
}


def measured(p: float = 0.2, q: float = 0.5, n: int = 200_000) -> dict[str, tuple[float, ...]]:
    """Return for each way: the share that the null intervention reproduces, P(1), P(0 -> 1).

    The exact values are 1, q, and max(0, q - p) / (1 - p).
    """
    draws = Draws(np.arange(n, dtype=np.uint64), stream="X")
    x = (draws.on("facts").uniform()[:, 0] < p).astype(float)
    results = {}
    for name, way in WAYS.items():
        null, twin = way(x, p, q, draws)
        results[name] = (float((null == x).mean()), float(twin.mean()), float(twin[x == 0].mean()))
    return results


def _monotone(p: float) -> MonotoneEquation:
    mechanism = DiscreteMechanism(Variable("X", "binary"), [])
    return MonotoneEquation(mechanism, torch.tensor([[1 - p, p]], dtype=torch.float64).log())


def _by_flow(dequantised: np.ndarray, p: float, q: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the levels by a flow x~ = 2 Phi(u + shift) whose upper half has mass p or q."""
    u = ndtri(dequantised / 2) - ndtri(p)
    null, twin = (2 * ndtr(u + ndtri(each)) for each in (p, q))
    return (null >= 1).astype(float), (twin >= 1).astype(float)
