"""Sources of an export: a folder of twins, or a saved cohort of synthetic images."""

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydicom.uid import RE_VALID_UID

from causalcxr.apps.export.provenance import Provenance
from causalcxr.cohort import saved_reader
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.csv_table import read_cells
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CohortError, nearest
from causalcxr.common.files import read_text
from causalcxr.common.progress import progress
from causalcxr.common.result_digests import Digests
from causalcxr.graph.graph import Graph
from causalcxr.images.decoding import Limits, decode
from causalcxr.images.synthetic_mark import hardly_differs

__all__ = ["Material", "read_material"]

_TWINS = "causalcxr twins"
_TWIN = " (counterfactual)"
# Sources of synthetic images in manifests of version 0.1.0, which have no mark for each image.
_COMPUTED = ("phantom", "enriched phantom", "model")
_EQUAL = "{n:,} of {of:,} twins equal their own radiograph, they are not exported as synthetic"
_NEAR = (
    "{n:,} of {of:,} twins are within one grey level of 8 bits of their own radiograph in every "
    "pixel, they are not exported as synthetic"
)
_OWN = "{n:,} of {of:,} images are patients' own, they are not exported as synthetic"
_LINK = ("record", "sop_class_uid", "sop_instance_uid")


@dataclass(frozen=True)
class Material:
    """Synthetic images to export, with everything that may be published about them.

    Args:
        table: One row an image; only the columns in `variables` are exported.
        keys: Record, patient and draw of each row; they are never exported.
        variables: The graph's tabular variables.
        changed: Which variables the intervention changed, one tuple a row. Their factual
            values belong to the patient, and are not exported.
        pixels: Row -> shape (H, W), uint16.
        provenance: How they were made.
        digest: SHA-256 of the source's manifest.
        drawn: Whether the images are of phantoms, which contain no burned-in text. Samples of a
            model may: its training images may have had some.
        sources: Record -> SOP class and instance UID, where the link is allowed.
        largest: The largest change of a pixel from the patient's radiograph, between 0 and 1, one
            a row; None where there is no radiograph.
        refused: The images that are not exported, and why, one line for each reason.
    """

    table: pd.DataFrame
    keys: Sequence[tuple[str, str, int]]
    variables: Sequence[str]
    changed: Sequence[tuple[str, ...]]
    pixels: Callable[[int], np.ndarray]
    provenance: Provenance
    digest: str
    drawn: bool
    sources: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    largest: Sequence[float] | None = None
    refused: tuple[str, ...] = ()


def read_material(source: str | Path, links: Path | None = None) -> Material:
    """Read the synthetic images of a folder.

    Args:
        source: A folder of twins, or of a saved cohort.
        links: A .csv file of the images of origin; see `ExportSettings.sources`.

    Raises:
        CohortError: If it has no synthetic image, or was changed since it was written.
    """
    source = Path(source)
    # A saved cohort, or the folder of twins.
    if saved_reader.recognises(source):
        material = _saved(source)
    elif (manifest := _manifest(source)) is not None:
        material = _twins(source, manifest)
    else:
        raise CohortError(
            f"{source}: no twins and no saved cohort; give a folder that `causalcxr "
            "counterfactual`, `sample` or `cohort` wrote"
        )
    if not material.keys:
        reason = "; ".join(material.refused) or "make the twins of records with images"
        raise CohortError(f"{source}: no synthetic images; {reason}")
    if links is None:
        return material
    records = {record for record, _, _ in material.keys}
    return replace(material, sources=_links(links, records))


def _manifest(folder: Path) -> dict[str, Any] | None:
    try:
        manifest = json.loads(read_text(folder / "manifest.json", 10**8, CohortError))
    except (CohortError, ValueError, RecursionError):
        return None
    return manifest if isinstance(manifest, dict) and manifest.get("kind") == _TWINS else None


