"""X-ray physics in closed form: cone-beam line integrals through balls, tubes and boxes.

A solid lives in a frame of its own, y = A (x - c). There a ball is |y| <= 1, a tube
|(y1, y2)| <= 1 and |y3| <= 1, a box |y1|, |y2|, |y3| <= 1. A ray through the detector's point
(p, q) is x = s + t d with d = F (p, q, 1). For the round part of a solid, with d' and o' the
direction and the source in its frame, the ray is inside where

    t = (-o'.d' -+ h) / |d'|^2,    h^2 = |d'|^2 - |o' x d'|^2,

and |d'|^2, o'.d' and h^2 are polynomials of degree two in (p, q); for a flat part it is inside
between two quotients of linear ones. So the chord of every solid at every pixel is a small matrix
product and a root. The form with the cross product keeps digits that
(o'.d')^2 - |d'|^2 (|o'|^2 - 1) would lose.

The image is cut into tiles of 8 x 8 pixels. A solid is computed only in the tiles that its shadow
touches. Its polynomials are moved to the middle of each tile in float64, so that float32 is
enough for the rest.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from causalcxr.sources.phantom.solids import BALL, BOX, TUBE, Beam, Lung, Solids

__all__ = ["line_integral"]

_TILE = 8
_FAR = 1e6  # farther than any solid reaches
_PARALLEL = 1e-9  # of |d'|^2: a ray that runs along the axis of a tube
_CHUNK = 4096  # pairs of solid and tile at a time: they fit into the processor's cache


class _Rays:
    """The rays of B images, in tiles."""

    def __init__(self, beam: Beam, size: int, dtype: torch.dtype) -> None:
        scale = torch.stack([beam.width, beam.width, torch.ones_like(beam.width)], -1)
        axis = beam.frame[..., 2].double()
        self.frame = beam.frame.double() * scale[:, None, :]
        self.source = beam.source.double()
        # Depth is counted from the plane of the body's origin, where float32 is finest.
        self.iso = -(self.source * axis).sum(-1) / (axis * axis).sum(-1)
        self.size, self.dtype, self.across = size, dtype, -(-size // _TILE)
        self.half = _TILE / size
        # Pixel centres within a tile, from -1 to 1.
        local = (torch.arange(_TILE, dtype=torch.float64) + 0.5) * (2 / _TILE) - 1
        q, p = torch.meshgrid(-local, local, indexing="ij")
        p, q, one = p.flatten(), q.flatten(), torch.ones(_TILE**2, dtype=torch.float64)
        # A quadratic form over a tile is one product with these monomials.
        basis = torch.stack([p * p, q * q, one, 2 * p * q, 2 * p, 2 * q])
        device = beam.width.device
        self.square = basis.to(device, dtype)
        self.line = torch.stack([p, q, one]).to(device)

    def middle(self, tile: Tensor) -> Tensor:
        """Return p and q of the middle of tiles, (2, M), numbered row by row from the top left."""
        x, y = (tile % self.across).double(), (tile // self.across % self.across).double()
        return torch.stack([self.half * (2 * x + 1) - 1, 1 - self.half * (2 * y + 1)])

    def image(self, tiles: Tensor) -> Tensor:
        """Return images, (B, size, size), from their tiles, (B * tiles, pixels of a tile)."""
        k, t = self.across, _TILE
        image = tiles.view(-1, k, k, t, t).transpose(2, 3).reshape(-1, k * t, k * t)
        return image[:, : self.size, : self.size]

    def reach(self) -> Tensor:
        """Return |d|, the length that one unit of t stands for, in tiles."""
        form = _symmetric(self.frame.mT @ self.frame)
        tile = torch.arange(self.across**2, device=form.device)
        forms = _move(form[:, None], *self.middle(tile)[:, None], self.half)
        return (forms.to(self.dtype) @ self.square).sqrt().flatten(0, 1)


class _Traced:
    """The polynomials of the solids of B images: where each ray enters and leaves."""

    def __init__(self, solids: Solids, rays: _Rays) -> None:
        k, shape = solids.rounded, solids.shape.double()
        d = shape @ rays.frame[:, None]  # (B, S, rows, 3): columns are d' per monomial p, q, 1
        o = (shape @ (rays.source[:, None] - solids.centre.double())[..., None])[..., 0]
        e = rays.iso[:, None, None, None] * d
        e[..., 2] += o
        self.rays, self.kind, self.mu = rays, solids.kind, solids.mu.flatten()
        self.bounds = _shadow(solids, rays)
        if k:
            dr, er = d[..., :k, :], e[..., :k, :]
            self.away = er.flatten(0, 1)
            square, near = dr.mT @ dr, -er.mT @ dr
            # By the cross product the discriminant needs no difference of large squares.
            if k == BALL:
                cross = torch.linalg.cross(o[..., None, :3].expand_as(dr), dr.mT, dim=-1).mT
            else:
                cross = o[..., :1, None] * d[..., 1:2, :] - o[..., 1:2, None] * d[..., :1, :]
            # Of the quadratic in depth: leading term, discriminant, half the linear term.
            forms = (square, square - cross.mT @ cross, (near + near.mT) / 2)
            self.round = torch.stack([_symmetric(f) for f in forms], -2).flatten(0, 1)
        self.flat = torch.stack([e[..., k:, :], d[..., k:, :]], -2).flatten(0, 1)

    def pairs(self, present: Tensor) -> tuple[Tensor, Tensor]:
        """Return which solids meet which tiles: positions in (B * S) and in (B * tiles)."""
        x0, x1, y0, y1 = (edge.flatten() for edge in self.bounds)
        touched = present & (x1 >= x0) & (y1 >= y0)
        wide, count = (x1 - x0 + 1), torch.where(touched, (x1 - x0 + 1) * (y1 - y0 + 1), 0)
        solid = torch.repeat_interleave(count)
        first = count.cumsum(0) - count
        k = torch.arange(len(solid), device=solid.device) - first[solid]
        x, y = x0[solid] + k % wide[solid], y0[solid] + k // wide[solid]
        per = self.rays.across
        image = solid // self.bounds[0].shape[1]
        return solid, (image * per + y) * per + x

    def lengths(self, solid: Tensor, tile: Tensor) -> Tensor:
        """Return the chords of pairs of solid and tile, in units of t, (M, pixels)."""
        if self.kind != (BALL, 3):
            start, end = self.interval(solid, tile)
            return (end - start).clamp_(min=0)
        square, half = self._round(solid, tile, 2)
        return half.clamp_(min=0).sqrt_().mul_(2).div_(square)

    def interval(self, solid: Tensor, tile: Tensor) -> tuple[Tensor, Tensor]:
        """Return where rays enter and leave, (M, pixels) each; no shorter than nothing."""
        start = end = None
        rounded, rows = self.kind
        if rounded:
            square, half, near = self._round(solid, tile, 3)
            # A ray that misses has a discriminant below 0, and an empty segment.
            half = half.clamp_(min=0).sqrt_().div_(square)
            near = near.div_(square)
            start, end = near - half, near + half
            # A ray parallel to a tube is inside it all the way or never.
            if rounded == TUBE and (parallel := square < _PARALLEL).any():
                inside = self._holds(solid, tile, parallel)
                start[parallel], end[parallel] = -_FAR * inside, _FAR * inside
        for row in range(rows - rounded):
            place = self.rays.middle(tile)[..., None]
            forms = _move_line(self.flat[solid, row], *place, self.rays.half)
            # A flat side may lie in the plane of the rays: its quotients need all digits.
            away, along = (forms.flatten(0, 1) @ self.rays.line).unflatten(0, (-1, 2)).unbind(1)
            along = torch.where(along.abs() < 1e-12, 1e-12, along)
            # Between -1 and 1, or, of a solid that is cut in half, from 0 as far as it goes.
            first, last = (-1, 1) if rounded + row < 3 else (0, _FAR)
            sides = (first - away) / along, (last - away) / along
            one, other = (side.to(self.rays.dtype) for side in sides)
            low, high = torch.minimum(one, other), torch.maximum(one, other)
            start = low if start is None else torch.maximum(start, low)
            end = high if end is None else torch.minimum(end, high)
        return start, end

    def _holds(self, solid: Tensor, tile: Tensor, which: Tensor) -> Tensor:
        """Return whether rays that run along a tube's axis run within it, as 0 and 1."""
        row, pixel = which.nonzero(as_tuple=True)
        place = self.rays.middle(tile[row]) + self.rays.half * self.rays.line[:2, pixel]
        point = torch.cat([place, torch.ones_like(place[:1])]).T[..., None]
        return ((self.away[solid[row]] @ point) ** 2).sum((1, 2)).le(1).to(self.rays.dtype)

    def _round(self, solid: Tensor, tile: Tensor, count: int) -> tuple[Tensor, ...]:
        place = self.rays.middle(tile)[..., None]
        forms = _move(self.round[solid, :count], *place, self.rays.half)
        return (
            (forms.to(self.rays.dtype).flatten(0, 1) @ self.rays.square)
            .unflatten(0, (-1, count))
            .unbind(1)
        )


