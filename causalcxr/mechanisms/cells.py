"""The standard normal restricted to an interval: its mass, and draws from it, in both tails."""

import math
from typing import Protocol

import torch
from scipy.special import ndtri_exp
from torch import Tensor

__all__ = ["MonotoneMap", "log_density", "log_mass", "push_cell", "truncated_normal"]

_HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)

_MARGIN = 1e-6  # share of the cell's mass and width: a solver's last digits cannot cross it


class MonotoneMap(Protocol):
    """An increasing map of normal scores z to noise u, one a row."""

    def __call__(self, z: Tensor) -> Tensor:
        """Return u."""

    def call_and_ladj(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return u and log du/dz."""

    def inverse(self, u: Tensor) -> Tensor:
        """Return z."""


def push_cell(bound: MonotoneMap, ends: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return the ends of a cell in noise space; infinite ends stay infinite.

    Args:
        bound: The map of each row.
        ends: Lower and upper ends in normal scores, shape (n,) each.
    """
    # Infinite ends are replaced before the map, which is for finite numbers, and restored after.
    z = torch.stack(ends)
    infinite = z.isinf()
    u = torch.where(infinite, z, bound(z.masked_fill(infinite, 0.0)))
    return u[0], u[1]


def log_density(bound: MonotoneMap, ends: tuple[Tensor, ...]) -> Tensor:
    """Return the log-density of a point z, or the log-mass of a cell (low, high), shape (n,)."""
    if len(ends) == 2:
        return log_mass(*push_cell(bound, ends))
    u, ladj = bound.call_and_ladj(ends[0])
    return ladj - 0.5 * u.square() - _HALF_LOG_TWO_PI


def log_mass(low: Tensor, high: Tensor) -> Tensor:
    """Return log(Phi(high) - Phi(low)), low < high, with a gradient; either may be infinite.

    Both are reflected into the lower tail, where log Phi keeps all its digits at any distance.
    """
    low, high, _ = _reflect(low, high)
    log_low, log_high = torch.special.log_ndtr(low), torch.special.log_ndtr(high)
    # log(e^b - e^a) = b + log(1 - e^(a - b)); the clamp keeps an empty cell finite.
    gap = (log_low - log_high).clamp(max=-1e-15)
    return log_high + torch.log(-torch.expm1(gap))


@torch.no_grad()
def truncated_normal(low: Tensor, high: Tensor, v: Tensor) -> Tensor:
    """Return u = Phi^-1(Phi(low) + v (Phi(high) - Phi(low))), strictly inside the cell.

    Args:
        low: Lower ends, shape (n,), may be -inf.
        high: Upper ends, shape (n,), may be inf.
        v: Uniform numbers, shape (n,).
    """
    a, b, flipped = _reflect(low, high)
    v = _MARGIN + (1 - 2 * _MARGIN) * torch.where(flipped, 1 - v, v)
    log_a, log_b = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    # The mixture of both ends in log space: Phi itself is 0 in the far tail.
    log_p = torch.logaddexp(torch.log1p(-v) + log_a, torch.log(v) + log_b)
    u = torch.from_numpy(ndtri_exp(log_p.numpy()))
    # Rounding may reach an edge: move the draw inside.
    inset = (_MARGIN * (b - a)).nan_to_num(posinf=0.0)
    u = torch.minimum(torch.maximum(u, a + inset), b - inset)
    return torch.where(flipped, -u, u)


def _reflect(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    # By symmetry, a cell mostly above zero is computed as one below.
    flipped = low + high > 0
    return torch.where(flipped, -high, low), torch.where(flipped, -low, high), flipped