def _twins(folder: Path, manifest: dict[str, Any]) -> Material:
    """Return the twins of a folder that `write_twins` wrote, not their patients."""
    file = folder / "twins.csv"
    digests = Digests(folder, manifest)
    cells = read_cells(file)
    digest = file_digest(file)
    try:
        if digest != manifest["twins_sha256"]:
            raise CohortError(f"{file}: changed since it was written; make the twins again")
        names = [name.removesuffix(_TWIN) for name in cells if name.endswith(_TWIN)]
        # Only variables of the model: other columns may identify a patient.
        variables = [name for name in manifest["mechanisms"] if name in names]
        provenance = _counterfactual(manifest)
        if "twin image" not in cells:
            cells["twin image"] = ""
        # Rows without an image have nothing to export.
        cells = cells[cells["twin image"] != ""].reset_index(drop=True)
        # Leave out twins that are a patient's own radiograph, or nearly so.
        compared = _compared(folder, cells, digests, _marks_are_true(manifest))
        refused = _not_exported(compared)
        keep = [pair.exported for pair in compared]
        largest = [pair.largest for pair in compared if pair.exported]
        cells = cells[keep].reset_index(drop=True)
        draws = cells["draw"].astype(int) if "draw" in cells else np.zeros(len(cells), int)
        keys = list(zip(cells["record"], cells["patient"], map(int, draws), strict=True))
        table = pd.DataFrame({name: cells[name + _TWIN].replace("", np.nan) for name in variables})
        changed = _changed(cells, variables)
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, CohortError):
            raise
        raise CohortError(f"{folder}: damaged ({error!r}); make the twins again") from None
    for name in variables:
        # A column is numeric only if every value is a number.
        numbers = pd.to_numeric(table[name], errors="coerce")
        if numbers.notna().sum() == table[name].notna().sum():
            table[name] = numbers
    paths = cells["twin image"].tolist()
    limits = Limits(root=folder)

    def pixels(row: int) -> np.ndarray:
        digests.check(paths[row])
        return decode(folder / paths[row], limits).pixels

    digest = file_digest(folder / "manifest.json")  # which holds that of the list of files
    return Material(
        table,
        keys,
        variables,
        changed,
        pixels,
        provenance,
        digest,
        drawn=manifest.get("drawn") is True,
        largest=largest,
        refused=refused,
    )


def _marks_are_true(manifest: Mapping[str, Any]) -> bool:
    """Return whether a folder marks each synthetic image; version 0.1.0 marked whole sources."""
    return "own_images" in manifest or manifest.get("source") in _COMPUTED


@dataclass(frozen=True)
class _Compared:
    """A twin beside its patient's radiograph.

    Args:
        largest: The largest change of a pixel, between 0 and 1.
        own: Whether the twin is a radiograph of the patient: it is not marked as synthetic, or is
            equal in every pixel to one that is not.
        near: Whether it is within one grey level of 8 bits of it in every pixel.
    """

    largest: float
    own: bool
    near: bool

    @property
    def exported(self) -> bool:
        return not (self.own or self.near)


def _compared(
    folder: Path, cells: pd.DataFrame, digests: Digests, marks_are_true: bool
) -> list[_Compared]:
    """Compare each twin with the radiograph that it was made from, as both were written."""
    limits, result = Limits(root=folder), []
    pairs = list(zip(cells["factual image"], cells["twin image"], strict=True))
    for factual, twin in progress(pairs, "Comparing twins with radiographs"):
        digests.check(factual)
        digests.check(twin)
        before, after = (decode(folder / name, limits) for name in (factual, twin))
        if before.pixels.shape != after.pixels.shape:
            raise CohortError(f"{folder / twin}: of another size than {factual}; make twins again")
        # Signed and wider than 16 bits: the difference of unsigned values would wrap.
        change = np.abs(after.pixels.astype(np.int32) - before.pixels.astype(np.int32))
        real = not (before.about["synthetic"] and marks_are_true)
        # Own: not marked as synthetic, or equal to a real radiograph.
        own = not after.about["synthetic"] or (real and not change.any())
        near = real and hardly_differs(after.pixels, before.pixels)
        result.append(_Compared(float(change.max()) / 65535, own, near))
    return result


