"""Rad-VAE: a convolutional autoencoder of radiographs, trained from scratch.

Residual blocks of 3 x 3 convolutions, which halve the sides from one width to the next, without
attention: a latent depends on its surroundings only, so that a local change of the image leaves
the latents elsewhere unchanged. For the same reason channels are normalised place by place. A
linear path in parallel starts as a block cosine transform: so the network starts with an image,
and learns the rest.

References:
    Auto-Encoding Variational Bayes (Kingma and Welling), arXiv:1312.6114.
    Latent Diffusion (Rombach et al.), arXiv:2112.10752.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import (
    conv2d,
    conv_transpose2d,
    interpolate,
    pixel_shuffle,
    pixel_unshuffle,
    silu,
    softplus,
)

from causalcxr.common.errors import ModelError, nearest
from causalcxr.radit.autoencoder import Autoencoder

__all__ = ["SHAPES", "RadVAE", "RadVAEConfig"]

_FIRST_LOG_VARIANCE = -6.0  # of a latent: little noise, so that the image is visible at first
_LARGEST_LOG_VARIANCE = 2.0  # so that one bad step does not hide the image in noise


@dataclass(frozen=True)
class RadVAEConfig:
    """The configuration of the network.

    Args:
        latent: Channels of the latents.
        widths: Channels at each scale, from fine to coarse; sides halve from one to the next.
        depth: Residual blocks at each scale; the decoder has one more.
        patch: Pixels along each side that enter as channels: 2 saves expensive layers.

    Raises:
        ModelError: If a number is below 1.

    Example:
        >>> RadVAEConfig.from_name("tiny").factor, RadVAEConfig.from_name("large", latent=8).latent
        (4, 8)
    """

    latent: int = 4
    widths: tuple[int, ...] = (32, 96)
    depth: int = 2
    patch: int = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(self.widths))  # JSON has lists
        numbers = (self.latent, *self.widths, self.depth, self.patch)
        if not self.widths or any(not isinstance(n, int) or n < 1 for n in numbers):
            raise ModelError(f"Rad-VAE: {self} has a field that is not a whole number above 0")

    @property
    def factor(self) -> int:
        """Pixels along each side that a latent stands for."""
        return self.patch * 2 ** (len(self.widths) - 1)

    @classmethod
    def from_name(cls, shape: str, **changes: Any) -> "RadVAEConfig":
        """Return the configuration of a name in `SHAPES`, with any field changed."""
        if shape not in SHAPES:
            raise ModelError(
                f"Rad-VAE: no shape {shape!r}{nearest(shape, SHAPES)}; use {', '.join(SHAPES)}"
            )
        return cls(**{**SHAPES[shape], **changes})


# A million parameters, for 64 pixels on a processor; 62 million, for 512 on a graphics card.
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {"latent": 4, "widths": (32, 96), "depth": 2, "patch": 2},
    "large": {"latent": 16, "widths": (128, 256, 512, 512), "depth": 2, "patch": 1},
}


class _Norm(nn.Module):
    """Divide the channels of each place by their root mean square."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        # In float32, as squares lose too much in bf16; 1e-6 guards channels that are all zero.
        size = x.float().square().mean(1, keepdim=True).add(1e-6).rsqrt()
        return x * size.to(x.dtype) * self.gain.to(x.dtype)


