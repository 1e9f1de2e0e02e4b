"""X-ray physics in closed form: cone-beam line integrals through ellipsoids.

A solid is the set |A (x - c)| <= 1. A ray from the source s through detector point (p, q) is
s + t d with d = E (p, q, 1). In the solid's unit frame, with d' = A d and o' = A (s - c), the ray
enters and leaves at

    t = (-o'.d' -+ h) / |d'|^2,    h^2 = |d'|^2 - |o' x d'|^2.

|d'|^2 and h^2 are polynomials of degree two in (p, q), so the chords of all solids at all pixels
are two small matrix products and a square root. The form with the cross product keeps its digits
in float32 where (o'.d')^2 - |d'|^2 (|o'|^2 - 1) would not.
"""

from dataclasses import dataclass, fields
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["Beam", "Solids", "aerated_length", "chords", "line_integral", "pixel_grid"]


@dataclass(frozen=True)
class Solids:
    """Ellipsoids with their attenuation.

    Args:
        shape: The matrices A that map each solid to the unit ball, rows orthogonal,
            (B, S, 3, 3), in 1/cm.
        centre: The centres c, (B, S, 3), in cm.
        mu: Attenuation added to what surrounds the solid, (B, S), in 1/cm.
    """

    shape: Tensor
    centre: Tensor
    mu: Tensor

    @staticmethod
    def join(parts: "list[Solids]") -> "Solids":
        """Put groups of solids together; one that is the same for all patients may have B = 1."""
        n = max(len(p.mu) for p in parts)
        columns = (
            [getattr(p, f).expand(n, *getattr(p, f).shape[1:]) for p in parts]
            for f in ("shape", "centre", "mu")
        )
        return Solids(*(torch.cat(column, 1) for column in columns))

    def scaled(self, factor: Tensor) -> "Solids":
        """Scale the body about the origin by a factor a patient, (B,)."""
        s = factor[:, None]
        return Solids(self.shape / s[..., None, None], self.centre * s[..., None], self.mu)

    def thickened(self, width: Tensor) -> "Solids":
        """Widen what is thinner than a pixel, so that sampling it does not break it.

        The mass stays: the solid's mu falls by the growth of its cross-section.

        Args:
            width: The least half-axis, (B,), in cm.
        """
        inverse = self.shape.norm(dim=-1)  # rows of A are orthogonal: one over each half-axis
        wide = torch.minimum(inverse, 1 / width[:, None, None])
        # Two of the three axes make the cross-section that the beam meets: the thinner two.
        growth = (inverse / wide).sort(-1).values[..., 1:].prod(-1)
        return Solids(self.shape * (wide / inverse)[..., None], self.centre, self.mu / growth)


@dataclass(frozen=True)
class Beam:
    """A point source and a flat detector.

    Args:
        source: Position of the focal spot, (B, 3), in cm.
        frame: Columns are the detector's right, its up, and the vector from source to detector
            centre, (B, 3, 3).
        width: Half the detector's side, (B,), in cm.
    """

    source: Tensor
    frame: Tensor
    width: Tensor


# A matrix product with up to three rows rounds otherwise than one with more (another kernel).
# Fewer patients than this are filled up, so that a film is the same alone and in company.
_COMPANY = 8

_Batched = TypeVar("_Batched", Solids, Beam)


