"""The dequantised flow: between noise in R^K and K lifted levels, with nothing to learn but p.

Level k is lifted to x in R^K: coordinate k positive, the others negative, each |x_i| the size of
a standard normal number. So each level is an open set and not a single point, which a flow could
not invert. The rectified flow from u ~ N(0, I) to x has a velocity in closed form. With the
straight path scaled to unit variance, y = u cos(a) + x sin(a), it is

    dy_i/da = E[x_i cos(a) - u_i sin(a) | y] = r_i h(z_i) - (1 - r_i) h(-z_i)
    z = y tan(a),    h = phi / Phi,    r = softmax_i(log p_i + log Phi(z_i) - log Phi(-z_i))

where r is the probability of each level given y. Flow matching on lifted levels would converge to
this velocity; it needs nothing but the distribution p(level | parents).

References:
    | Flow Straight and Fast (Liu et al., 2022)
    | https://arxiv.org/abs/2209.03003
    | Argmax Flows and Multinomial Diffusion (Hoogeboom et al., 2021), levels as cells of R^K
    | https://arxiv.org/abs/2102.05379
"""

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import chunks

__all__ = ["draw_noise", "lift", "to_lift", "to_noise"]

_STEPS = 12
_REFINED = 6.0  # the last step is a sixth of an equal one: the velocity changes fastest there
_REACH = 26.0  # of z / sqrt(2): beyond, Phi(-z) is 1e-295
_LEAD = 1e-6  # the least lead of the level's coordinate, larger than any rounding error
# Each try draws new numbers for the rows that failed.
_TRIES = 40


def _angles() -> list[float]:
    shares = [i * _REFINED / (i * _REFINED + _STEPS - i) for i in range(_STEPS + 1)]
    return [share * math.pi / 2 for share in shares]


_GRID = _angles()


def lift(level: Tensor, v: Tensor) -> Tensor:
    """Return the point of a level's cell at some uniform coordinates, shape (n, K).

    Args:
        level: Positions, shape (n,), int64.
        v: Uniform numbers, shape (n, K).

    Example:
        >>> lift(torch.tensor([1]), torch.tensor([[0.5, 0.5]])).sign().tolist()
        [[-1.0, 1.0]]
    """
    # Sizes are half-normal; only the level's own coordinate is positive.
    size = torch.special.ndtri((1 + v) / 2)
    return (-size).scatter(1, level[:, None], size.gather(1, level[:, None]))


def to_noise(x: Tensor, log_probs: Tensor) -> Tensor:
    """Return u, shape (n, K), of lifted levels.

    Args:
        x: Lifted levels, shape (n, K).
        log_probs: The distribution of the levels, shape (n, K) or (1, K).
    """
    return _carry(x, log_probs, _GRID[::-1])


def to_lift(u: Tensor, log_probs: Tensor) -> Tensor:
    """Return x, shape (n, K): the level is where it is largest.

    Args:
        u: Noise, shape (n, K).
        log_probs: The distribution of the levels, shape (n, K) or (1, K).

    Example:
        >>> p = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64)
        >>> u = torch.tensor([[0.5, 0.2, 2.0]], dtype=torch.float64)
        >>> to_lift(u, p.log()).sign().tolist()
        [[-1.0, -1.0, 1.0]]
    """
    return _carry(u, log_probs, _GRID)


def draw_noise(level: Tensor, log_probs: Tensor, draws: Draws) -> Tensor:
    """Return a draw of u given the level, shape (n, K).

    The lift is the only randomness, and it follows the flow's own distribution within the cell. A
    draw that the solver's error moves to another cell is drawn again, so each u returns its level.

    Args:
        level: Positions, shape (n,), int64.
        log_probs: The distribution of the levels, shape (n, K) or (1, K).
        draws: The random numbers of the n records.

    Raises:
        MechanismError: If no draw of some row returns its level.

    Example:
        >>> import numpy as np
        >>> p = torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64)
        >>> level = torch.tensor([0, 1, 2, 2])
        >>> u = draw_noise(level, p.log(), Draws(np.arange(4, dtype=np.uint64)))
        >>> to_lift(u, p.log()).argmax(1).tolist()
        [0, 1, 2, 2]
    """
    k = log_probs.shape[1]
    u = torch.empty(len(level), k, dtype=torch.float64)
    rest = torch.arange(len(level))
    for attempt in range(_TRIES):
        if not len(rest):
            return u
        v = draws.rows(rest.numpy()).uniform(k * (attempt + 1))[:, k * attempt :]
        log_p = log_probs if len(log_probs) == 1 else log_probs[rest]
        noise = to_noise(lift(level[rest], torch.from_numpy(v)), log_p)
        # Keep the draws that return to their own level; the rest are drawn again.
        returns = _lead(to_lift(noise, log_p), level[rest]) > _LEAD
        u[rest[returns]] = noise[returns]
        rest = rest[~returns]
    raise MechanismError(
        f"the dequantised flow does not return the level in {len(rest)} of {len(level)} rows; "
        "use coupling: gumbel or ot"
    )


def _lead(x: Tensor, level: Tensor) -> Tensor:
    """Return by how much the level's coordinate is the largest, shape (n,)."""
    # The level's own coordinate must not compete with itself.
    own = x.gather(1, level[:, None])
    return (own - x.scatter(1, level[:, None], -torch.inf)).amin(1)


def _carry(y: Tensor, log_probs: Tensor, grid: Sequence[float]) -> Tensor:
    """Solve the equation along a grid of angles, chunk by chunk."""
    out = torch.empty_like(y)
    for rows in chunks(len(y)):
        out[rows] = _solve(y[rows], log_probs if len(log_probs) == 1 else log_probs[rows], grid)
    return out


def _solve(y: Tensor, log_probs: Tensor, grid: Sequence[float]) -> Tensor:
    """Integrate with the Runge-Kutta method of order four."""
    for here, there in pairwise(grid):
        h = there - here
        k1 = _velocity(y, here, log_probs)
        k2 = _velocity(y + h / 2 * k1, here + h / 2, log_probs)
        k3 = _velocity(y + h / 2 * k2, here + h / 2, log_probs)
        k4 = _velocity(y + h * k3, there, log_probs)
        y = y + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4)
    return y


def _velocity(y: Tensor, angle: float, log_probs: Tensor) -> Tensor:
    """Return dy/da, shape (n, K).

    Phi(z) = exp(-z^2 / 2) erfcx(-z / sqrt 2) / 2, so the exponentials cancel in h and in r.
    """
    z = (y * (math.tan(angle) / math.sqrt(2))).clamp(-_REACH, _REACH)
    up, down = torch.special.erfcx(-z), torch.special.erfcx(z)
    r = torch.softmax(log_probs + up.log() - down.log(), 1)
    return math.sqrt(2 / math.pi) * (r / up - (1 - r) / down)
