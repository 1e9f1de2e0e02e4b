"""The radiograph's equation under the transport coupling: an edit without inversion to noise.

The joint distribution of a factual image and its twin is a coupling, which data cannot test.
Inversion (`image_equation`) keeps one noise for both. Transport keeps the image itself, and moves
it along the difference of the two velocities, see `causalcxr.radit.transport`.

The exogenous variable of this coupling is everything factual that the edit needs, u = (x, pa, n):
the image, its parents, and a key for the noise of the edits. So the formula stays the same,

    twin = mechanism(pa*).predict(mechanism(pa).abduct(x)),

the null intervention is exact, and a record's twin depends on that record alone. But u is not
independent of the parents, the twin of a twin need not be the image again, and the distribution of
twins need not be that of images under pa*.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Self

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.images.resampling import Resampling
from causalcxr.mechanisms.base import Columns
from causalcxr.mechanisms.image_equation import LARGEST_STATE, ImageEquation, Solving
from causalcxr.radit.codec import Codec
from causalcxr.radit.guidance import soft_threshold, typical_strength
from causalcxr.radit.solvers import on_lattice
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.transport import network_change

__all__ = ["ImageTransportEquation", "image_equation", "resampled"]


class ImageTransportEquation(ImageEquation):
    """An image whose twin is an edit of it; samples are those of `ImageEquation`.

    Args:
        net: The velocity.
        parents: The tabular parents, each (n,).
        solving: Steps, edits, guidance (the weight w) and threshold.
        codec: Between images and latents, on the network's device; None for pixels.
    """

    partners: Sequence[RadiT] = ()  # other networks, whose changes are averaged with the first's

    def reaching(self, names: Iterable[str]) -> Self:
        """Return the same equation with these variables guided."""
        equation = super().reaching(names)
        equation.partners = self.partners
        return equation

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return (x, pa, n) of images (n, 1, H, W) in [0, 1], one row of float64 a record.

        Args:
            x: Images.
            draws: The random numbers of the records, for the noise of the edits.
        """
        # The noise holds the image, the factual parents and a 64-bit key of each record.
        codes = [self.parents[name].double().expand(len(x)) for name in self._names]
        keys = draws.states()
        # float64 is exact up to 2^53 only: a key is stored in two halves.
        halves = [keys >> np.uint64(32), keys & np.uint64(2**32 - 1)]
        key = [torch.from_numpy(half.astype(np.float64)) for half in halves]
        return torch.cat([x.double().flatten(1), torch.stack([*codes, *key], 1)], 1)

    def predict(self, u: Tensor) -> Tensor:
        """Return twins (n, 1, H, W), float64, about [0, 1]; noise from the prior gives samples.

        Raises:
            MechanismError: If a change diverges.
        """
        # Noise from the prior has another width: then it is a sample.
        pixels = torch.Size(self.image).numel()
        if u.shape[1] != pixels + len(self._names) + 2:
            return super().predict(u)
        x = on_lattice(2 * u[:, :pixels].reshape(-1, *self.image) - 1)
        z = self._encoded(x)
        latents_and_facts = torch.cat([z.flatten(1), u[:, pixels:]], 1)
        change = self._chunked("Twins", self._change, latents_and_facts, self.latent, self.parents)
        change = on_lattice(change)
        if not (change.abs() < LARGEST_STATE).all():
            raise MechanismError(
                "image: the change of a twin diverged; train for longer, or lower guidance"
            )
        # What the codec loses of the factual image is returned to the twin.
        remainder = x - self._decoded(z)
        if self.solving.remainder == "fade":
            remainder = self._faded(remainder, change)
        return (self._decoded(z + change) + remainder + 1) / 2

    def standard(self, u: Tensor) -> Tensor:
        """Return the noise of the first step, (n, channels, h, w), which is standard normal."""
        high, low = u[:, -2:].unbind(1)
        return _normal(_keys(high, low), "edit 0 step 0", torch.Size(self.latent))

    @property
    def _names(self) -> list[str]:
        return sorted(self.parents)

    def _change(self, part: Tensor, columns: Columns) -> Tensor:
        """Return the change of the latents of a full batch."""
        # Unpack the latents, the factual parents and the key.
        z, codes = part.tensor_split([torch.Size(self.latent).numel()], 1)
        z = z.view(-1, *self.latent)
        *facts, high, low = codes.unbind(1)
        factual = dict(zip(self._names, (c.float() for c in facts), strict=True))
        keys = _keys(high, low)
        weight, threshold = self._settings(self.net, factual, columns)
        own = self._edited(self.net, z, factual, columns, keys, weight)
        changes = [own]
        # A partner sees the images at its own size. It replaces what can be seen there, so that
        # details are those of the first network.
        for k, partner in enumerate(self.partners):
            between = Resampling(self.latent[1:], partner.config.size)
            small, seen = (resampled(between.shrink, each) for each in (z, own))
            weight, _ = self._settings(partner, factual, columns)
            stream = f"partner {k} " if k else "partner "
            other = self._edited(partner, small, factual, columns, keys, weight, stream)
            changes.append(own + resampled(between.enlarge, other - seen))
        change = torch.stack(changes).mean(0)
        return soft_threshold(change, threshold * typical_strength(change), smooth=True)

    def _settings(
        self, net: RadiT, factual: Columns, columns: Columns
    ) -> tuple[float | Tensor, float | Tensor]:
        """Return weight and threshold: of each record, (B,), where they are calibrated."""
        solving, calibration = self.solving, getattr(net, "calibration", None)
        weight, threshold = solving.guidance, solving.threshold
        if not solving.calibrated or calibration is None:
            return weight, threshold
        own_weight, own_threshold = calibration.settings(factual, columns)
        return (
            own_weight if "guidance" in solving.calibrated else weight,
            own_threshold if "threshold" in solving.calibrated else threshold,
        )

    def _edited(
        self,
        net: RadiT,
        z: Tensor,
        factual: Columns,
        columns: Columns,
        keys: np.ndarray,
        weight: float | Tensor,
        stream: str = "",
    ) -> Tensor:
        """Return the change of images that one network makes, with noise of its own."""
        steps, edits = self.solving.steps, self.solving.edits

        def noise(edit: int, step: int) -> Tensor:
            return _normal(keys, f"{stream}edit {edit} step {step}", z.shape[1:]).to(z.device)

        return network_change(
            net, z, factual, columns, noise, steps=steps, edits=edits, weight=weight
        )


