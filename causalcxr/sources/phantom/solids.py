"""Solids with their attenuation, lungs filled with air, and the X-ray beam."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

__all__ = ["BALL", "BOX", "TUBE", "Beam", "Lung", "Solids"]

# The three kinds of solid: the number of leading rows of the shape that are round.
BALL, TUBE, BOX = 3, 2, 0


@dataclass(frozen=True)
class Solids:
    """Solids of one kind with their attenuation.

    Args:
        shape: The matrices A, rows orthogonal, (B, S, 3, 3), in 1/cm. A fourth row cuts the solid
            in half: the half where it is not negative remains.
        centre: The centres c, (B, S, 3), in cm.
        mu: Attenuation added to that around the solid, (B, S), in 1/cm; 0 for an absent one.
        rounded: 3 for balls, 2 for tubes along the third row, 0 for boxes.
    """

    shape: Tensor
    centre: Tensor
    mu: Tensor
    rounded: int = BALL

    @staticmethod
    def join(parts: "Sequence[Solids]") -> "Solids":
        """Join solids of one kind; one that is the same for all patients may have B = 1."""
        n = max(len(p.mu) for p in parts)
        columns = (
            [getattr(p, f).expand(n, *getattr(p, f).shape[1:]) for p in parts]
            for f in ("shape", "centre", "mu")
        )
        return Solids(*(torch.cat(column, 1) for column in columns), parts[0].rounded)

    @staticmethod
    def by_kind(parts: "Sequence[Solids]") -> "tuple[Solids, ...]":
        """Join solids by kind."""
        kinds = dict.fromkeys(p.kind for p in parts)
        return tuple(Solids.join([p for p in parts if p.kind == k]) for k in kinds)

    @property
    def kind(self) -> tuple[int, int]:
        """Return the number of round rows of the shape, and of all rows."""
        return self.rounded, self.shape.shape[-2]

    def to(self, device: str) -> "Solids":
        """Return the solids on another device."""
        return _moved(self, device)

    def times(self, factor: Tensor | float) -> "Solids":
        """Multiply the attenuation by a factor, one for all or one for each patient, (B,)."""
        factor = torch.as_tensor(factor, dtype=self.mu.dtype)
        return replace(self, mu=self.mu * (factor[:, None] if factor.ndim else factor))

    def scaled(self, factor: Tensor) -> "Solids":
        """Scale the body about the origin by a factor for each patient, (B,)."""
        s = factor[:, None]
        shape, centre = self.shape / s[..., None, None], self.centre * s[..., None]
        return replace(self, shape=shape, centre=centre)

    def thickened(self, width: Tensor) -> "Solids":
        """Widen solids that are thinner than a pixel, so that they are sampled without gaps.

        The mass is preserved: mu is divided by the growth of the cross-section.

        Args:
            width: The smallest half-axis, (B,), in cm.
        """
        # Only axes that are too thin are widened.
        inverse = self.shape.norm(dim=-1)  # rows of A are orthogonal: one over each half-axis
        wide = torch.minimum(inverse, 1 / width[:, None, None])
        # The thinner two of the three axes form the cross-section.
        growth = (inverse / wide).sort(-1).values[..., 1:].prod(-1)
        return replace(self, shape=self.shape * (wide / inverse)[..., None], mu=self.mu / growth)


@dataclass(frozen=True)
class Lung:
    """A region filled with air, its displacers, and its contents.

    Args:
        region: Balls, (B, R, ...): air is in their intersection. The mu of the first is the
            attenuation that air replaces.
        displacers: Balls without air, (B, K, ...); mu 0 for an absent one.
        contents: Solids whose attenuation is added within the air only.
    """

    region: Solids
    displacers: Solids
    contents: tuple[Solids, ...] = ()

    def to(self, device: str) -> "Lung":
        """Return the lung on another device."""
        contents = tuple(group.to(device) for group in self.contents)
        return Lung(self.region.to(device), self.displacers.to(device), contents)


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

    def to(self, device: str) -> "Beam":
        """Return the beam on another device."""
        return _moved(self, device)


_Tensors = TypeVar("_Tensors", Solids, Beam)


def _moved(record: _Tensors, device: str) -> _Tensors:
    tensors = {k: v.to(device) for k, v in vars(record).items() if isinstance(v, Tensor)}
    return replace(record, **tensors)