def pixel_grid(size: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return homogeneous pixel centres (p, q, 1), shape (3, size * size).

    They cover [-1, 1]^2, row by row from the top.
    """
    centres = (torch.arange(size, dtype=dtype) + 0.5) * (2 / size) - 1
    q, p = torch.meshgrid(-centres, centres, indexing="ij")
    return torch.stack([p.flatten(), q.flatten(), torch.ones(size * size, dtype=dtype)])


def _rows(of: _Batched, rows: slice | list[int]) -> _Batched:
    """Return some of the patients."""
    return type(of)(*(getattr(of, field.name)[rows] for field in fields(of)))


def _monomials(grid: Tensor) -> Tensor:
    """Return what the coefficients of a form multiply, (6, P)."""
    p, q, one = grid
    return torch.stack([p * p, q * q, one, 2 * p * q, 2 * p, 2 * q])


def _coefficients(form: Tensor) -> Tensor:
    """Return the six coefficients of symmetric 3 x 3 forms, (..., 6)."""
    i, j = [0, 1, 2, 0, 0, 1], [0, 1, 2, 1, 2, 2]
    return form[..., i, j]


@dataclass(frozen=True)
class _Rays:
    """The rays of one film in the frames of its solids."""

    reach: Tensor  # |d|, (B, P)
    square: Tensor  # |d'|^2, (B, S, P)
    half: Tensor  # half-chord in units of d', (B, S, P); zero where the ray misses
    nearest: Tensor  # -o'.d', (B, S, P)


def _trace(solids: Solids, beam: Beam, grid: Tensor, *, ends: bool) -> _Rays:
    """Follow every ray through every solid; without `ends`, `nearest` is not computed."""
    scale = torch.stack([beam.width, beam.width, torch.ones_like(beam.width)], -1)
    frame = beam.frame.double() * scale[:, None, :]
    shape = solids.shape.double()
    d = shape @ frame[:, None]  # (B, S, 3, 3): columns are d' per monomial p, q, 1
    o = (shape @ (beam.source[:, None] - solids.centre).double()[..., None])[..., 0]
    cross = torch.linalg.cross(o[..., None, :].expand_as(d), d.mT, dim=-1).mT
    square = d.mT @ d
    basis = _monomials(grid)
    dtype = grid.dtype
    a = _coefficients(square).to(dtype) @ basis
    gap = _coefficients(square - cross.mT @ cross).to(dtype) @ basis
    half = gap.clamp_(min=0).sqrt_()
    nearest = -(o[..., None, :] @ d)[..., 0, :].to(dtype) @ grid if ends else half
    reach = (_coefficients(frame.mT @ frame).to(dtype) @ basis).sqrt()
    return _Rays(reach, a, half, nearest)


def chords(solids: Solids, beam: Beam, grid: Tensor) -> Tensor:
    """Return the length of each ray inside each solid, (B, S, P), in cm.

    Example:
        >>> ball = Solids(torch.eye(3)[None, None] / 2, torch.zeros(1, 1, 3), torch.ones(1, 1))
        >>> beam = Beam(torch.tensor([[0.0, 0, -100]]),
        ...             torch.diag(torch.tensor([1.0, 1, 150]))[None], torch.tensor([15.0]))
        >>> chords(ball, beam, torch.tensor([[0.0], [0.0], [1.0]])).item()
        4.0
    """
    rays = _trace(solids, beam, grid, ends=False)
    return 2 * rays.half / rays.square * rays.reach[:, None]


def line_integral(solids: Solids, beam: Beam, grid: Tensor) -> Tensor:
    """Return the attenuation of all solids along each ray, (B, P), without unit."""
    total = torch.empty(len(solids.mu), grid.shape[1], dtype=grid.dtype)
    # One patient at a time: the chords of one stay in the processor's cache (four times as quick
    # as all at once), and a film cannot depend on its company.
    for k in range(len(total)):
        some = _rows(solids, [k])
        rays = _trace(some, _rows(beam, [k]), grid, ends=False)
        lengths = rays.half.div_(rays.square)
        total[k] = (2 * (some.mu.to(lengths.dtype)[:, None] @ lengths)[:, 0] * rays.reach)[0]
    return total


def aerated_length(lung: Solids, cutters: Solids, beam: Beam, grid: Tensor) -> Tensor:
    """Return the length of each ray in a lung and outside everything that displaces its air.

    Args:
        lung: One solid a patient, (B, 1, ...).
        cutters: What displaces air: heart, diaphragm, fluid, (B, K, ...).
        beam: Source and detector of each patient.
        grid: Pixel centres, (3, P).

    Returns:
        Shape (B, P), in cm.
    """
    n = len(lung.mu)
    if n < _COMPANY:
        rows = [*range(n), *[0] * (_COMPANY - n)]
        filled = (_rows(each, rows) for each in (lung, cutters, beam))
        return aerated_length(*filled, grid)[:n]
    inside, cut = (_trace(part, beam, grid, ends=True) for part in (lung, cutters))
    start = (inside.nearest - inside.half) / inside.square
    end = (inside.nearest + inside.half) / inside.square
    begins = ((cut.nearest - cut.half) / cut.square).clamp(start, end)
    finishes = ((cut.nearest + cut.half) / cut.square).clamp(start, end)
    # The length of a union of intervals: in order of their starts, each adds what lies beyond all
    # before it.
    begins, order = begins.sort(1)
    finishes = finishes.gather(1, order)
    covered = torch.cat([start, finishes.cummax(1).values[:, :-1]], 1)
    union = (finishes - torch.maximum(begins, covered)).clamp(min=0).sum(1)
    return (end[:, 0] - start[:, 0] - union).clamp(min=0) * inside.reach
