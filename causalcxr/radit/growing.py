"""Networks of a higher resolution that start from one of a lower resolution.

Either both have the same tokens: where a patch had p x p pixels, it has fp x fp. The new network
first averages f x f pixels as it reads a patch, and repeats each number f x f times as it writes
one. So it starts by computing at the lower resolution, and training adds the detail.

Or the new network sees windows with as many patches as the old one has in all. The places of a
patch, its gates and its mean image become those of f x f patches.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor
from torch.nn.functional import interpolate

from causalcxr.radit.shape import RadiTConfig

__all__ = ["grown"]

_Tensors = Mapping[str, Tensor]


def grown(tensors: _Tensors, saved: RadiTConfig, config: RadiTConfig) -> _Tensors | None:
    """Return the tensors of a network of a higher resolution; None if the shapes do not fit.

    Args:
        tensors: Those of the saved network.
        saved: Its shape.
        config: The shape of the new network.

    Example:
        >>> import torch
        >>> tensors = {"position": torch.zeros(64, 192)}
        >>> saved = RadiTConfig(resolution=64, patch=8, entry="adaln")
        >>> fine = RadiTConfig(resolution=128, patch=8, window=8, entry="adaln")
        >>> grown(tensors, saved, fine)["position"].shape
        torch.Size([256, 192])
        >>> grown(tensors, saved, replace(fine, window=0)) is None
        True
    """
    if config == saved:
        return tensors
    if factor := _more_pixels(saved, config):
        return _with_more_pixels(tensors, saved, factor)
    if factor := _more_patches(saved, config):
        return _with_more_patches(tensors, saved, factor)
    return None


def _more_pixels(saved: RadiTConfig, config: RadiTConfig) -> int:
    """Return how many times as many pixels a patch has along each side; 0 if it does not fit."""
    factor = config.patch // saved.patch
    fits = (
        factor * saved.patch == config.patch
        and saved.grid == config.grid
        and replace(saved, resolution=config.resolution, patch=config.patch) == config
        # The mean image keeps its cells.
        and (saved.entry != "places" or saved.patch >= 4)
    )
    return factor if fits else 0


def _with_more_pixels(tensors: _Tensors, saved: RadiTConfig, factor: int) -> _Tensors:
    patch = (saved.channels, saved.patch, saved.patch)

    def repeated(x: Tensor) -> Tensor:
        """Repeat the numbers (..., C p p) of a patch."""
        x = x.unflatten(-1, patch)
        for axis in (-1, -2):
            x = x.repeat_interleave(factor, axis)
        return x.flatten(-3)

    return dict(tensors) | {
        "embed.weight": repeated(tensors["embed.weight"]) / factor**2,
        "unembed.weight": repeated(tensors["unembed.weight"].mT).mT.contiguous(),
        "unembed.bias": repeated(tensors["unembed.bias"]),
    }


def _more_patches(saved: RadiTConfig, config: RadiTConfig) -> int:
    """Return how many times as many patches an image has along each side; 0 if not by windows."""
    factor = config.grid[0] // saved.grid[0]
    fits = (
        not saved.window
        and saved.grid == (config.window, config.window)
        and tuple(factor * side for side in saved.grid) == config.grid
        and replace(saved, resolution=config.resolution, window=config.window) == config
    )
    return factor if fits else 0


def _with_more_patches(tensors: _Tensors, saved: RadiTConfig, factor: int) -> _Tensors:
    def wider(x: Tensor, mode: str) -> Tensor:
        """Return images (n, h, w) of `factor` times the size."""
        return interpolate(x[:, None], scale_factor=factor, mode=mode)[:, 0]

    position = tensors["position"].T.unflatten(1, saved.grid)
    out = dict(tensors) | {"position": wider(position, "bilinear").flatten(1).T.contiguous()}
    if saved.entry == "places":
        weights = tensors["mean.weights"]
        images = weights.view(-1, *(side * saved.cells for side in saved.grid))
        out["mean.weights"] = wider(images, "nearest").reshape(len(weights), -1)
        out["mean.gates"] = wider(tensors["mean.gates"], "nearest")
    return out
