"""A monotone rational-quadratic spline, conditioned on the parents; its inverse is analytic."""

import torch
from torch import Tensor, nn
from zuko.transforms import MonotonicRQSTransform

from causalcxr.errors import MechanismError
from causalcxr.mechanisms.cells import log_density
from causalcxr.mechanisms.conditioner import Conditioner

__all__ = ["SplineKernel", "SplineMap"]

_LOG_SCALE = 7.0  # the conditional scale stays within e^7 of the marginal one


class SplineMap:
    """Compute u = spline((z - shift) exp(log_scale)).

    The spline is the identity outside [-5, 5]; shift and scale bring each patient's law inside
    that box first, so a tail is a Gaussian tail of the patient's own location and scale.

    References:
        | Neural Spline Flows (Durkan et al., 2019)
        | https://arxiv.org/abs/1906.04032

    Args:
        theta: Parameters, shape (n, 3 bins + 1).
    """

    def __init__(self, theta: Tensor) -> None:
        bins = (theta.shape[-1] - 1) // 3
        place, widths, heights, slopes = theta.split((2, bins, bins, bins - 1), -1)
        self.shift = place[..., 0]
        self.log_scale = _LOG_SCALE * torch.tanh(place[..., 1] / _LOG_SCALE)
        self.spline = MonotonicRQSTransform(widths, heights, slopes)

    def __call__(self, z: Tensor) -> Tensor:
        """Return u, shape (..., n)."""
        return self.spline._call((z - self.shift) * self.log_scale.exp())

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and log du/dz, each of shape (..., n)."""
        u, ladj = self.spline.call_and_ladj((z - self.shift) * self.log_scale.exp())
        return u, ladj + self.log_scale

    def inverse(self, u: Tensor) -> Tensor:
        """Return z, shape (..., n)."""
        return self.spline._inverse(u) * (-self.log_scale).exp() + self.shift


class SplineKernel(nn.Module):
    """Turn encoded parents into a `SplineMap`.

    Args:
        width: The number of features.
        bins: The bins of the spline.
        hidden: The width of the conditioner.
    """

    pointwise = False

    def __init__(self, width: int, *, bins: int, hidden: int) -> None:
        super().__init__()
        if bins < 2:
            raise MechanismError(f"a spline needs at least two bins, not {bins}")
        self.conditioner = Conditioner(width, 3 * bins + 1, hidden)

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights anew."""
        self.conditioner.reset(generator)

    def bind(self, context: Tensor) -> SplineMap:
        """Return the map of each row, from features of shape (n, d)."""
        return SplineMap(self.conditioner(context))

    def losses(
        self, ends: tuple[Tensor, ...], context: Tensor, generator: torch.Generator | None
    ) -> Tensor:
        """Return -log p of each row: of a point, or of a cell.

        Args:
            ends: The point z, or the two ends of its cell, each of shape (n,).
            context: Encoded parents, shape (n, d).
            generator: Not needed: the likelihood is exact.
        """
        return -log_density(self.bind(context), ends)
