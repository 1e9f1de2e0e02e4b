"""Twins in a folder: pairs to look at, a table, images, a manifest; see `ResultFolder`."""

import hashlib
import os
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.comparison import Comparison
from causalcxr.cohort.fingerprints import fingerprint
from causalcxr.cohort.ids import check_kinds
from causalcxr.common.files import atomic_write, sync_files
from causalcxr.common.parallel import run
from causalcxr.common.progress import progress, resuming
from causalcxr.common.result_folder import ResultFolder
from causalcxr.common.spreadsheet import csv_text
from causalcxr.common.versions import versions
from causalcxr.graph.interventions import Intervention
from causalcxr.images.file_images import FileImages
from causalcxr.images.synthetic_mark import MARK, write_png
from causalcxr.scm.model_images import solver_of
from causalcxr.scm.scm import SCM

__all__ = ["TwinJob", "TwinResult", "write_twins"]

_KIND = "causalcxr twins"
_BATCH = 64  # also the share of one task: batches are the same however they are shared out
_KEPT = 2**28  # bytes of twins' images that a job may hold; those of larger ones are let go


@dataclass(frozen=True)
class TwinJob:
    """Which twins to make.

    Args:
        model: A fitted model.
        cohort: The factual records.
        action: What is done.
        hold: Variables that keep their factual value.
        draws: Posterior draws a record.
        missing: "keep", or "posterior": missing values are drawn first, given the observed ones.
        seed: Of the posterior draws.
        with_images: At most so many records get images; None for all.
        pairs: So many pairs on the picture.
    """

    model: SCM
    cohort: Cohort
    action: Intervention
    hold: tuple[str, ...] = ()
    draws: int = 1
    missing: str = "keep"
    seed: int = 0
    with_images: int | None = None
    pairs: int = 12

    def compare(self) -> Comparison:
        """Return the records beside their twins, images not yet computed.

        Where missing values are drawn, the records have them too: what then differs is what the
        action changed.

        Raises:
            CausalCXRError: As `SCM.counterfactual` does.
        """
        cohort = self.cohort.repeat(self.draws) if self.draws != 1 else self.cohort
        acted = self.model.do(self.action, hold=self.hold)
        noise = self.model.abduct(cohort, missing=self.missing, seed=self.seed)
        return noise.cohort.compare(acted.predict(noise))

    def drawn(self, compared: Comparison) -> pd.Series | None:
        """Return which missing values of each row were drawn, in words; None where none can be."""
        if self.missing == "keep":
            return None
        cohort = self.cohort.repeat(self.draws) if self.draws != 1 else self.cohort
        graph = self.model.graph
        before, after = cohort.columns(graph), compared.factual.columns(graph)
        told = np.full(len(cohort), "", dtype=object)
        for name in graph.tabular:
            rows = np.isnan(before[name]) & ~np.isnan(after[name])
            told[rows] += np.where(told[rows] == "", name, f", {name}")
        return pd.Series(told, index=compared.factual.index)

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says of the job."""
        graph = self.model.graph
        mechanisms = {name: graph[name].mechanism.options for name in graph.tabular}
        return {
            "intervention": self.action.bind(graph).to_json(),
            "hold": [graph.find(name) for name in self.hold],
            "draws": self.draws,
            "missing": self.missing,
            "seed": self.seed,
            "records": len(self.cohort),
            "with_images": self.with_images,
            "source": self.cohort.source,
            "cohort": fingerprint(self.cohort),
            "graph": graph.name,
            "graph_hash": graph.hash,
            "coupling": {n: o["coupling"] for n, o in mechanisms.items() if "coupling" in o},
            "mechanisms": {name: fitted.hash for name, fitted in self.model.fitted.items()},
            "solver": solver_of(self.model),
        }


@dataclass(frozen=True)
class TwinResult:
    """What was made.

    Args:
        compared: The records beside their twins.
        changed: Per variable that changed: in how many records, and how, in words.
        files: What was written, with a few words about each.
        notes: What else is to be known of the twins.
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

    Nothing is written before the twins' table is known, so what is refused leaves no trace.

    Args:
        job: Which twins.
        folder: A new or empty folder; an interrupted job is resumed in it. See `ResultFolder`.
        workers: Processes that make images, which share this one's threads; see `engine.run`.
        cluster: The address of a Dask scheduler whose workers make them; see `engine.run`.
        overwrite: Replace the twins that the folder holds, even the same ones.
        beside: Writes more files into the folder that it is given, of these records and twins.

    Raises:
        CohortError: If the folder holds something else, or cannot be written.
        CausalCXRError: As `SCM.counterfactual` does.
    """
    for ids in (pd.Series(job.cohort.records, name="record"), job.cohort.patients):
        check_kinds(ids.infer_objects(), job.cohort.origin or job.cohort.source)
    compared = job.compare()
    names = _image_names(job, compared)
    drawn = job.drawn(compared)
    table = csv_text(_table(compared, names, drawn))
    about = {**job.describe(), "twins_sha256": hashlib.sha256(table.encode()).hexdigest()}
    changed = _changed(compared)
    result = ResultFolder(
        folder, _KIND, "twins", {**about, "pairs": job.pairs}, overwrite, recognises=_is_unfinished
    )
    with result.writing() as draft:
        if not draft.complete:
            atomic_write(draft.place / "twins.csv", table)
            if names is not None:
                _write_pictures(_Studio(job, names, draft.place, compared), workers, cluster)
            if beside is not None:
                beside(draft.place, compared)
            marks = {"own_images": _own_images(draft.place, names), "drawn": _drawn(compared)}
            draft.finish({**_manifest(about), **marks, "changed": changed})
    own = _own_images(folder, names)
    # What the drawing of missing values has to say; the records' own notes are known.
    notes = compared.factual.notes[len(job.cohort.notes) :]
    if own:
        notes.append(
            f"{own:,} of {names['twin'].notna().sum():,} twins' images equal the patient's own "
            "radiograph; they are not marked as synthetic"
        )
    return TwinResult(compared, changed, _files(compared, names, drawn), tuple(notes))


def _files(
    compared: Comparison, names: pd.DataFrame | None, drawn: pd.Series | None
) -> dict[str, str]:
    """Return what a folder of twins holds, with a few words about each."""
    told = ", those drawn named" if drawn is not None else ""
    files = {"twins.csv": f"{len(compared):,} rows: factual and counterfactual values{told}"}
    if names is not None:
        n = int(names["factual"].notna().sum())
        files["pairs.png"] = "factual | twin | difference"
        files["images"] = f"{n:,} factual and twin radiographs, 16-bit PNG"
    return files | {"manifest.json": "graph, intervention, seeds, versions"}


def _manifest(about: dict[str, Any]) -> dict[str, Any]:
    date = datetime.now(UTC).isoformat(timespec="seconds")
    return {"mark": MARK, "date": date, **about, "versions": versions()}


def _is_unfinished(folder: Path) -> bool:
    """Return whether version 0.1.0 was killed while it wrote twins to a folder."""
    return (folder / ".job.json").is_file()


def _own_images(folder: Path, names: pd.DataFrame | None) -> int:
    """Return how many images of twins are the patients' own, so that they have no mark."""
    if names is None:
        return 0
    return int((~FileImages([folder / name for name in names["twin"].dropna()]).synthetic).sum())


