"""A cohort in a folder: `cohort.csv`, `images/`, `manifest.json`; whole or not at all."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cells import kind_of
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.cohort.ids import as_ids, check_kinds
from causalcxr.images.images import FileImages
from causalcxr.common.result_digests import Digests, manifest_of
from causalcxr.common.result_folder import ResultFolder
from causalcxr.cohort.saved_images import check_format, open_images, write_images
from causalcxr.cohort.provenance import compact, recorded
from causalcxr.cohort.csv_table import missing_words, read_cells
from causalcxr.common.spreadsheet import csv_text

__all__ = ["SCHEMA", "load", "recognises", "save"]

SCHEMA = 1
_KIND = "causalcxr cohort"
_DTYPES = {
    "number": np.float64, "integer": np.int64, "unsigned": np.uint64, "boolean": bool,
    "text": object,
}  # fmt: skip
_EXACT = 2**53
_RESERVED = ("record", "draw", "patient", "split")


def recognises(path: Path) -> bool:
    """Return whether a path is a folder that `save` wrote."""
    return manifest_of(path, _KIND) is not None


def save(
    cohort: Cohort,
    folder: str | Path,
    images: str | None = "png",
    asked: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Write a cohort to a folder; see `Cohort.save` and `ResultFolder`.

    Args:
        cohort: The records.
        folder: Where.
        images: "png": 16 bits, round(65535 x), from which 8 or 12 bits come back exactly when
            rounded. "dicom": 12 bits, for synthetic images. None: the table alone.
        asked: What the cohort was made from, as JSON: its source and settings. The manifest
            records it, an interrupted save is resumed where the same is asked, and a complete
            one is kept; without it, nothing is.
        overwrite: Replace the saved cohort that the folder holds, even the same one.
        beside: Writes more files into the folder that it is given.

    Raises:
        CohortError: If the folder is not ours to take, or the cohort cannot be written so.

    Example:
        >>> import tempfile
        >>> from causalcxr.images.images import ArrayImages
        >>> images = ArrayImages(np.eye(2)[None], synthetic=True)
        >>> cohort = Cohort(pd.DataFrame({"Age": [61]}), images, source="model")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(cohort, f"{folder}/c", "dicom", asked={"source": "model", "n": 1})
        ...     load(path).images[0].tolist()
        [[[[1.0, 0.0], [0.0, 1.0]]]]
    """
    if images is not None:
        check_format(cohort, images)
    taken = [name for name in cohort.table if name in _RESERVED]
    if taken:
        raise CohortError(f"column {taken[0]!r} has a name that the saved table needs; rename it")
    folder, content = Path(folder), _csv(cohort)
    digest = hashlib.sha256(content).hexdigest()
    made = {"source": cohort.source, "table_sha256": digest} if asked is None else dict(asked)
    described = _described(cohort, images)
    identity = None
    if asked is not None:
        few = ("source", "records", "image_format", "image_size", "notes")
        told = {name: described[name] for name in few}
        identity = {"made_from": made, **told, "table_sha256": digest}
    result = ResultFolder(folder, _KIND, "a cohort", identity, overwrite)
    with result.writing() as draft:
        if draft.complete:
            return folder
        (draft.place / "cohort.csv").write_bytes(content)
        digests = {}
        if described["images"]:
            digests = write_images(cohort, draft.place / "images", images, made)
            described["synthetic"] = _as_written(draft.place / "images", cohort, images)
            described["drawn"] = cohort.images.drawn
        if beside is not None:
            beside(draft.place)
        about = {"schema": SCHEMA, **described, "made_from": made, "table_sha256": digest}
        draft.finish(about, {f"images/{name}": sha256 for name, sha256 in digests.items()})
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
    manifest = manifest_of(path, _KIND)
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


def _as_written(folder: Path, cohort: Cohort, name: str) -> bool | list[int]:
    """Return which images say that they are synthetic, as the manifest keeps it."""
    images = open_images(folder, cohort.index, name, cohort.images.size, {})
    return compact(images.synthetic, images.available)


