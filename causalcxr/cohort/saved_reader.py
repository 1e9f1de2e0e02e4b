"""Reading a cohort from the folder that `Cohort.save` wrote."""

from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.csv_table import missing_words, read_cells
from causalcxr.cohort.provenance import recorded
from causalcxr.cohort.saved import _KIND, SCHEMA
from causalcxr.cohort.saved_images import open_images
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CohortError
from causalcxr.common.result_digests import Digests, manifest_of
from causalcxr.images.file_images import FileImages

__all__ = ["load", "recognises"]

_DTYPES = {
    "number": np.float64, "integer": np.int64, "unsigned": np.uint64, "boolean": bool,
    "text": object,
}  # fmt: skip


def recognises(path: Path) -> bool:
    """Return whether a path is a folder that `save` wrote."""
    return manifest_of(path, _KIND) is not None


def load(path: str | Path, *, size: int | tuple[int, int] | None = None) -> Cohort:
    """Read a cohort that `save` wrote; the images are read on use.

    Args:
        path: The folder.
        size: The side, or height and width, to which images are resized; by default they are not.

    Raises:
        CohortError: If anything in the folder was changed since it was written.
    """
    path = Path(path)
    manifest = manifest_of(path, _KIND)
    if manifest is None:
        raise CohortError(f"{path}: not a saved cohort; it has no manifest.json of a cohort")
    if manifest.get("schema") != SCHEMA:
        raise CohortError(
            f"{path / 'manifest.json'}: schema {manifest.get('schema')!r}; this version reads "
            f"{SCHEMA}; update causalcxr or save the cohort again"
        )
    try:
        return _read(path, manifest, (size, size) if isinstance(size, int) else size)
    except (KeyError, TypeError, AttributeError) as error:
        raise CohortError(f"{path / 'manifest.json'}: damaged: {error!r}; save again") from None


def _read(path: Path, manifest: dict, size: tuple[int, int] | None) -> Cohort:
    file = path / "cohort.csv"
    cells = read_cells(file, exact=True) if manifest["records"] else None
    if file_digest(file) != manifest["table_sha256"]:
        raise CohortError(
            f"{file}: changed since it was saved; to use it anyway, load the .csv file itself"
        )
    digests = Digests(path, manifest)
    types, words = manifest["types"], {}
    # Words for missing values become empty cells, and are remembered.
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
    # Earlier versions did not record the format: it is PNG.
    name = manifest.get("image_format", "png")
    is_synthetic, side = recorded(manifest, len(index)), size or tuple(manifest["image_size"])
    images = open_images(folder, index, name, side, digests, is_synthetic)
    n_images = images.available.sum()
    if n_images != manifest["images"]:
        raise CohortError(f"{folder}: {n_images} images, the manifest has {manifest['images']}")
    return images


def _restored(cells: pd.Series | None, kind: str) -> pd.Series:
    dtype = _DTYPES[kind]
    if cells is None:
        return pd.Series([], dtype=dtype)
    values = cells.to_numpy(dtype=object, copy=True)
    if kind == "boolean":
        is_present = values != ""
        truths = values == "True"
        return pd.Series(
            truths if is_present.all() else np.where(is_present, truths.astype(object), np.nan)
        )
    if kind in ("number", "text"):
        values[values == ""] = np.nan
    return pd.Series(values).infer_objects() if kind == "text" else pd.Series(values.astype(dtype))
