"""A patch adversary: a small network that classifies each patch as real or reconstructed.

Hinge losses; the weight makes its gradient at a reconstruction as large as that of the other
losses together, so that it does not dominate.

References:
    Image-to-Image Translation (Isola et al.), arXiv:1611.07004.
    Geometric GAN (Lim and Ye), arXiv:1705.02894 (the hinge).
    Taming Transformers (Esser et al.), arXiv:2012.09841, equation 7 (the weight, there computed at
    the last layer; here at the image itself, so that the last layer may be frozen).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import relu

__all__ = ["PatchAdversary", "adaptive_weight", "hinge"]


class PatchAdversary(nn.Module):
    """Score each patch of an image: high for a real one.

    No layer normalises over a batch, so a score depends on its own image only.

    Args:
        widths: Channels of each layer; each halves the sides.

    Example:
        >>> PatchAdversary((8, 16))(torch.zeros(2, 1, 32, 32)).shape
        torch.Size([2, 1, 8, 8])
    """

    def __init__(self, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, width in zip((1, *widths[:-1]), widths, strict=True):
            layers += [nn.Conv2d(before, width, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(widths[-1], 1, 3, padding=1))

    def forward(self, images: Tensor) -> Tensor:
        """Return scores (B, 1, h, w) of images (B, 1, H, W)."""
        return self.layers(images)


def hinge(real: Tensor, fake: Tensor) -> Tensor:
    """Return the adversary's loss: real patches above 1, reconstructed ones below -1.

    Example:
        >>> float(hinge(torch.tensor([2.0, 0.0]), torch.tensor([-2.0, -1.0])))
        0.25
    """
    return (relu(1 - real).mean() + relu(1 + fake).mean()) / 2


def adaptive_weight(others: Tensor, adversarial: Tensor, image: Tensor) -> Tensor:
    """Return the weight under which both losses have equal gradients at the image, at most 1e4.

    Args:
        others: The other losses, a scalar that depends on the image.
        adversarial: The adversarial loss, a scalar that depends on the image.
        image: The reconstruction.
    """
    norms = [
        torch.autograd.grad(loss, image, retain_graph=True)[0].float().norm()
        for loss in (others, adversarial)
    ]
    # 1e-12 guards against a zero gradient; no gradient flows through the weight itself.
    return (norms[0] / (norms[1] + 1e-12)).clamp(max=1e4).detach()
