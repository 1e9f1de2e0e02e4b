"""The rectified flow: a straight path from noise to image, and the velocity along it.

    x_t = (1 - t) u + t x,    v(x_t, t) = E[x - u | x_t, parents]

References:
    Flow Straight and Fast (Liu et al.), arXiv:2209.03003.
    Flow Matching for Generative Modeling (Lipman et al.), arXiv:2210.02747.
    Logit-normal times: Scaling Rectified Flow Transformers (Esser et al.), arXiv:2403.03206.
"""

import torch
from torch import Tensor, nn

__all__ = ["hide_some", "velocity_loss"]


def hide_some(
    columns: dict[str, Tensor], rate: float, generator: torch.Generator
) -> dict[str, Tensor]:
    """Set each variable to missing with probability `rate`, and all of a patient's likewise.

    So every null is learned, and any subset of the variables may be missing later.

    Args:
        columns: The parents, each (B,).
        rate: The probability, twice: of one variable, and of all of them.
        generator: On the CPU.
    """
    if not columns:
        return columns
    x = torch.stack(list(columns.values()))
    kept = torch.rand(x.shape, generator=generator) >= rate
    kept &= torch.rand(x.shape[1], generator=generator) >= rate
    hidden = x.where(kept.to(x.device), torch.nan)
    return dict(zip(columns, hidden, strict=True))


def velocity_loss(
    net: nn.Module,
    images: Tensor,
    columns: dict[str, Tensor],
    generator: torch.Generator,
    hide: float = 0.05,
) -> Tensor:
    """Return the mean squared error of the velocity at one random time an image.

    Args:
        net: A `RadiT`.
        images: (B, 1, H, W) in [-1, 1].
        columns: The parents, each (B,).
        generator: On the CPU, so that the numbers are the same on every device.
        hide: Rate at which variables are hidden.
    """
    n, device = len(images), images.device
    noise = torch.randn(images.shape, generator=generator).to(device)
    t = torch.randn(n, generator=generator).sigmoid().to(device)
    condition = net.embed_condition(hide_some(columns, hide, generator), n)
    s = t.view(-1, 1, 1, 1)
    velocity = net((1 - s) * noise + s * images, t, condition)
    return (velocity - (images - noise)).square().mean()