def _drawn(compared: Comparison) -> bool:
    images = compared.factual.images
    return images is not None and images.drawn


def _changed(compared: Comparison) -> dict[str, dict[str, Any]]:
    rows = compared.summary().query("changed > 0").iterrows()
    return {name: {"changed": int(row.changed), "what": row.what} for name, row in rows}


def _image_names(job: TwinJob, compared: Comparison) -> pd.DataFrame | None:
    """Return the files of each record that gets images, NaN for others; None without any."""
    factual = compared.factual
    if not (factual.has_images and compared.counterfactual.has_images):
        return None
    rows = np.flatnonzero(factual.images.available)[: job.with_images]
    names = pd.DataFrame(index=factual.index, columns=["factual", "twin"], dtype=object)
    stems = [f"images/{row:06d}-{_safe(factual.index[row])}" for row in rows]
    names.iloc[rows] = [[f"{stem}-factual.png", f"{stem}-twin.png"] for stem in stems]
    return names


class _Studio:
    """What every batch of images needs; each process makes the twins' table for itself."""

    def __init__(
        self, job: TwinJob, names: pd.DataFrame, folder: Path, compared: Comparison
    ) -> None:
        self.job, self.names, self.folder = job, names, folder
        self.threads = torch.get_num_threads()
        self._compared: Comparison | None = compared
        size = compared.counterfactual.images.size
        pixels = int(names["factual"].notna().sum()) * size[0] * size[1]
        self.frugal = 4 * pixels > _KEPT

    def __getstate__(self) -> dict[str, Any]:
        # The job is small and says all; its twins' images are functions, which do not travel.
        return self.__dict__ | {"folder": self.folder.resolve(), "_compared": None}

    @property
    def compared(self) -> Comparison:
        """The records beside their twins, images not yet computed."""
        if self._compared is None:
            torch.set_num_threads(self.threads)  # a process of its own
            self._compared = self.job.compare()
        return self._compared


