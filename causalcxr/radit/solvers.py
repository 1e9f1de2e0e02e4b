"""Solvers that run back the way they came.

Reversible Heun (Kidger et al., "Efficient and Accurate Gradients for Neural SDEs", arXiv:2105.13493) carries a pair
(y, q): one velocity a step, second order, and an algebraic inverse. In floating point an algebraic inverse still leaks
rounding. Here the state is float64 on a lattice: times are multiples of 2^-10 and velocities are rounded to multiples of
2^-30, so every product and sum is exact and the way back returns the very bits, at any number of steps.
"""

from collections.abc import Callable

import torch
from torch import Tensor

__all__ = ["on_lattice", "reversible_heun", "times"]

Velocity = Callable[[Tensor, float], Tensor]

_STATE = 2.0**41
_VELOCITY = 2.0**30


def on_lattice(x: Tensor) -> Tensor:
    """Round to float64 multiples of 2^-41, finer than any 16-bit image."""
    return (x.double() * _STATE).round() / _STATE


def times(steps: int, shift: float = 3.0) -> list[float]:
    """Return steps + 1 times from image (1) to noise (0), multiples of 1/1024, finer near the image.

    Example:
        >>> times(4)
        [1.0, 0.900390625, 0.75, 0.5, 0.0]
    """
    if not 1 <= steps <= 256:
        raise ValueError(f"solver steps must be 1 to 256, got {steps}")
    s = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    noise = s / (s + shift * (1 - s))
    return ((1 - noise) * 1024).round().div(1024).tolist()


def reversible_heun(f: Velocity, state: Tensor, grid: list[float], *, back: bool = False) -> Tensor:
    """Carry the pair (y, q) along the grid.

        q1 = 2 y0 - q0 + h f(q0, t0)
        y1 = y0 + h/2 (f(q0, t0) + f(q1, t1))

    The same equations with h < 0, solved for (y0, q0), lead back.

    Args:
        f: The velocity at (x, t), any precision.
        state: The pair, (B, 2, ...), float64 on the lattice.
        grid: The times to pass, see `times`.
        back: False carries along the grid; True undoes exactly that, from its last time to its first.

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
    for here, there in zip(grid[:-1], grid[1:], strict=True):
        h = there - here
        q = 2 * y - q + h * v
        w = velocity(q, there)
        y = y + (h / 2) * (v + w)
        v = w
    return torch.stack([y, q], 1)
