"""Networks of a higher resolution that start from one of a lower resolution.

Both have the same tokens: where a patch had p x p pixels, it has fp x fp. The new network first
averages f x f pixels as it reads a patch, and repeats each number f x f times as it writes one. So
it starts by computing at the lower resolution, and training adds the detail.
"""

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from causalcxr.radit.shape import RadiTConfig

__all__ = ["grown_tensors", "growth"]


def growth(saved: RadiTConfig, config: RadiTConfig) -> int:
    """Return by which factor a network would grow: 1 if equal, 0 if the shapes do not fit.

    Example:
        >>> growth(RadiTConfig(resolution=32, patch=4), RadiTConfig(resolution=64, patch=8))
        2
        >>> growth(RadiTConfig(resolution=32, patch=4), RadiTConfig(resolution=64, patch=4))
        0
    """
    factor = config.patch // saved.patch
    fits = (
        factor * saved.patch == config.patch
        and saved.grid == config.grid
        and replace(saved, resolution=config.resolution, patch=config.patch) == config
        # The mean image keeps its cells.
        and (saved.entry != "places" or saved.patch >= 4)
    )
    return factor if fits else 0


def grown_tensors(
    tensors: Mapping[str, Tensor], saved: RadiTConfig, factor: int
) -> dict[str, Tensor]:
    """Return the tensors of a network with patches of more pixels.

    Args:
        tensors: Those of the saved network.
        saved: Its shape.
        factor: Pixels along each side that replace one.
    """
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
