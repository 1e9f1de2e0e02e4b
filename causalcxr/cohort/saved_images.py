"""The images of a saved cohort: one PNG or DICOM file for each record."""

import hashlib
import io
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causalcxr.common.errors import CohortError
from causalcxr.common.files import remove_litter, sync_files
from causalcxr.common.listing import names_within
from causalcxr.common.progress import progress, resuming
from causalcxr.images.file_images import FileImages
from causalcxr.images.resampling import at_a_time
from causalcxr.images.synthetic_mark import write_png

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort

__all__ = ["FORMATS", "check_format", "open_images", "write_images"]

FORMATS = {"png": ".png", "dicom": ".dcm"}

# Row, image (H, W), whether it is synthetic -> the content of its file.
_Encode = Callable[[int, np.ndarray, bool], bytes]


def check_format(cohort: "Cohort", name: str) -> None:
    """Refuse an unknown format, and DICOM files of real images."""
    if name not in FORMATS:
        raise CohortError(
            f"images={name!r} is not known; use 'png' or 'dicom', or None for only the table"
        )
    if name == "dicom" and cohort.images is not None:
        images = cohort.images
        if real := int((images.available & ~images.synthetic).sum()):
            raise CohortError(
                f"{real:,} of {images.available.sum():,} images are patients' own; only synthetic "
                "images are written as DICOM, as every file is marked; use 'png', or "
                "cohort.select(cohort.images.synthetic)"
            )


def write_images(
    cohort: "Cohort", folder: Path, name: str, settings: Mapping[str, Any]
) -> dict[str, str]:
    """Write the images that do not exist yet.

    Args:
        cohort: The cohort; its images are read or computed in batches.
        folder: The folder; existing files in it must be of the same cohort.
        name: One of `FORMATS`.
        settings: What the images were made from, as JSON, for DICOM files.

    Returns:
        The SHA-256 of each file that was written now.
    """
    folder.mkdir(exist_ok=True)
    remove_litter(folder)
    digests: dict[str, str] = {}
    # An image that an earlier run wrote is complete, so it is kept.
    present = {file.name for file in folder.iterdir()}
    images, names = cohort.images, _file_names(cohort.index, FORMATS[name])
    todo = images.available & [name not in present for name in names]
    encode = _ENCODERS[name](cohort, settings)
    rows = np.flatnonzero(images.available)
    batch = at_a_time(images.size)
    resuming(len(rows) - int(todo.sum()), len(rows), "images")
    for start in progress(range(0, len(rows), batch), "Writing", "images"):
        part = rows[start : start + batch]
        part = part[todo[part]]
        if len(part):
            # Selected first, so that computed images are not cached.
            some = images.select(part)
            each = zip(part, some[:], some.synthetic, strict=True)
            contents = {
                names[row]: encode(row, image[0], bool(is_synthetic))
                for row, image, is_synthetic in each
            }
            digests |= {k: hashlib.sha256(v).hexdigest() for k, v in contents.items()}
            _write_batch(folder, contents)
    return digests


def _write_batch(folder: Path, contents: Mapping[str, bytes]) -> None:
    """Write files under temporary names, and rename them after syncing to disk."""
    written = {folder / f".{name}.tmp": folder / name for name in contents}
    for temporary, content in zip(written, contents.values(), strict=True):
        temporary.write_bytes(content)
    sync_files(written)
    for temporary, file in written.items():
        temporary.replace(file)


def open_images(
    folder: Path,
    index: pd.Index,
    name: str,
    size: tuple[int, int],
    digests: Mapping[str, str],
    synthetic: bool | np.ndarray = False,
) -> FileImages:
    """Return the images that `write_images` wrote, unread.

    Args:
        folder: The folder; only files named after records are opened.
        index: The ids of the records.
        name: One of `FORMATS`.
        size: Height and width to which other sizes are resized.
        digests: The SHA-256 of files by their path in the cohort, if known.
        synthetic: Which of them are known to be synthetic; their files may declare others.
    """
    present = names_within(folder, folder)
    names = _file_names(index, FORMATS[name])
    paths = [folder / name if name in present else None for name in names]
    expected = [digests.get(f"images/{name}") for name in names]
    return _READERS[name](paths, size, expected, synthetic)


def _png_encoder(cohort: "Cohort", settings: Mapping[str, Any]) -> _Encode:
    def encode(row: int, image: np.ndarray, synthetic: bool) -> bytes:
        content = io.BytesIO()
        write_png(content, image, synthetic=synthetic)
        return content.getvalue()

    return encode


def _dicom_encoder(cohort: "Cohort", settings: Mapping[str, Any]) -> _Encode:
    # pydicom is slow to import, and most cohorts are PNGs.
    from causalcxr.images.dicom_write import DicomAbout, dicom_bytes

    table, index = cohort.table, cohort.index
    maker = {"maker": cohort.source, "drawn": cohort.images.drawn}
    # No fewer bits than the source: 8 and 12 bits are written with 12.
    bits = 16 if cohort.images.depth > 12 else 12

    def encode(row: int, image: np.ndarray, synthetic: bool) -> bytes:
        if not synthetic:
            raise CohortError(
                f"record {index[row]}: a patient's own image is not written as DICOM"
            )
        values = {str(name): table[name].iat[row] for name in table}
        return dicom_bytes(image, DicomAbout(str(index[row]), settings, values, **maker), bits)

    return encode


def _dicom_reader(
    paths: list[Path | None],
    size: tuple[int, int],
    digests: list[str | None],
    synthetic: bool | np.ndarray,
) -> FileImages:
    from causalcxr.images.dicom_write import DicomImages

    return DicomImages(paths, size, digests)  # it refuses files that are not synthetic


_ENCODERS = {"png": _png_encoder, "dicom": _dicom_encoder}
_READERS = {"png": FileImages, "dicom": _dicom_reader}


def _file_names(index: pd.Index, suffix: str) -> list[str]:
    """Return a file name for each row: safe on any system, and unique ignoring case."""
    names, seen = [], set()
    for label in index:
        text = "-draw".join(map(str, label)) if isinstance(label, tuple) else str(label)
        stem = text[:-4] if text.lower().endswith(".png") else text
        safe = re.sub(r"[^A-Za-z0-9._-]", "_", stem).strip(".")[:80]
        if safe != stem or safe.lower() in seen:
            safe += "-" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:16]
        seen.add(safe.lower())
        names.append(safe + suffix)
    return names
