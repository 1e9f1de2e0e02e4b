"""The files of a store, and its manifest.

manifest.json       written last: a folder without it is not a store
index.parquet       one row for each record: ids, variables, and the place of its image
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
    "parse_manifest",
    "read_manifest",
    "shard_name",
]

KIND = "causalcxr store"
SCHEMA = 1
MANIFEST, INDEX, QUARANTINE = "manifest.json", "index.parquet", "quarantine.csv"
HEADER = 128  # bytes before the first pixel of a shard
_NEEDED = ("source", "records", "images", "image_size", "shards", "index", "notes")


def shard_name(number: int) -> str:
    """Return the path of a shard in its store.

    Example:
        >>> shard_name(7)
        'images/00007.npy'
    """
    return f"images/{number:05d}.npy"


def read_manifest(folder: Path) -> dict[str, Any]:
    """Return the manifest of a store.

    Raises:
        CohortError: If the folder is not a store, or a store of another version.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
    except OSError:
        content = b""
    return parse_manifest(content, str(folder))


def parse_manifest(content: bytes, folder: str) -> dict[str, Any]:
    """Return the manifest from its bytes; see `read_manifest`."""
    place = f"{folder}/{MANIFEST}"
    try:
        manifest = json.loads(content)
    except (ValueError, RecursionError):
        manifest = None
    if not isinstance(manifest, dict) or manifest.get("kind") != KIND:
        raise CohortError(f"{folder}: not a store; it has no {MANIFEST} of a store")
    if manifest.get("schema") != SCHEMA:
        raise CohortError(
            f"{place}: schema {manifest.get('schema')!r}; this version reads {SCHEMA}; update "
            "causalcxr or build the store again"
        )
    if absent := [name for name in _NEEDED if name not in manifest]:
        raise CohortError(f"{place}: damaged, it has no {absent[0]!r}; build the store again")
    return manifest