def _not_exported(compared: Sequence[_Compared]) -> tuple[str, ...]:
    """Return how many twins are not exported, and why."""
    counts = {
        _EQUAL: sum(pair.own for pair in compared),
        _NEAR: sum(pair.near and not pair.own for pair in compared),
    }
    return tuple(words.format(n=n, of=len(compared)) for words, n in counts.items() if n)


def _changed(cells: pd.DataFrame, variables: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the variables in which each twin differs from its patient."""
    names = np.array(variables, dtype=object)
    before, after = (
        cells[[f"{name} ({side})" for name in names]].to_numpy()
        for side in ("factual", "counterfactual")
    )
    return [tuple(names[row]) for row in before != after]


def _counterfactual(manifest: Mapping[str, Any]) -> Provenance:
    mechanisms = json.dumps(manifest["mechanisms"], sort_keys=True)
    # Listed by name: other entries of the manifest stay behind.
    others = ("hold", "draws", "coupling", "images", "versions")
    return Provenance(
        "counterfactual",
        manifest["intervention"]["do"],
        manifest["graph"],
        manifest["graph_hash"],
        manifest.get("solver", ""),
        manifest["seed"],
        hashlib.sha256(mechanisms.encode()).hexdigest(),
        {name: manifest[name] for name in others if name in manifest}
        | {"beyond_range": manifest["intervention"].get("beyond_range", False)},
    )


def _saved(folder: Path) -> Material:
    """Return a saved cohort whose images are synthetic."""
    cohort = Cohort.load(folder).with_images_only()
    manifest = json.loads(read_text(folder / "manifest.json", 10**8, CohortError))
    synthetic = np.zeros(0, bool) if cohort.images is None else cohort.images.synthetic
    if len(cohort) and not synthetic.any():
        raise CohortError(
            f"{folder}: its images are patients' own; only synthetic ones are exported"
        )
    if "synthetic" not in manifest and cohort.source.split(",")[0] not in _COMPUTED:
        raise CohortError(
            f"{folder}: version 0.1.0 did not record which of its twins are patients' own "
            "radiographs; make and save them again"
        )
    own = int((~synthetic).sum())
    refused = (_OWN.format(n=own, of=len(cohort)),) if own else ()
    cohort = cohort.select(synthetic)
    settings = {k: v for k, v in manifest["made_from"].items() if k != "table_sha256"}
    graph, table = Graph.load("cxr7"), cohort.table
    variables = [name for name in table if name in graph.tabular]
    keys = list(
        zip(map(str, cohort.records), map(str, cohort.patients), cohort.draws, strict=True)
    )
    keys = [(record, patient, int(draw)) for record, patient, draw in keys]
    images = cohort.images

    def pixels(row: int) -> np.ndarray:
        return np.rint(images[row][0, 0].astype(np.float64) * 65535).astype(np.uint16)

    # The source becomes part of a DICOM text: unusual characters become spaces.
    source = re.sub(r"[^\w, -]", " ", cohort.source)
    seed = settings.pop("seed", None)
    provenance = Provenance(f"{source} sample", seed=seed, others=settings)
    return Material(
        table.reset_index(drop=True),
        keys,
        variables,
        [()] * len(keys),
        pixels,
        provenance,
        file_digest(folder / "manifest.json"),
        drawn=manifest.get("drawn") is True,
        refused=refused,
    )


def _links(file: Path, records: set[str]) -> dict[str, tuple[str, str]]:
    """Return the image of origin of each record, as valid UIDs."""
    cells = read_cells(file)
    for name in _LINK:
        if name not in cells:
            raise CohortError(f"{file}:1: no column {name!r}{nearest(name, cells)}")
    for line, values in enumerate(zip(*(cells[name] for name in _LINK[1:]), strict=True), 2):
        for value in values:
            if not (len(value) <= 64 and re.fullmatch(RE_VALID_UID, value)):
                raise CohortError(f"{file}:{line}: {value[:70]!r} is no UID")
    links = {r: (c, i) for r, c, i in zip(*(cells[name] for name in _LINK), strict=True)}
    if not records & set(links):
        raise CohortError(f"{file}: none of its records is among those exported; check the ids")
    return links
