"""A store opened as a cohort: its table in memory, its images in their files."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.provenance import recorded
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CohortError
from causalcxr.common.progress import progress
from causalcxr.common.result_digests import Digests
from causalcxr.images.images import Images, Rows
from causalcxr.images.pixels import resized
from causalcxr.sources.store.index import SHARD, SLOT, SYNTHETIC, read_index
from causalcxr.sources.store.layout import (
    INDEX,
    MANIFEST,
    parse_manifest,
    read_manifest,
    shard_name,
)
from causalcxr.sources.store.shards import RemoteShards, Shards, shards_at

__all__ = ["Store", "check", "load", "recognises"]

_WHITE = np.float32(65535)


class Store(Images):
    """The images in the shards of a store.

    Several processes can read a store at the same time; reading creates neither locks nor
    temporary files.

    Args:
        shards: The shards.
        numbers: The shard of each record's image, shape (n,); -1 for a record without one.
        slots: The position of each image in its shard, shape (n,).
        size: Height and width to which images are resized; by default as they are stored.
        content: The SHA-256 of the shards' digests.
        synthetic: Which images were computed: one value for all or one for each.

    Example:
        >>> import tempfile
        >>> from causalcxr.sources.store.writing import write
        >>> cohort = Cohort(pd.DataFrame({"Age": [61, 47]}), np.array([np.eye(8), np.eye(8)]))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     stored = load(write(cohort, f"{folder}/store")).images
        ...     stored, stored.grey_levels([1])[0, 0, :2].tolist()
        (Store(2 of 2 records, 8x8), [65535, 0])
    """

    def __init__(
        self,
        shards: Shards,
        numbers: np.ndarray,
        slots: np.ndarray,
        size: tuple[int, int] | None = None,
        content: str = "",
        synthetic: bool | np.ndarray = False,
    ) -> None:
        numbers = np.asarray(numbers, dtype=np.int64)
        super().__init__(numbers >= 0, synthetic)
        self._shards, self._numbers = shards, numbers
        self._slots = np.asarray(slots, dtype=np.int64)
        self._given = None if size in (None, shards.size) else size
        self._content = content

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in pixels."""
        return self._given or self._shards.size

    @property
    def depth(self) -> int:
        """Bits of the grey levels as they are stored."""
        return 16

    @property
    def remote(self) -> bool:
        """Whether images are read from an address, such as that of an object storage."""
        return isinstance(self._shards, RemoteShards)

    def select(self, rows: Rows) -> "Store":
        """Return the images of some of the records, still unread."""
        chosen = self._positions(rows)
        positions = self._numbers[chosen], self._slots[chosen]
        return Store(self._shards, *positions, self._given, self._content, self.synthetic[chosen])

    def fingerprint(self) -> str:
        """Return the SHA-256 of the shards' digests and of the images' positions in them."""
        words = f"{self._content or self._shards.folder}\0{self.size}\0".encode()
        return hashlib.sha256(words + self._numbers.tobytes() + self._slots.tobytes()).hexdigest()

    def grey_levels(self, rows: Rows) -> np.ndarray:
        """Return images as they are stored: shape (k, H, W), uint16.

        Raises:
            CohortError: If a record has no image, or a shard is damaged.
        """
        # Read at the stored size, then resize one image at a time.
        levels = self._gathered(rows, np.uint16)
        if self._given is None:
            return levels
        out = np.empty((len(levels), *self._given), dtype=np.uint16)
        for k, image in enumerate(levels):
            out[k] = resized(image, self._given)
        return out

    def __getitem__(self, rows: Rows) -> np.ndarray:
        if self._given is None:
            return self._gathered(rows, np.float32)[:, None]
        return (self.grey_levels(rows).astype(np.float32) / _WHITE)[:, None]

    def _gathered(self, rows: Rows, kind: type) -> np.ndarray:
        chosen = self._positions(rows)
        if (absent := chosen[~self._available[chosen]]).size:
            raise CohortError(
                f"the record at position {absent[0]} has no image ({len(absent)} of "
                f"{len(chosen)} records); use cohort.with_images_only() first"
            )
        out = np.empty((len(chosen), *self._shards.size), dtype=kind)
        return self._shards.gather(self._numbers[chosen], self._slots[chosen], out)

    def _pixels(self, row: int) -> np.ndarray:
        return self.grey_levels([row])[0]