def _normal(keys: np.ndarray, stream: str, shape: torch.Size) -> Tensor:
    """Return the standard normal numbers of an edit's step, (n, channels, h, w)."""
    normal = Draws(keys, stream=stream).normal(shape.numel())
    return torch.from_numpy(normal).view(-1, *shape)


def resampled(change_size: Callable[[np.ndarray], np.ndarray], x: Tensor) -> Tensor:
    """Return images (B, 1, H, W) at another size."""
    return torch.from_numpy(change_size(x[:, 0].cpu().numpy())).unsqueeze(1).to(x)


def image_equation(
    net: RadiT,
    parents: Columns,
    solving: Solving,
    codec: Codec | None = None,
    partners: Sequence[RadiT] = (),
) -> ImageEquation:
    """Return the image's equation under the coupling in the settings.

    Args:
        net: The velocity.
        parents: The tabular parents, each (n,).
        solving: The settings; they name the coupling.
        codec: Between images and latents; None for pixels.
        partners: Other networks, under transport: the changes of all are averaged.
    """
    if solving.coupling == "inversion":
        return ImageEquation(net, parents, solving, codec)
    equation = ImageTransportEquation(net, parents, solving, codec)
    equation.partners = partners
    return equation


def _keys(high: Tensor, low: Tensor) -> np.ndarray:
    """Return keys of 64 bits, (n,), from their halves."""
    high, low = (half.cpu().numpy().astype(np.uint64) for half in (high, low))
    return (high << np.uint64(32)) | low
