"""Saving a cohort to a folder: `cohort.csv`, `images/`, `manifest.json`."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cells import kind_of
from causalcxr.cohort.ids import as_ids, check_kinds
from causalcxr.cohort.provenance import compact
from causalcxr.cohort.saved_images import check_format, open_images, write_images
from causalcxr.common.errors import CohortError
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort

__all__ = ["SCHEMA", "save"]

SCHEMA = 1
_KIND = "causalcxr cohort"
_EXACT = 2**53
_RESERVED = ("record", "draw", "patient", "split")


def save(
    cohort: "Cohort",
    folder: str | Path,
    images: str | None = "png",
    made_from: Mapping[str, Any] | None = None,
    *,
    overwrite: bool = False,
    beside: Callable[[Path], object] | None = None,
) -> Path:
    """Write a cohort to a folder; see `Cohort.save` and `ResultFolder`.

    Args:
        cohort: The records.
        folder: The folder.
        images: "png": 16 bits, round(65535 x), from which rounding restores 8 or 12 bits exactly.
            "dicom": 12 bits, or 16 where the images have more than 12, for synthetic images.
            None: only the table.
        made_from: What the cohort was made from, as JSON: its source and settings. The manifest
            records it; an interrupted save with the same `made_from` is resumed, and a complete
            one is kept. Without it, nothing is resumed or kept.
        overwrite: Replace the saved cohort that the folder holds, even the same one.
        beside: A function that writes more files into the folder.

    Raises:
        CohortError: If the folder holds something else, or the cohort cannot be written.

    Example:
        >>> import tempfile
        >>> from causalcxr import Cohort
        >>> from causalcxr.images.images import ArrayImages
        >>> images = ArrayImages(np.eye(2)[None], synthetic=True)
        >>> cohort = Cohort(pd.DataFrame({"Age": [61]}), images, source="model")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = save(cohort, f"{folder}/c", "dicom", made_from={"source": "model", "n": 1})
        ...     Cohort.load(path).images[0].tolist()
        [[[[1.0, 0.0], [0.0, 1.0]]]]
    """
    if images is not None:
        check_format(cohort, images)
    taken = [name for name in cohort.table if name in _RESERVED]
    if taken:
        raise CohortError(f"column {taken[0]!r} has a reserved name; rename it")
    folder, content = Path(folder), _csv(cohort)
    digest = hashlib.sha256(content).hexdigest()
    default = {"source": cohort.source, "table_sha256": digest}
    settings = default if made_from is None else dict(made_from)
    described = _described(cohort, images)
    # Without `made_from` it is unknown what determines the content, so no run resumes another.
    identity = None
    if made_from is not None:
        fields = ("source", "records", "image_format", "image_size", "notes")
        facts = {name: described[name] for name in fields}
        identity = {"made_from": settings, **facts, "table_sha256": digest}
    result = ResultFolder(folder, _KIND, "a cohort", identity, overwrite)
    with result.writing() as draft:
        if draft.complete:
            return folder
        # The table, the images, what is kept beside them, and the manifest last.
        (draft.place / "cohort.csv").write_bytes(content)
        digests = {}
        if described["images"]:
            digests = write_images(cohort, draft.place / "images", images, settings)
            described["synthetic"] = _as_written(draft.place / "images", cohort, images)
            described["drawn"] = cohort.images.drawn
        if beside is not None:
            beside(draft.place)
        about = {"schema": SCHEMA, **described, "made_from": settings, "table_sha256": digest}
        draft.finish(about, {f"images/{name}": sha256 for name, sha256 in digests.items()})
    return folder


def _as_written(folder: Path, cohort: "Cohort", name: str) -> bool | list[int]:
    """Return which written images are marked as synthetic, for the manifest."""
    images = open_images(folder, cohort.index, name, cohort.images.size, {})
    return compact(images.synthetic, images.available)


def _csv(cohort: "Cohort") -> bytes:
    """Return the table with its ids, as a file."""
    # With \r\n as the end of lines, a carriage return in a text is quoted.
    table = _beside(cohort)
    for name in ("record", "patient"):
        check_kinds(table[name], cohort.origin or cohort.source)
    # Missing cells are written as in the file that they came from.
    for name, words in cohort.words.items():
        table[name] = table[name].astype(object).where(words == "", words)
    text = csv_text(table, index=False, end="\r\n")
    try:
        content = text.encode()
    except UnicodeEncodeError as error:
        raise CohortError(f"a text of the table is not valid Unicode: {error.reason}") from None
    if b"\0" in content:
        raise CohortError("a text of the table holds a null character; remove it before saving")
    return content


def _described(cohort: "Cohort", images: str | None) -> dict[str, Any]:
    """Return the description of a cohort in the manifest."""
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


def _beside(cohort: "Cohort") -> pd.DataFrame:
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


def _type(column: pd.Series) -> str:
    """Return the type as which a column is read again."""
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