def recognises(path: Path) -> bool:
    """Return whether a path is the folder of a store."""
    try:
        read_manifest(path)
    except CohortError as error:
        return "not a store" not in str(error)  # `load` reports a store of another version
    return True


def load(path: str | Path, *, size: int | tuple[int, int] | None = None) -> Cohort:
    """Open a store as a cohort; images are read when they are needed.

    Args:
        path: The folder; or an address of fsspec, such as `s3://bucket/store`, which requires the
            package of its storage (s3fs).
        size: The side, or height and width, to which images are resized; by default as they are.

    Raises:
        CohortError: If it is not a store, or its table was changed.
    """
    folder = str(path)
    manifest = parse_manifest(_read_bytes(folder, MANIFEST), folder)
    try:
        return _cohort(folder, manifest, (size, size) if isinstance(size, int) else size)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, CohortError):
            raise
        raise CohortError(
            f"{folder}/{MANIFEST}: damaged: {error!r}; build the store again"
        ) from None


def check(folder: str | Path) -> Iterable[str]:
    """Yield a line for each damaged file of a store; all files are read.

    Raises:
        CohortError: If the folder is not a store.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    expected = dict(Digests(folder, manifest)) | {INDEX: manifest["index"]["sha256"]}
    expected |= {shard["file"]: shard["sha256"] for shard in manifest["shards"]}
    for name in progress(sorted(expected), "Checking", "files"):
        try:
            if file_digest(folder / name) != expected[name]:
                yield f"{folder / name}: changed since it was written"
        except OSError as error:
            yield f"{folder / name}: cannot be read ({error.strerror or error})"


def _cohort(folder: str, manifest: dict[str, Any], size: tuple[int, int] | None) -> Cohort:
    content = _read_bytes(folder, INDEX)
    if hashlib.sha256(content).hexdigest() != manifest["index"]["sha256"]:
        raise CohortError(f"{folder}/{INDEX}: changed since it was written; build the store again")
    table = read_index(content, f"{folder}/{INDEX}")
    images = _images(folder, table, manifest, size)
    keys = [name for name in ("record", "draw") if name in table]
    table.index = pd.MultiIndex.from_frame(table[keys]) if keys[1:] else pd.Index(table["record"])
    return Cohort(
        table.drop(columns=[*keys, SHARD, SLOT, SYNTHETIC], errors="ignore"),
        images,
        patients="patient",
        splits="split" if "split" in table else None,
        source=manifest["source"],
        origin=f"{folder}/{INDEX}",
        notes=manifest["notes"],
    )


def _images(
    folder: str, table: pd.DataFrame, manifest: dict[str, Any], size: tuple[int, int] | None
) -> Store | None:
    if not manifest["images"]:
        return None
    numbers = table[SHARD].to_numpy()
    files = {shard["file"] for shard in manifest["shards"]}
    # Every shard that the table names must be in the manifest.
    distinct = np.unique(numbers[numbers >= 0])
    if unknown := [n for n in distinct.tolist() if shard_name(n) not in files]:
        raise CohortError(
            f"{folder}/{INDEX}: shard {unknown[0]} is not in the manifest; build the store again"
        )
    height, width = manifest["image_size"]
    shards = shards_at(folder, (int(height), int(width)))
    # The digest of all digests stands for the images.
    content = hashlib.sha256("".join(shard["sha256"] for shard in manifest["shards"]).encode())
    # A store of version 0.1.0 has no such column: the manifest records which images are synthetic.
    synthetic = (
        table[SYNTHETIC].to_numpy(bool) if SYNTHETIC in table else recorded(manifest, len(table))
    )
    return Store(shards, numbers, table[SLOT].to_numpy(), size, content.hexdigest(), synthetic)


def _read_bytes(folder: str, name: str) -> bytes:
    """Return the content of a small file of a store, in a folder or at an address."""
    try:
        if "://" not in folder:
            return (Path(folder) / name).read_bytes()
        import fsspec

        with fsspec.open(f"{folder}/{name}", "rb") as file:
            return file.read()
    except ImportError as error:  # the package of the storage
        raise CohortError(f"{folder}: {error}") from None
    except Exception as error:  # each kind of storage has its own errors
        if isinstance(error, FileNotFoundError) and name == MANIFEST:
            raise CohortError(f"{folder}: not a store; it has no {MANIFEST}") from None
        reason = getattr(error, "strerror", None) or error
        raise CohortError(f"{folder}/{name}: cannot be read ({reason})") from None
