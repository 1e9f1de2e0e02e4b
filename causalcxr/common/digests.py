"""SHA-256 digests, in hexadecimal, of files and of JSON content."""

import hashlib
import json
from pathlib import Path
from typing import Any

__all__ = ["file_digest", "json_digest"]


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file, read piece by piece."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def json_digest(content: Any, *, ascii_only: bool = True) -> str:
    """Return the SHA-256 of content as compact JSON with sorted keys.

    Args:
        content: What JSON can write.
        ascii_only: Whether other characters are escaped; it changes the digest of texts that
            have such characters.

    Example:
        >>> json_digest({"b": 1, "a": 2}) == json_digest({"a": 2, "b": 1})
        True
    """
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=ascii_only)
    return hashlib.sha256(text.encode()).hexdigest()
