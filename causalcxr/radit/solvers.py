"""Solvers that run back the way they came.

Reversible Heun carries a pair (y, q): one velocity a step, second order, and an algebraic inverse.
In floating point an algebraic inverse still leaks rounding. Here the state is float64 on a
lattice: times are multiples of 2^-10 and velocities are rounded to multiples of 2^-30, so each
product and sum is a multiple of 2^-41, exact while it stays below 2^12, and the way back returns
the very bits, at any number of steps.

References:
    Efficient and Accurate Gradients for Neural SDEs (Kidger et al.), arXiv:2105.13493.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

from causalcxr.errors import MechanismError

__all__ = ["on_lattice", "reversible_heun", "times"]

Velocity = Callable[[Tensor, float], Tensor]

_STATE = 2.0**41  # 2^-30 of a velocity, 2^-10 of a time, and a half
_VELOCITY = 2.0**30


def on_lattice(x: Tensor) -> Tensor:
    """Round to float64 multiples of 2^-41, finer than any 16-bit image."""
    return (x.double() * _STATE).round() / _STATE


def times(steps: int, shift: float = 3.0) -> list[float]:
    """Return steps + 1 times from image (1) to noise (0), multiples of 1/1024.

    They are finer near the image, where the velocity bends most: noise = s / (s + shift (1 - s)).

    Args:
        steps: How many steps, 1 to 256.
        shift: 1 for equal steps; larger is finer near the image.

    Raises:
        MechanismError: If steps is out of range.

    Example:
        >>> times(4)
        [1.0, 0.900390625, 0.75, 0.5, 0.0]
    """
    if not 1 <= steps <= 256:
        raise MechanismError(f"solver_steps is {steps}; expected 1 to 256")
    s = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    noise = s / (s + shift * (1 - s))
    return ((1 - noise) * 1024).round().div(1024).tolist()


def reversible_heun(
    f: Velocity, state: Tensor, grid: list[float], *, back: bool = False
) -> Tensor:
    """Carry the pair (y, q) along the grid.

        q1 = 2 y0 - q0 + h f(q0, t0)
        y1 = y0 + h/2 (f(q0, t0) + f(q1, t1))

    The same equations with h < 0, solved for (y0, q0), lead back.

    Args:
        f: The velocity at (x, t), any precision.
        state: The pair, (B, 2, ...), float64 on the lattice.
        grid: The times to pass, see `times`.
        back: False carries along the grid; True undoes exactly that, from last time to first.

    Example:
        >>> x = on_lattice(torch.rand(3, 1, 4))
        >>> there = reversible_heun(lambda y, t: torch.sin(3 * y) + t, x.expand(3, 2, 4), times(8))
        >>> home = reversible_heun(lambda y, t: torch.sin(3 * y) + t, there, times(8), back=True)
        >>> bool((home == x).all())
        True
    """
    y, q = state.unbind(1)

    def velocity(x: Tensor, t: float) -> Tensor:
        return (f(x, t).double() * _VELOCITY).round() / _VELOCITY

    grid = grid[::-1] if back else grid
    v = velocity(q, grid[0])
    for here, there in pairwise(grid):
        h = there - here
        q = 2 * y - q + h * v
        w = velocity(q, there)
        y = y + (h / 2) * (v + w)
        v = w
    return torch.stack([y, q], 1)
