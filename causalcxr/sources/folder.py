"""A cohort in a folder: `cohort.csv`, `images/`, `manifest.json`; whole or not at all."""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort import Cohort
from causalcxr.errors import CohortError
from causalcxr.images import FileImages, Images, progress, write_png
from causalcxr.sources.table import read_cells

__all__ = ["SCHEMA", "load", "recognises", "save"]

SCHEMA = 1
_KIND = "causalcxr cohort"
_BATCH = 64
_RESERVED = ("record", "draw", "patient", "split")


def recognises(path: Path) -> bool:
    """Return whether a path is a folder that `save` wrote."""
    return _read_manifest(path) is not None


def save(cohort: Cohort, folder: str | Path, images: str | None = "png") -> Path:
    """Write a cohort to a folder; see `Cohort.save`.

    Everything is written to a temporary folder beside it, forced to the disk, and then takes its
    place. Only the exchange of an old cohort for a new one takes two steps: whoever looks between
    them finds the old one under a hidden name, whole.
    """
    if images not in ("png", None):
        raise CohortError(
            f"images={images!r} is not known; use 'png', or None for the table alone"
        )
    taken = [name for name in cohort.table if name in _RESERVED]
    if taken:
        raise CohortError(f"column {taken[0]!r} has a name that the saved table needs; rename it")
    folder = Path(folder)
    try:
        with _replacing(folder) as temporary:
            _write(cohort, temporary, images)
    except OSError as error:
        raise CohortError(f"{folder}: cannot be written: {error.strerror or error}") from None
    return folder


def load(path: str | Path, *, size: int | tuple[int, int] | None = None) -> Cohort:
    """Read a cohort that `save` wrote; the images are read when they are asked for.

    Args:
        path: The folder.
        size: The side, or height and width, to which images are resized; by default as they are.

    Raises:
        CohortError: If anything in the folder is not as it was written.
    """
    path = Path(path)
    manifest = _read_manifest(path)
    if manifest is None:
        raise CohortError(f"{path}: not a cohort's folder; it has no manifest.json of one")
    if manifest.get("schema") != SCHEMA:
        raise CohortError(
            f"{path / 'manifest.json'}: schema {manifest.get('schema')!r}; this version reads "
            f"{SCHEMA}; update causalcxr or save the cohort again"
        )
    try:
        return _read(path, manifest, (size, size) if isinstance(size, int) else size)
    except (KeyError, TypeError, AttributeError) as error:
        raise CohortError(f"{path / 'manifest.json'}: damaged: {error!r}; save again") from None


def _write(cohort: Cohort, folder: Path, images: str | None) -> None:
    table = _beside(cohort)
    # A carriage return in a text is quoted only if the end of a line holds one.
    text = table.to_csv(index=False, lineterminator="\r\n")
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise CohortError(f"a text of the table is no valid Unicode: {error.reason}") from None
    if b"\0" in content:
        raise CohortError("a text of the table holds a null character; remove it before saving")
    (folder / "cohort.csv").write_bytes(content)
    size, count = None, 0
    if images is not None and cohort.has_images:
        size, count = list(cohort.images.size), int(cohort.images.available.sum())
        _write_images(cohort.images, _file_names(cohort.index), folder / "images")
    manifest = {
        "kind": _KIND,
        "schema": SCHEMA,
        "source": cohort.source,
        "records": len(cohort),
        "patients": int(cohort.patients.nunique()),
        "images": count,
        "image_size": size,
        "types": {str(name): _type(table[name]) for name in table},
        "notes": cohort.notes,
        "table_sha256": _digest(folder / "cohort.csv"),
    }
    text = json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, encoding="utf-8")


def _beside(cohort: Cohort) -> pd.DataFrame:
    """Return the table with its ids as columns."""
    table = cohort.table
    first = {"record": cohort.records.to_numpy()}
    if cohort.index.nlevels > 1:
        first["draw"] = cohort.draws
    first["patient"] = cohort.patients.to_numpy()
    if cohort.splits is not None:
        first["split"] = cohort.splits.to_numpy()
    ids = pd.DataFrame(first, index=table.index)
    return pd.concat([ids, table], axis=1)


