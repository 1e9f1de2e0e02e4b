"""How good an autoencoder is: what it loses of a picture, and what its latents look like."""

from collections.abc import Iterable

import torch
from torch import Tensor

from causalcxr.radit.autoencoder import Autoencoder

__all__ = ["quality"]


@torch.no_grad()
def quality(codec: Autoencoder, batches: Iterable[Tensor]) -> dict[str, float | list[float]]:
    """Return what is lost of images that were held out.

    Args:
        codec: The autoencoder.
        batches: Images (B, 1, H, W) in [-1, 1], at least one.

    Returns:
        `psnr`, in dB, and `absolute`, the mean absolute error, both of grey levels between 0 and
        1 and after values beyond them were cut off; `images`, how many; `latent_std` of each
        channel; `kept_noise`, the posterior's standard deviation over that of the latents, each.
    """
    count, absolute, squared, latents, noise = 0, 0.0, 0.0, [], []
    for images in batches:
        mean, log_variance = (part.float() for part in codec.posterior(images))
        off = (codec.synthesise(mean).float().clamp(-1, 1) - images) / 2
        count += len(images)
        absolute += float(off.abs().mean((1, 2, 3)).sum())
        squared += float(off.square().mean((1, 2, 3)).sum())
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
