"""Radiographs in PNG, JPEG or DICOM files, read on use."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CohortError
from causalcxr.common.progress import progress
from causalcxr.images import decoding
from causalcxr.images.images import UNKNOWN, ArrayImages, Images, Rows, one_each
from causalcxr.images.pixels import resized

__all__ = ["FileImages"]


class FileImages(Images):
    """Images in PNG, JPEG or DICOM files, read on use.

    8-bit and 16-bit greyscale keep every grey level; colour becomes luminance (ITU-R 601); DICOM
    files are decoded as in `images.decoding`. The content determines the format, not the suffix.
    Files are read in this process. Build a store from untrusted files first: it reads them in
    processes with limits on time and memory.

    A file declares whether it is synthetic: a PNG by our mark in its text, a DICOM file by its
    attribute SyntheticData. This declaration is never overruled.

    Args:
        paths: One file for each record; None for a record without an image.
        size: Height and width to resize to (antialiased); by default the size of the first file,
            which every other file must then have.
        digests: The SHA-256 that each file must have, None if unknown. A file is checked whenever
            it is read.
        synthetic: Which images are known to be synthetic, whatever their files declare: one value
            for all or one each.

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
        synthetic: bool | Sequence[bool] | np.ndarray = False,
    ) -> None:
        paths = list(paths)
        super().__init__(np.array([path is not None for path in paths], dtype=bool), None)
        self._computed[one_each(synthetic, len(paths))] = 1  # the files may declare others
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
            self._native = (0, 0) if first is None else decoding.measured(first)
        return self._native

    @property
    def depth(self) -> int:
        """Bits of the first file's grey levels; it is decoded to determine them."""
        first = next((path for path in self._paths if path is not None), None)
        return super().depth if first is None else decoding.decode(first).bits

    @property
    def paths(self) -> np.ndarray:
        """The file of each record, or None, shape (n,)."""
        return self._paths.copy()

    @property
    def declared_synthetic(self) -> np.ndarray:
        """Which images are known to be synthetic without reading their files, shape (n,)."""
        return self._available & (self._computed == 1)

    @property
    def size_given(self) -> tuple[int, int] | None:
        """The size to which all images are resized, if given."""
        return self._given

    def select(self, rows: Rows) -> "FileImages":
        """Return the images of some of the records, still unread."""
        rows = self._positions(rows)
        chosen = type(self)(self._paths[rows], self._given, self._digests[rows])
        chosen._native, chosen._computed = self._native, self._computed[rows]
        return chosen

    def fingerprint(self) -> str:
        """Return the SHA-256 of the files' names with their digests, or their sizes and dates."""
        digest = hashlib.sha256(repr((type(self).__name__, self._given)).encode())
        for path, expected in zip(self._paths, self._digests, strict=True):
            about = None if path is None else expected or _stamp(Path(path))
            name = None if path is None else Path(path).name if expected else Path(path).absolute()
            digest.update(f"{name}\0{about}\0".encode("utf-8", "surrogateescape"))
        return digest.hexdigest()

    def in_memory(self) -> ArrayImages:
        """Read every file once and keep its integers: the same floats, without the disk."""
        rows = np.flatnonzero(self._available)
        pixels = {row: self._pixels(row) for row in progress(rows, "Reading", "images")}
        wide = any(p.dtype == np.uint16 for p in pixels.values())
        array = np.zeros((len(self), *self.size), dtype=np.uint16 if wide else np.uint8)
        for row, p in pixels.items():
            # 65535 = 257 x 255, so an 8-bit grey level has an exact 16-bit counterpart.
            array[row] = p.astype(np.uint16) * 257 if wide and p.dtype == np.uint8 else p
        return ArrayImages(array, self._available, self.synthetic)

    def _find_synthetic(self, rows: np.ndarray) -> np.ndarray:
        return np.array([_says_synthetic(self._paths[row]) for row in rows], dtype=bool)

    def _checked(self, row: int) -> Path:
        """Return the file of a record, after checking its digest."""
        path, expected = Path(self._paths[row]), self._digests[row]
        if expected is not None and path.is_file() and file_digest(path) != expected:
            raise CohortError(
                f"{path}: changed since it was written; restore it, or write the folder again"
            )
        return path

    def _pixels(self, row: int) -> np.ndarray:
        path = self._checked(row)
        decoded = decoding.decode(path)
        # Decoding shows whether the file declares itself synthetic.
        if self._computed[row] == UNKNOWN:
            self._computed[row] = decoded.about["synthetic"]
        pixels = decoded.pixels
        if decoded.bits <= 8 and decoded.about["format"] != "DICOM":
            pixels = (pixels // 257).astype(np.uint8)  # the grey levels of the file
        if pixels.shape == self.size:
            return pixels
        if self._given is None:
            other, first = ("{}x{}".format(*size) for size in (pixels.shape, self.size))
            raise CohortError(
                f"{path}: the image is {other}, others are {first}; "
                "resize all with size=, or load the images of each size as a cohort of their own"
            )
        return resized(pixels, self.size)


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size and date of a file, None if it is absent."""
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_size, about.st_mtime_ns


def _says_synthetic(path: Path | str) -> bool:
    try:
        return decoding.says_synthetic(path)
    except CohortError:  # reading its pixels raises
        return False
