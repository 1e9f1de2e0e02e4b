"""Where a store's pixels come from: files that nobody has vouched for, or images of a cohort."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import Decoded, ImageError, Limits, decode_many, fitted
from causalcxr.images.images import Images

__all__ = ["CohortFilms", "Fault", "FileFilms", "Film", "Films"]

_BATCH = 64
# Reasons that a busy machine can give as well as the file itself; such a file gets a second try.
_PASSING = ("slow", "memory", "crashed")


@dataclass(frozen=True)
class Fault:
    """An image that could not be read.

    Args:
        reason: A word, of `REASONS` in `sources.decoded`.
        file: Its file, where it has one.
        told: What is wrong with it.
    """

    reason: str
    file: str
    told: str


@dataclass(frozen=True)
class Film:
    """An image that was read.

    Args:
        pixels: Shape (H, W), uint16.
        synthetic: Whether it was computed.
    """

    pixels: np.ndarray
    synthetic: bool


class Films(ABC):
    """Images that are to be stored; light enough to travel to another process."""

    available: np.ndarray

    @property
    @abstractmethod
    def digest(self) -> str:
        """What tells these images from others before any is read, SHA-256."""

    @abstractmethod
    def part(self, rows: np.ndarray) -> "Films":
        """Return some of them."""

    @abstractmethod
    def read(self, size: tuple[int, int]) -> Iterator[Film | Fault]:
        """Yield each of them in its turn, of shape `size`, or why it could not be read."""


class FileFilms(Films):
    """Images in files of any format that is known, read in a process with limits.

    Args:
        paths: One a record; None for a record without one.
        limits: On what a file may take.
        root: The folder that their names are told from.
        synthetic: Which of them are known to be synthetic, shape (n,); the files may say so of
            others.
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
        known = getattr(paths, "available", None)
        self.available = np.array([p is not None for p in paths] if known is None else known, bool)

    @property
    def digest(self) -> str:
        """The SHA-256 of their paths, and of what is known to be synthetic."""
        names = "\0".join(str(path or "") for path in self._paths)
        names += f"\0{np.flatnonzero(self._synthetic).tolist()}" if self._synthetic.any() else ""
        return hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()

    def part(self, rows: np.ndarray) -> "FileFilms":
        """Return some of them, as texts: a sequence may be of more than travels easily."""
        chosen = [self._paths[row] for row in rows]
        paths = [None if path is None else str(path) for path in chosen]
        return FileFilms(paths, self._limits, self._root, self._synthetic[rows])

    def read(self, size: tuple[int, int]) -> Iterator[Film | Fault]:
        """Decode every file and fit it to the size, its proportions kept; see `Films.read`."""
        found = decode_many(self._paths, 1, self._limits, size)
        for path, known, result in zip(self._paths, self._synthetic, found, strict=True):
            if isinstance(result, ImageError) and result.reason in _PASSING:
                result = next(iter(decode_many([path], 1, self._limits, size)))
            if isinstance(result, Decoded):
                yield Film(result.pixels, bool(known or result.about["synthetic"]))
            else:
                name = str(path).removeprefix("" if self._root is None else f"{self._root}/")
                yield Fault(result.reason, name, result.told)


class CohortFilms(Films):
    """Images of a cohort, as it shows them.

    Args:
        images: Of n records.
        made_from: What they are computed or read from, in words.
    """

    def __init__(self, images: Images, made_from: str = "") -> None:
        self.images, self._made_from = images, made_from
        self.available = images.available

    @property
    def digest(self) -> str:
        """The SHA-256 of what they are made from, which of them there are, and their size."""
        words = f"{self._made_from}\0{self.images.size}\0".encode()
        return hashlib.sha256(words + self.available.tobytes()).hexdigest()

    def part(self, rows: np.ndarray) -> "CohortFilms":
        """Return some of them."""
        return CohortFilms(self.images.select(rows))

    def read(self, size: tuple[int, int]) -> Iterator[Film | Fault]:
        """Read them a few at a time; see `Films.read`."""
        for start in range(0, len(self.images), _BATCH):
            some = self.images.select(slice(start, start + _BATCH))
            try:
                yield from _films(some, size)
            except CohortError:
                # One of them: each for itself, so that it costs no other its place.
                yield from (_alone(some, row, size) for row in range(len(some)))


def _films(images: Images, size: tuple[int, int]) -> list[Film]:
    pixels = [_levels(film, size) for film in images[:][:, 0]]
    return [Film(*each) for each in zip(pixels, images.synthetic.tolist(), strict=True)]


def _alone(images: Images, row: int, size: tuple[int, int]) -> Film | Fault:
    try:
        return _films(images.select([row]), size)[0]
    except CohortError as error:
        file, colon, told = str(error).partition(": ")
        told = told if colon else str(error)
        return Fault(getattr(error, "reason", "damaged"), Path(file).name, told)


def _levels(film: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return grey values between 0 and 1 in 16 bits; 8 and 16 bits come back exactly."""
    return fitted(np.rint(film.astype(np.float64) * 65535).astype(np.uint16), size)
