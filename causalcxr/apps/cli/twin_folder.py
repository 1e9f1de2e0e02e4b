"""Twins in a folder: a table, images, a figure of pairs, a manifest; see `ResultFolder`."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.apps.cli.twin_images import TwinImages, image_names, own_images
from causalcxr.apps.cli.twin_job import TwinJob
from causalcxr.cohort.comparison import Comparison
from causalcxr.cohort.ids import check_kinds
from causalcxr.common.files import atomic_write
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text
from causalcxr.common.versions import versions
from causalcxr.images.synthetic_mark import MARK
from causalcxr.scm.model_images import solver_of

__all__ = ["TwinResult", "write_twins"]

_KIND = "causalcxr twins"


@dataclass(frozen=True)
class TwinResult:
    """Twins that were written.

    Args:
        compared: The records beside their twins.
        changed: For each variable that changed: in how many records, and how, in words.
        files: The files, each with a short description.
        notes: Further remarks on the twins.
    """

    compared: Comparison
    changed: dict[str, dict[str, Any]]
    files: dict[str, str]
    notes: tuple[str, ...] = ()


def write_twins(
    job: TwinJob,
    folder: Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    overwrite: bool = False,
    beside: Callable[[Path, Comparison], object] | None = None,
) -> TwinResult:
    """Make twins and write `pairs.png`, `twins.csv`, `images/` and `manifest.json`.

    Nothing is written before the table of the twins is computed, so a refused job leaves no files.

    Args:
        job: Which twins.
        folder: A new or empty folder; an interrupted job is resumed in it. See `ResultFolder`.
        workers: Processes that compute images; they share the threads of this one. See
            `causalcxr.common.parallel.run`.
        cluster: The address of a Dask scheduler whose workers compute them instead.
        overwrite: Replace the twins that the folder holds, even the same ones.
        beside: A function that writes further files, from the folder and the records with their
            twins.

    Raises:
        CohortError: If the folder holds something else, or cannot be written.
        CausalCXRError: As `SCM.counterfactual` does.
    """
    for ids in (pd.Series(job.cohort.records, name="record"), job.cohort.patients):
        check_kinds(ids.infer_objects(), job.cohort.origin or job.cohort.source)
    # The tables of all twins; images are computed when they are written.
    compared = job.compare()
    names = image_names(job, compared)
    drawn = job.drawn(compared)
    table = csv_text(_table(compared, names, drawn))
    # The identity: settings and the digest of the table, so that other twins are not mixed in.
    about = {**job.describe(), "twins_sha256": hashlib.sha256(table.encode()).hexdigest()}
    changed = _changed(compared)
    result = ResultFolder(
        folder, _KIND, "twins", {**about, "pairs": job.pairs}, overwrite, recognises=_is_unfinished
    )
    with result.writing() as draft:
        if not draft.complete:
            atomic_write(draft.place / "twins.csv", table)
            if names is not None:
                TwinImages(job, names, draft.place, compared).write(workers, cluster)
            if beside is not None:
                beside(draft.place, compared)
            marks = {"own_images": own_images(draft.place, names), "drawn": _drawn(compared)}
            draft.finish({**_manifest(about), **marks, "changed": changed})
    own, solver = own_images(folder, names), solver_of(job.model)
    sizes = "" if names is None else about["images"]
    # Only the notes on drawn missing values; the notes of the records were printed before.
    notes = compared.factual.notes[len(job.cohort.notes) :]
    if names is not None and solver:
        notes.append(f"coupling of the images, which is assumed: {solver}")
    if own:
        notes.append(
            f"{own:,} of {names['twin'].notna().sum():,} twins' images equal the patient's own "
            "radiograph; they are not marked as synthetic"
        )
    return TwinResult(compared, changed, _files(compared, names, drawn, sizes), tuple(notes))


def _files(
    compared: Comparison, names: pd.DataFrame | None, drawn: pd.Series | None, sizes: str
) -> dict[str, str]:
    """Return the files of a folder of twins, each with a short description."""
    also = ", those drawn named" if drawn is not None else ""
    files = {"twins.csv": f"{len(compared):,} rows: factual and counterfactual values{also}"}
    if names is not None:
        n = int(names["factual"].notna().sum())
        files["pairs.png"] = "factual | twin | difference"
        files["images"] = f"{n:,} factual and twin radiographs, 16-bit PNG, {sizes}"
    return files | {"manifest.json": "graph, intervention, seeds, versions"}


def _manifest(about: dict[str, Any]) -> dict[str, Any]:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"mark": MARK, "date": date, **about, "versions": versions()}


def _is_unfinished(folder: Path) -> bool:
    """Return whether version 0.1.0 was killed while it wrote twins to a folder."""
    return (folder / ".job.json").is_file()


def _drawn(compared: Comparison) -> bool:
    images = compared.factual.images
    return images is not None and images.drawn


def _changed(compared: Comparison) -> dict[str, dict[str, Any]]:
    rows = compared.summary().query("changed > 0").iterrows()
    return {name: {"changed": int(row.changed), "what": row.what} for name, row in rows}


def _table(
    compared: Comparison, names: pd.DataFrame | None, drawn: pd.Series | None
) -> pd.DataFrame:
    """Return factual and counterfactual columns side by side, and what changed in words."""
    factual = compared.factual
    before, after = factual.table, compared.counterfactual.table
    columns: dict[str, Any] = {"patient": factual.patients}
    for name in after:
        # A variable that the records lack has no factual value.
        columns[f"{name} (factual)"] = before.get(name, np.nan)
        columns[f"{name} (counterfactual)"] = after[name]
    table = pd.DataFrame(columns, index=factual.index)
    table["changed"] = _changes(compared)
    if drawn is not None:
        table["drawn"] = drawn
    if names is not None:
        table["factual image"], table["twin image"] = names["factual"], names["twin"]
    return table


def _changes(compared: Comparison) -> pd.Series:
    """Return what changed in each record, in words."""
    changes = compared.table
    if not len(changes):
        return pd.Series("", index=compared.factual.index)
    keys = [name for name in ("record", "draw") if name in changes]
    before, after = (changes[side].astype(str) for side in ("factual", "counterfactual"))
    words = changes["variable"] + " " + before + " -> " + after
    joined = words.groupby([changes[key] for key in keys], sort=False).agg(", ".join)
    joined.index.names = keys
    return joined.reindex(compared.factual.index).fillna("")
