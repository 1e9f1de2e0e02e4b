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
        mean: Mean of its training images' grey levels, between 0 and 1.
        std: Their standard deviation.
        size: Pixels along each side of its input, a multiple of its patch; by default that of its
            training.
    """

    def __init__(
        self, model: Dinov2Model, mean: float, std: float, size: int | None = None
    ) -> None:
        super().__init__()
        config = model.config
        self.size, self.patch = size or config.image_size, config.patch_size
        if self.size % self.patch:
            raise ModelError(f"Rad-DINO: size {self.size} is not a multiple of {self.patch}")
        depth = config.num_hidden_layers
        self.depths = sorted({max(1, depth * k // 4) for k in (1, 2, 3, 4)})
        self.model, self.mean, self.std = model.eval().requires_grad_(False), mean, std

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return maps (B, C, size / patch, size / patch) of images (B, 1, H, W) in [0, 1]."""
        out = self.model(self._inputs(images), output_hidden_states=True)
        side = self.size // self.patch
        return [
            out.hidden_states[k][:, -(side**2) :].mT.unflatten(2, (side, side))
            for k in self.depths
        ]

    def forward(self, images: Tensor) -> Tensor:
        """Return the pooled vectors, (B, d), of images (B, 1, H, W) in [0, 1]."""
        return self.model(self._inputs(images)).pooler_output

    def _inputs(self, images: Tensor) -> Tensor:
        """Return images resized and standardised as in training, (B, 3, size, size)."""
        sides = (self.size, self.size)
        if images.shape[2:] != torch.Size(sides):
            images = interpolate(images, sides, mode="bilinear", antialias=True)
        return ((images - self.mean) / self.std).expand(-1, self.model.config.num_channels, -1, -1)


def load_raddino(folder: str | Path, size: int | None = None) -> RadDino:
    """Load Rad-DINO from a folder on this machine; nothing is downloaded.

    Args:
        folder: The published folder, with `config.json`, safetensors and
            `preprocessor_config.json`.
        size: See `RadDino`.

    Raises:
        ModelError: If there is no such folder, it holds something else or pickled weights, tensors
            are missing or not finite, or transformers is not installed.
    """
    folder = Path(folder)
    model = local_model("transformers", "Dinov2Model", folder)
    try:
        settings = json.loads((folder / "preprocessor_config.json").read_text(encoding="utf-8"))
        # A radiograph has one channel: average the three colours' normalisation.
        means, stds = ([float(v) for v in settings[key]] for key in ("image_mean", "image_std"))
        mean, std = sum(means) / len(means), sum(stds) / len(stds)
    except (OSError, ValueError, LookupError, TypeError, ZeroDivisionError) as error:
        raise ModelError(
            f"{folder}: preprocessor_config.json has no image_mean and image_std ({error}); copy "
            "it from the published folder"
        ) from error
    return RadDino(model, mean, std, size)
