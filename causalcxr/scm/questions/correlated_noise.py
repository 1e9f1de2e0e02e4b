"""Two correlated normal scores, one known to lie in an interval: the distribution of the other.

Write S and U for standard normal scores with correlation rho, and

    G(u; low, high) = P(U <= u | low < S <= high)

Where both ends are s, it is Phi((u - rho s) / sqrt(1 - rho^2)). Otherwise it follows from the
distribution function of two normal variables, in the form of Drezner and Wesolowsky:

    Phi2(h, k; rho) = Phi(h) Phi(k) + 1/(2 pi) int_0^asin(rho) exp(-(h^2 + k^2 - 2 h k sin t)
                      / (2 cos^2 t)) dt

References:
    | Genz, Numerical computation of rectangular bivariate and trivariate normal and t
    probabilities, Statistics and Computing 14, 2004
"""

import math

import numpy as np
import torch
from torch import Tensor
from torch.special import ndtr, ndtri

from causalcxr.mechanisms.cells import log_mass

__all__ = ["LARGEST_RHO", "conditional_probability", "moved_scores"]

LARGEST_RHO = 0.95  # beyond it the integral needs other nodes

# Nodes and weights of the integral: few suffice for a weak correlation.
_RULES = {most: np.polynomial.legendre.leggauss(k) for most, k in ((0.3, 8), (0.75, 14), (1, 32))}
_NARROW = 1e-6  # an interval of less mass counts as one score
_FAR = 6.0  # further out, digits are lost: the map goes on as a straight line
_STEPS = 7
_ROOT_TWO_PI = math.sqrt(2 * math.pi)

Interval = tuple[Tensor, Tensor]


def moved_scores(v: Tensor, before: Interval, after: Interval, rho: float) -> Tensor:
    """Return the scores that the same noise has once the cause has another value.

    The fitted equation explains y by a score v that is standard normal given the cause. With
    correlated noises, the noise of y is u = G^-1(Phi(v); before), and it stays. The equation of y
    that reproduces the fitted distribution for every value of the cause then gives
    v* = Phi^-1(G(u; after)).

    Args:
        v: Scores under the fitted equation, shape (n,).
        before: The interval of scores of the cause's factual value, (n,) each.
        after: The interval of scores that would give the cause's value in the twin, (n,) each.
        rho: The correlation, at most 0.95 in size.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> moved_scores(0 * one, (0 * one, 0 * one), (one, one), 0.6).round(decimals=6).item()
        -0.75
    """
    if rho == 0:
        return v
    # The map is known to all digits in the middle, and continued beyond it.
    inner = v.clamp(-_FAR, _FAR)
    moved = _score(_noise(inner, *before, rho), *after, rho)
    return moved + (v - inner)


def conditional_probability(u: Tensor, low: Tensor, high: Tensor, rho: float) -> Tensor:
    """Return P(U <= u | low < S <= high), shape (n,); `low` may be -inf and `high` inf.

    Example:
        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> conditional_probability(zero, zero, zero + torch.inf, 0.5).round(decimals=6).item()
        0.333333
    """
    gap = _gap(u, high, rho) - _gap(u, low, rho)
    return ndtr(u) + gap / log_mass(low, high).exp()


def _gap(h: Tensor, k: Tensor, rho: float) -> Tensor:
    """Return Phi2(h, k; rho) - Phi(h) Phi(k), zero for an infinite k."""
    infinite = k.isinf()
    k = k.masked_fill(infinite, 0.0)
    squares, product, total = h.square() + k.square(), 2 * h * k, torch.zeros_like(h)
    angle = math.asin(rho)
    rule = next(rule for most, rule in _RULES.items() if abs(rho) <= most)
    for node, weight in zip(*(part.tolist() for part in rule), strict=True):
        sine = math.sin(angle * (node + 1) / 2)
        total = total + weight * torch.exp((product * sine - squares) / (2 * (1 - sine * sine)))
    return (total * (angle / (4 * math.pi))).masked_fill(infinite, 0.0)


def _noise(v: Tensor, low: Tensor, high: Tensor, rho: float) -> Tensor:
    """Return u with G(u) = Phi(v), shape (n,)."""
    root = math.sqrt(1 - rho * rho)
    # In the lower half, where probabilities keep their digits.
    flipped = v > 0
    v, low, high = _flip(flipped, v, low, high)
    is_point, mass, mean, variance = _moments(low, high)
    point = rho * mean + root * v
    if not is_point.all():
        # Newton's method on the scale of scores, where the function is nearly straight. The
        # number of steps is fixed, so that a row does not depend on others.
        u = rho * mean + v * (1 - rho * rho * (1 - variance)).sqrt()
        for _ in range(_STEPS):
            z = ndtri(conditional_probability(u, low, high, rho).clamp(1e-300, 1 - 1e-16))
            density = _density(u) * (ndtr((high - rho * u) / root) - ndtr((low - rho * u) / root))
            slope = (density / (mass * _density(z))).nan_to_num(1.0).clamp(0.2, 20.0)
            u = u - ((z - v) / slope).clamp(-1.0, 1.0)
        point = torch.where(is_point, point, u)
    return torch.where(flipped, -point, point)


def _score(u: Tensor, low: Tensor, high: Tensor, rho: float) -> Tensor:
    """Return v = Phi^-1(G(u)), shape (n,)."""
    flipped = u > rho * _moments(low, high)[2]
    u, low, high = _flip(flipped, u, low, high)
    is_point, _, mean, _ = _moments(low, high)
    v = (u - rho * mean) / math.sqrt(1 - rho * rho)
    if not is_point.all():
        p = conditional_probability(u, low, high, rho).clamp(1e-15, 1 - 1e-15)
        v = torch.where(is_point, v, ndtri(p))
    return torch.where(flipped, -v, v)


def _flip(flipped: Tensor, x: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mirror image of a score and an interval in some rows."""
    return (
        torch.where(flipped, -x, x),
        torch.where(flipped, -high, low),
        torch.where(flipped, -low, high),
    )


def _moments(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return which intervals count as one score, their mass, mean and variance, (n,) each."""
    mass = log_mass(low, high).exp()
    mean = torch.minimum(torch.maximum((_density(low) - _density(high)) / mass, low), high)
    ends = (low * _density(low)).nan_to_num(0.0) - (high * _density(high)).nan_to_num(0.0)
    variance = (1 + ends / mass - mean.square()).clamp(0.0, 1.0)
    is_point = (low == high) | (mass < _NARROW)
    mean = torch.where(low == high, low, mean)
    return is_point, mass, mean, torch.where(is_point, 0.0, variance)


def _density(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square()) / _ROOT_TWO_PI
