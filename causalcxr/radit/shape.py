"""The configuration of RadiT: sizes by name, for pixels and latents, square or not."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from causalcxr.common.errors import ModelError, nearest

__all__ = ["SIZES", "RadiTConfig"]

# Variables enter as tokens: in the ablation, twins are then nearer to the truth.
# Parameters, with the 19 parents of cxr7: 3.1 M, 3.1 M, 33 M, .3 B, .46 B, 1.3 B.
SIZES: Mapping[str, Mapping[str, Any]] = {
    name: {"entry": "tokens", **shape}
    for name, shape in {
        "tiny": {"width": 192, "depth": 5, "heads": 6, "mlp": 10 / 3, "modulation": "shared"},
        # As tiny, whose weights were saved before, but the variables enter by places.
        "mini": {
            "width": 192,
            "depth": 5,
            "heads": 6,
            "mlp": 10 / 3,
            "modulation": "shared",
            "entry": "places",
            "numbers": "smooth",
        },
        "S": {"width": 384, "depth": 12, "heads": 6},
        "B": {"width": 1024, "depth": 16, "heads": 16, "mlp": 2.625},
        "L": {"width": 1024, "depth": 24, "heads": 16},
        "XL": {"width": 1536, "depth": 30, "heads": 24},
    }.items()
}
_SMALL = ("mini", "tiny")
_CELLS = 4
_WORDS = {
    "modulation": ("blocks", "shared"),
    "entry": ("adaln", "tokens", "both", "places"),
    "numbers": ("fourier", "spline", "smooth"),
    "predicts": ("velocity", "image"),
}


@dataclass(frozen=True)
class RadiTConfig:
    """The configuration of the network.

    Args:
        resolution: Pixels, or latents: along each side, or (height, width).
        patch: Pixels along each side of a token.
        width: Length of a token's vector.
        depth: Number of blocks.
        heads: Number of attention heads; width / heads must be a multiple of 4.
        channels: 1 for pixels, otherwise those of the latents.
        mlp: Inner width of the gated MLP divided by the width; 8/3 has as many weights as a plain
            MLP with 4.
        modulation: `blocks`: each block has its own layer (adaLN-zero); `shared`: one layer for
            all, and a table per block (adaLN-single).
        entry: The entry of the variables: `adaln` by the modulation, `tokens` in the sequence,
            `both`, or `places`: added to the tokens of the patches where a regression finds that
            they act, together with the mean image given the variables, see
            `causalcxr.radit.mean_image`.
        numbers: The embedding of numbers: `fourier` features, those that fall with the square of
            the frequency (`smooth`), or a cubic `spline` basis.
        predicts: The output of the last layer: the `velocity`, or the `image`, from which the
            velocity follows. With patches of more numbers than the width, the noise in a velocity
            does not fit through the network.
        window: Patches along each side of the windows that the network sees, one at a time, see
            `causalcxr.radit.windows`; 0 for the whole image.

    Raises:
        ModelError: If the patch does not divide the resolution, the heads the width, or the
            window is larger than the image.
    """

    resolution: int | tuple[int, int] = 64
    patch: int = 8
    width: int = 192
    depth: int = 4
    heads: int = 6
    channels: int = 1
    mlp: float = 8 / 3
    modulation: str = "blocks"
    entry: str = "adaln"
    numbers: str = "fourier"
    predicts: str = "velocity"
    window: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.resolution, int):  # JSON has lists
            object.__setattr__(self, "resolution", tuple(self.resolution))
        numbers = (*self.size, self.patch, self.width, self.depth, self.heads, self.channels)
        if min(numbers) < 1 or any(side % self.patch for side in self.size):
            raise ModelError(
                f"RadiT: a resolution of {self.resolution} pixels is not a multiple of the patch "
                f"of {self.patch}; use a multiple of {max(8, self.patch)}"
            )
        # Two axes, and two numbers per rotation: each head's width is a multiple of 4.
        if self.width % (4 * self.heads):
            raise ModelError(
                f"RadiT: width {self.width} is not a multiple of 4 x {self.heads} heads, as "
                "rotary positions require"
            )
        if not 0 <= self.window <= min(self.grid):
            raise ModelError(
                f"RadiT: window is {self.window} patches; expected 0 (the whole image) to "
                f"{min(self.grid)}"
            )
        if self.window and self.entry not in ("adaln", "places"):
            raise ModelError(
                f"RadiT: window needs entry: places or adaln, not {self.entry}; change the entry, "
                "or leave window out"
            )
        for key, words in _WORDS.items():
            if (value := getattr(self, key)) not in words:
                raise ModelError(f"RadiT: {key} is {value!r}; expected {' or '.join(words)}")

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels, or in latents."""
        side = self.resolution
        return (side, side) if isinstance(side, int) else side

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens."""
        return self.size[0] // self.patch, self.size[1] // self.patch

    @property
    def cells(self) -> int:
        """Numbers of the mean image along each side of a patch, for the entry `places`."""
        return min(_CELLS, self.patch)

    @property
    def hidden(self) -> int:
        """Inner width of the gated MLP, a multiple of 64."""
        return max(64, 64 * round(self.width * self.mlp / 64))

    @classmethod
    def from_name(
        cls, size: str, resolution: int | tuple[int, int], channels: int = 1, **changes: Any
    ) -> "RadiTConfig":
        """Return the configuration of a named size.

        Tokens are an eighth of the longer side for `mini` and `tiny`. For the others they are 4
        pixels or 2 latents wide, and wider where there would be more than 32 along a side.

        Args:
            size: One of `SIZES`.
            resolution: Pixels, or latents, along each side, or (height, width).
            channels: 1 for pixels, otherwise those of the latents.
            **changes: Any other field.

        Example:
            >>> RadiTConfig.from_name("tiny", 128).grid, RadiTConfig.from_name("XL", 512).grid
            ((8, 8), (32, 32))
            >>> RadiTConfig.from_name("B", (64, 48), channels=16).patch
            2
        """
        if size not in SIZES:
            raise ModelError(
                f"RadiT: no size {size!r}{nearest(size, SIZES)}; use {', '.join(SIZES)}"
            )
        # The patch by the longer side, so that the number of tokens stays bounded.
        side = resolution if isinstance(resolution, int) else max(resolution)
        least = 4 if channels == 1 else 2
        patch = max(2, side // 8) if size in _SMALL else max(least, side // 32)
        return cls(
            **{
                # Changes come last: they override the named size.
                "resolution": resolution,
                "patch": patch,
                "channels": channels,
                **SIZES[size],
                **changes,
            }
        )
