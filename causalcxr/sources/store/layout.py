"""The files of a store, and what its manifest says.

manifest.json       comes last: a folder without it is no store
index.parquet       one row a record: ids, variables, and where its image is
quarantine.csv      the images that could not be read, with the reason
images/00000.npy    arrays (k, H, W) of little-endian uint16 after a header of 128 bytes
"""

import json
from pathlib import Path
from typing import Any

from causalcxr.common.errors import CohortError

__all__ = [
    "HEADER",
    "INDEX",
    "KIND",
    "MANIFEST",
    "QUARANTINE",
    "SCHEMA",
    "opened",
    "parsed",
    "shard_name",
]

KIND = "causalcxr store"
SCHEMA = 1
MANIFEST, INDEX, QUARANTINE = "manifest.json", "index.parquet", "quarantine.csv"
HEADER = 128  # bytes before the first pixel of a shard
_NEEDED = ("source", "records", "images", "image_size", "shards", "index", "notes")


def shard_name(number: int) -> str:
    """Return where a shard is in its store.

    Example:
        >>> shard_name(7)
        'images/00007.npy'
    """
    return f"images/{number:05d}.npy"


def opened(folder: Path) -> dict[str, Any]:
    """Return the manifest of a store.

    Raises:
        CohortError: If the folder is no store, or one of another version.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError:
        content = b""
    return parsed(content, str(folder))


def parsed(content: bytes, folder: str) -> dict[str, Any]:
    """Return a manifest that was read; see `opened`."""
    place = f"{folder}/{MANIFEST}"
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise CohortError(f"{folder}: not a store; it has no {MANIFEST} of one")
    if manifest.get("schema") != SCHEMA:
        raise CohortError(
            f"{place}: schema {manifest.get('schema')!r}; this version reads {SCHEMA}; update "
            "causalcxr or build the store again"
        )
    if absent := [name for name in _NEEDED if name not in manifest]:
        raise CohortError(f"{place}: damaged, it has no {absent[0]!r}; build the store again")
    return manifest
