"""Latents of a cohort, encoded once and kept as arrays that are mapped into memory.

    latents-00000.npy (k, C, h, w) float16, ..., manifest.json (codec, records, shards, sha256)

A shard is written whole, then the manifest tells of it: so whatever is told of is there, and a
command that was killed makes the others. Latents of one autoencoder are refused to another, as its
numbers would mean something else.
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
    """The latents of n records, read when they are asked for.

    Args:
        folder: What `cache_latents` wrote.
        codec: If given, the autoencoder whose latents they must be.
        cohort: If given, the cohort whose records they must be, in its order.

    Raises:
        ModelError: If the folder is unfinished, damaged, of another version, of another
            autoencoder or of other records.
    """

    def __init__(
        self, folder: str | Path, codec: Autoencoder | None = None, cohort: Cohort | None = None
    ) -> None:
        self.folder = Path(folder)
        self.about = _manifest(self.folder)
        if not self.about["complete"]:
            done = sum(shard["rows"] for shard in self.about["shards"])
            raise ModelError(
                f"{self.folder}: {done:,} of {self.about['rows']:,} records are encoded; give the "
                "command again, and it goes on"
            )
        if codec is not None:
            _same(self.folder, self.about, "codec", content_hash(codec.state_dict()))
        if cohort is not None:
            _same(self.folder, self.about, "records", _records(cohort))
        self._shards = [_opened(self.folder, shard, self.about) for shard in self.about["shards"]]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Channels, height and width of one record's latents."""
        return tuple(self.about["shape"])

    def __getitem__(self, rows: int | slice | Sequence[int] | np.ndarray | Tensor) -> Tensor:
        """Return the latents of some records, (k, C, h, w) float32, in the order asked for."""
        rows = rows.cpu().numpy() if isinstance(rows, Tensor) else rows
        try:
            places = np.atleast_1d(np.arange(len(self))[rows])
        except IndexError as error:
            raise CohortError(f"latents of {len(self)} records: {error}") from None
        out = np.empty((len(places), *self.shape), dtype=np.float32)
        owner = np.searchsorted(self._starts, places, side="right") - 1
        for k in np.unique(owner):
            mine = np.flatnonzero(owner == k)
            out[mine] = self._shards[k][places[mine] - self._starts[k]]
        return torch.from_numpy(out)

    def check(self) -> list[str]:
        """Read every byte, and return the files that are not as they were written."""
        shards = self.about["shards"]
        return [s["file"] for s in shards if file_digest(self.folder / s["file"]) != s["sha256"]]

    def __repr__(self) -> str:
        size = "x".join(map(str, self.shape))
        return f"Latents({len(self)} records, {size}, {self.about['dtype']})"


