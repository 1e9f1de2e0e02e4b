"""Latents of a cohort, encoded once and stored as arrays that are mapped into memory.

    latents-00000.npy (k, C, h, w) float16, ..., manifest.json (codec, records, shards, sha256)

A shard is written first, then the manifest lists it: so every listed shard is complete, and a
command that was killed resumes with the next. Latents are valid for their own autoencoder only.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CohortError, ModelError
from causalcxr.common.files import atomic_write, read_text, remove_litter
from causalcxr.common.locks import exclusive
from causalcxr.common.progress import progress
from causalcxr.radit.autoencoder import Autoencoder
from causalcxr.radit.weights import content_hash

__all__ = ["Latents", "cache_latents"]

SCHEMA = 1
_KIND = "causalcxr latents"
_MANIFEST = "manifest.json"
_TYPES = ("float16", "float32")


class Latents:
    """The latents of n records, read on access.

    Args:
        folder: A folder written by `cache_latents`.
        codec: The autoencoder that must have made them; None does not check.
        cohort: The cohort whose records they must be, in its order; None does not check.

    Raises:
        ModelError: If the folder is unfinished, damaged, of another version, of another
            autoencoder or of other records.
    """

    def __init__(
        self, folder: str | Path, codec: Autoencoder | None = None, cohort: Cohort | None = None
    ) -> None:
        self.folder = Path(folder)
        self.about = _manifest(self.folder)
        # An unfinished folder has a manifest, but not all of its shards.
        if not self.about["complete"]:
            n_encoded = sum(shard["rows"] for shard in self.about["shards"])
            raise ModelError(
                f"{self.folder}: {n_encoded:,} of {self.about['rows']:,} records are encoded; run "
                "the command again to resume"
            )
        # Refuse the latents of another autoencoder, or of other records.
        if codec is not None:
            _check_same(self.folder, self.about, "codec", content_hash(codec.state_dict()))
        if cohort is not None:
            _check_same(self.folder, self.about, "records", _records(cohort))
        # Shards are mapped into memory; `_starts` finds the shard of a row.
        self._shards = [_opened(self.folder, shard, self.about) for shard in self.about["shards"]]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one record's latents."""
        return tuple(self.about["shape"])

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Return the latents of some records, (k, C, h, w) float32, in the order of `rows`."""
        rows = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        # Let numpy resolve slices, masks and negative rows.
        try:
            places = np.atleast_1d(np.arange(len(self))[rows])
        except IndexError as error:
            raise CohortError(f"latents of {len(self)} records: {error}") from None
        out = np.empty((len(places), *self.shape), dtype=np.float32)
        # Read shard by shard, and put each row where it was requested.
        owner = np.searchsorted(self._starts, places, side="right") - 1
        for k in np.unique(owner):
            inside = np.flatnonzero(owner == k)
            out[inside] = self._shards[k][places[inside] - self._starts[k]]
        return torch.from_numpy(out)

    def check(self) -> list[str]:
        """Verify every file; return the names of those that were changed."""
        shards = self.about["shards"]
        return [s["file"] for s in shards if file_digest(self.folder / s["file"]) != s["sha256"]]

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"Latents({len(self)} records, {size}, {self.about['dtype']})"


@dataclass(frozen=True)
class _EncodingJob:
    """A cohort to be encoded, and its folder."""

    codec: Autoencoder
    cohort: Cohort
    folder: Path
    batch: int
    shard: int
    dtype: str
    device: torch.device

    def plan(self) -> dict[str, Any]:
        """Return the manifest without any shard."""
        height, width = self.cohort.images.size
        # An empty batch checks the size before any image is read.
        self.codec.check(torch.empty(0, 1, height, width))
        factor = self.codec.factor
        return {
            "kind": _KIND,
            "schema": SCHEMA,
            "codec": content_hash(self.codec.state_dict()),
            "source": self.cohort.source,
            "records": _records(self.cohort),
            "rows": len(self.cohort),
            "shape": [self.codec.channels, height // factor, width // factor],
            "dtype": self.dtype,
            "shard": self.shard,
            "complete": False,
            "shards": [],
        }

    def encoded(self, start: int) -> np.ndarray:
        """Return the latents of the shard that starts at a record, (k, C, h, w)."""
        rows = np.arange(start, min(start + self.shard, len(self.cohort)))
        parts = []
        # Codecs take images in [-1, 1], and stored images are in [0, 1].
        for part in np.array_split(rows, -(-len(rows) // self.batch)):
            images = torch.from_numpy(self.cohort.images[part]).to(self.device) * 2 - 1
            with np.errstate(over="ignore"):  # overflow is reported below
                parts.append(self.codec.encode(images).cpu().numpy().astype(self.dtype))
        latents = np.concatenate(parts)
        # Check after the conversion: float16 overflows above 65504.
        bad = np.flatnonzero(~np.isfinite(latents).all((1, 2, 3)))
        if len(bad):
            raise ModelError(
                f"{self.folder}: the latents of record {self.cohort.records[rows[bad[0]]]!r} are "
                f"not finite as {self.dtype}; use float32, or check its image"
            )
        return latents


def cache_latents(
    codec: Autoencoder,
    cohort: Cohort,
    folder: str | Path,
    *,
    batch: int = 32,
    shard: int = 4096,
    dtype: str = "float16",
) -> Latents:
    """Encode the images of a cohort; an interrupted call can be resumed.

    Args:
        codec: The autoencoder, on the device that computes.
        cohort: A cohort in which every record has an image.
        folder: The folder of the shards.
        batch: Images at a time.
        shard: Records per file.
        dtype: float16 or float32.

    Raises:
        CohortError: If a record has no image.
        ModelError: If the folder holds latents of another autoencoder, other records or other
            settings, or latents are not finite.
    """
    if cohort.images is None or not cohort.images.available.all():
        raise CohortError("not every record has an image; use cohort.with_images_only()")
    if dtype not in _TYPES or batch < 1 or shard < 1:
        raise ModelError(
            f"latents: dtype {dtype!r}, batch {batch}, shard {shard}; expected "
            f"{' or '.join(_TYPES)}, and at least 1"
        )
    device = next(codec.parameters()).device
    job = _EncodingJob(codec.eval(), cohort, Path(folder), batch, shard, dtype, device)
    place = job.folder.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    busy = ModelError(f"{folder}: another process is encoding here; wait until it ends")
    # The lock is beside the folder, so that a refused call creates no folder.
    with exclusive(place.parent / f".{place.name}.lock", busy):
        if place.is_dir():
            remove_litter(place)
        _encode(job)
    return Latents(job.folder, codec, cohort)


def _encode(job: _EncodingJob) -> None:
    """Encode the missing shards."""
    # Start after the last listed shard.
    about, cohort, shard = _started_manifest(job), job.cohort, job.shard
    starts = range(sum(s["rows"] for s in about["shards"]), len(cohort), shard)
    for start in progress(starts, "Encoding", "images"):
        name = f"latents-{start // shard:05d}.npy"
        # Write to memory first, so that the hash is that of the bytes on disk.
        content = BytesIO()
        np.save(content, latents := job.encoded(start), allow_pickle=False)
        atomic_write(job.folder / name, content.getvalue())
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        # List the shard once it is complete.
        about["shards"].append({"file": name, "rows": len(latents), "sha256": digest})
        _write_manifest(job.folder, about)
    # Mark the folder as complete last.
    about["complete"] = True
    _write_manifest(job.folder, about)


def _started_manifest(job: _EncodingJob) -> dict[str, Any]:
    """Return the manifest to continue: that of the folder, or a new one."""
    plan = job.plan()
    if not (job.folder / _MANIFEST).exists():
        return plan
    # Resume only under the same settings, and if every listed shard opens with its shape.
    about = _manifest(job.folder)
    for key in ("codec", "records", "rows", "shape", "dtype", "shard"):
        _check_same(job.folder, about, key, plan[key])
    for shard in about["shards"]:
        _opened(job.folder, shard, about)
    return about


def _write_manifest(folder: Path, about: dict[str, Any]) -> None:
    atomic_write(folder / _MANIFEST, json.dumps(about, indent=1) + "\n")


def _check_same(folder: Path, about: dict[str, Any], key: str, value: object) -> None:
    """Raise an error unless a field of the manifest has this value."""
    if about[key] != value:
        old, new = (str(v)[:12] for v in (about[key], value))
        raise ModelError(
            f"{folder}: these are latents of another {key} ({old}, not {new}); delete them, or "
            "use another folder"
        )


def _records(cohort: Cohort) -> str:
    """Return a hash of the records' names, in their order."""
    return hashlib.sha256("\n".join(map(str, cohort.records)).encode()).hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a folder."""
    path = folder / _MANIFEST
    try:
        about = json.loads(read_text(path, limit=100_000_000, error=ModelError))
        is_valid = about["kind"] == _KIND and about["schema"] == SCHEMA
    except (LookupError, TypeError, json.JSONDecodeError):
        is_valid = False
    if not is_valid:
        raise ModelError(f"{path}: no manifest of latents of version {SCHEMA}; encode them again")
    return about


def _opened(folder: Path, shard: dict[str, Any], about: dict[str, Any]) -> np.ndarray:
    """Return a shard, mapped into memory, if it has the shape in the manifest."""
    # The bare name: a manifest must not point outside its folder.
    path = folder / Path(shard["file"]).name
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{path}: not a shard of latents ({reason}); delete the folder and encode again"
        ) from error
    if array.shape != (shard["rows"], *about["shape"]) or array.dtype != about["dtype"]:
        raise ModelError(f"{path}: not the shard that the manifest lists; encode them again")
    return array
