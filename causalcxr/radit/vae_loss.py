"""The loss of an autoencoder: an accurate image from latents that are near to noise.

    loss = |x - y| + kl KL(q(z | x), N(0, 1)) + perceptual + adversary

The divergence is in nats per pixel. The absolute error makes images sharp; the divergence sets the
noise that latents must tolerate, which makes them smooth enough for a flow to learn.
"""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from causalcxr.radit.autoencoder import Autoencoder

__all__ = ["Losses", "Perceptual", "divergence", "losses"]


class Perceptual(Protocol):
    """A distance of images, such as `FeatureDistance`."""

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """Return the mean distance of images (B, 1, H, W) in [-1, 1], a scalar."""


class Losses(NamedTuple):
    """The parts of the loss, unweighted, and the reconstruction (B, 1, H, W)."""

    absolute: Tensor
    divergence: Tensor
    perceptual: Tensor
    image: Tensor


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """Return KL(N(mean, variance), N(0, 1)) in nats, summed over channels and places, (B,).

    Example:
        >>> divergence(torch.ones(1, 1, 1, 2), torch.zeros(1, 1, 1, 2))
        tensor([1.])
    """
    each = mean.square() + log_variance.exp() - 1 - log_variance
    return each.sum((1, 2, 3)) / 2


def losses(
    model: Autoencoder,
    images: Tensor,
    generator: torch.Generator,
    perceptual: Perceptual | None = None,
) -> Losses:
    """Encode, draw latents, decode, compare.

    Args:
        model: The autoencoder.
        images: (B, 1, H, W) in [-1, 1].
        generator: The source of randomness, on the CPU: the numbers are the same on every device.
        perceptual: A distance of images.
    """
    mean, log_variance = (part.float() for part in model.posterior(images))
    # Draw a latent from the posterior, so that gradients reach mean and variance.
    noise = torch.randn(mean.shape, generator=generator).to(mean.device)
    image = model.synthesise(mean + noise * (0.5 * log_variance).exp()).float()
    # Per pixel, so that the weight of the divergence does not depend on the size.
    nats = divergence(mean, log_variance).mean() / images[0].numel()
    distance = perceptual(image, images) if perceptual else image.new_zeros(())
    return Losses((image - images).abs().mean(), nats, distance, image)
