"""Solvers of the flow, each a short step; two of them are exactly reversible.

A state is float64 on a lattice: times are multiples of 2^-10 and velocities are rounded to
multiples of 2^-30, so each product and sum of the reversible solvers is a multiple of 2^-41,
exact while it stays below 2^12, and the way back is bit-exact, with any number of steps. The other
solvers return up to their error.

References:
    Reversible Heun: Efficient and Accurate Gradients for Neural SDEs (Kidger et al.),
    arXiv:2105.13493.
    Asynchronous leapfrog: MALI (Zhuang et al.), arXiv:2102.04668.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError, nearest

__all__ = ["SOLVERS", "carry", "on_lattice", "solver", "times"]

Velocity = Callable[[Tensor, float], Tensor]

_STATE = 2.0**41  # 2^-30 of a velocity, 2^-10 of a time, and a half
_VELOCITY = 2.0**30


def on_lattice(x: Tensor) -> Tensor:
    """Round to float64 multiples of 2^-41, finer than any 16-bit image."""
    return (x.double() * _STATE).round() / _STATE


def times(steps: int, start: float = 1.0, shift: float = 3.0) -> list[float]:
    """Return steps + 1 times from image (1) to noise (0), multiples of 1/1024.

    They are finer near the image, where the velocity changes fastest: a share
    s / (s + shift (1 - s)) of the path after a share s of the steps.

    Args:
        steps: The number of steps, 1 to 256.
        start: The first time; below 1 for an image with a grain.
        shift: 1 for equal steps; a larger shift is finer near the image.

    Raises:
        MechanismError: If steps is out of range.

    Example:
        >>> times(4)
        [1.0, 0.900390625, 0.75, 0.5, 0.0]
    """
    if not 1 <= steps <= 256:
        raise MechanismError(f"solver_steps is {steps}; expected 1 to 256")
    s = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
    # Rounded to multiples of 1/1024, so that step sizes are exact on the lattice.
    left = 1 - s / (s + shift * (1 - s))
    return (start * left * 1024).round().div(1024).tolist()


def _euler(f: Velocity, y: Tensor, t: float, h: float) -> Tensor:
    """y1 = y0 + h f(y0, t0)."""
    return y + h * f(y, t)


def _midpoint(f: Velocity, y: Tensor, t: float, h: float) -> Tensor:
    """y1 = y0 + h f(y0 + h/2 f(y0, t0), t0 + h/2)."""
    return y + h * f(y + (h / 2) * f(y, t), t + h / 2)


def _heun(f: Velocity, y: Tensor, t: float, h: float) -> Tensor:
    """y1 = y0 + h/2 (f(y0, t0) + f(y0 + h f(y0, t0), t1))."""
    v = f(y, t)
    return y + (h / 2) * (v + f(y + h * v, t + h))


def _plain(step: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Return a solver of states (B, 2, ...) that moves the first half and keeps the second."""

    def solve(f: Velocity, state: Tensor, grid: list[float]) -> Tensor:
        y, kept = state.unbind(1)
        for here, there in pairwise(grid):
            y = step(f, y, here, there - here)
        return torch.stack([on_lattice(y), kept], 1)

    return solve


def _reversible_heun(f: Velocity, state: Tensor, grid: list[float]) -> Tensor:
    """Carry the pair (y, q), q = y at the image; one velocity a step, second order.

        q1 = 2 y0 - q0 + h f(q0, t0)
        y1 = y0 + h/2 (f(q0, t0) + f(q1, t1))

    The same equations with h < 0, solved for (y0, q0), lead back.
    """
    # One call of f per step: the last velocity of a step is the first of the next.
    y, q = state.unbind(1)
    v = f(q, grid[0])
    for here, there in pairwise(grid):
        h = there - here
        q = 2 * y - q + h * v
        w = f(q, there)
        y = y + (h / 2) * (v + w)
        v = w
    return torch.stack([y, q], 1)


def _leapfrog(f: Velocity, state: Tensor, grid: list[float]) -> Tensor:
    """Carry (y, v), stored as y and the velocity's error v - f(y, t), 0 at the image.

        y+ = y0 + h/2 v0,   v1 = 2 f(y+, t0 + h/2) - v0,   y1 = y+ + h/2 v1

    Under other parents the velocity differs, and its error is kept.
    """
    # Half a step, reflect the velocity at the midpoint, half a step.
    y, off = state.unbind(1)
    v = f(y, grid[0]) + off
    for here, there in pairwise(grid):
        h = there - here
        y = y + (h / 2) * v
        v = 2 * f(y, here + h / 2) - v
        y = y + (h / 2) * v
    return torch.stack([y, v - f(y, grid[-1])], 1)


@dataclass(frozen=True)
class Solver:
    """A method that carries a state along times.

    Args:
        name: Its name in reports.
        solve: (velocity, state (B, 2, ...), times) -> state.
        reversible: Whether the way back is bit-exact.
        twin: Whether the second half starts as a copy of the first, or as zero.
    """

    name: str
    solve: Callable[[Velocity, Tensor, list[float]], Tensor]
    reversible: bool
    twin: bool = False

    def start(self, y: Tensor) -> Tensor:
        """Return the state (B, 2, ...) of images or of noise (B, ...)."""
        return torch.stack([y, y if self.twin else torch.zeros_like(y)], 1)


SOLVERS: Mapping[str, Solver] = {
    "reversible": Solver("reversible Heun", _reversible_heun, True, twin=True),
    "leapfrog": Solver("asynchronous leapfrog", _leapfrog, True),
    "midpoint": Solver("midpoint with residual carry", _plain(_midpoint), False),
    "heun": Solver("Heun with residual carry", _plain(_heun), False),
    "euler": Solver("Euler with residual carry", _plain(_euler), False),
}


def solver(name: str) -> Solver:
    """Return a solver by its name.

    Raises:
        MechanismError: If there is no solver of this name.
    """
    if name not in SOLVERS:
        raise MechanismError(
            f"no solver {name!r}{nearest(name, SOLVERS)}; use {', '.join(SOLVERS)}"
        )
    return SOLVERS[name]


def carry(
    name: str, f: Velocity, state: Tensor, grid: list[float], *, back: bool = False
) -> Tensor:
    """Carry a state along the grid.

    Args:
        name: A solver.
        f: The velocity at (x, t), any precision.
        state: See `Solver.start`, (B, 2, ...), float64 on the lattice.
        grid: The times, see `times`.
        back: False carries along the grid; True from its last time to its first, which is the
            exact inverse if the solver is reversible.

    Example:
        >>> x = on_lattice(torch.rand(3, 4))
        >>> f = lambda y, t: torch.sin(3 * y) + t
        >>> there = carry("reversible", f, solver("reversible").start(x), times(8))
        >>> home = carry("reversible", f, there, times(8), back=True)
        >>> bool((home[:, 0] == x).all())
        True
    """

    def velocity(x: Tensor, t: float) -> Tensor:
        # Rounded velocities keep every sum and product exact in float64.
        return (f(x, t).double() * _VELOCITY).round() / _VELOCITY

    return solver(name).solve(velocity, state, grid[::-1] if back else grid)
