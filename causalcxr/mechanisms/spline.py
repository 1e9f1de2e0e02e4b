"""A monotone rational-quadratic spline, conditioned on the parents; its inverse is analytic."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional
from zuko.transforms import MonotonicRQSTransform

from causalcxr.common.errors import MechanismError
from causalcxr.common.threads import BUNDLE
from causalcxr.mechanisms.cells import MonotoneMap, log_density
from causalcxr.mechanisms.parameter_network import ParameterNetwork

__all__ = ["PlainSplineMap", "SplineKernel", "SplineMap"]

_LOG_SCALE = 7.0  # the conditional scale stays within e^7 of the marginal one
_BOUND = 5.0  # the spline bends inside [-5, 5]
_SLOPE = 1e-3  # the least slope


class SplineMap:
    """Compute u = spline((z - shift) exp(log_scale)).

    The spline is the identity outside [-5, 5]; shift and scale first move each patient's
    distribution into that box, so its tails are Gaussian with the patient's own location and
    scale.

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
        self.spline = MonotonicRQSTransform(widths, heights, slopes, _BOUND, _SLOPE)

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


class PlainSplineMap:
    """Compute the same as `SplineMap` up to rounding, without gradients and faster.

    Each parameter is a row, so that every operation reads contiguous memory. Knots are sums that
    are never normalised: values are scaled to them instead. Slopes are computed only for the bin
    that a value is in.

    Args:
        shift: The first parameter of each record, shape (1, n), or (1, 1) for all records.
        shape: The others, shape (3 bins, n), or (3 bins, 1) for all records.
    """

    def __init__(self, shift: Tensor, shape: Tensor) -> None:
        bins, once = len(shape) // 3, shape.shape[1] == 1  # once: the same for all records
        if once:  # a full bundle, for the same last digits as with parameters for each record
            shape = shape.expand(-1, BUNDLE).contiguous()
        self.shift = shift[0]
        # tanh bounds the scale smoothly.
        self.log_scale = _LOG_SCALE * torch.tanh(shape[0] / _LOG_SCALE)
        self.scale = self.log_scale.exp()
        self.knots = shape.new_empty(2, bins + 1, shape.shape[1])
        self.knots[:, 0] = 0
        # Widths and heights are positive, and their running sums are the knots.
        sizes = shape[1 : 2 * bins + 1].unflatten(0, (2, bins))
        _bounded_exp(sizes, 2 / math.log(_SLOPE), out=self.knots[:, 1:])
        for before, knot in pairwise(self.knots.unbind(1)):  # `cumsum` takes ten times as long
            knot += before
        # Zero before the exponential: slope 1 at both ends, so the tails continue straight.
        self.slopes = functional.pad(shape[2 * bins + 1 :], (0, 0, 1, 1))
        if once:
            self.log_scale, self.scale = self.log_scale[:1], self.scale[:1]
            self.knots, self.slopes = self.knots[..., :1], self.slopes[..., :1]

    def __call__(self, z: Tensor) -> Tensor:
        """Return u, shape (..., n)."""
        return self._forward(z)[0]

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and log du/dz, each of shape (..., n)."""
        u, slope = self._forward(z)
        return u, slope.log() + self.log_scale

    def inverse(self, u: Tensor) -> Tensor:
        """Return z, shape (n,)."""
        share, (x, width), (s, d0, d1), inside = self._bin(u, 1)
        # The quadratic equation of the bin, in the form that does not cancel.
        bend = share * (d0 + d1 - 2 * s)
        b, c = d0 - bend, s * share
        share = 2 * c / (b + (b.square() + 4 * (s - d0 + bend) * c).sqrt())
        x = (x + share * width) * (2 * _BOUND / self.knots[0, -1]) - _BOUND
        return torch.where(inside, x, u) / self.scale + self.shift

    def _forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and the slope of the spline, each of shape (..., n)."""
        if z.ndim > 1:
            u, slope = zip(*map(self._forward, z), strict=True)
            return torch.stack(u), torch.stack(slope)
        # The conditional location and scale first, then the spline.
        z = (z - self.shift) * self.scale
        share, (y, height), (s, d0, d1), inside = self._bin(z, 0)
        # The rational-quadratic formula of the bin, and its derivative below.
        left = 1 - share
        both = share * left
        rest = s + (d0 + d1 - 2 * s) * both
        y = y + height * share * (s * share + d0 * left) / rest
        u = torch.where(inside, y * (2 * _BOUND / self.knots[1, -1]) - _BOUND, z)
        bent = d1 * share.square() + 2 * s * both + d0 * left.square()
        return u, torch.where(inside, (s / rest).square() * bent, 1.0)

    def _bin(self, at: Tensor, axis: int) -> tuple[Tensor, tuple, tuple, Tensor]:
        """Find the bin of each value along the widths (axis 0) or the heights (axis 1).

        Returns:
            The value's position in its bin, 0 to 1; the start and the size of that bin along the
            other axis; its secant and the slopes at its two ends; and whether the value is in a
            bin.
        """
        knots, slopes = (t.expand(*t.shape[:-1], len(at)) for t in (self.knots, self.slopes))
        inside = at.abs() <= _BOUND
        # Knots are not normalised: scale the value to their sum instead.
        at = (at + _BOUND) * (knots[axis, -1] / (2 * _BOUND))
        k = (knots[axis, 1:-1] < at).sum(0)
        # The values at both ends of the bin; the secant is its mean slope.
        ends = torch.stack((k, k + 1))
        start, end = knots.gather(1, ends.expand(2, -1, -1)).unbind(1)
        size = end - start
        secant = size[1] / size[0] * (knots[0, -1] / knots[1, -1])
        d0, d1 = _bounded_exp(slopes.gather(0, ends), 1 / math.log(_SLOPE))
        share = (at - start[axis]) / size[axis]
        return share, (start[1 - axis], size[1 - axis]), (secant, d0, d1), inside


def _bounded_exp(x: Tensor, rate: float, out: Tensor | None = None) -> Tensor:
    """Return exp(x / (1 + |rate x|)), as a power of two: three times as fast."""
    base = math.log(2)
    out = torch.abs(x, out=out).mul_(abs(rate) * base).add_(base)
    return torch.div(x, out, out=out).exp2_()


class SplineKernel(nn.Module):
    """Turn encoded parents into a `SplineMap`.

    Args:
        width: The number of features.
        bins: The bins of the spline.
        hidden: The width of the conditioner.
    """

    pointwise = False
    located = True  # the first two parameters are shift and log scale

    def __init__(self, width: int, *, bins: int, hidden: int) -> None:
        super().__init__()
        if bins < 2:
            raise MechanismError(f"bins is {bins}; a spline needs at least 2")
        self.bins = bins
        self.conditioner = ParameterNetwork(width, 3 * bins + 1, hidden)

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        self.conditioner.reset(generator)

    def bind(self, context: Tensor) -> MonotoneMap:
        """Return the map of each row, from features of shape (n, d)."""
        if torch.is_grad_enabled():
            return SplineMap(self.conditioner(context))
        return PlainSplineMap(*self.conditioner.inferred(context, (1, 3 * self.bins)))

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
