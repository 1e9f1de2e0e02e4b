"""Export of synthetic images: DICOM or marked PNG, each with a sidecar, under new identifiers.

    export("twins", "out")        # twins that `causalcxr counterfactual` wrote: the twins alone
    export("phantoms", "out")     # a saved cohort of phantoms, or of a model's samples

The folder holds `images/<name>.dcm` (or .png) and `<name>.json` for each image, `index.csv` and
`manifest.json`. The rows are sorted by the new names, as the source's order could identify
patients. The folder appears once it is complete; the same command resumes an interrupted export.
"""

import hashlib
import json
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.apps.export.provenance import OLDEST, Provenance, Pseudonyms, SyntheticImage
from causalcxr.apps.export.source import Material, read_material
from causalcxr.common.errors import CohortError
from causalcxr.common.files import atomic_write, sync_files
from causalcxr.common.progress import progress
from causalcxr.common.result_folder import Draft, ResultFolder
from causalcxr.common.spreadsheet import csv_text, unmarked_table
from causalcxr.images.marked_png import marked_png
from causalcxr.images.synthetic_mark import MARK

__all__ = ["ExportSettings", "export", "no_older"]

_KIND = "causalcxr export"
_SUFFIXES = {"dicom": ".dcm", "png": ".png"}
_BATCH = 64  # images that are forced to the disk together
_SHORTEST = 16  # bytes of a key


@dataclass(frozen=True)
class ExportSettings:
    """How images are exported.

    Args:
        format: "dicom", 16-bit Secondary Captures; or "png", 16 bits with a visible mark.
        key: A secret file of at least 16 random bytes: the same key gives the same identifiers
            and the same files. By default a random key, which is deleted at the end.
        link: A .csv file outside the exported folder, to which the new identifiers of each
            record are written. By default this link is not kept.
        sources: A .csv file (record, sop_class_uid, sop_instance_uid): where the link to the
            source is allowed, each image names the one that it was made from.
        checked: A person has looked for text burned into the pixels, and found none.
    """

    format: str = "dicom"
    key: Path | None = None
    link: Path | None = None
    sources: Path | None = None
    checked: bool = False


def export(
    source: str | Path,
    folder: str | Path,
    options: ExportSettings = ExportSettings(),
    *,
    overwrite: bool = False,
) -> pd.DataFrame:
    """Export the synthetic images of a folder; patients' own images are never exported.

    Args:
        source: A folder of twins, or of a saved cohort of phantoms or samples.
        folder: A new or empty folder.
        options: Format, key and links.
        overwrite: Replace the export that the folder holds, even the same one.

    Returns:
        The index, one row an image.

    Raises:
        CohortError: If the source holds no synthetic images or was changed, an option is invalid,
            or the folder holds something else or cannot be written. Where some of the images are
            patients' own, the others are exported; `not_exported` in the manifest counts them.
    """
    if options.format not in _SUFFIXES:
        raise CohortError(f"format {options.format!r} is not known; give dicom or png")
    folder = Path(folder)
    # The link of identifiers must not leave with the images.
    if options.link is not None and options.link.resolve().is_relative_to(folder.resolve()):
        raise CohortError(f"{options.link}: would be exported with the images; write it elsewhere")
    # Material: the synthetic images only.
    material = read_material(source, options.sources)
    key = None if options.key is None else _read_key(options.key)
    # With another key the pseudonyms differ, so the key is part of the identity.
    identity = _identity(material, options, key)
    with ResultFolder(folder, _KIND, "an export", identity, overwrite).writing() as draft:
        if not draft.complete:
            _fill(draft, material, options, key)
    texts = dict.fromkeys(("file", "patient", "sha256"), str)
    return unmarked_table(pd.read_csv(folder / "index.csv", dtype=texts))


def _identity(material: Material, options: ExportSettings, key: bytes | None) -> dict[str, Any]:
    """Return everything that determines an export; only the same one is resumed."""
    return {
        "made_from": {"format": options.format, "records": len(material.table)},
        "digest": material.digest,
        "checked": options.checked,
        "sources": _digest(json.dumps(material.sources, sort_keys=True).encode()),
        "link": None if options.link is None else str(options.link.resolve()),
        "key": None if key is None else hashlib.sha256(b"job" + key).hexdigest(),
        "provenance": material.provenance.to_json(),
    }


def _read_key(file: Path) -> bytes:
    try:
        key = file.read_bytes()
    except OSError as error:
        raise CohortError(f"{file}: cannot be read: {error.strerror}") from None
    if not _SHORTEST <= len(key) <= 4096:
        raise CohortError(f"{file}: {len(key)} bytes; a key has {_SHORTEST} to 4,096 random bytes")
    return key


