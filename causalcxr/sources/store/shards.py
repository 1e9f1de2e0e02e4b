"""Shards: files with arrays of radiographs.

Each is an .npy file that `np.load("images/00000.npy", mmap_mode="r")` opens without this package.
Its header has a fixed length, so the position of an image in the file follows from its slot alone,
as a request to an object storage requires.
"""

import hashlib
import tokenize
from abc import ABC, abstractmethod
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from causalcxr.common.errors import CohortError
from causalcxr.common.files import atomic_file
from causalcxr.sources.store.layout import HEADER, shard_name

__all__ = ["LocalShards", "RemoteShards", "Shards", "shards_at", "write_shard"]

_GREY = np.dtype("<u2")
_WHITE = np.float32(65535)


def write_shard(file: Path, pixels: np.ndarray) -> str:
    """Write images as one shard, atomically.

    Args:
        file: Its .npy file.
        pixels: Shape (k, H, W), uint16.

    Returns:
        The SHA-256 of the file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     sha = write_shard(Path(folder) / "a.npy", np.eye(3, dtype=np.uint16)[None])
        ...     np.load(Path(folder) / "a.npy").shape
        (1, 3, 3)
    """
    pixels = np.ascontiguousarray(pixels, dtype=_GREY)
    header = _header(pixels.shape)
    digest = hashlib.sha256(header)
    digest.update(pixels)
    with atomic_file(file) as opened:
        opened.write(header)
        opened.write(pixels)
    return digest.hexdigest()


class Shards(ABC):
    """The shards of a store.

    Args:
        folder: The store: a folder, or an address.
        size: Height and width of every image.
    """

    def __init__(self, folder: str, size: tuple[int, int]) -> None:
        self.folder = folder
        self.size = size

    @abstractmethod
    def gather(self, shards: np.ndarray, slots: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return images by the number of their shard and their slot in it.

        Args:
            shards: Shape (k,).
            slots: Shape (k,).
            out: The array to fill, (k, H, W): uint16 grey levels, or float32 between 0 and 1.

        Returns:
            The same array.

        Raises:
            CohortError: If a shard is missing or damaged.
        """


class LocalShards(Shards):
    """Shards in a folder, mapped into memory at first use."""

    def __init__(self, folder: str, size: tuple[int, int]) -> None:
        super().__init__(folder, size)
        self._maps: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself; a pickled map would contain all pixels.
        return self.__dict__ | {"_maps": {}}

    def gather(self, shards: np.ndarray, slots: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return images by their shards and slots; see `Shards.gather`."""
        for k, (number, slot) in enumerate(zip(shards.tolist(), slots.tolist(), strict=True)):
            images = self._map(number)
            try:
                _copy(images[slot], out[k])
            except IndexError:
                raise self._damaged(number, f"it holds {len(images)} images") from None
        return out

    def _map(self, number: int) -> np.ndarray:
        if number not in self._maps:
            try:
                images = np.load(
                    Path(self.folder) / shard_name(number), mmap_mode="r", allow_pickle=False
                )
            # numpy parses the header as Python tokens, which can fail in several ways.
            except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
                raise self._damaged(number, getattr(error, "strerror", None) or error) from None
            if images.ndim != 3 or images.dtype != _GREY or images.shape[1:] != self.size:
                raise self._damaged(number, f"it holds {images.dtype} {images.shape}")
            # A plain array: access through numpy's class for maps is slow for small images.
            self._maps[number] = images.view(np.ndarray)
        return self._maps[number]

    def _damaged(self, number: int, why: object) -> CohortError:
        file = Path(self.folder) / shard_name(number)
        return CohortError(f"{file}: missing or damaged ({why}); build the store again")


class RemoteShards(Shards):
    """Shards at an address of fsspec, such as `s3://bucket/store`; images are read singly."""

    def gather(self, shards: np.ndarray, slots: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return images by their shards and slots; see `Shards.gather`."""
        from fsspec.core import url_to_fs

        # fsspec caches one file system, with its connections, for each process.
        storage, root = url_to_fs(self.folder)
        length = self.size[0] * self.size[1] * _GREY.itemsize
        # All ranges of bytes at once, as each request to a remote storage takes long.
        starts = [HEADER + int(slot) * length for slot in slots]
        try:
            contents = storage.cat_ranges(
                [f"{root}/{shard_name(int(number))}" for number in shards],
                starts,
                [start + length for start in starts],
                on_error="raise",
            )
        except Exception as error:  # each kind of storage has errors of its own
            raise CohortError(f"{self.folder}: an image cannot be read ({error})") from None
        for k, content in enumerate(contents):
            if len(content) != length:
                raise CohortError(
                    f"{self.folder}: a shard is cut short ({len(content)} bytes of an image's "
                    f"{length}); copy the store again"
                )
            _copy(np.frombuffer(content, dtype=_GREY).reshape(self.size), out[k])
        return out


def _copy(levels: np.ndarray, out: np.ndarray) -> None:
    """Copy an image, as grey levels or between 0 and 1."""
    out[:] = levels
    if out.dtype.kind == "f":
        # Image by image, while its values are in the processor's cache.
        out /= _WHITE


def shards_at(folder: str, size: tuple[int, int]) -> Shards:
    """Return the shards of a store in a folder or at an address."""
    return (RemoteShards if "://" in folder else LocalShards)(folder, size)


def _header(shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file, which has a fixed length."""
    content = BytesIO()
    fields = {"descr": _GREY.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, fields)
    header = content.getvalue()
    if len(header) != HEADER:
        raise CohortError(f"a shard of shape {shape} is too large; give a smaller shard size")
    return header
