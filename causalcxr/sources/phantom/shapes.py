"""Balls, tubes and boxes in centimetres, for B patients at once.

Axes: x to the patient's left, y up, z to the front; the origin is in mid-chest. A length is a
number, or a tensor (B,) if it differs between patients.
"""

from dataclasses import replace

import torch
from torch import Tensor

from causalcxr.sources.phantom.solids import BALL, BOX, TUBE, Solids

__all__ = ["Length", "ball", "box", "dome", "path", "stack", "tube"]

Length = Tensor | float
_Point = tuple[Length, Length, Length]


def stack(*values: Length) -> Tensor:
    """Stack numbers and (B,) tensors into (B, k), float64."""
    n = max((v.shape[0] for v in values if isinstance(v, Tensor)), default=1)
    return torch.stack([torch.as_tensor(v, dtype=torch.float64).expand(n) for v in values], -1)


def ball(
    centre: _Point, radii: _Point, mu: Length = 1.0, tilt: Length = 0.0, lean: Length = 0.0
) -> Solids:
    """Return an ellipsoid, turned by `tilt` radians in the frontal plane, then `lean` forward.

    Example:
        >>> ball((0, 0, 0), (1, 2, 4)).shape[0, 0].diagonal().tolist()
        [1.0, 0.5, 0.25]
    """
    return _solid(centre, radii, mu, tilt, lean, BALL)


def dome(centre: _Point, radii: _Point, mu: Length = 1.0) -> Solids:
    """Return the upper half of an ellipsoid.

    Example:
        >>> dome((0, 0, 0), (1, 2, 4)).kind
        (3, 4)
    """
    full = ball(centre, radii, mu)
    up = torch.tensor([0.0, 1, 0]).double().expand(*full.mu.shape, 1, 3)
    return replace(full, shape=torch.cat([full.shape, up], -2))


def box(
    centre: _Point, halves: _Point, mu: Length = 1.0, tilt: Length = 0.0, lean: Length = 0.0
) -> Solids:
    """Return a box by its half sides, turned as a ball is."""
    return _solid(centre, halves, mu, tilt, lean, BOX)


def _solid(
    centre: _Point, radii: _Point, mu: Length, tilt: Length, lean: Length, rounded: int
) -> Solids:
    parts = stack(*centre, *radii, mu, tilt, lean)
    n = len(parts)
    tilt, lean = parts[:, 7], parts[:, 8]
    c, s, cl, sl = tilt.cos(), tilt.sin(), lean.cos(), lean.sin()
    zero = torch.zeros_like(c)
    turn = torch.stack([c, s, zero, -s * cl, c * cl, sl, s * sl, -c * sl, cl], -1).view(n, 3, 3)
    shape = turn / parts[:, 3:6, None]
    return Solids(shape[:, None], parts[:, None, :3], parts[:, 6:7], rounded)


def path(*knots: _Point) -> Tensor:
    """Return the points of a line, (B, K, 3)."""
    points = [stack(*knot) for knot in knots]
    n = max(len(point) for point in points)
    return torch.stack([point.expand(n, 3) for point in points], 1)


def tube(points: Tensor, radius: Length, mu: Length = 1.0, flat: Length = 1.0) -> Solids:
    """Return a tube along a line of points: one straight piece between each and the next.

    Args:
        points: Shape (B, K, 3).
        radius: A number, one for each patient, (B,), or for each piece, (B, K - 1); the upward
            radius if the tube is not round.
        mu: Attenuation, of the same shape as the radius.
        flat: The other radius as a fraction of the first, of the same shape as the radius.
    """
    r, weight = (_by_piece(value) for value in (radius, mu))
    # One row for each patient, also if only some arguments differ between patients.
    points, r, weight = (
        v.expand(max(len(points), len(r), len(weight)), *v.shape[1:]) for v in (points, r, weight)
    )
    along = points[:, 1:] - points[:, :-1]
    half = along.norm(dim=-1).clamp(min=1e-6) / 2
    t = along / (2 * half)[..., None]
    # The first radius points upwards, or to the front if the tube itself is steep.
    steep = (t[..., 1:2].abs() > 0.95).double()
    other = torch.cat([0 * steep, 1 - steep, steep], -1)
    n = torch.linalg.cross(t, other)
    n = n / n.norm(dim=-1, keepdim=True)
    rows = torch.stack([torch.linalg.cross(n, t), n, t], -2)
    r = r.expand_as(half)
    shape = rows / torch.stack([r, (r * _by_piece(flat)).expand_as(half), half], -1)[..., None]
    middle = (points[:, 1:] + points[:, :-1]) / 2
    return Solids(shape, middle, weight.expand_as(half), TUBE)


def _by_piece(value: Length) -> Tensor:
    """Return a number, or one for each patient or piece, as (1 or B, 1 or K - 1)."""
    value = torch.as_tensor(value, dtype=torch.float64)
    return value.view(-1, 1) if value.ndim < 2 else value
