"""A continuous normalising flow in one dimension, its discretised map inverted exactly.

References:
    | Flow Matching for Generative Modeling (Lipman et al., 2022)
    | https://arxiv.org/abs/2210.02747
    | Neural Ordinary Differential Equations (Chen et al., 2018), training by likelihood
    | https://arxiv.org/abs/1806.07366
    | Efficient and Accurate Gradients for Neural SDEs (Kidger et al., 2021), reversible Heun
    | https://arxiv.org/abs/2105.13493
"""

import math
from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn
from torchdiffeq import odeint

from causalcxr.common.errors import MechanismError
from causalcxr.graph.mechanism_options import ODE_OPTIONS, option_defaults
from causalcxr.mechanisms.cells import log_density
from causalcxr.mechanisms.parameter_network import ParameterNetwork, linear
from causalcxr.radit.solvers import carry, on_lattice, solver, times

__all__ = ["OPTIONS", "REVERSIBLE", "CNFKernel", "CNFMap"]

#: The solver that carries a pair; the others are fixed-step methods of torchdiffeq.
REVERSIBLE = "reversible"
#: Option -> default; a tuple lists the words allowed, the default first.
OPTIONS = {name: option_defaults("flow")[name] for name in ODE_OPTIONS}

_TOLERANCE = 1e-12  # relative, of the noise
# Steps of Newton's method, or of bisection, before giving up.
_TRIES = 60


class CNFMap:
    """Compute u by dz/dt = v(t, z), from t = 1 (the value) to t = 0 (the noise), in equal steps.

    The steps are the same for every row, so a row's solution is its own. The equation is *this*
    discretised map, not the differential equation: `inverse` solves it to the last digits, where
    integrating back would leave the solver's error in every counterfactual. The tangent takes the
    same steps, so the density is exact at any number of them.

    Args:
        kernel: The velocity, and how to solve it.
        features: The parents' part of the velocity, shape (n, h).
    """

    def __init__(self, kernel: "CNFKernel", features: Tensor) -> None:
        self.kernel = kernel
        self.features = features

    def __call__(self, z: Tensor) -> Tensor:
        """Return u, shape (..., n)."""
        return self._solve(z, self.features)

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and log du/dz of the discretised map, each of shape (..., n)."""
        u, slope = self._solve_with_slope(z, self.features)
        return u, slope.log()

    @torch.no_grad()
    def inverse(self, u: Tensor) -> Tensor:
        """Return z, shape (n,), by Newton's method from the solution backwards in time.

        A step that leaves the current bracket is replaced by the bracket's middle. Rows that have
        converged are not changed any more.

        Raises:
            MechanismError: If any row does not converge; no approximate value is returned.
        """
        # Start where the solver's backward solution ends.
        z = self._solve(u, self.features, back=True)
        left, here, aim, features = torch.arange(len(u)), z, u, self.features
        low, high = torch.full_like(u, -torch.inf), torch.full_like(u, torch.inf)
        z = z.clone()
        # Only unsolved rows are iterated; `left` holds their positions.
        for _ in range(_TRIES):
            value, slope = self._solve_with_slope(here, features)
            error = value - aim
            unsolved = ~(error.abs() <= _TOLERANCE * (1 + aim.abs()))
            z[left] = here
            if not unsolved.any():
                return z
            # The map increases: the sign of the error narrows the bracket.
            low, high = torch.where(error < 0, here, low), torch.where(error > 0, here, high)
            # A Newton step, at most about as long as the point is far from zero.
            new = here - (error / slope).clamp(-1 - here.abs(), 1 + here.abs())
            inside = (new > low) & (new < high)
            # Outside the bracket: bisect it, or step outwards while one end is open.
            apart = torch.where(low.isinf() | high.isinf(), here - error.sign(), (low + high) / 2)
            here = torch.where(inside, new, apart)
            left, here, aim, low, high = (t[unsolved] for t in (left, here, aim, low, high))
            features = features if len(features) == 1 else features[unsolved]
        raise MechanismError(
            f"the flow could not be inverted in {len(left)} of {len(u)} rows; raise ode_steps, "
            f"train it for longer, or use transform: spline"
        )

    @torch.no_grad()
    def carry(self, z: Tensor) -> Tensor:
        """Return the pair that the reversible solver makes of (z, z), shape (n, 2)."""
        start = solver(REVERSIBLE).start(on_lattice(z))
        return carry(REVERSIBLE, self._velocity, start, self.kernel.grid)

    @torch.no_grad()
    def carry_back(self, pair: Tensor) -> Tensor:
        """Return z, shape (n,), of a pair: the algebraic inverse, bit for bit while |z| < 2^12."""
        return carry(REVERSIBLE, self._velocity, pair, self.kernel.grid, back=True)[:, 0]

    def _velocity(self, z: Tensor, t: float) -> Tensor:
        return self.kernel.velocity(torch.tensor(t, dtype=torch.float64), z, self.features)

    def _solve(self, z: Tensor, features: Tensor, *, back: bool = False) -> Tensor:
        return self.kernel.solve(lambda t, z: self.kernel.velocity(t, z, features), z, back=back)

    def _solve_with_slope(self, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and du/dz, each of the shape of z."""

        def velocity(t: Tensor, state: Tensor) -> Tensor:
            v, slope = self.kernel.velocity_and_slope(t, state[0], features)
            return torch.stack((v, slope * state[1]))

        return self.kernel.solve(velocity, torch.stack((z, torch.ones_like(z)))).unbind(0)


