"""A continuous normalising flow in one dimension, trained by flow matching, inverted exactly.

References:
    | Flow Matching for Generative Modeling (Lipman et al., 2022)
    | https://arxiv.org/abs/2210.02747
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import silu
from torchdiffeq import odeint

from causalcxr.errors import MechanismError
from causalcxr.mechanisms.conditioner import Conditioner, linear

__all__ = ["CNFKernel", "CNFMap"]

_STEPS = 16
_TOLERANCE = 1e-12  # relative, of the noise
_TRIES = 40


class CNFMap:
    """Compute u by dz/dt = v(t, z), from t = 1 (the value) to t = 0 (the noise), in 16 RK4 steps.

    The steps are the same for every row, so a row's solution is its own. The equation is *this*
    discretised map, not the differential equation: `inverse` solves it to the last digits, where
    integrating back would leave the solver's error in every counterfactual.

    Args:
        kernel: The velocity.
        features: What the velocity has of the parents, shape (n, h).
    """

    def __init__(self, kernel: "CNFKernel", features: Tensor) -> None:
        self.kernel = kernel
        self.features = features

    def __call__(self, z: Tensor) -> Tensor:
        """Return u, shape (..., n)."""
        return self._solve(z, 1.0, 0.0)

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and log du/dz of the discretised map, each of shape (..., n)."""
        create = torch.is_grad_enabled()
        with torch.enable_grad():
            z = z if z.requires_grad else z.detach().requires_grad_()
            u = self._solve(z, 1.0, 0.0)
            (slope,) = torch.autograd.grad(u.sum(), z, create_graph=create)
        return (u, slope.log()) if create else (u.detach(), slope.log())

    @torch.no_grad()
    def inverse(self, u: Tensor) -> Tensor:
        """Return z, shape (n,), by Newton's method from the solution backwards in time.

        Raises:
            MechanismError: if any row does not converge; no approximate value is returned.
        """
        z = self._solve(u, 0.0, 1.0)
        low, high = torch.full_like(z, -torch.inf), torch.full_like(z, torch.inf)
        for _ in range(_TRIES):
            found, ladj = self.call_and_ladj(z)
            error = found - u
            open_ = ~(error.abs() <= _TOLERANCE * (1 + u.abs()))
            if not open_.any():
                return z
            low, high = torch.where(error < 0, z, low), torch.where(error > 0, z, high)
            new = z - (error * (-ladj).exp()).clamp(-1 - z.abs(), 1 + z.abs())
            outside = ~((new > low) & (new < high))
            middle = torch.where(low.isinf() | high.isinf(), z - error.sign(), (low + high) / 2)
            z = torch.where(open_, torch.where(outside, middle, new), z)
        raise MechanismError(
            f"the flow could not be inverted in {int(open_.sum())} of {len(u)} rows; "
            f"train it longer, or use transform: spline"
        )

    def _solve(self, z: Tensor, start: float, end: float) -> Tensor:
        times = torch.linspace(start, end, _STEPS + 1, dtype=torch.float64)
        return odeint(self._velocity, z, times, method="rk4")[-1]

    def _velocity(self, t: Tensor, z: Tensor) -> Tensor:
        return self.kernel.velocity(t, z, self.features)


class CNFKernel(nn.Module):
    """Compute v(t, z, c) = a(t) z + net(t, squash(z), c), a(t) = (2t - 1) / (t^2 + (1 - t)^2).

    The first term carries N(0, 1) to N(0, 1), which after the quantile map is nearly the whole
    way. The network sees a bounded z, so far tails stay linear: increasing, and invertible at any
    distance.

    Args:
        width: The number of features of the parents.
        hidden: The width of the network.
    """

    pointwise = True

    def __init__(self, width: int, *, hidden: int) -> None:
        super().__init__()
        self.parents = Conditioner(width, hidden, hidden)
        self.place = linear(6, hidden, bias=False)
        self.middle = linear(hidden, hidden)
        self.out = linear(hidden, 1)
        self.reset(torch.Generator().manual_seed(0))

    @torch.no_grad()
    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights anew; the network starts at zero."""
        self.parents.reset(generator)
        for layer in (self.place, self.middle):
            bound = layer.in_features**-0.5
            layer.weight.uniform_(-2 * bound, 2 * bound, generator=generator)
        self.parents.bias.uniform_(-1.0, 1.0, generator=generator)
        self.middle.bias.zero_()
        self.out.weight.zero_()
        self.out.bias.zero_()

    def bind(self, context: Tensor) -> CNFMap:
        """Return the map of each row; the parents' part of the network is computed once."""
        return CNFMap(self, self.parents(context))

    def velocity(self, t: Tensor, z: Tensor, features: Tensor) -> Tensor:
        """Return v, of the shape of z; t is a scalar or of that shape, features (n, h)."""
        drift = (2 * t - 1) / (t.square() + (1 - t).square()) * z
        squashed = z / (1 + z.square() / 9).sqrt()
        near = z / (1 + z.square()).sqrt()
        t = t.expand_as(z)
        place = torch.stack((squashed, near, t, t.square(), t * squashed, t * near), -1)
        hidden = silu(features + self.place(place))
        return drift + self.out(silu(self.middle(hidden))).squeeze(-1)

    def losses(
        self, ends: tuple[Tensor, ...], context: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return (v(t, z_t) - (z - u))^2 of each row, z_t = (1 - t) u + t z, t and u drawn.

        Args:
            ends: The point z, shape (n,).
            context: Encoded parents, shape (n, d).
            generator: The source of t and u; a fixed one if not given.
        """
        generator = generator or torch.Generator().manual_seed(0)
        z = ends[0]
        t = torch.rand(z.shape, generator=generator, dtype=torch.float64)
        u = torch.randn(z.shape, generator=generator, dtype=torch.float64)
        v = self.velocity(t, (1 - t) * u + t * z, self.parents(context))
        return (v - (z - u)).square()