def _csv(cohort: Cohort) -> bytes:
    """Return the table with its ids, as a file."""
    # A carriage return in a text is quoted only if the end of a line holds one.
    table = _beside(cohort)
    for name in ("record", "patient"):
        check_kinds(table[name], cohort.origin or cohort.source)
    for name, words in cohort.words.items():
        table[name] = table[name].astype(object).where(words == "", words)
    text = csv_text(table, index=False, end="\r\n")
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise CohortError(f"a text of the table is no valid Unicode: {error.reason}") from None
    if b"\0" in content:
        raise CohortError("a text of the table holds a null character; remove it before saving")
    return content


def _described(cohort: Cohort, images: str | None) -> dict[str, Any]:
    """Return what the manifest says of a cohort."""
    with_images = images is not None and cohort.has_images
    table = _beside(cohort)
    return {
        "source": cohort.source,
        "records": len(cohort),
        "patients": int(cohort.patients.nunique()),
        "images": int(cohort.images.available.sum()) if with_images else 0,
        "image_format": images if with_images else None,
        "image_size": list(cohort.images.size) if with_images else None,
        "types": {str(name): _type(table[name]) for name in table},
        "missing_words": sorted(cohort.words),
        "notes": cohort.notes,
    }


def _beside(cohort: Cohort) -> pd.DataFrame:
    """Return the table with its ids as columns."""
    table = cohort.table
    first = {"record": as_ids(cohort.records).infer_objects().to_numpy()}
    if cohort.index.nlevels > 1:
        first["draw"] = cohort.draws
    first["patient"] = cohort.patients.infer_objects().to_numpy()
    if cohort.splits is not None:
        first["split"] = cohort.splits.to_numpy()
    ids = pd.DataFrame(first, index=table.index)
    return pd.concat([ids, table], axis=1)


def _read(path: Path, manifest: dict, size: tuple[int, int] | None) -> Cohort:
    file = path / "cohort.csv"
    cells = read_cells(file, exact=True) if manifest["records"] else None
    if _digest(file) != manifest["table_sha256"]:
        raise CohortError(
            f"{file}: changed since it was saved; load the .csv itself to use it as it is"
        )
    digests = Digests(path, manifest)
    types, words = manifest["types"], {}
    for name in manifest.get("missing_words", ()) if cells is not None else ():
        words[name] = missing_words(cells[name].to_numpy(dtype=object))
        cells[name] = cells[name].where(words[name] == "", "")
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
    cohort = cohort.remembering(words)
    return cohort.with_images(_images(path / "images", cohort.index, manifest, size, digests))


def _images(
    folder: Path,
    index: pd.Index,
    manifest: dict,
    size: tuple[int, int] | None,
    digests: Digests,
) -> FileImages | None:
    if not manifest["images"]:
        return None
    # Cohorts that an earlier version saved say nothing: they are PNGs.
    name = manifest.get("image_format", "png")
    made, side = recorded(manifest, len(index)), size or tuple(manifest["image_size"])
    images = open_images(folder, index, name, side, digests, made)
    found = images.available.sum()
    if found != manifest["images"]:
        raise CohortError(f"{folder}: {found} images, the manifest has {manifest['images']}")
    return images


def _type(column: pd.Series) -> str:
    """Return how a column's text is to be read again."""
    kind, gaps = kind_of(column), bool(column.isna().any())
    if kind == "boolean":
        return "boolean"
    if kind == "integer":
        cells = column.dropna().to_numpy(dtype=object)
        low, high = (min(cells), max(cells)) if len(cells) else (0, 0)
        if gaps:  # floats have 53 bits
            return "number" if max(-low, high) <= _EXACT else "text"
        if low >= np.iinfo(np.int64).min and high <= np.iinfo(np.int64).max:
            return "integer"
        return "unsigned" if low >= 0 and high <= np.iinfo(np.uint64).max else "text"
    return "number" if kind in ("floating", "mixed-integer-float") else "text"


def _restored(cells: pd.Series | None, kind: str) -> pd.Series:
    dtype = _DTYPES[kind]
    if cells is None:
        return pd.Series([], dtype=dtype)
    values = cells.to_numpy(dtype=object, copy=True)
    if kind == "boolean":
        known = values != ""
        truths = values == "True"
        return pd.Series(truths if known.all() else np.where(known, truths.astype(object), np.nan))
    if kind in ("number", "text"):
        values[values == ""] = np.nan
    return pd.Series(values).infer_objects() if kind == "text" else pd.Series(values.astype(dtype))


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