class CNFKernel(nn.Module):
    """Compute v(t, z, c) = net(t, squash(z), c), the velocity between noise u and value x.

    Where the path is z = u cos(a) + x sin(a), a = pi t / 2, it is the mean of dz/dt. A straight
    path scaled to unit variance is this one: N(0, 1) to N(0, 1), which after the quantile map is
    nearly the whole way, needs no velocity at all. The network sees a bounded z, so far tails
    are only shifted: the map is increasing, and invertible at any distance.

    Args:
        width: The number of features of the parents.
        hidden: The width of the network.
        training: By the exact `likelihood` of the discretised map, or by flow `matching`, which
            needs more steps of the solver and a tenth of the time.
        solver: A fixed-step method of torchdiffeq, or `reversible`.
        ode_steps: The number of its steps, 1 to 256.

    Raises:
        MechanismError: If ode_steps is out of range.
    """

    located = False  # no parameter is the location of the distribution

    def __init__(
        self,
        width: int,
        *,
        hidden: int,
        training: str = "likelihood",
        solver: str = "midpoint",
        ode_steps: int = 4,
    ) -> None:
        super().__init__()
        if not 1 <= ode_steps <= 256:
            raise MechanismError(f"ode_steps is {ode_steps}; expected 1 to 256")
        self.solver = solver
        # Matching learns from points; the likelihood also from cells.
        self.pointwise = training == "matching"
        self.grid = times(ode_steps, shift=1.0)
        self.conditioner = ParameterNetwork(width, hidden, hidden)
        self.inlet = linear(6, hidden, bias=False)
        self.middle = linear(hidden, hidden)
        self.out = linear(hidden, 1)
        self.reset(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights; the network starts at zero, and so at the marginal."""
        self.conditioner.reset(generator)
        for layer in (self.inlet, self.middle):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-2 * bound, 2 * bound, generator=generator)
        self.conditioner.bias.uniform_(-1.0, 1.0, generator=generator)
        self.middle.bias.zero_()
        self.out.weight.zero_()
        self.out.bias.zero_()

    def bind(self, context: Tensor) -> CNFMap:
        """Return the map of each row; the parents' part of the network is computed once."""
        return CNFMap(self, self.conditioner(context))

    def solve(
        self, f: Callable[[Tensor, Tensor], Tensor], z: Tensor, *, back: bool = False
    ) -> Tensor:
        """Return z at the noise; or, of noise, z at the value as far as the solver goes.

        Args:
            f: dz/dt at (t, z), t a scalar.
            z: Any shape.
            back: Solve from t = 0 to t = 1.
        """
        grid = torch.tensor(self.grid[::-1] if back else self.grid, dtype=torch.float64)
        if self.solver != REVERSIBLE:
            return odeint(f, z, grid, method=self.solver)[-1]
        # The same steps as in `causalcxr.radit.solvers`, without rounding, which has no gradient.
        q, v = z, f(grid[0], z)
        for here, there in pairwise(grid):
            h = there - here
            q = 2 * z - q + h * v
            w = f(there, q)
            z, v = z + h / 2 * (v + w), w
        return z

    def velocity(self, t: Tensor, z: Tensor, features: Tensor) -> Tensor:
        """Return v, of the shape of z; t is a scalar or of that shape, features (n, h)."""
        hidden = features + self.inlet(_place(t, z / _far(z), z / _near(z)))
        hidden = self.middle(hidden * hidden.sigmoid())
        return math.pi / 2 * self.out(hidden * hidden.sigmoid()).squeeze(-1)

    def velocity_and_slope(self, t: Tensor, z: Tensor, features: Tensor) -> tuple[Tensor, Tensor]:
        """Return v and dv/dz, each of the shape of z."""
        # Values and their derivatives by z, side by side; d(z / far) / dz = far^-3.
        far, near = _far(z), _near(z)
        hidden = features + self.inlet(_place(t, z / far, z / near))
        tangent = self.inlet(_place(t, far.pow(-3), near.pow(-3), tangent=True))
        # silu and its derivative share the sigmoid.
        gate = hidden.sigmoid()
        tangent = tangent * gate * (1 + hidden * (1 - gate))
        hidden = self.middle(hidden * gate)
        tangent = tangent @ self.middle.weight.T
        gate = hidden.sigmoid()
        tangent = tangent * gate * (1 + hidden * (1 - gate))
        both = (self.out(hidden * gate), tangent @ self.out.weight.T)
        return tuple(math.pi / 2 * each.squeeze(-1) for each in both)

    def losses(
        self, ends: tuple[Tensor, ...], context: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return the loss of each row, shape (n,).

        By matching it is (dz/da - (x cos(a) - u sin(a)))^2 at z = u cos(a) + x sin(a), a and u
        drawn. By likelihood it is -log p of a point, or of a cell.

        Args:
            ends: The point x, or the two ends of its cell, each of shape (n,).
            context: Encoded parents, shape (n, d).
            generator: The source of a and u; a fixed one if not given.
        """
        if not self.pointwise:
            return -log_density(self.bind(context), ends)
        generator = generator or torch.Generator().manual_seed(0)
        x = ends[0]
        # Flow matching: a random time and noise for each row, on the circular path.
        t = torch.rand(x.shape, generator=generator, dtype=torch.float64)
        u = torch.randn(x.shape, generator=generator, dtype=torch.float64)
        cos, sin = (math.pi / 2 * t).cos(), (math.pi / 2 * t).sin()
        # The target is the path's derivative, both divided by pi / 2.
        v = self.velocity(t, u * cos + x * sin, self.conditioner(context))
        return (2 / math.pi * v - (x * cos - u * sin)).square()


def _far(z: Tensor) -> Tensor:
    return (1 + z.square() / 9).sqrt()


def _near(z: Tensor) -> Tensor:
    return (1 + z.square()).sqrt()


def _place(t: Tensor, far: Tensor, near: Tensor, *, tangent: bool = False) -> Tensor:
    """Return time and place as the network's input, shape (..., 6), or its derivative by z."""
    t = t.expand_as(far)
    alone = (torch.zeros_like(t),) * 2 if tangent else (t, t.square())
    return torch.stack((far, near, *alone, t * far, t * near), -1)
