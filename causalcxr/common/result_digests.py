"""The manifest of a folder of results, and the SHA-256 of each of its files."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CausalCXRError, CohortError

__all__ = [
    "MANIFEST",
    "SUMS",
    "Digests",
    "content_identity",
    "listed_files",
    "manifest_of",
    "read_json",
]

MANIFEST, SUMS = "manifest.json", "SHA256SUMS"
_REMEDY = "restore it, or write the folder again"


class Digests(Mapping[str, str]):
    """The SHA-256 of each file of a folder, by its path in it; empty for older folders.

    Args:
        folder: The folder.
        manifest: Its manifest.
        error: The class of the error to raise.

    Raises:
        CausalCXRError: If the list of digests is missing or was changed.
    """

    def __init__(
        self,
        folder: Path,
        manifest: Mapping[str, Any],
        error: type[CausalCXRError] = CohortError,
    ) -> None:
        self.folder, self._error = folder, error
        self._digests: dict[str, str] = {}
        expected = manifest.get("files_sha256")
        if expected is None:  # written by version 0.1.0
            return
        # The manifest has the digest of the list, and the list those of the files.
        try:
            content = (folder / SUMS).read_bytes()
        except OSError as fault:
            raise error(f"{folder / SUMS}: cannot be read ({fault.strerror})") from None
        if hashlib.sha256(content).hexdigest() != expected:
            raise error(f"{folder / SUMS}: changed since it was written; {_REMEDY}")
        # Two spaces separate the columns, as in the output of sha256sum.
        rows = (line.split("  ", 1) for line in content.decode().splitlines())
        self._digests = {name: digest for digest, name in rows}

    def __getitem__(self, name: str) -> str:
        return self._digests[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)

    def check(self, name: str, content: bytes | None = None) -> None:
        """Refuse a file that was changed since it was written; one without a digest passes.

        Args:
            name: Its path in the folder.
            content: Its content; by default it is read.

        Raises:
            CausalCXRError: With the file.
        """
        if name not in self._digests:
            return
        file = self.folder / name
        try:
            digest = file_digest(file) if content is None else hashlib.sha256(content).hexdigest()
        except OSError as fault:
            raise self._error(f"{file}: cannot be read ({fault.strerror}); {_REMEDY}") from None
        if digest != self._digests[name]:
            raise self._error(f"{file}: changed since it was written; {_REMEDY}")

    def missing(self) -> list[str]:
        """Return the files that are absent; none is read."""
        return [name for name in self if not (self.folder / name).is_file()]

    def damaged(self) -> list[str]:
        """Return the files that are absent or were changed; all are read."""
        return [name for name in self if not _is_intact(self.folder / name, self[name])]


def manifest_of(folder: Path, kind: str | None = None) -> dict[str, Any] | None:
    """Return the manifest of a folder, or None where there is none, or one of another kind.

    Example:
        >>> manifest_of(Path("no such folder")) is None
        True
    """
    manifest = read_json(folder / MANIFEST)
    if not isinstance(manifest, dict) or (kind is not None and manifest.get("kind") != kind):
        return None
    return manifest


def content_identity(content: Sequence[str]) -> dict[str, Any]:
    """Return the identity of a result that its own content determines: its SHA-256.

    Example:
        >>> content_identity(["a", "b"]) == content_identity(["ab"])
        False
    """
    digest = hashlib.sha256()
    for part in content:
        digest.update(part.encode("utf-8", "surrogateescape") + b"\0")
    return {"content": digest.hexdigest()}


def listed_files(folder: Path) -> list[str]:
    """Return the files to list; a result inside is listed by its manifest and SHA256SUMS."""
    inner = [file.parent for file in folder.rglob(SUMS) if file.parent != folder]
    files = [file for file in folder.rglob("*") if file.is_file() and not file.is_symlink()]
    names = []
    for file in files:
        home = next((each for each in inner if file.is_relative_to(each)), folder)
        own = file.name in (MANIFEST, SUMS) and file.parent == home
        if (home == folder) != own:
            names.append(file.relative_to(folder).as_posix())
    return sorted(names)


def read_json(file: Path) -> Any:
    """Return the content of a JSON file, None where it cannot be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _is_intact(file: Path, digest: str) -> bool:
    try:
        return file_digest(file) == digest
    except OSError:
        return False