@dataclass(frozen=True)
class _Work:
    """What is to be encoded, and where it goes."""

    codec: Autoencoder
    cohort: Cohort
    folder: Path
    batch: int
    shard: int
    dtype: str
    device: torch.device

    def plan(self) -> dict[str, Any]:
        """Return the manifest before anything is encoded."""
        height, width = self.cohort.images.size
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
        for part in np.array_split(rows, -(-len(rows) // self.batch)):
            films = torch.from_numpy(self.cohort.images[part]).to(self.device) * 2 - 1
            with np.errstate(over="ignore"):  # what is too large is refused below, by name
                parts.append(self.codec.encode(films).cpu().numpy().astype(self.dtype))
        whole = np.concatenate(parts)
        bad = np.flatnonzero(~np.isfinite(whole).all((1, 2, 3)))
        if len(bad):
            raise ModelError(
                f"{self.folder}: the latents of record {self.cohort.records[rows[bad[0]]]!r} are "
                f"not finite as {self.dtype}; use float32, or check its image"
            )
        return whole


def cache_latents(
    codec: Autoencoder,
    cohort: Cohort,
    folder: str | Path,
    *,
    batch: int = 32,
    shard: int = 4096,
    dtype: str = "float16",
) -> Latents:
    """Encode the images of a cohort; an interrupted call goes on where it stopped.

    Args:
        codec: The autoencoder, on the device where it is to work.
        cohort: Records that all have an image.
        folder: Where the shards go.
        batch: Images at a time.
        shard: Records a file.
        dtype: float16 or float32.

    Raises:
        CohortError: If a record has no image.
        ModelError: If the folder holds latents of another autoencoder, other records or another
            form, or latents are not finite.
    """
    if cohort.images is None or not cohort.images.available.all():
        raise CohortError("not every record has an image; use cohort.with_images_only()")
    if dtype not in _TYPES or batch < 1 or shard < 1:
        raise ModelError(
            f"latents: dtype {dtype!r}, batch {batch}, shard {shard}; expected "
            f"{' or '.join(_TYPES)}, and at least 1"
        )
    device = next(codec.parameters()).device
    work = _Work(codec.eval(), cohort, Path(folder), batch, shard, dtype, device)
    place = work.folder.absolute()
    place.parent.mkdir(parents=True, exist_ok=True)
    busy = ModelError(f"{folder}: another process is encoding here; wait for its end")
    # The lock stands beside the folder, so that what is refused leaves no folder behind.
    with exclusive(place.parent / f".{place.name}.lock", busy):
        if place.is_dir():
            remove_litter(place)
        _encode(work)
    return Latents(work.folder, codec, cohort)


def _encode(work: _Work) -> None:
    """Encode the shards that are not there yet."""
    about, cohort, shard = _begun(work), work.cohort, work.shard
    starts = range(sum(s["rows"] for s in about["shards"]), len(cohort), shard)
    for start in progress(starts, "Encoding", "images"):
        name = f"latents-{start // shard:05d}.npy"
        content = BytesIO()
        np.save(content, latents := work.encoded(start), allow_pickle=False)
        atomic_write(work.folder / name, content.getvalue())
        digest = hashlib.sha256(content.getvalue()).hexdigest()
        about["shards"].append({"file": name, "rows": len(latents), "sha256": digest})
        _tell(work.folder, about)
    about["complete"] = True
    _tell(work.folder, about)


def _begun(work: _Work) -> dict[str, Any]:
    """Return the manifest to go on with: the folder's own, or a new one."""
    plan = work.plan()
    if not (work.folder / _MANIFEST).exists():
        return plan
    about = _manifest(work.folder)
    for key in ("codec", "records", "rows", "shape", "dtype", "shard"):
        _same(work.folder, about, key, plan[key])
    for shard in about["shards"]:
        _opened(work.folder, shard, about)
    return about


def _tell(folder: Path, about: dict[str, Any]) -> None:
    atomic_write(folder / _MANIFEST, json.dumps(about, indent=1) + "\n")


def _same(folder: Path, about: dict[str, Any], key: str, value: object) -> None:
    """Refuse a folder that tells something else than is asked for."""
    if about[key] != value:
        was, now = (str(v)[:12] for v in (about[key], value))
        raise ModelError(
            f"{folder}: these are latents of another {key} ({was}, not {now}); delete them, or "
            "write elsewhere"
        )


def _records(cohort: Cohort) -> str:
    """Return a hash of the records' names, in their order."""
    return hashlib.sha256("\n".join(map(str, cohort.records)).encode()).hexdigest()


def _manifest(folder: Path) -> dict[str, Any]:
    """Return what a folder tells of itself."""
    path = folder / _MANIFEST
    try:
        about = json.loads(read_text(path, limit=100_000_000, error=ModelError))
        good = about["kind"] == _KIND and about["schema"] == SCHEMA
    except (LookupError, TypeError, json.JSONDecodeError):
        good = False
    if not good:
        raise ModelError(f"{path}: no manifest of latents of version {SCHEMA}; encode them again")
    return about


def _opened(folder: Path, shard: dict[str, Any], about: dict[str, Any]) -> np.ndarray:
    """Return a shard, mapped into memory, if it has the shape that the manifest tells."""
    path = folder / Path(shard["file"]).name
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        what = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{path}: no shard of latents ({what}); delete the folder and encode again"
        ) from error
    if array.shape != (shard["rows"], *about["shape"]) or array.dtype != about["dtype"]:
        raise ModelError(f"{path}: not the shard that the manifest tells of; encode them again")
    return array
