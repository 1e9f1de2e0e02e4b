"""Shards: arrays of radiographs in files that need no reader of ours.

Each is an .npy file, so `np.load("images/00000.npy", mmap_mode="r")` opens it anywhere. Its header
has a fixed length: where an image begins follows from its place alone, which is what a request to
an object storage needs.
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
    """Write images as one shard, whole or not at all.

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
    head = _header(pixels.shape)
    digest = hashlib.sha256(head)
    digest.update(pixels)
    with atomic_file(file) as opened:
        opened.write(head)
        opened.write(pixels)
    return digest.hexdigest()


class Shards(ABC):
    """Where the shards of a store are, and how images come from them.

    Args:
        folder: The store: a folder, or an address.
        size: Height and width of every image.
    """

    def __init__(self, folder: str, size: tuple[int, int]) -> None:
        self.folder = folder
        self.size = size

    @abstractmethod
    def gather(self, shards: np.ndarray, slots: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return images by the number of their shard and their place in it.

        Args:
            shards: Shape (k,).
            slots: Shape (k,).
            out: Where they are put, (k, H, W): grey levels in uint16, or in float32 between 0
                and 1.

        Returns:
            The same array.

        Raises:
            CohortError: If a shard is missing, or not as it was written.
        """


class LocalShards(Shards):
    """Shards in a folder, mapped into memory when they are first asked for."""

    def __init__(self, folder: str, size: tuple[int, int]) -> None:
        super().__init__(folder, size)
        self._maps: dict[int, np.ndarray] = {}

    def __getstate__(self) -> dict[str, Any]:
        # Another process maps the files itself; a pickled map would carry all of the pixels.
        return self.__dict__ | {"_maps": {}}

    def gather(self, shards: np.ndarray, slots: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return images by their places; see `Shards.gather`."""
        for k, (number, slot) in enumerate(zip(shards.tolist(), slots.tolist(), strict=True)):
            held = self._opened(number)
            try:
                _put(held[slot], out[k])
            except IndexError:
                raise self._damaged(number, f"it holds {len(held)} images") from None
        return out

    def _opened(self, number: int) -> np.ndarray:
        if number not in self._maps:
            try:
                held = np.load(
                    Path(self.folder) / shard_name(number), mmap_mode="r", allow_pickle=False
                )
            # numpy reads a header of version 1 as Python 2 might have written it, by its tokens.
            except (OSError, ValueError, EOFError, SyntaxError, tokenize.TokenError) as error:
                raise self._damaged(number, getattr(error, "strerror", None) or error) from None
            if held.ndim != 3 or held.dtype != _GREY or held.shape[1:] != self.size:
                raise self._damaged(number, f"it holds {held.dtype} {held.shape}")
            # As a plain array: numpy's own class for maps costs more an access than a small image.
            self._maps[number] = held.view(np.ndarray)
        return self._maps[number]

    def _damaged(self, number: int, why: object) -> CohortError:
        file = Path(self.folder) / shard_name(number)
        return CohortError(f"{file}: missing or damaged ({why}); build the store again")


class RemoteShards(Shards):
    """Shards at an address of fsspec, such as `s3://bucket/store`; only asked images travel."""

    def gather(self, shards: np.ndarray, slots: np.ndarray, out: np.ndarray) -> np.ndarray:
        """Return images by their places; see `Shards.gather`."""
        from fsspec.core import url_to_fs

        # One object for a process: fsspec keeps the connections.
        place, root = url_to_fs(self.folder)
        length = self.size[0] * self.size[1] * _GREY.itemsize
        starts = [HEADER + int(slot) * length for slot in slots]
        try:
            found = place.cat_ranges(
                [f"{root}/{shard_name(int(number))}" for number in shards],
                starts,
                [start + length for start in starts],
                on_error="raise",
            )
        except Exception as error:  # each kind of storage has errors of its own
            raise CohortError(f"{self.folder}: an image cannot be read ({error})") from None
        for k, content in enumerate(found):
            if len(content) != length:
                raise CohortError(
                    f"{self.folder}: a shard is cut short ({len(content)} bytes of an image's "
                    f"{length}); copy the store again"
                )
            _put(np.frombuffer(content, dtype=_GREY).reshape(self.size), out[k])
        return out


def _put(levels: np.ndarray, out: np.ndarray) -> None:
    """Copy an image, as grey levels or between 0 and 1."""
    out[:] = levels
    if out.dtype.kind == "f":
        # Image by image: the second pass finds the first one's numbers in the processor's cache.
        out /= _WHITE


def shards_at(folder: str, size: tuple[int, int]) -> Shards:
    """Return the shards of a store in a folder or at an address."""
    return (RemoteShards if "://" in folder else LocalShards)(folder, size)


def _header(shape: tuple[int, ...]) -> bytes:
    """Return the header of an .npy file, of the length that readers at a distance count on."""
    content = BytesIO()
    described = {"descr": _GREY.str, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(content, described)
    head = content.getvalue()
    if len(head) != HEADER:
        raise CohortError(f"a shard of shape {shape} is too large; ask for smaller shards")
    return head