def _fill(draft: Draft, material: Material, options: ExportSettings, key: bytes | None) -> None:
    """Write images, sidecars and index, and last the manifest, which completes the export."""
    place = draft.place
    random_key = place.parent / "key"  # beside the export; deleted with the unfinished work
    if key is None and not random_key.exists():
        atomic_write(random_key, secrets.token_bytes(32))
        random_key.chmod(0o600)
    ids = Pseudonyms(random_key.read_bytes() if key is None else key)
    # Sorted by pseudonym, so that the order says nothing about the source.
    records = sorted(_records(material, ids, options.checked), key=lambda pair: pair[1].name)
    names = [image.name for _, image in records]
    if len(set(names)) < len(names):
        raise CohortError("two images got the same name; give another key")
    (place / "images").mkdir(exist_ok=True)
    # In batches: each is on the disk before the next, and a resumed run skips it.
    writer = _ImageWriter(place / "images", material, options.format)
    rows = []
    for start in progress(range(0, len(records), _BATCH), "Exporting", "images"):
        rows += writer.write(records[start : start + _BATCH])
    index = pd.DataFrame(rows)
    atomic_write(place / "index.csv", csv_text(index, index=False))
    # The link is written outside the export, and only if it is requested.
    if options.link is not None:
        atomic_write(options.link, csv_text(_linked(material, records), index=False))
    about = {
        "mark": MARK,
        "format": options.format,
        "images": len(index),
        "patients": int(index["patient"].nunique()),
        "index_sha256": hashlib.sha256((place / "index.csv").read_bytes()).hexdigest(),
        "ages": f"{OLDEST} stands for {OLDEST} and above",
        "not_exported": list(material.refused),
        "provenance": material.provenance.to_json(),
    }
    # The manifest last: a folder without one is incomplete.
    draft.finish(about)


def _records(
    material: Material, ids: Pseudonyms, checked: bool
) -> Iterator[tuple[int, SyntheticImage]]:
    """Yield each row of the source with the new identifiers of its image."""
    variables = [name for name in material.variables if name in material.table]
    records = material.table[variables].to_dict("records")
    for row, ((record, patient, draw), cells) in enumerate(
        zip(material.keys, records, strict=True)
    ):
        # Missing values are left out, not written as missing.
        values = {name: value for name, value in cells.items() if not pd.isna(value)}
        yield (
            row,
            SyntheticImage(
                name=ids.name(record, draw),
                patient=ids.patient(patient),
                study=ids.uid("study", record),
                series=ids.uid("series", record),
                instance=ids.uid("instance", record, draw),
                number=draw + 1,
                values={name: no_older(name, value) for name, value in values.items()},
                changed=material.changed[row],
                checked=checked or material.drawn,
                source=material.sources.get(record),
                largest=None if material.largest is None else round(material.largest[row], 5),
            ),
        )


def no_older(name: str, value: Any) -> Any:
    """Return a value; ages above 89 become 90."""
    if name.lower() != "age":
        return value
    years = pd.to_numeric(value, errors="coerce")
    return value if pd.isna(years) else min(years, OLDEST)


@dataclass(frozen=True)
class _ImageWriter:
    """Write the images and sidecars that do not exist yet, a batch at a time."""

    folder: Path
    material: Material
    format: str

    def write(self, records: list[tuple[int, SyntheticImage]]) -> list[dict[str, Any]]:
        """Return the rows of the index."""
        # An image with a sidecar is complete and not made again.
        todo = [(row, image) for row, image in records if not self._sidecar(image).exists()]
        images, sidecars = {}, {}
        for row, image in todo:
            file = self._sidecar(image).with_suffix(_SUFFIXES[self.format])
            images[file], facts = self._encoded(file.name, self.material.pixels(row), image)
            sidecars[self._sidecar(image)] = facts.encode()
        # A sidecar is renamed after its image: where a sidecar exists, both files are complete.
        contents = images | sidecars
        written = {file.with_name(f".{file.name}.tmp"): file for file in contents}
        for temporary, content in zip(written, contents.values(), strict=True):
            temporary.write_bytes(content)
        sync_files(written)
        for temporary, file in written.items():
            temporary.replace(file)
        return [self._index_row(self._sidecar(image)) for _, image in records]

    def _sidecar(self, image: SyntheticImage) -> Path:
        return self.folder / f"{image.name}.json"

    def _encoded(self, name: str, pixels: np.ndarray, image: SyntheticImage) -> tuple[bytes, str]:
        """Return the content of an image's file and of its sidecar."""
        about = self.material.provenance
        content = _ENCODERS[self.format](pixels, image, about)
        facts = {
            "file": name, "format": self.format, "sha256": _digest(content),
            "pixels_sha256": _digest(pixels.astype("<u2").tobytes()),
            "rows": pixels.shape[0], "columns": pixels.shape[1], "bits": 16,
        }  # fmt: skip
        return content, image.sidecar(about, facts)

    def _index_row(self, sidecar: Path) -> dict[str, Any]:
        facts = json.loads(sidecar.read_text(encoding="utf-8"))
        row = {name: facts[name] for name in ("file", "patient", "number", "instance", "sha256")}
        return row | facts["variables"]


def _dicom(pixels: np.ndarray, image: SyntheticImage, about: Provenance) -> bytes:
    # Imported here: pydicom is slow to import, and PNGs do not need it.
    from causalcxr.apps.export.dicom import secondary_capture

    return secondary_capture(pixels, image, about)


def _png(pixels: np.ndarray, image: SyntheticImage, about: Provenance) -> bytes:
    return marked_png(pixels, about.derivation)


_ENCODERS = {"dicom": _dicom, "png": _png}


def _linked(material: Material, records: list[tuple[int, SyntheticImage]]) -> pd.DataFrame:
    """Return the new identifiers of each record, in the source's order."""
    rows = [
        {
            **dict(zip(("record", "source_patient", "draw"), material.keys[row], strict=True)),
            "patient": image.patient,
            "instance": image.instance,
            "name": image.name,
        }
        for row, image in sorted(records, key=lambda pair: pair[0])
    ]
    return pd.DataFrame(rows)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
