"""A perceptual distance of two images: the distance of their feature maps.

References:
    The Unreasonable Effectiveness of Deep Features as a Perceptual Metric (Zhang et al.),
    arXiv:1801.03924.
"""

from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

__all__ = ["FeatureDistance", "FeatureMaps"]


class FeatureMaps(Protocol):
    """A network with feature maps, such as the bundled encoder or `RadDino`."""

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return maps (B, C, h, w) of images (B, 1, H, W) in [0, 1]."""


class FeatureDistance:
    """Compare feature maps, each place's vector scaled to length one; 0 for equal images.

    The network is frozen; gradients reach the images only.

    Args:
        features: The network.

    Example:
        >>> class Edges(nn.Module):
        ...     def maps(self, images):
        ...         return [torch.cat([images.diff(dim=3, append=images[..., -1:]), images], 1)]
        >>> x = torch.rand(1, 1, 8, 8)
        >>> distance = FeatureDistance(Edges())
        >>> float(distance(x, x)), float(distance(x, x.flip(3))) > 0.01
        (0.0, True)
    """

    def __init__(self, features: nn.Module) -> None:
        self.features = features.eval().requires_grad_(False)

    def __call__(self, images: Tensor, others: Tensor) -> Tensor:
        """Return the mean squared distance, a scalar.

        Args:
            images: (B, 1, H, W) in [-1, 1]; they get gradients.
            others: Images of the same shape; they get no gradients.
        """
        # Features take grey levels in [0, 1].
        ours = self.features.maps((images + 1) / 2)
        with torch.no_grad():
            theirs = self.features.maps((others + 1) / 2)
        parts = [
            (normalize(a.float(), dim=1) - normalize(b.float(), dim=1)).square().sum(1).mean()
            for a, b in zip(ours, theirs, strict=True)
        ]
        return torch.stack(parts).mean()
