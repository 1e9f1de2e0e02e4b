"""Radiographs of a cohort, read when they are asked for: (k, 1, H, W) float32 between 0 and 1."""

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
UNKNOWN = -1  # whether an image is synthetic is found out when somebody asks


class Images(ABC):
    """The radiographs of n records, some of which may have none.

    `images[rows]` takes a position, a slice, positions or a boolean mask, and always returns (k,
    1, H, W) float32.

    Args:
        available: Which records have an image, shape (n,).
        synthetic: Which images were computed, one answer for all or one each; None where this is
            found out when it is asked for, by `_find_synthetic`.
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
        """Which images were computed, shape (n,), read-only; False where a record has none.

        An image that a model gives back as it was, in every pixel, is still the patient's own.
        Where the files or the pixels must tell, this reads or computes all of them: ask
        `images.select(rows).synthetic` for a few.
        """
        rows, is_synthetic = np.flatnonzero(self._available), np.zeros(len(self), dtype=bool)
        is_synthetic[rows] = self._synthetic_at(rows)
        is_synthetic.flags.writeable = False
        return is_synthetic

    def _synthetic_at(self, rows: np.ndarray) -> np.ndarray:
        """Return which of some images were computed, (k,), without asking about the others."""
        unknown = np.unique(rows[self._computed[rows] == UNKNOWN])
        if len(unknown):
            self._computed[unknown] = self._find_synthetic(unknown)
        return self._computed[rows] == 1

    def _find_synthetic(self, rows: np.ndarray) -> np.ndarray:
        """Return which of some images were computed, (k,) bool, where it is not known before."""
        raise NotImplementedError(f"{type(self).__name__} does not say which images are synthetic")

    def with_pixels(self, array: np.ndarray) -> "ArrayImages":
        """Return other grey values for the same records, as synthetic as these images are.

        Args:
            array: Shape (n, 1, H, W) or (n, H, W), as `ArrayImages` takes it.
        """
        return ArrayImages(array, self._available, self.synthetic)

    @property
    def drawn(self) -> bool:
        """Whether images were drawn from nothing, so that no writing is in them: of phantoms."""
        return False

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""

    @abstractmethod
    def select(self, rows: Rows) -> "Images":
        """Return the images of some of the records, still unread."""

    def in_memory(self) -> "Images":
        """Return the images where reading them again costs no more than the memory they take."""
        return self

    def forget(self) -> None:
        """Let go of images that were computed and kept, where any are: they can be made again."""
        return

    def fingerprint(self) -> str:
        """Return what tells these images from others, SHA-256.

        Here it is that of their pixels; images that are computed or read give what determines
        them instead.
        """
        digest = hashlib.sha256(repr(self.size).encode() + self._available.tobytes())
        if self.synthetic.any():
            digest.update(self.synthetic.tobytes())
        rows = np.flatnonzero(self._available)
        for start in range(0, len(rows), _BATCH):
            # Selected first: what computes images keeps them, and these are not needed again.
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
                f"{len(positions)} asked for); use cohort.with_images_only() first"
            )
        out = np.empty((len(positions), 1, *self.size), dtype=np.float32)
        for k, row in enumerate(progress(positions, "Reading", "images")):
            out[k, 0] = to_float(self._pixels(row))
        return out

    def __repr__(self) -> str:
        size = "x".join(map(str, self.size))
        return f"{type(self).__name__}({self._available.sum()} of {len(self)} records, {size})"

    def _positions(self, rows: Rows) -> np.ndarray:
        """Return positions between 0 and n - 1 for anything that selects rows."""
        if hasattr(rows, "reindex"):  # a pandas Series or DataFrame
            raise CohortError(
                "images have no record ids to align a Series by; write "
                "cohort.select(mask).images, or mask.to_numpy() if the order is the same"
            )
        everything = np.arange(len(self))
        rows = np.asarray(rows) if not isinstance(rows, slice | int) else rows
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
        synthetic: Which images were computed, one answer for all or one each. Radiographs of
            patients are not; synthetic images must say so, to be marked wherever they are written.

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
        self._array = array.view()
        self._array.flags.writeable = False
        self._rows = np.arange(len(array))

    def __getstate__(self) -> dict[str, Any]:
        # To another process travel the images of these records, and not all of the array.
        rows = np.arange(len(self._rows))
        return self.__dict__ | {"_array": self._array[self._rows], "_rows": rows}

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
        images: `Images`; or an array, which holds radiographs of patients.
        n: Number of records.
        replaced: The images whose place they take.

    Raises:
        CohortError: If their number is another; or if an array takes the place of synthetic
            images, so that nobody can tell whether it is synthetic.
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
    """Return one answer a record, whether its image is synthetic, from one for all or one each."""
    given = np.asarray(synthetic)
    if (given.size and given.dtype != bool) or given.shape not in ((), (n,)):
        raise CohortError(
            f"synthetic= is {given.dtype} of shape {given.shape}; give True or False, or one of "
            f"them for each of the {n} images"
        )
    return np.broadcast_to(given.astype(bool), n)
