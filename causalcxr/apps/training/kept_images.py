"""Images that are slow to compute, kept as grey levels in a file that is mapped into memory."""

import hashlib
import zlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import numpy as np

from causalcxr.common.parallel import run
from causalcxr.common.progress import Progress
from causalcxr.common.threads import one_thread
from causalcxr.images.images import Images

__all__ = ["KeptImages"]

_BATCH = 64  # images computed at a time
_TASK = 256  # images of one task of a process
_CHECK = np.dtype(np.uint32)


class KeptImages:
    """Compute images when they are first read, and keep them in a folder.

    Two files hold the grey levels of all images and a checksum of each; a record without one is
    not computed yet. An image whose checksum does not fit, such as one that a crash has cut off,
    is computed again. The names of the files are a fingerprint of the images, so that other images
    have other files.

    Args:
        images: The images.
        folder: The folder of the files; it is created when an image is first read.
        levels: The largest grey level: 255, or up to 65535.

    Example:
        >>> import tempfile
        >>> from causalcxr.images.images import ArrayImages
        >>> images = ArrayImages(np.full((2, 4, 4), 51, dtype=np.uint8))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     kept = KeptImages(images, Path(folder))
        ...     kept[np.array([1])].shape, kept.missing.tolist()
        ((1, 1, 4, 4), [0])
    """

    def __init__(self, images: Images, folder: Path, levels: int = 255) -> None:
        self.images, self.folder, self.levels = images, folder, levels
        self._type = np.dtype(np.uint8 if levels < 256 else np.uint16)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return images, (k, 1, H, W) float32 between 0 and 1."""
        pixels, checks = self._mapped
        out = pixels[rows]
        kept = np.array([_checksum(level.tobytes()) for level in out]) == checks[rows]
        # Compute what is missing, some images at a time.
        absent = np.flatnonzero(~kept | (checks[rows] == 0))
        for start in range(0, len(absent), _BATCH):
            some = absent[start : start + _BATCH]
            out[some] = _computed(self.levels, self.images.select(rows[some]))
            self._keep(rows[some], out[some])
        return out[:, None].astype(np.float32) / np.float32(self.levels)

    @property
    def missing(self) -> np.ndarray:
        """The positions of the images that are not kept yet."""
        return np.flatnonzero(self._mapped[1] == 0)

    def fill(self, *, workers: int = 1, part: tuple[int, int] = (0, 1)) -> None:
        """Compute all images that are not kept yet, or a part of them.

        Args:
            workers: The number of processes.
            part: (k, n) for every n-th image, from the k-th one.
        """
        first, each = part
        missing = self.missing[first::each]

        def tasks() -> Iterator[tuple[np.ndarray, Images]]:
            for start in range(0, len(missing), _TASK):
                rows = missing[start : start + _TASK]
                yield rows, self.images.select(rows)

        done = len(self.images) - len(missing)
        with Progress("Preparing", len(self.images), "images", done=done) as count:
            for rows, levels in run(_computed_task, tasks(), self.levels, workers=workers):
                self._keep(rows, levels)
                count.add(len(rows))

    def _keep(self, rows: np.ndarray, levels: np.ndarray) -> None:
        """Write images, and then their checksums; a full disk raises an error here."""
        pixels, checks = self._files
        contents = [level.tobytes() for level in levels]
        _write(pixels, rows, contents)
        _write(checks, rows, [_checksum(content).tobytes() for content in contents])

    @cached_property
    def _files(self) -> tuple[Path, Path]:
        """The files of pixels and checksums; zeros that were never written take no space."""
        words = f"{self.images.fingerprint()} {self.levels}"
        stem = self.folder / hashlib.sha256(words.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        files = stem.with_suffix(".pixels"), stem.with_suffix(".checks")
        height, width = self.images.size
        image = height * width * self._type.itemsize
        for path, nbytes in zip(files, (image, _CHECK.itemsize), strict=True):
            with path.open("ab") as file:
                file.truncate(len(self.images) * nbytes)
        return files

    @cached_property
    def _mapped(self) -> tuple[np.ndarray, np.ndarray]:
        """Grey levels (n, H, W) and checksums (n,), as the files hold them at any moment."""
        pixels, checks = self._files
        n = len(self.images)
        return (
            np.memmap(pixels, self._type, "r", shape=(n, *self.images.size)),
            np.memmap(checks, _CHECK, "r", shape=(n,)),
        )


def _write(path: Path, rows: np.ndarray, contents: list[bytes]) -> None:
    """Write the entries of some rows of a file; all entries have one length."""
    with path.open("r+b") as file:
        for row, content in zip(rows.tolist(), contents, strict=True):
            file.seek(row * len(content))
            file.write(content)


def _checksum(content: bytes) -> np.uint32:
    return np.uint32(zlib.crc32(content))


def _computed(levels: int, images: Images) -> np.ndarray:
    """Return images as grey levels, (k, H, W)."""
    return np.rint(images[:][:, 0] * levels).astype(np.uint8 if levels < 256 else np.uint16)


def _computed_task(levels: int, task: tuple[np.ndarray, Images]) -> tuple[np.ndarray, np.ndarray]:
    """Return rows and their grey levels, in a process of its own."""
    rows, images = task
    with one_thread():
        return rows, _computed(levels, images)
