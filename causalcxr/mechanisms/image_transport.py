"""The radiograph's equation under the transport coupling: an edit, and no way to noise.

How a factual image and its twin belong together is a coupling, which data cannot test. Inversion
(`image_equation`) keeps one noise for both. Transport keeps the image itself, and moves it along
the difference of the two velocities, see `causalcxr.radit.transport`.

The exogenous variable of this coupling is all that the edit needs of the facts, u = (x, pa, n):
the image, the variables it was taken under, and a key for the noise of the edits. So the contract
stays the same,

    twin = mechanism(pa*).predict(mechanism(pa).abduct(x)),

the null intervention is exact, and a record's twin depends on that record alone. But u is not
independent of the parents, twins of twins need not lead back to the image, and the distribution of
twins is not, by construction, that of images under pa*.
"""

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Columns
from causalcxr.mechanisms.image_equation import WILD, ImageEquation, Solving
from causalcxr.radit.codec import Codec
from causalcxr.radit.guidance import guided_velocity, soft_threshold, typical_strength
from causalcxr.radit.solvers import on_lattice, times
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.transport import transport_change

__all__ = ["ImageTransportEquation", "image_equation"]


class ImageTransportEquation(ImageEquation):
    """An image whose twin is an edit of it; samples are those of `ImageEquation`.

    Args:
        net: The velocity.
        parents: The tabular parents, each (n,).
        solving: Steps, edits, guidance (the weight w) and threshold.
        codec: What turns images into what flows, on the network's device; None for pixels.
    """

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return (x, pa, n) of images (n, 1, H, W) in [0, 1], one row of float64 a record.

        Args:
            x: Images.
            draws: The random numbers of the records, of which the noise of the edits is made.
        """
        codes = [self.parents[name].double().expand(len(x)) for name in self._names]
        keys = draws.states()
        halves = [keys >> np.uint64(32), keys & np.uint64(2**32 - 1)]
        key = [torch.from_numpy(half.astype(np.float64)) for half in halves]
        return torch.cat([x.double().flatten(1), torch.stack([*codes, *key], 1)], 1)

    def predict(self, u: Tensor) -> Tensor:
        """Return twins (n, 1, H, W), float64, about [0, 1]; noise of the prior gives samples.

        Raises:
            MechanismError: If a change leaves all bounds.
        """
        pixels = torch.Size(self.image).numel()
        if u.shape[1] != pixels + len(self._names) + 2:
            return super().predict(u)
        x = on_lattice(2 * u[:, :pixels].reshape(-1, *self.image) - 1)
        z = self._encoded(x)
        rest = torch.cat([z.flatten(1), u[:, pixels:]], 1)
        change = on_lattice(self._chunked("Twins", self._change, rest, self.latent, self.parents))
        if not (change.abs() < WILD).all():
            raise MechanismError(
                "image: a twin's change has no bounds; train longer, or lower guidance"
            )
        remainder = x - self._decoded(z)
        if self.solving.remainder == "fade":
            remainder = self._faded(remainder, change)
        return (self._decoded(z + change) + remainder + 1) / 2

    def standard(self, u: Tensor) -> Tensor:
        """Return the first noise of the edits, (n, channels, h, w): it is standard normal."""
        high, low = u[:, -2:].unbind(1)
        return self._noise(_keys(high, low), 0, 0)

    @property
    def _names(self) -> list[str]:
        return sorted(self.parents)

    def _change(self, part: Tensor, columns: Columns) -> Tensor:
        """Return the change of the latents of a full batch."""
        how, device = self.solving, part.device
        z, codes = part.tensor_split([torch.Size(self.latent).numel()], 1)
        *facts, high, low = codes.unbind(1)
        factual = dict(zip(self._names, (c.float() for c in facts), strict=True))
        keys = _keys(high, low)
        change = transport_change(
            guided_velocity(self.net, factual, len(part)),
            guided_velocity(self.net, columns, len(part)),
            z.view(-1, *self.latent),
            lambda edit, step: self._noise(keys, edit, step).to(device),
            times(how.steps, shift=1.0)[::-1],
            edits=how.edits,
            weight=how.guidance,
        )
        return soft_threshold(change, how.threshold * typical_strength(change))

    def _noise(self, keys: np.ndarray, edit: int, step: int) -> Tensor:
        """Return the standard normal numbers of an edit's step, (n, channels, h, w)."""
        numbers = Draws(keys, stream=f"edit {edit} step {step}")
        normal = numbers.normal(torch.Size(self.latent).numel())
        return torch.from_numpy(normal).view(-1, *self.latent)


def image_equation(
    net: RadiT, parents: Columns, solving: Solving, codec: Codec | None = None
) -> ImageEquation:
    """Return the image's equation under the coupling that is asked for; see `ImageEquation`."""
    kind = ImageTransportEquation if solving.coupling == "transport" else ImageEquation
    return kind(net, parents, solving, codec)


def _keys(high: Tensor, low: Tensor) -> np.ndarray:
    """Return keys of 64 bits, (n,), from their halves."""
    high, low = (half.cpu().numpy().astype(np.uint64) for half in (high, low))
    return (high << np.uint64(32)) | low
