"""The base class of autoencoders: a posterior over latents, and an image from latents.

    images x --posterior--> mean, log variance --normalise--> latents --synthesise--> images

Latents are the posterior's mean, normalised to mean 0 and standard deviation 1 in each channel
over the training set: so they are near to the noise that a flow starts from. Both directions are
deterministic.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from causalcxr.common.errors import MechanismError

__all__ = ["Autoencoder"]


class Autoencoder(nn.Module, ABC):
    """Map images to normalised latents and back: a `Codec` that can be trained.

    Args:
        channels: Channels of the latents.
        factor: Pixels along each side per latent.
    """

    def __init__(self, channels: int, factor: int) -> None:
        super().__init__()
        self.channels, self.factor = channels, factor
        self.register_buffer("middle", torch.zeros(channels, 1, 1))
        self.register_buffer("spread", torch.ones(channels, 1, 1))

    @abstractmethod
    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the raw latents, (B, C, H / factor, W / factor) each.

        Args:
            images: (B, 1, H, W) in [-1, 1].
        """

    @abstractmethod
    def synthesise(self, raw: Tensor) -> Tensor:
        """Return images (B, 1, H, W) of raw latents, that is before normalisation."""

    @abstractmethod
    def settings(self) -> dict[str, object]:
        """Return the settings of the network, as JSON allows."""

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Return normalised latents (B, C, H / factor, W / factor), float32.

        Args:
            images: (B, 1, H, W) in [-1, 1], sides multiples of the factor.

        Raises:
            MechanismError: If the shape does not fit.
        """
        self.check(images)
        mean, _ = self.posterior(images.to(self.spread.dtype))
        return (mean.float() - self.middle) / self.spread

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (B, 1, H, W), about [-1, 1], of normalised latents.

        Raises:
            MechanismError: If the latents have another number of channels.
        """
        if latents.ndim != 4 or latents.shape[1] != self.channels:
            raise MechanismError(
                f"latents of shape {tuple(latents.shape)}: this autoencoder needs "
                f"(B, {self.channels}, h, w)"
            )
        raw = latents.to(self.spread.dtype) * self.spread + self.middle
        return self.synthesise(raw).float()

    def check(self, images: Tensor) -> None:
        """Check the shape of images.

        Raises:
            MechanismError: If it does not fit.
        """
        is_batch = images.ndim == 4 and images.shape[1] == 1
        if not is_batch or images.shape[2] % self.factor or images.shape[3] % self.factor:
            raise MechanismError(
                f"images of shape {tuple(images.shape)}: an autoencoder needs (B, 1, H, W) with "
                f"sides that are multiples of {self.factor}; resize or pad them"
            )

    @torch.no_grad()
    def normalise(self, batches: Iterable[Tensor]) -> None:
        """Set mean and standard deviation of each channel from batches of training images.

        Args:
            batches: Images (B, 1, H, W) in [-1, 1]; sums are in float64.

        Raises:
            MechanismError: If a channel is constant or not finite, which no flow can learn.
        """
        # Accumulate sums in float64 over all batches and places.
        count, total, squares = 0, 0.0, 0.0
        for images in batches:
            mean = self.posterior(images)[0].double()
            count += mean[:, 0].numel()
            total = total + mean.sum((0, 2, 3))
            squares = squares + mean.square().sum((0, 2, 3))
        if not count:
            raise MechanismError(
                "no images to normalise the latents with; pass images of the training set"
            )
        # The variance from the sums; rounding may make it slightly negative.
        middle = total / count
        spread = (squares / count - middle.square()).clamp(min=0).sqrt()
        # A constant channel carries nothing, and dividing by its spread would amplify noise.
        bad = (~(spread.isfinite() & (spread > 1e-6))).nonzero()
        if len(bad):
            k = int(bad[0])
            raise MechanismError(
                f"latent channel {k} has a standard deviation of {float(spread[k]):g}; "
                "lower the weight of the divergence (kl), or check the images"
            )
        self.middle.copy_(middle[:, None, None])
        self.spread.copy_(spread[:, None, None])
