"""Radiographs of a cohort, read on use: (k, 1, H, W) float32 between 0 and 1."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from causalcxr.common.errors import CohortError
from causalcxr.common.progress import progress
from causalcxr.images.pixels import check_values, to_float

__all__ = ["UNKNOWN", "ArrayImages", "Images", "Rows", "as_images", "one_each"]

Rows = int | slice | np.ndarray | Sequence[int] | Sequence[bool]

_BATCH = 64
UNKNOWN = -1  # whether an image is synthetic is determined on use


class Images(ABC):
    """The radiographs of n records, some of which may have none.

    `images[rows]` takes a position, a slice, positions or a boolean mask, and always returns
    (k, 1, H, W) float32.

    Args:
        available: Which records have an image, shape (n,).
        synthetic: Which images are synthetic: one value for all or one each; None if
            `_find_synthetic` determines it on use.
    """

    def __init__(
        self, available: np.ndarray, synthetic: bool | Sequence[bool] | np.ndarray | None = False
    ) -> None:
        self._available = np.array(available, dtype=bool)
        self._available.flags.writeable = False
        self._computed = np.full(len(self._available), UNKNOWN, dtype=np.int8)
        if synthetic is not None:
            self._computed[:] = one_each(synthetic, len(self._available))

    def __len__(self) -> int:
        return len(self._available)

    @property
    def available(self) -> np.ndarray:
        """Which records have an image, shape (n,), read-only."""
        return self._available

    @property
    def synthetic(self) -> np.ndarray:
        """Which images are synthetic, shape (n,), read-only; False for a record without image.

        An image that a model returns unchanged in every pixel is still the patient's own. If
        files or pixels determine this, all of them are read or computed; use
        `images.select(rows).synthetic` for some of them.
        """
        rows, is_synthetic = np.flatnonzero(self._available), np.zeros(len(self), dtype=bool)
        is_synthetic[rows] = self._synthetic_at(rows)
        is_synthetic.flags.writeable = False
        return is_synthetic

    def _synthetic_at(self, rows: np.ndarray) -> np.ndarray:
        """Return which of some images are synthetic, (k,), without determining the others."""
        unknown = np.unique(rows[self._computed[rows] == UNKNOWN])
        if len(unknown):
            self._computed[unknown] = self._find_synthetic(unknown)
        return self._computed[rows] == 1

    def _find_synthetic(self, rows: np.ndarray) -> np.ndarray:
        """Return which of some images are synthetic, (k,) bool, if this was not given."""
        raise NotImplementedError(
            f"{type(self).__name__} does not record which images are synthetic"
        )

    def with_pixels(self, array: np.ndarray) -> "ArrayImages":
        """Return other grey values for the same records; the same images are synthetic.

        Args:
            array: Shape (n, 1, H, W) or (n, H, W), as `ArrayImages` takes it.
        """
        return ArrayImages(array, self._available, self.synthetic)

    @property
    def drawn(self) -> bool:
        """Whether images contain no writing because they were generated, as those of phantoms."""
        return False

    @property
    def depth(self) -> int:
        """Bits of the grey levels, 8 to 16; 12 where the images do not determine it."""
        return 12

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @abstractmethod
    def select(self, rows: Rows) -> "Images":
        """Return the images of some of the records, unread."""

    def in_memory(self) -> "Images":
        """Return the images in memory, if they fit and reading them again is slow."""
        return self

    def forget(self) -> None:
        """Discard cached images, if any: they can be computed again."""
        return

    def fingerprint(self) -> str:
        """Return a SHA-256 that identifies these images.

        By default it is that of the pixels; images that are computed or read override it with
        the digest of what determines them.
        """
        digest = hashlib.sha256(repr(self.size).encode() + self._available.tobytes())
        if self.synthetic.any():
            digest.update(self.synthetic.tobytes())
        rows = np.flatnonzero(self._available)
        for start in range(0, len(rows), _BATCH):
            # Selected first, so that computed images are not cached.
            digest.update(self.select(rows[start : start + _BATCH])[:].tobytes())
        return digest.hexdigest()

    @abstractmethod
    def _pixels(self, row: int) -> np.ndarray:
        """Return the stored image of one record, (H, W), integer or float."""

    def __getitem__(self, rows: Rows) -> np.ndarray:
        positions = self._positions(rows)
        absent = positions[~self._available[positions]]
        if len(absent):
            raise CohortError(
                f"the record at position {absent[0]} has no image ({len(absent)} of the "
                f"{len(positions)} selected); use cohort.with_images_only() first"
            )
        out = np.empty((len(positions), 1, *self.size), dtype=np.float32)
        for k, row in enumerate(progress(positions, "Reading", "images")):
            out[k, 0] = to_float(self._pixels(row))
        return out

    def __repr__(self) -> str:
        size = "x".join(map(str, self.size))
        return f"{type(self).__name__}({self._available.sum()} of {len(self)} records, {size})"

    def _positions(self, rows: Rows) -> np.ndarray:
        """Return positions between 0 and n - 1 for any selection of rows."""
        if hasattr(rows, "reindex"):  # a pandas Series or DataFrame
            raise CohortError(
                "images have no record ids to align a Series by; write "
                "cohort.select(mask).images, or mask.to_numpy() if the order is the same"
            )
        everything = np.arange(len(self))
        rows = np.asarray(rows) if not isinstance(rows, slice | int) else rows
        # An empty list becomes an array of floats, which cannot select.
        if isinstance(rows, np.ndarray) and rows.size == 0 and rows.dtype != bool:
            return everything[:0]
        try:
            return np.atleast_1d(everything[rows])
        except IndexError as error:
            raise CohortError(f"images of {len(self)} records: {error}") from None


class ArrayImages(Images):
    """Images held in memory as one array.

    Args:
        array: Shape (n, 1, H, W) or (n, H, W): uint8, uint16, or floats between 0 and 1.
        available: Which records have an image, shape (n,); all of them if not given.
        synthetic: Which images are synthetic: one value for all or one each. It must be given for
            synthetic images, so that they are marked wherever they are written.

    Example:
        >>> images = ArrayImages(np.array([[[0, 255], [51, 102]]], dtype=np.uint8))
        >>> images[0].shape, float(images[0][0, 0, 1, 0])
        ((1, 1, 2, 2), 0.20000000298023224)
    """

    def __init__(
        self,
        array: np.ndarray,
        available: np.ndarray | None = None,
        synthetic: bool | Sequence[bool] | np.ndarray = False,
    ) -> None:
        array = np.asarray(array)
        if array.ndim == 4 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 3:
            raise CohortError(
                f"images have shape {array.shape}; expected (n, 1, H, W) or (n, H, W)"
            )
        available = np.ones(len(array), bool) if available is None else available
        if len(available) != len(array):
            raise CohortError(f"{len(array)} images, but availability of {len(available)}")
        super().__init__(available, synthetic)
        check_values(array, self._available)
        # A view, so that only this one is read-only, not the caller's array.
        self._array = array.view()
        self._array.flags.writeable = False
        self._rows = np.arange(len(array))

    def __getstate__(self) -> dict[str, Any]:
        # Only the images of these records are pickled, not the complete array.
        rows = np.arange(len(self._rows))
        return self.__dict__ | {"_array": self._array[self._rows], "_rows": rows}

    @property
    def depth(self) -> int:
        """Bits of the grey levels: those of the array's integers, 12 for floats."""
        return {"uint8": 8, "uint16": 16}.get(self._array.dtype.name, 12)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._array.shape[1], self._array.shape[2]

    def select(self, rows: Rows) -> "ArrayImages":
        """Return the images of some of the records; the array is shared, not copied."""
        chosen = object.__new__(ArrayImages)
        positions = self._positions(rows)
        Images.__init__(chosen, self._available[positions], self.synthetic[positions])
        chosen._array, chosen._rows = self._array, self._rows[positions]
        return chosen

    def _pixels(self, row: int) -> np.ndarray:
        return self._array[self._rows[row]]


