"""Between an image and the latents of the flow: the pixels themselves, or an autoencoder.

With every codec, an image is its decoded latents plus a remainder, and the remainder is part of
the noise: so the null intervention returns the image bit for bit.
"""

from typing import Protocol

from torch import Tensor, nn

__all__ = ["Codec", "Pixels"]


class Codec(Protocol):
    """A deterministic map of images to latents, and one back."""

    channels: int
    factor: int

    def encode(self, images: Tensor) -> Tensor:
        """Return latents (B, C, H / factor, W / factor) of images (B, 1, H, W) in [-1, 1]."""

    def decode(self, latents: Tensor) -> Tensor:
        """Return images (B, 1, H, W)."""


class Pixels(nn.Module):
    """The identity: latents are the image itself.

    Example:
        >>> import torch
        >>> x = torch.rand(2, 1, 8, 8)
        >>> bool((Pixels().decode(Pixels().encode(x)) == x).all())
        True
    """

    channels = 1
    factor = 1

    def encode(self, images: Tensor) -> Tensor:
        """Return the images."""
        return images

    def decode(self, latents: Tensor) -> Tensor:
        """Return the latents."""
        return latents
