"""Radiographs of a cohort, read when they are asked for: (k, 1, H, W) float32 between 0 and 1."""

import hashlib
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from causalcxr.errors import CohortError
from causalcxr.result_digests import file_digest

__all__ = ["ArrayImages", "FileImages", "Images", "as_images", "progress", "resized", "write_png"]

Rows = int | slice | np.ndarray | Sequence[int] | Sequence[bool]

_BATCH = 64
_SCALES = {np.dtype(np.uint8): np.float32(255), np.dtype(np.uint16): np.float32(65535)}


class Images(ABC):
    """The radiographs of n records, some of which may have none.

    `images[rows]` takes a position, a slice, positions or a boolean mask, and always returns (k,
    1, H, W) float32.
    """

    def __init__(self, available: np.ndarray) -> None:
        self._available = np.array(available, dtype=bool)
        self._available.flags.writeable = False

    def __len__(self) -> int:
        return len(self._available)

    @property
    def available(self) -> np.ndarray:
        """Which records have an image, shape (n,), read-only."""
        return self._available

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
        for k, row in enumerate(positions):
            out[k, 0] = _to_float(self._pixels(row))
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

    Example:
        >>> images = ArrayImages(np.array([[[0, 255], [51, 102]]], dtype=np.uint8))
        >>> images[0].shape, float(images[0][0, 0, 1, 0])
        ((1, 1, 2, 2), 0.20000000298023224)
    """

    def __init__(self, array: np.ndarray, available: np.ndarray | None = None) -> None:
        array = np.asarray(array)
        if array.ndim == 4 and array.shape[1] == 1:
            array = array[:, 0]
        if array.ndim != 3:
            raise CohortError(
                f"images have shape {array.shape}; expected (n, 1, H, W) or (n, H, W)"
            )
        super().__init__(np.ones(len(array), bool) if available is None else available)
        if len(self._available) != len(array):
            raise CohortError(f"{len(array)} images, but availability of {len(self._available)}")
        _check_values(array, self._available)
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
        Images.__init__(chosen, self._available[positions])
        chosen._array, chosen._rows = self._array, self._rows[positions]
        return chosen

    def _pixels(self, row: int) -> np.ndarray:
        return self._array[self._rows[row]]


class FileImages(Images):
    """Images in PNG, JPEG or DICOM files, read when they are asked for.

    8-bit and 16-bit greyscale keep every grey level; colour is turned to luminance (ITU-R 601);
    DICOM files are shown as `sources.decoding` says. The content decides what a file is, not the
    name's ending. Files are read in this process: for files that nobody has vouched for, make a
    store of them first, which reads them in processes with limits on time and memory.

    Args:
        paths: One file a record; None for a record without an image.
        size: Height and width to resize to (antialiased); by default the size of the first file,
            which every other
            file must then have.
        digests: The SHA-256 that each file must have, None where it is not known. A file is
            checked whenever it is read.

    Example:
        >>> images = FileImages([None, None], size=(64, 64))
        >>> len(images), images.size, images.available.sum()
        (2, (64, 64), np.int64(0))
    """

    def __init__(
        self,
        paths: Sequence[Path | str | None],
        size: tuple[int, int] | None = None,
        digests: Sequence[str | None] | None = None,
    ) -> None:
        paths = list(paths)
        super().__init__(np.array([path is not None for path in paths], dtype=bool))
        self._paths, self._digests = (np.empty(len(paths), dtype=object) for _ in range(2))
        self._paths[:], self._digests[:] = paths, digests
        self._given = None if size is None else (int(size[0]), int(size[1]))
        self._native: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels; (0, 0) when no record has an image."""
        if self._given is not None:
            return self._given
        if self._native is None:
            first = next((path for path in self._paths if path is not None), None)
            self._native = (0, 0) if first is None else _decoding().measured(first)
        return self._native

    @property
    def paths(self) -> np.ndarray:
        """The file of each record, or None, shape (n,)."""
        return self._paths.copy()

    @property
    def size_given(self) -> tuple[int, int] | None:
        """The size to which all are resized, if one was given."""
        return self._given

    def select(self, rows: Rows) -> "FileImages":
        """Return the images of some of the records, still unread."""
        rows = self._positions(rows)
        chosen = type(self)(self._paths[rows], self._given, self._digests[rows])
        chosen._native = self._native
        return chosen

    def fingerprint(self) -> str:
        """Return the SHA-256 of the files' names, with the digests, or the sizes and dates."""
        digest = hashlib.sha256(repr((type(self).__name__, self._given)).encode())
        for path, known in zip(self._paths, self._digests, strict=True):
            about = None if path is None else known or _stamp(Path(path))
            name = None if path is None else Path(path).name if known else Path(path).absolute()
            digest.update(f"{name}\0{about}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def in_memory(self) -> ArrayImages:
        """Read every file once and keep its integers: the same floats, without the disk."""
        rows = np.flatnonzero(self._available)
        pixels = {row: self._pixels(row) for row in progress(rows, "Reading images")}
        wide = any(p.dtype == np.uint16 for p in pixels.values())
        array = np.zeros((len(self), *self.size), dtype=np.uint16 if wide else np.uint8)
        for row, p in pixels.items():
            # 65535 = 257 x 255, so an 8-bit grey level has an exact 16-bit counterpart.
            array[row] = p.astype(np.uint16) * 257 if wide and p.dtype == np.uint8 else p
        return ArrayImages(array, self._available)

    def _checked(self, row: int) -> Path:
        """Return the file of a record, once it is the one that was written."""
        path, known = Path(self._paths[row]), self._digests[row]
        if known is not None and path.is_file() and file_digest(path) != known:
            raise CohortError(
                f"{path}: changed since it was written; restore it, or write the folder again"
            )
        return path

    def _pixels(self, row: int) -> np.ndarray:
        path = self._checked(row)
        decoded = _decoding().decode(path)
        pixels = decoded.pixels
        if decoded.bits <= 8 and decoded.about["format"] != "DICOM":
            pixels = (pixels // 257).astype(np.uint8)  # the levels as they are in the file
        if pixels.shape == self.size:
            return pixels
        if self._given is None:
            height, width = pixels.shape
            raise CohortError(
                f"{path}: the image is {height}x{width}, others are "
                f"{self.size[0]}x{self.size[1]}; give the size to which all are resized"
            )
        return resized(pixels, self.size)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size and date of a file, None where there is none."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _decoding() -> ModuleType:
    # This import points forward: sources stand after images. It is lazy, and the layers' test
    # knows it.
    return import_module("causalcxr.sources.decoding")


def write_png(path: Path | BinaryIO, image: np.ndarray, comment: str = "") -> None:
    """Write an image (H, W) between 0 and 1 as a 16-bit greyscale PNG, with a text if given."""
    levels = np.rint(image.astype(np.float64) * 65535).astype(np.uint16)
    about = PngInfo()
    if comment:
        about.add_text("Comment", comment)
    Image.fromarray(levels).save(path, format="PNG", pnginfo=about)


def as_images(images: "Images | np.ndarray | None", n: int) -> Images | None:
    """Return images as `Images`, checked to be those of n records."""
    if images is None:
        return None
    images = images if isinstance(images, Images) else ArrayImages(np.asarray(images))
    if len(images) != n:
        raise CohortError(f"{len(images)} images for {n} records; give one image a record")
    return images


def progress(items: Iterable, description: str) -> Iterable:
    """Show a progress bar on a terminal's standard error, and nothing anywhere else."""
    if not sys.stderr.isatty():
        return items
    # rich is slow to import; only a person at a terminal pays for it.
    from rich.console import Console
    from rich.progress import track

    return track(items, description, console=Console(stderr=True), transient=True)


def _to_float(pixels: np.ndarray) -> np.ndarray:
    """Return grey values between 0 and 1, exact to the last bit for integers."""
    scale = _SCALES.get(pixels.dtype)
    pixels = pixels.astype(np.float32)
    return pixels if scale is None else pixels / scale


def _check_values(array: np.ndarray, available: np.ndarray) -> None:
    """Refuse grey values that are not between 0 and 1, one image at a time to spare memory."""
    if array.dtype in _SCALES:
        return
    if array.dtype.kind != "f":
        raise CohortError(
            f"images are {array.dtype}; expected uint8, uint16 or floats between 0 and 1"
        )
    for row in np.flatnonzero(available):
        low, high = (array[row].min(), array[row].max()) if array[row].size else (0, 0)
        if not (low >= 0 and high <= 1):
            raise CohortError(
                f"the image at position {row} has values from {low:g} to {high:g}; "
                "floats must be finite and between 0 and 1"
            )


def resized(pixels: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return an antialiased image of another size, as uint16 so that reading stays repeatable.

    The triangle filter widens with the reduction (no aliasing) and cannot overshoot (no false
    edges).
    """
    image = Image.fromarray(_to_float(pixels))
    image = image.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    return np.rint(np.clip(np.asarray(image, dtype=np.float64), 0, 1) * 65535).astype(np.uint16)
