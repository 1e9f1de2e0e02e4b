"""Features of radiographs: a small network trained to classify phantoms.

Its maps give a perceptual distance, its vectors a distance of distributions. For real radiographs
the features of Rad-DINO are better, if its weights are available (`causalcxr.radit.raddino`).
"""

from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.radit.weights import BUNDLED, check_unchanged, content_hash

__all__ = ["VERSION", "Features", "load_features", "save_features"]

VERSION = "1"
_WIDTHS = (16, 32, 64, 96)


def _stage(inside: int, out: int) -> nn.Sequential:
    """Return two convolutions, the first of which halves the image."""
    return nn.Sequential(
        nn.Conv2d(inside, out, 3, 2, 1),
        nn.GroupNorm(8, out),
        nn.SiLU(),
        nn.Conv2d(out, out, 3, 1, 1),
        nn.GroupNorm(8, out),
        nn.SiLU(),
    )


class Features(nn.Module):
    """Map radiographs to feature maps at four scales, and to one vector.

    Every image is standardised by itself, so that exposure does not matter.

    Example:
        >>> features = Features()
        >>> [tuple(m.shape) for m in features.maps(torch.rand(2, 1, 64, 64))][-1]
        (2, 96, 4, 4)
        >>> features(torch.rand(2, 1, 48, 32)).shape
        torch.Size([2, 192])
    """

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList(_stage(a, b) for a, b in pairwise((1, *_WIDTHS)))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return maps (B, c, H / 2^k, W / 2^k), k = 1 to 4, of images (B, 1, H, W) in [0, 1]."""
        mean = images.mean((1, 2, 3), keepdim=True)
        # The floor guards images of one grey level.
        x = (images - mean) / images.std((1, 2, 3), keepdim=True).clamp(min=1e-3)
        out = []
        for stage in self.stages:
            x = stage(x)
            out.append(x)
        return out

    def forward(self, images: Tensor) -> Tensor:
        """Return vectors (B, 192): mean and maximum over the last maps."""
        last = self.maps(images)[-1]
        return torch.cat([last.mean((2, 3)), last.amax((2, 3))], 1)


def save_features(path: Path, features: Features, **about: str) -> None:
    """Write weights atomically, with a hash of them and texts for the header."""
    tensors = features.state_dict()
    header = {"kind": "features", "version": VERSION, "content": content_hash(tensors)}
    save_tensors(path, tensors, header | about)


def load_features(name: str | Path = "phantom") -> Features:
    """Load weights by a bundled name or a path.

    Raises:
        ModelError: If there is no such file, or it is damaged, changed, or of another kind or
            version.

    Example:
        >>> sum(p.numel() for p in load_features().parameters())
        211056
    """
    # A bundled name takes precedence over a path.
    bundled = BUNDLED / f"features-{name}.safetensors"
    path = bundled if bundled.is_file() else Path(name)
    if not path.is_file():
        raise ModelError(f"features {str(name)!r}: no such file and not bundled; use 'phantom'")
    tensors, about = load_tensors(path)
    if (about.get("kind"), about.get("version")) != ("features", VERSION):
        raise ModelError(
            f"{path}: {about.get('kind', 'weights')} of version {about.get('version')}, not "
            f"features of version {VERSION}; give another file"
        )
    # Verify the hash before any tensor is used.
    check_unchanged(path, tensors, about)
    features = Features()
    try:
        features.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path}: its tensors do not fit the network ({error})") from error
    return features.eval().requires_grad_(False)