class _Residual(nn.Module):
    """The identity plus two convolutions, which are zero at first."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(_Norm(width) for _ in range(2))
        self.convolutions = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in range(2))
        nn.init.zeros_(self.convolutions[1].weight)

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(silu(norm(y)))
        return x + y


class _Larger(nn.Module):
    """Double the sides, then convolve: this avoids checkerboard artefacts."""

    def __init__(self, width: int, to: int) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(width, to, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.convolution(interpolate(x, scale_factor=2.0, mode="nearest"))


def _encoder(config: RadVAEConfig) -> nn.Sequential:
    """Return patches -> mean and log variance."""
    first, last = config.widths[0], config.widths[-1]
    layers: list[nn.Module] = [nn.Conv2d(config.patch**2, first, 3, padding=1)]
    # Residual blocks at each width; the sides are halved between widths.
    for k, width in enumerate(config.widths):
        layers += [_Residual(width) for _ in range(config.depth)]
        if k + 1 < len(config.widths):
            layers.append(nn.Conv2d(width, config.widths[k + 1], 3, stride=2, padding=1))
    return nn.Sequential(
        *layers, _Norm(last), nn.SiLU(), nn.Conv2d(last, 2 * config.latent, 3, padding=1)
    )


def _decoder(config: RadVAEConfig) -> nn.Sequential:
    """Return latents -> patches."""
    first, last = config.widths[0], config.widths[-1]
    layers: list[nn.Module] = [nn.Conv2d(config.latent, last, 3, padding=1)]
    # The mirror image of the encoder, with one more residual block at each width.
    for k, width in reversed(list(enumerate(config.widths))):
        layers += [_Residual(width) for _ in range(config.depth + 1)]
        if k:
            layers.append(_Larger(width, config.widths[k - 1]))
    out = nn.Conv2d(first, config.patch**2, 3, padding=1)
    return nn.Sequential(*layers, _Norm(first), nn.SiLU(), out)


def _cosines(side: int, count: int) -> Tensor:
    """Return the lowest two-dimensional cosines of a block and their sizes in natural images.

    Returns:
        Shape (2, count, 1, side, side): the kernels that give latents of about unit size
        (amplitudes fall with frequency in natural images), and those of the inverse.
    """
    place = torch.arange(side)
    # The orthonormal cosine basis of one dimension.
    waves = torch.cos(torch.pi * (place + 0.5) * place[:, None] / side) * (2 / side) ** 0.5
    waves[0] /= 2**0.5
    pairs = [(i, j) for i in range(side) for j in range(side)]
    # The lowest spatial frequencies; ties are broken by position, so that the order is fixed.
    lowest = sorted(pairs, key=lambda p: (p[0] ** 2 + p[1] ** 2, p))[:count]
    there, back = torch.zeros(2, count, 1, side, side)
    for k, (i, j) in enumerate(lowest):
        # The typical amplitude: that of a constant 1/2 at frequency zero, then it falls.
        size = side / 2 / (1 + 5 * (i * i + j * j) ** 0.5)
        block = torch.outer(waves[i], waves[j])
        there[k, 0], back[k, 0] = block / size, block * size
    return torch.stack([there, back])


class RadVAE(Autoencoder):
    """Encode a radiograph as a Gaussian over latents, and decode it.

    Args:
        config: The configuration of the network.

    Example:
        >>> vae = RadVAE(RadVAEConfig(latent=3, widths=(8, 16), depth=1))
        >>> latents = vae.encode(torch.zeros(2, 1, 24, 16))
        >>> latents.shape, vae.decode(latents).shape
        (torch.Size([2, 3, 6, 4]), torch.Size([2, 1, 24, 16]))
    """

    def __init__(self, config: RadVAEConfig) -> None:
        super().__init__(config.latent, config.factor)
        self.config = config
        self.encoder, self.decoder = _encoder(config), _decoder(config)
        # A linear path, so that training starts from a usable autoencoder.
        self.find, self.make = map(nn.Parameter, _cosines(config.factor, config.latent))
        # At first the means and the images are those of the linear path.
        for layer in (self.encoder[-1], self.decoder[-1]):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)
        nn.init.constant_(self.encoder[-1].bias[config.latent :], _FIRST_LOG_VARIANCE)

    def posterior(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and log variance of the raw latents; see `Autoencoder.posterior`."""
        mean, log_variance = self.encoder(pixel_unshuffle(images, self.config.patch)).chunk(2, 1)
        with torch.autocast(images.device.type, enabled=False):  # bf16 would round grey levels
            linear = conv2d(images.float(), self.find, stride=self.factor)
        # A smooth upper bound and a hard lower one.
        most = _LARGEST_LOG_VARIANCE
        return linear + mean, (most - softplus(most - log_variance)).clamp(min=-20)

    def synthesise(self, raw: Tensor) -> Tensor:
        """Return images of raw latents; see `Autoencoder.synthesise`."""
        with torch.autocast(raw.device.type, enabled=False):
            linear = conv_transpose2d(raw.float(), self.make, stride=self.factor)
        return linear + pixel_shuffle(self.decoder(raw), self.config.patch)

    def settings(self) -> dict[str, object]:
        """Return the fields of the configuration."""
        return asdict(self.config)
