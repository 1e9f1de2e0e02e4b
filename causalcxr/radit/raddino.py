"""Rad-DINO as a source of features: transformers' own class, weights from a folder.

References:
    Exploring scalable medical image encoders beyond text supervision (Perez-Garcia et al.),
    arXiv:2401.10815.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from causalcxr.common.errors import ModelError
from causalcxr.radit.pretrained import local_model

if TYPE_CHECKING:
    from transformers import Dinov2Model

__all__ = ["RadDino", "load_raddino"]


class RadDino(nn.Module):
    """Feature maps at four depths, and one vector an image; frozen.

    Args:
        model: A `Dinov2Model` of transformers.
        mean: Of the grey levels that it was trained with, between 0 and 1.
        std: Of the same.
        size: Pixels along each side that it looks at, a multiple of its patch; by default as it
            was trained.
    """

    def __init__(
        self, model: Dinov2Model, mean: float, std: float, size: int | None = None
    ) -> None:
        super().__init__()
        config = model.config
        self.size, self.patch = size or config.image_size, config.patch_size
        if self.size % self.patch:
            raise ModelError(f"Rad-DINO: size {self.size} is no multiple of {self.patch}")
        depth = config.num_hidden_layers
        self.depths = sorted({max(1, depth * k // 4) for k in (1, 2, 3, 4)})
        self.model, self.mean, self.std = model.eval().requires_grad_(False), mean, std

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return maps (B, C, size / patch, size / patch) of images (B, 1, H, W) in [0, 1]."""
        found = self.model(self._seen(images), output_hidden_states=True)
        side = self.size // self.patch
        return [
            found.hidden_states[k][:, -(side**2) :].mT.unflatten(2, (side, side))
            for k in self.depths
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled vectors, (B, d), of images (B, 1, H, W) in [0, 1]."""
        return self.model(self._seen(images)).pooler_output

    def _seen(self, images: Tensor) -> Tensor:
        """Return images as the network was trained to see them, (B, 3, size, size)."""
        sides = (self.size, self.size)
        if images.shape[2:] != torch.Size(sides):
            images = interpolate(images, sides, mode="bilinear", antialias=True)
        return ((images - self.mean) / self.std).expand(-1, self.model.config.num_channels, -1, -1)


def load_raddino(folder: str | Path, size: int | None = None) -> RadDino:
    """Read Rad-DINO from a folder on this machine; nothing is fetched.

    Args:
        folder: With `config.json`, safetensors and `preprocessor_config.json`, as published.
        size: See `RadDino`.

    Raises:
        ModelError: If there is no such folder, it holds something else or pickled weights, tensors
            are missing or not finite, or transformers is not installed.
    """
    folder = Path(folder)
    model = local_model("transformers", "Dinov2Model", folder)
    try:
        words = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        means, stds = ([float(v) for v in words[key]] for key in ("image_mean", "image_std"))
        mean, std = sum(means) / len(means), sum(stds) / len(stds)
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise ModelError(
            f"{folder}: preprocessor_config.json does not tell image_mean and image_std "
            f"({error}); copy it from the published folder"
        ) from error
    return RadDino(model, mean, std, size)
