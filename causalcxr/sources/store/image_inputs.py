"""The images to be stored: files, which may be damaged, or the images of a cohort."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import Decoded, ImageError, Limits, decode_many, fitted
from causalcxr.images.images import Images

__all__ = ["CohortImageInput", "FileImageInput", "ImageFault", "ImageInput", "ReadImage"]

_BATCH = 64
# Reasons that may be due to a busy machine; such a file is read once more.
_TRANSIENT = ("slow", "memory", "crashed")


@dataclass(frozen=True)
class ImageFault:
    """An image that could not be read.

    Args:
        reason: The reason, one of `REASONS` in `images.decoded`.
        file: Its file, or the name of its record.
        detail: What is wrong with it.
    """

    reason: str
    file: str
    detail: str


@dataclass(frozen=True)
class ReadImage:
    """An image that was read.

    Args:
        pixels: Shape (H, W), uint16.
        synthetic: Whether it was computed.
    """

    pixels: np.ndarray
    synthetic: bool


class ImageInput(ABC):
    """Images to be stored; small enough to be sent to another process."""

    available: np.ndarray

    @property
    @abstractmethod
    def digest(self) -> str:
        """The identity of the images before any is read, SHA-256."""

    @abstractmethod
    def part(self, rows: np.ndarray) -> "ImageInput":
        """Return some of them."""

    @abstractmethod
    def read(self, size: tuple[int, int]) -> Iterator[ReadImage | ImageFault]:
        """Yield each image in order, of shape `size`, or the reason why it could not be read."""


class FileImageInput(ImageInput):
    """Images in files of the supported formats, read in a process with limits.

    Args:
        paths: The file of each record; None for a record without an image.
        limits: The limits of time and memory for a file.
        root: The folder to which reported file names are relative.
        synthetic: Which of them are known to be synthetic, shape (n,); files may mark others.
    """

    def __init__(
        self,
        paths: Sequence[Path | str | None],
        limits: Limits | None = None,
        root: Path | None = None,
        synthetic: np.ndarray | None = None,
    ) -> None:
        self._paths, self._limits, self._root = paths, limits or Limits(), root
        self._synthetic = np.zeros(len(paths), dtype=bool) if synthetic is None else synthetic
        available = getattr(paths, "available", None)
        if available is None:
            available = [path is not None for path in paths]
        self.available = np.array(available, bool)

    @property
    def digest(self) -> str:
        """The SHA-256 of the paths, and of the images known to be synthetic."""
        names = "\0".join(str(path or "") for path in self._paths)
        names += f"\0{np.flatnonzero(self._synthetic).tolist()}" if self._synthetic.any() else ""
        return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()

    def part(self, rows: np.ndarray) -> "FileImageInput":
        """Return some of them with their paths as texts, which are small to send."""
        chosen = [self._paths[row] for row in rows]
        paths = [None if path is None else str(path) for path in chosen]
        return FileImageInput(paths, self._limits, self._root, self._synthetic[rows])

    def read(self, size: tuple[int, int]) -> Iterator[ReadImage | ImageFault]:
        """Decode every file and fit it to the size, keeping proportions; see `ImageInput.read`."""
        results = decode_many(self._paths, 1, self._limits, size)
        for path, synthetic, result in zip(self._paths, self._synthetic, results, strict=True):
            # The fault may be of the machine, not of the file: try once more.
            if isinstance(result, ImageError) and result.reason in _TRANSIENT:
                result = next(iter(decode_many([path], 1, self._limits, size)))
            if isinstance(result, Decoded):
                yield ReadImage(result.pixels, bool(synthetic or result.about["synthetic"]))
            else:
                name = str(path).removeprefix("" if self._root is None else f"{self._root}/")
                yield ImageFault(result.reason, name, result.detail)


class CohortImageInput(ImageInput):
    """The images of a cohort.

    Args:
        images: The images of n records.
        made_from: A description of their source, for the identity of the store.
    """

    def __init__(self, images: Images, made_from: str = "") -> None:
        self.images, self._made_from = images, made_from
        self.available = images.available

    @property
    def digest(self) -> str:
        """The SHA-256 of their source, their size, and which of them are available."""
        words = f"{self._made_from}\0{self.images.size}\0".encode()
        return hashlib.sha256(words + self.available.tobytes()).hexdigest()

    def part(self, rows: np.ndarray) -> "CohortImageInput":
        """Return some of them."""
        return CohortImageInput(self.images.select(rows))

    def read(self, size: tuple[int, int]) -> Iterator[ReadImage | ImageFault]:
        """Read them in batches; see `ImageInput.read`."""
        for start in range(0, len(self.images), _BATCH):
            batch = self.images.select(slice(start, start + _BATCH))
            try:
                yield from _read(batch, size)
            except CohortError:
                # At least one is unreadable: read them one by one, and keep the others.
                yield from (_read_one(batch, row, size) for row in range(len(batch)))


def _read(images: Images, size: tuple[int, int]) -> list[ReadImage]:
    pixels = [_levels(image, size) for image in images[:][:, 0]]
    return [ReadImage(*each) for each in zip(pixels, images.synthetic.tolist(), strict=True)]


def _read_one(images: Images, row: int, size: tuple[int, int]) -> ReadImage | ImageFault:
    try:
        return _read(images.select([row]), size)[0]
    except CohortError as error:
        file, colon, details = str(error).partition(": ")
        details = details if colon else str(error)
        return ImageFault(getattr(error, "reason", "damaged"), Path(file).name, details)


def _levels(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return grey values between 0 and 1 in 16 bits; 8 and 16 bits come back exactly."""
    return fitted(np.rint(image.astype(np.float64) * 65535).astype(np.uint16), size)
