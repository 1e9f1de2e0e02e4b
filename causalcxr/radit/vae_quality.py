"""The quality of an autoencoder: the error of its images, and the spread of its latents."""

from collections.abc import Iterable

import torch
from torch import Tensor

from causalcxr.radit.autoencoder import Autoencoder

__all__ = ["quality"]


@torch.no_grad()
def quality(codec: Autoencoder, batches: Iterable[Tensor]) -> dict[str, float | list[float]]:
    """Return the error of held-out images and statistics of their latents.

    Args:
        codec: The autoencoder.
        batches: Images (B, 1, H, W) in [-1, 1], at least one.

    Returns:
        `psnr`, in dB, and `absolute`, the mean absolute error, both of grey levels clipped to 0
        to 1; `images`, their number; `latent_std` of each channel; `kept_noise`, the posterior's
        standard deviation divided by that of the latents, of each channel.
    """
    count, absolute, squared, latents, noise = 0, 0.0, 0.0, [], []
    for images in batches:
        mean, log_variance = (part.float() for part in codec.posterior(images))
        # Half the error in [-1, 1] is that in [0, 1].
        error = (codec.synthesise(mean).float().clamp(-1, 1) - images) / 2
        count += len(images)
        absolute += float(error.abs().mean((1, 2, 3)).sum())
        squared += float(error.square().mean((1, 2, 3)).sum())
        # On the CPU, so that the device holds one batch at a time.
        latents.append(((mean - codec.middle) / codec.spread).cpu())
        noise.append(((log_variance / 2).exp() / codec.spread).cpu())
    return {
        "images": count,
        "psnr": round(float(-10 * torch.log10(torch.tensor(squared / count))), 3),
        "absolute": round(absolute / count, 6),
        "latent_std": _rounded(torch.cat(latents).std((0, 2, 3))),
        "kept_noise": _rounded(torch.cat(noise).mean((0, 2, 3))),
    }


def _rounded(values: Tensor) -> list[float]:
    return [round(float(value), 4) for value in values]
