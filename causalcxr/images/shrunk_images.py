"""Images shrunk to the size of a model on use, to train it on images of any larger size."""

import hashlib
import math

import numpy as np

from causalcxr.common.progress import progress
from causalcxr.images.images import ArrayImages, Images, Rows
from causalcxr.images.resampling import Resampling

__all__ = ["ShrunkImages", "shrunk"]

_LARGEST = 2**31  # bytes of images that are kept in memory


class ShrunkImages(Images):
    """Images at the size of a model, read and shrunk on use, with 16 bits.

    Args:
        images: The images, of any size that is not smaller.
        size: Height and width in pixels.

    Raises:
        CohortError: If the images are smaller.

    Example:
        >>> images = ArrayImages(np.array([[[0, 255], [255, 0]]], dtype=np.uint8))
        >>> ShrunkImages(images, (1, 1))[0].tolist()
        [[[[0.5000076293945312]]]]
    """

    def __init__(self, images: Images, size: tuple[int, int]) -> None:
        super().__init__(images.available, None)
        self._images, self._resampling = images, Resampling(images.size, size)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._resampling.size

    @property
    def depth(self) -> int:
        """Bits of the grey levels."""
        return 16

    @property
    def drawn(self) -> bool:
        """Whether the images contain no writing because they were generated."""
        return self._images.drawn

    def select(self, rows: Rows) -> "ShrunkImages":
        """Return the images of some of the records, unread."""
        return ShrunkImages(self._images.select(rows), self.size)

    def in_memory(self) -> Images:
        """Return the shrunk images in memory if they fit: the same floats, each shrunk once."""
        shape = (len(self), *self.size)
        if 2 * math.prod(shape) > _LARGEST:
            return self
        array = np.zeros(shape, dtype=np.uint16)
        for row in progress(np.flatnonzero(self.available), "Reading", "images"):
            array[row] = self._pixels(row)
        return ArrayImages(array, self.available, self.synthetic)

    def fingerprint(self) -> str:
        """Return a SHA-256 of the fingerprint of the images and of the size."""
        return hashlib.sha256(f"{self._images.fingerprint()} {self.size}".encode()).hexdigest()

    def _find_synthetic(self, rows: np.ndarray) -> np.ndarray:
        return self._images.select(rows).synthetic

    def _pixels(self, row: int) -> np.ndarray:
        small = self._resampling.shrink(self._images[row][:, 0])[0]
        return np.rint(small.clip(0, 1) * 65535).astype(np.uint16)


def shrunk(images: Images, size: tuple[int, int]) -> Images:
    """Return images at the size of a model: the same ones if they have it already.

    Raises:
        CohortError: If they are smaller.
    """
    return images if images.size == size else ShrunkImages(images, size)