def _symmetric(form: Tensor) -> Tensor:
    """Return the six coefficients of symmetric 3 x 3 forms, (..., 6)."""
    i, j = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    return form[..., i, j]


def _move_line(line: Tensor, p: Tensor, q: Tensor, half: float) -> Tensor:
    """Return lines (M, K, 3) about the middle (p, q) of tiles, in their units."""
    p1, q1, one = line.unbind(-1)
    return torch.stack([p1 * half, q1 * half, p1 * p + q1 * q + one], -1)


def _move(form: Tensor, p: Tensor, q: Tensor, half: float) -> Tensor:
    """Return forms (..., 6) about the middles (p, q) of tiles, broadcast, in their units."""
    pp, qq, one, pq, p1, q1 = form.unbind(-1)
    x, y = pp * p + pq * q + p1, pq * p + qq * q + q1
    moved = (
        pp * half**2,
        qq * half**2,
        x * p + y * q + p1 * p + q1 * q + one,
        pq * half**2,
        x * half,
        y * half,
    )
    return torch.stack(torch.broadcast_tensors(*moved), -1)


def _shadow(solids: Solids, rays: _Rays) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the first and last columns and rows of tiles that each shadow touches, (B, S).

    The outline of a ball is the conic v^T G v = 0; its extent is read off the adjugate of G. Tubes
    and boxes lie in a ball that is larger by the root of 2 or 3.
    """
    # An ellipsoid around the solid: its shadow is an ellipse.
    loose = {BALL: 1.0, TUBE: 2.0, BOX: 3.0}[solids.rounded] ** 0.5
    shape = solids.shape[..., :3, :].double() / loose
    d = shape @ rays.frame[:, None]
    o = (shape @ (rays.source[:, None] - solids.centre.double())[..., None])[..., 0]
    cross = torch.linalg.cross(o[..., None, :].expand_as(d), d.mT, dim=-1).mT
    a, b, c, f, g, h = _symmetric(d.mT @ d - cross.mT @ cross).unbind(-1)  # f=pq, g=p, h=q
    depth = a * b - f * f
    p, p2 = f * h - b * g, b * c - h * h
    q, q2 = f * g - a * h, a * c - g * g
    per, edges = rays.across, []
    for middle, square in ((p, p2), (-q, q2)):
        reach = (middle**2 - square * depth).clamp(min=0).sqrt() / depth.abs()
        for sign in (-1, 1):
            place = (middle / depth + sign * reach + 1) / (2 * rays.half)
            edges.append(place.floor().clamp(-1, per).long())
    x0, x1, y0, y1 = edges
    return x0.clamp(min=0), x1.clamp(max=per - 1), y0.clamp(min=0), y1.clamp(max=per - 1)


def _chunks(count: int, each: int) -> Iterator[slice]:
    for start, end in pairwise([*range(0, count, each), count]):
        yield slice(start, end)


def _add_solids(out: Tensor, solids: Solids, rays: _Rays) -> None:
    """Add the attenuation of solids to the tiles."""
    traced = _Traced(solids, rays)
    mu = traced.mu.to(rays.dtype)
    every, tiles = traced.pairs(mu != 0)
    for part in _chunks(len(every), _CHUNK):
        solid, tile = every[part], tiles[part]
        out.index_add_(0, tile, traced.lengths(solid, tile).mul_(mu[solid][:, None]))


class _Air:
    """The segments of each ray that are filled with air in one lung."""

    def __init__(self, lung: Lung, rays: _Rays) -> None:
        region, cut = _Traced(lung.region, rays), _Traced(lung.displacers, rays)
        r, k = lung.region.mu.shape[1], lung.displacers.mu.shape[1]
        first = torch.arange(len(region.mu), device=region.mu.device) % r == 0
        every, self.tile = region.pairs(first)
        start, end = region.interval(every, self.tile)
        for other in range(1, r):
            begin, finish = region.interval(every + other, self.tile)
            # Where the balls do not intersect, the segment from start to end is empty.
            start = torch.minimum(torch.maximum(start, begin), end)
            end = torch.maximum(torch.minimum(end, finish), start)
        lung_of = every // r
        each = (lung_of[:, None] * k + torch.arange(k, device=lung_of.device)).flatten()
        begin, finish = cut.interval(each, self.tile.repeat_interleave(k))
        begin, finish = (edge.view(-1, k, edge.shape[-1]) for edge in (begin, finish))
        begin = torch.maximum(begin, start[:, None])
        finish = torch.minimum(finish, end[:, None])
        # A displacer that misses the lung is moved to its end, behind all others: there it splits
        # no segment, so that it does not change the last bit of a sum.
        gone = (finish <= begin) | (cut.mu.view(-1, k)[lung_of] == 0)[..., None]
        last = end[:, None]
        begin, order = torch.where(gone, last, begin).sort(1)
        finish = torch.where(gone, last, finish).gather(1, order)
        # Segments of air lie between the displacers; those that overlap are merged.
        filled = [start]
        for k in range(finish.shape[1]):
            filled.append(torch.maximum(filled[-1], finish[:, k]))
        filled = torch.stack(filled, 1)
        self.start = filled
        self.end = torch.maximum(torch.cat([begin, last], 1), filled)
        self.air = -region.mu.to(rays.dtype)[every]
        self.row = torch.full((len(lung.region.mu) * rays.across**2,), -1, device=lung_of.device)
        self.row[self.tile] = torch.arange(len(self.tile), device=lung_of.device)
        self.rays = rays

    def empty(self, out: Tensor) -> None:
        """Subtract from the tiles the attenuation that air replaces."""
        out.index_add_(0, self.tile, _total(self.end - self.start) * self.air[:, None])

    def fill(self, out: Tensor, solids: Solids) -> None:
        """Add to the tiles the attenuation of solids within the air."""
        traced = _Traced(solids, self.rays)
        mu = traced.mu.to(self.rays.dtype)
        every, tiles = traced.pairs(mu != 0)
        lit = self.row[tiles] >= 0
        every, tiles = every[lit], tiles[lit]
        for part in _chunks(len(every), _CHUNK // 8):
            solid, tile = every[part], tiles[part]
            begin, finish = (edge[:, None] for edge in traced.interval(solid, tile))
            row = self.row[tile]
            inside = torch.minimum(self.end[row], finish) - torch.maximum(self.start[row], begin)
            out.index_add_(0, tile, _total(inside.clamp_(min=0)) * mu[solid][:, None])


def _total(parts: Tensor) -> Tensor:
    """Sum (M, K, pixels) over K in order, so that zeros do not change the rounding."""
    total = parts[:, 0].clone()
    for k in range(1, parts.shape[1]):
        total += parts[:, k]
    return total


def line_integral(
    solids: Sequence[Solids],
    beam: Beam,
    size: int,
    lungs: Sequence[Lung] = (),
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return the attenuation along each ray, (B, size, size), without unit.

    An image is the same alone and in a batch, and a solid does not change the pixels that it
    does not cover, bit for bit.

    Args:
        solids: The solids, one group for each kind.
        beam: Source and detector of each patient.
        size: Pixels along each side; rows from the top, [-1, 1]^2 is the detector.
        lungs: The parts of the solids that are filled with air.
        dtype: The type in which chords are computed; the polynomials are always float64.

    Example:
        >>> ball = Solids(torch.eye(3)[None, None] / 2, torch.zeros(1, 1, 3), torch.ones(1, 1))
        >>> beam = Beam(torch.tensor([[0.0, 0, -100]]),
        ...             torch.diag(torch.tensor([1.0, 1, 150]))[None], torch.tensor([15.0]))
        >>> image = line_integral([ball], beam, 65)  # an odd number: one pixel is the middle
        >>> round(image[0, 32, 32].item(), 5)
        4.0
    """
    rays = _Rays(beam, size, dtype)
    shape = len(beam.width) * rays.across**2, _TILE**2
    out = torch.zeros(shape, dtype=dtype, device=beam.width.device)
    for group in solids:
        _add_solids(out, group, rays)
    for lung in lungs:
        air = _Air(lung, rays)
        air.empty(out)
        for group in lung.contents:
            air.fill(out, group)
    return rays.image(out * rays.reach())
