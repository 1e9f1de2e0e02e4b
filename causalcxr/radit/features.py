"""Features of radiographs: a small network trained to classify phantoms.

Its maps give a perceptual distance, its vectors a distance of distributions. For real radiographs
train features on their own labels (`causalcxr.radit.features_train`), or use those of Rad-DINO, if
its weights are available (`causalcxr.radit.raddino`).
"""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.radit.weights import BUNDLED, check_unchanged, content_hash

__all__ = [
    "VERSION",
    "CrossFittedFeatures",
    "Features",
    "load_cross_fitted",
    "load_features",
    "save_cross_fitted",
    "save_features",
]

VERSION = "1"
_WIDTHS = (16, 32, 64, 96)
_CROSS_FITTED, _EVERYONE = "cross-fitted features", "everyone"


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

    Args:
        size: Height and width that larger images are shrunk to, those of the training images; by
            default images are taken as they are.

    Example:
        >>> features = Features()
        >>> [tuple(m.shape) for m in features.maps(torch.rand(2, 1, 64, 64))][-1]
        (2, 96, 4, 4)
        >>> features(torch.rand(2, 1, 48, 32)).shape
        torch.Size([2, 192])
    """

    def __init__(self, size: tuple[int, int] | None = None) -> None:
        super().__init__()
        self.size = size
        self.stages = nn.ModuleList(_stage(a, b) for a, b in pairwise((1, *_WIDTHS)))

    def maps(self, images: Tensor) -> list[Tensor]:
        """Return maps (B, c, H / 2^k, W / 2^k), k = 1 to 4, of images (B, 1, H, W) in [0, 1]."""
        if self.size and min(a / b for a, b in zip(images.shape[-2:], self.size, strict=True)) > 1:
            images = interpolate(images, self.size, mode="bilinear", antialias=True)
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


@dataclass(frozen=True, eq=False)
class CrossFittedFeatures:
    """Features trained on a cohort's labels: a network for each fold of patients, and one of all.

    Args:
        everyone: The network trained on all patients.
        folds: For each fold, the network trained on the patients outside it.
        seed: Seed of the folds, see `draw_folds`.
        content: Hash of the weights, if they are from a file.
    """

    everyone: Features
    folds: tuple[Features, ...]
    seed: int
    content: str = ""


def save_features(path: Path, features: Features, **about: str) -> None:
    """Write weights atomically, with a hash of them and texts for the header."""
    _save(path, features.state_dict(), "features", about)


def save_cross_fitted(path: Path, features: CrossFittedFeatures, **about: str) -> None:
    """Write all networks to one file; `load_features` reads that of all patients from it."""
    networks = {_EVERYONE: features.everyone}
    networks |= {f"fold-{k}": network for k, network in enumerate(features.folds)}
    tensors = {
        f"{name}.{key}": value
        for name, network in networks.items()
        for key, value in network.state_dict().items()
    }
    settings = {"folds": str(len(features.folds)), "seed": str(features.seed)}
    if features.everyone.size:
        settings["size"] = " ".join(map(str, features.everyone.size))
    _save(path, tensors, _CROSS_FITTED, settings | about)


def load_features(name: str | Path = "phantom") -> Features:
    """Load weights by a bundled name or a path; of cross-fitted ones, those of all patients.

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
    tensors, about = _load(path, ("features", _CROSS_FITTED))
    if about["kind"] == _CROSS_FITTED:
        tensors = _part(tensors, _EVERYONE)
    return _network(path, tensors, _size(about))


def load_cross_fitted(path: str | Path) -> CrossFittedFeatures:
    """Load features that `causalcxr radit features` has trained.

    Raises:
        ModelError: If there is no such file, or it is damaged, changed, or of another kind or
            version.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(
            f"features {str(path)!r}: no such file; write it with `causalcxr radit features`"
        )
    tensors, about = _load(path, (_CROSS_FITTED,))
    networks = [
        _network(path, _part(tensors, f"fold-{k}"), _size(about))
        for k in range(int(about["folds"]))
    ]
    everyone = _network(path, _part(tensors, _EVERYONE), _size(about))
    return CrossFittedFeatures(everyone, tuple(networks), int(about["seed"]), about["content"])


def _save(path: Path, tensors: dict[str, Tensor], kind: str, about: dict[str, str]) -> None:
    """Write tensors of a kind, with a hash of them."""
    header = {"kind": kind, "version": VERSION, "content": content_hash(tensors)}
    save_tensors(path, tensors, header | about)


def _load(path: Path, kinds: tuple[str, ...]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return tensors and header of a file of one of some kinds, unchanged since it was written."""
    tensors, about = load_tensors(path)
    if about.get("kind") not in kinds or about.get("version") != VERSION:
        raise ModelError(
            f"{path}: {about.get('kind', 'weights')} of version {about.get('version')}, not "
            f"{kinds[0]} of version {VERSION}; give another file"
        )
    # Verify the hash before any tensor is used.
    check_unchanged(path, tensors, about)
    return tensors, about


def _part(tensors: dict[str, Tensor], name: str) -> dict[str, Tensor]:
    """Return the tensors of one of several networks."""
    prefix = f"{name}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _size(about: dict[str, str]) -> tuple[int, int] | None:
    """Return the size of the training images, if the header has it."""
    return tuple(map(int, about["size"].split())) if "size" in about else None


def _network(path: Path, tensors: dict[str, Tensor], size: tuple[int, int] | None) -> Features:
    features = Features(size)
    try:
        features.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{path}: its tensors do not fit the network ({error})") from error
    return features.eval().requires_grad_(False)