def as_images(
    images: "Images | np.ndarray | None", n: int, replaced: Images | None = None
) -> Images | None:
    """Return images as `Images`, checked to be those of n records.

    Args:
        images: `Images`; or an array with radiographs of patients.
        n: Number of records.
        replaced: The images that they replace.

    Raises:
        CohortError: If their number differs; or if an array replaces synthetic images, as it
            does not record whether it is synthetic.
    """
    if images is None:
        return None
    if not isinstance(images, Images):
        images = np.asarray(images)
        if replaced is not None and (n_synthetic := replaced.synthetic.sum()):
            raise CohortError(
                f"{n_synthetic:,} of the images to replace are synthetic, and an array does not "
                "record this; give images.with_pixels(array) or ArrayImages(..., synthetic=...)"
            )
        images = ArrayImages(images)
    if len(images) != n:
        raise CohortError(f"{len(images)} images for {n} records; give one image a record")
    return images


def one_each(synthetic: bool | Sequence[bool] | np.ndarray, n: int) -> np.ndarray:
    """Return whether each image is synthetic, from one value for all or one each."""
    given = np.asarray(synthetic)
    if (given.size and given.dtype != bool) or given.shape not in ((), (n,)):
        raise CohortError(
            f"synthetic= is {given.dtype} of shape {given.shape}; give True or False, or one of "
            f"them for each of the {n} images"
        )
    return np.broadcast_to(given.astype(bool), n)
