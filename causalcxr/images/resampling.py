"""Between images of native size and the size at which a model computes.

Images are shrunk by the average over areas, which has no aliasing. Changes are enlarged by cubic
convolution (Keys 1981), which is smooth. A model of square images sees a radiograph that is not
square in the centre of a black square, and the change is cropped back.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from causalcxr.common.errors import CohortError

__all__ = ["Resampling", "at_a_time", "both_sizes", "is_larger"]

_TAPS = 4  # cells that contribute to a pixel, along each side


@dataclass(frozen=True)
class Resampling:
    """The change of size between native images and those of a model.

    Both directions are linear, and process each image for itself: so an image does not depend on
    its batch.

    Args:
        native: Height and width of the images, in pixels.
        size: Height and width at which the model computes.

    Raises:
        CohortError: If both sides of the images are smaller than the model's.

    Example:
        >>> double = Resampling((4, 4), (2, 2))
        >>> double.shrink(np.arange(16.0).reshape(1, 4, 4)).tolist()
        [[[2.5, 4.5], [10.5, 12.5]]]
        >>> double.enlarge(np.ones((1, 2, 2))).tolist() == np.ones((1, 4, 4)).tolist()
        True
    """

    native: tuple[int, int]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        if not is_larger(self.native, self.size):
            raise CohortError(
                f"the images are {_words(self.native)} pixels, smaller than the model's "
                f"{_words(self.size)}; load larger images, or resize them with size="
                f"{max(self.size)}"
            )

    @property
    def scale(self) -> float:
        """The side of a pixel of the model, in native pixels."""
        return max(native / side for native, side in zip(self.native, self.size, strict=True))

    def shrink(self, images: np.ndarray) -> np.ndarray:
        """Return images (n, h, w) at the model's size, float64, from native ones (n, H, W)."""
        rows, columns = self._matrices(_averages)
        return _applied(rows, images, columns)

    def enlarge(self, changes: np.ndarray) -> np.ndarray:
        """Return changes (n, H, W) of native images, float64, from those of the model's."""
        rows, columns = self._matrices(_interpolation)
        return _applied(rows, changes, columns)

    @property
    def visible(self) -> tuple[slice, slice]:
        """The rows and columns of the model's image that the native image covers."""
        # A radiograph that is not square is in the centre of the model's image.
        counts = [
            (min(side, max(1, round(native / self.scale))), side)
            for native, side in zip(self.native, self.size, strict=True)
        ]
        rows, columns = (slice((s - n) // 2, (s - n) // 2 + n) for n, s in counts)
        return rows, columns

    def _matrices(self, make: object) -> list[np.ndarray]:
        pairs = zip(self.native, self.size, strict=True)
        return [make(native, side, self.scale) for native, side in pairs]


def is_larger(native: tuple[int, int], size: tuple[int, int]) -> bool:
    """Return whether an image fills the size of a model along one side, or is larger.

    Example:
        >>> is_larger((64, 48), (64, 64)), is_larger((63, 48), (64, 64))
        (True, False)
    """
    return any(side >= other for side, other in zip(native, size, strict=True))


def at_a_time(size: tuple[int, int], most: int = 64) -> int:
    """Return how many images of a size are processed together, so that memory is bounded.

    Example:
        >>> at_a_time((64, 64)), at_a_time((512, 512)), at_a_time((2048, 2048))
        (64, 64, 4)
    """
    return max(1, min(most, 2**24 // max(1, size[0] * size[1])))


def both_sizes(native: tuple[int, int], size: tuple[int, int]) -> str:
    """Return at which sizes images are and were computed, in words.

    Example:
        >>> both_sizes((512, 512), (64, 64)), both_sizes((64, 64), (64, 64))
        ('512 x 512 pixels, computed at 64 x 64', '64 x 64 pixels')
    """
    computed = "" if native == size else f", computed at {_words(size)}"
    return f"{_words(native)} pixels{computed}"


def _words(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _applied(rows: np.ndarray, images: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Apply one matrix along the height of images, and one along their width."""
    out = np.empty((len(images), len(rows), len(columns)))
    for k, image in enumerate(images):
        out[k] = rows @ (image.astype(np.float64) @ columns.T)
    return out


@lru_cache(maxsize=16)
def _averages(native: int, side: int, scale: float) -> np.ndarray:
    """Return the share of each pixel in the average of each cell, (side, native)."""
    # Cells are centred on the image; what they cover outside of it is black.
    edges = np.arange(side + 1) * scale - (scale * side - native) / 2
    pixels = np.arange(native)
    low = np.maximum(edges[:-1, None], pixels)
    high = np.minimum(edges[1:, None], pixels + 1)
    return (high - low).clip(0) / scale


@lru_cache(maxsize=16)
def _interpolation(native: int, side: int, scale: float) -> np.ndarray:
    """Return the weight of each cell at each pixel, (native, side); rows sum to one."""
    # The centre of each pixel, in cells from the centre of the first cell.
    places = (np.arange(native) + 0.5 + (scale * side - native) / 2) / scale - 0.5
    weights = np.zeros((native, side))
    for tap in range(_TAPS):
        cell = np.floor(places).astype(int) - 1 + tap
        # Beyond the border, the change is that of the border.
        np.add.at(weights, (np.arange(native), cell.clip(0, side - 1)), _cubic(places - cell))
    return weights


def _cubic(x: np.ndarray) -> np.ndarray:
    """Return Keys' cubic convolution kernel, exact for polynomials of degree two."""
    x = np.abs(x)
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
