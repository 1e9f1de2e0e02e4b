"""Twins in a folder: pairs to look at, a table, images, a manifest; a job that was killed goes on where it stopped."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from causalcxr.cohort import Cohort
from causalcxr.comparison import Comparison
from causalcxr.contact_sheet import MARK
from causalcxr.errors import CohortError
from causalcxr.files import atomic_write
from causalcxr.images import progress
from causalcxr.interventions import Intervention
from causalcxr.model_folder import versions
from causalcxr.noise import record_keys
from causalcxr.scm import SCM

__all__ = ["TwinJob", "TwinResult", "write_twins"]

_KIND = "causalcxr twins"
_BATCH = 64


@dataclass(frozen=True)
class TwinJob:
    """Which twins to make.

    Args:
        model: A fitted model.
        cohort: The factual records.
        action: What is done.
        hold: Variables that keep their factual value.
        draws: Posterior draws a record.
        seed: Of the posterior draws.
        with_images: At most so many records get images; None for all.
        pairs: So many pairs on the picture.
    """

    model: SCM
    cohort: Cohort
    action: Intervention
    hold: tuple[str, ...] = ()
    draws: int = 1
    seed: int = 0
    with_images: int | None = None
    pairs: int = 12

    def describe(self) -> dict[str, Any]:
        """Return what the manifest says of the job; the same job gives the same twins."""
        keys = record_keys(self.cohort.records)
        return {
            "intervention": self.action.to_json(),
            "hold": list(self.hold),
            "draws": self.draws,
            "seed": self.seed,
            "records": len(self.cohort),
            "records_sha256": hashlib.sha256(keys.tobytes()).hexdigest(),
            "source": self.cohort.source,
            "graph_hash": self.model.graph.hash,
            "coupling": {
                name: self.model.graph[name].mechanism.options["coupling"]
                for name in self.model.graph.tabular
                if "coupling" in self.model.graph[name].mechanism.options
            },
            "mechanisms": {name: f.hash for name, f in self.model.fitted.items()},
        }


@dataclass(frozen=True)
class TwinResult:
    """What was made: the pairs, what changed downstream, and the files with a few words about each."""

    compared: Comparison
    changed: dict[str, dict[str, Any]]
    files: dict[str, str]


def write_twins(job: TwinJob, folder: Path) -> TwinResult:
    """Make twins and write `pairs.png`, `twins.csv`, `images/` and `manifest.json`.

    The manifest comes last: a folder without one is a job that did not end, and the same job takes it up again.

    Raises:
        CohortError: If the folder holds something else.
    """
    action = job.model.do(job.action, hold=job.hold)  # refused before anything is written
    cohort = job.cohort.repeat(job.draws) if job.draws > 1 else job.cohort
    twins = action.predict(job.model.abduct(cohort, seed=job.seed))
    compared = cohort.compare(twins)
    _claim(job, folder)
    names = _write_images(job, compared, folder)
    _write_table(compared, names, folder / "twins.csv")
    files = {"twins.csv": f"{len(cohort):,} rows: factual and counterfactual values"}
    if names is not None:
        compared.plot(job.pairs, folder / "pairs.png")
        files["pairs.png"] = "factual | twin | difference"
        files["images"] = f"{len(names['factual'].dropna()):,} factual and twin radiographs, 16-bit PNG"
    files["manifest.json"] = "graph, intervention, seeds, versions"
    rows = compared.summary().query("changed > 0").iterrows()
    changed = {name: {"changed": int(row.changed), "what": row.what} for name, row in rows}
    manifest = {
        "kind": _KIND, "mark": MARK, "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **job.describe(), "versions": versions(), "changed": changed,
    }
    atomic_write(folder / "manifest.json", json.dumps(manifest, indent=1) + "\n")
    (folder / ".job.json").unlink()
    return TwinResult(compared, changed, files)


def _claim(job: TwinJob, folder: Path) -> None:
    """Take a folder: a new one, one of twins, or the unfinished one of this very job."""
    ticket = json.dumps(job.describe(), sort_keys=True)
    unfinished, finished = folder / ".job.json", folder / "manifest.json"
    if unfinished.exists():
        if unfinished.read_text(encoding="utf-8") == ticket:
            return
    elif finished.exists():
        try:
            kind = json.loads(finished.read_text(encoding="utf-8")).get("kind")
        except ValueError:
            kind = None
        if kind != _KIND:
            raise CohortError(f"{folder}: holds something else than twins; give another folder")
    elif folder.exists() and any(folder.iterdir()):
        raise CohortError(f"{folder}: not empty; give a new folder")
    atomic_write(unfinished, ticket)
    finished.unlink(missing_ok=True)
    for name in ("pairs.png", "twins.csv"):
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / "images", ignore_errors=True)


def _write_images(job: TwinJob, compared: Comparison, folder: Path) -> pd.DataFrame | None:
    """Write factual and twin of each record that has an image; return their names."""
    factual, twins = compared.factual, compared.counterfactual
    if not (factual.has_images and twins.has_images):
        return None
    rows = np.flatnonzero(factual.images.available)[: job.with_images]
    index = factual.index
    stems = [f"{k:06d}-{_safe(index[k])}" for k in rows]
    names = pd.DataFrame(index=index, columns=["factual", "twin"], dtype=object)
    (folder / "images").mkdir(exist_ok=True)
    starts = range(0, len(rows), _BATCH)
    for start in progress(starts, "Twins") if len(starts) > 1 else starts:
        part, chosen = rows[start : start + _BATCH], stems[start : start + _BATCH]
        paths = {kind: [f"images/{s}-{kind}.png" for s in chosen] for kind in ("factual", "twin")}
        names.iloc[part] = np.array([paths["factual"], paths["twin"]], dtype=object).T
        if all((folder / name).exists() for name in (*paths["factual"], *paths["twin"])):
            continue
        for kind, cohort in (("factual", factual), ("twin", twins)):
            marked = kind == "twin" or cohort.source == "phantom"
            for name, image in zip(paths[kind], cohort.images[part], strict=True):
                _write_png(folder / name, image[0], marked=marked)
    return names


def _write_png(path: Path, image: np.ndarray, *, marked: bool) -> None:
    """Write a 16-bit PNG; a synthetic one says so in its text."""
    levels = np.rint(image.astype(np.float64) * 65535).astype(np.uint16)
    about = PngInfo()
    if marked:
        about.add_text("Comment", MARK)
    temporary = path.with_suffix(".tmp")
    Image.fromarray(levels).save(temporary, format="PNG", pnginfo=about)
    temporary.replace(path)


def _write_table(compared: Comparison, names: pd.DataFrame | None, path: Path) -> None:
    """Write ids, factual and counterfactual columns side by side, and what changed in words."""
    factual, twins = compared.factual, compared.counterfactual
    before, after = factual.table, twins.table
    columns: dict[str, Any] = {"patient": factual.patients}
    for name in after:
        columns[f"{name} (factual)"] = before[name] if name in before else np.nan
        columns[f"{name} (counterfactual)"] = after[name]
    table = pd.DataFrame(columns, index=factual.index)
    table["changed"] = _told(compared)
    if names is not None:
        table["factual image"], table["twin image"] = names["factual"], names["twin"]
    atomic_write(path, table.to_csv(lineterminator="\n"))


def _told(compared: Comparison) -> pd.Series:
    """Return what changed in each record, in words."""
    told = compared.table
    if not len(told):
        return pd.Series("", index=compared.factual.index)
    keys = [name for name in ("record", "draw") if name in told]
    words = told["variable"] + " " + told["factual"].astype(str) + " -> " + told["counterfactual"].astype(str)
    joined = words.groupby([told[key] for key in keys], sort=False).agg(", ".join)
    joined.index.names = keys
    return joined.reindex(compared.factual.index).fillna("")


def _safe(label: object) -> str:
    """Return a record's name as part of a file name; its position in front makes it unique."""
    text = "-".join(map(str, label)) if isinstance(label, tuple) else str(label)
    stem = text.removesuffix(".png")
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in stem)[:60]