def _write_pictures(studio: _Studio, workers: int, cluster: str | None) -> None:
    """Write factual and twin of each record that gets images, and a page of pairs."""
    folder, names = studio.folder, studio.names
    (folder / "images").mkdir(exist_ok=True)
    rows = np.flatnonzero(names["factual"].notna())
    studio.threads = max(1, studio.threads // workers)
    batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
    written = sum((folder / name).exists() for name in names["twin"].iloc[rows])
    resuming(written, len(rows), "twins")
    # Closed whatever happens, so that no worker writes after this process has given up.
    with closing(run(_write_batch, batches, studio, workers=workers, cluster=cluster)) as done:
        starts = range(0, len(rows), _BATCH)
        for _ in progress(starts, "Making twins", "images"):
            next(done)
    studio.compared.plot(studio.job.pairs, folder / "pairs.png")


def _write_batch(studio: _Studio, rows: np.ndarray) -> None:
    """Write the images of some rows, unless an interrupted job has written them all."""
    chosen = studio.names.iloc[rows]
    if all((studio.folder / name).exists() for name in chosen.to_numpy().ravel()):
        return
    compared = studio.compared
    sides = {"factual": compared.factual, "twin": compared.counterfactual}
    for side, cohort in sides.items():
        some = cohort.images.select(rows)
        files = [studio.folder / name for name in chosen[side]]
        for file, image, made in zip(files, some[:], some.synthetic, strict=True):
            _write_png(_temporary(file), image[0], synthetic=bool(made))
        # An image gets its name once its bytes are on the disk.
        sync_files(map(_temporary, files))
        for file in files:
            _temporary(file).replace(file)
        if studio.frugal:
            cohort.images.forget()


def _temporary(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.tmp")


def _write_png(path: Path, image: np.ndarray, *, synthetic: bool) -> None:
    """Write a 16-bit PNG; a synthetic one says so in its text."""
    with path.open("wb") as file:
        write_png(file, image, synthetic=synthetic)


def _table(
    compared: Comparison, names: pd.DataFrame | None, drawn: pd.Series | None
) -> pd.DataFrame:
    """Return factual and counterfactual columns side by side, and what changed in words."""
    factual = compared.factual
    before, after = factual.table, compared.counterfactual.table
    columns: dict[str, Any] = {"patient": factual.patients}
    for name in after:
        columns[f"{name} (factual)"] = before.get(name, np.nan)
        columns[f"{name} (counterfactual)"] = after[name]
    table = pd.DataFrame(columns, index=factual.index)
    table["changed"] = _told(compared)
    if drawn is not None:
        table["drawn"] = drawn
    if names is not None:
        table["factual image"], table["twin image"] = names["factual"], names["twin"]
    return table


def _told(compared: Comparison) -> pd.Series:
    """Return what changed in each record, in words."""
    told = compared.table
    if not len(told):
        return pd.Series("", index=compared.factual.index)
    keys = [name for name in ("record", "draw") if name in told]
    before, after = (told[side].astype(str) for side in ("factual", "counterfactual"))
    words = told["variable"] + " " + before + " -> " + after
    joined = words.groupby([told[key] for key in keys], sort=False).agg(", ".join)
    joined.index.names = keys
    return joined.reindex(compared.factual.index).fillna("")


def _safe(label: object) -> str:
    """Return a record's name as part of a file name; its position in front makes it unique."""
    text = "-".join(map(str, label)) if isinstance(label, tuple) else str(label)
    stem = text.removesuffix(".png")
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in stem)[:60]