def _write_images(images: Images, names: list[str], folder: Path) -> None:
    folder.mkdir()
    rows = np.flatnonzero(images.available)
    for start in progress(range(0, len(rows), _BATCH), "Writing images"):
        part = rows[start : start + _BATCH]  # films and twins are computed many at a time
        for row, image in zip(part, images[part], strict=True):
            write_png(folder / names[row], image[0])


def _read(path: Path, manifest: dict, size: tuple[int, int] | None) -> Cohort:
    file = path / "cohort.csv"
    cells = read_cells(file) if manifest["records"] else None
    if _digest(file) != manifest["table_sha256"]:
        raise CohortError(
            f"{file}: changed since it was saved; load the .csv itself to use it as it is"
        )
    types = manifest["types"]
    table = pd.DataFrame(
        {name: _restored(None if cells is None else cells[name], types[name]) for name in types}
    )
    keys = [name for name in ("record", "draw") if name in types]
    table.index = pd.MultiIndex.from_frame(table[keys]) if keys[1:] else pd.Index(table["record"])
    cohort = Cohort(
        table.drop(columns=keys),
        patients="patient",
        splits="split" if "split" in types else None,
        source=manifest["source"],
        origin=file,
        notes=manifest["notes"],
    )
    return cohort.with_images(_images(path / "images", cohort.index, manifest, size))


def _images(
    folder: Path, index: pd.Index, manifest: dict, size: tuple[int, int] | None
) -> FileImages | None:
    if not manifest["images"]:
        return None
    present = {file.name for file in folder.iterdir()} if folder.is_dir() else set()
    paths = [folder / name if name in present else None for name in _file_names(index)]
    found = sum(path is not None for path in paths)
    if found != manifest["images"]:
        raise CohortError(f"{folder}: {found} images, the manifest has {manifest['images']}")
    return FileImages(paths, size or tuple(manifest["image_size"]))


def _file_names(index: pd.Index) -> list[str]:
    """Return a file name for each row: safe on any system, and no two the same but for case."""
    names, seen = [], set()
    for label in index:
        text = "-draw".join(map(str, label)) if isinstance(label, tuple) else str(label)
        stem = text[:-4] if text.lower().endswith(".png") else text
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", stem).strip(".")[:80]
        if safe != stem or safe.lower() in seen:
            safe += "-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        seen.add(safe.lower())
        names.append(f"{safe}.png")
    return names


def _type(column: pd.Series) -> str:
    """Return how a column's text is to be read again."""
    kind = column.dtype.kind
    if kind == "b" and not column.isna().any():
        return "boolean"
    if kind in "iu" and not column.isna().any():
        return "integer"
    return "number" if kind in "iuf" else "text"


def _restored(cells: pd.Series | None, kind: str) -> pd.Series:
    dtype = {"number": np.float64, "integer": np.int64, "boolean": bool, "text": object}[kind]
    if cells is None:
        return pd.Series([], dtype=dtype)
    values = cells.to_numpy(dtype=object, copy=True)
    if kind == "boolean":
        return pd.Series(values == "True")
    if kind in ("number", "text"):
        values[values == ""] = np.nan
    return pd.Series(values).infer_objects() if kind == "text" else pd.Series(values.astype(dtype))


def _read_manifest(folder: Path) -> dict[str, Any] | None:
    """Return the manifest of a cohort's folder, or None if it is something else."""
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("kind") == _KIND else None


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def _replacing(folder: Path) -> Iterator[Path]:
    """Give a temporary folder that takes the place of `folder` once it is complete."""
    present = folder.exists() or folder.is_symlink()
    if present and not recognises(folder):
        if not folder.is_dir() or folder.is_symlink() or any(folder.iterdir()):
            raise CohortError(f"{folder}: holds something else than a cohort; give another folder")
        folder.rmdir()
        present = False
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=folder.parent))
    try:
        temporary.chmod(0o755)
        yield temporary
        _sync(temporary)
        old = temporary.with_suffix(".old")
        if present:
            folder.rename(old)
        temporary.rename(folder)
        shutil.rmtree(old, ignore_errors=True)
        _sync_one(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(folder: Path) -> None:
    """Force every file of a folder, and the folder itself, to the disk."""
    # Thousands of images one by one are thousands of commits of the journal; one call writes them
    # all, and the calls that follow then find nothing left to do.
    if hasattr(os, "sync"):
        os.sync()
    for entry in folder.rglob("*"):
        _sync_one(entry)
    _sync_one(folder)


def _sync_one(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
