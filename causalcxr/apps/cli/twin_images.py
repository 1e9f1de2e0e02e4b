"""The images of twins on the disk, written in batches that processes share."""

import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from causalcxr.apps.cli.twin_job import TwinJob
from causalcxr.cohort.comparison import Comparison
from causalcxr.common.files import sync_files
from causalcxr.common.parallel import run
from causalcxr.common.progress import progress, resuming
from causalcxr.images.file_images import FileImages
from causalcxr.images.resampling import at_a_time
from causalcxr.images.synthetic_mark import write_png

__all__ = ["TwinImages", "image_names", "own_images"]

_BATCH = 64  # records at a time, at most
_KEPT = 2**28  # bytes of images that a job may keep in memory


def image_names(job: TwinJob, compared: Comparison) -> pd.DataFrame | None:
    """Return the files of each record that gets images, NaN for others; None without any."""
    factual = compared.factual
    if not (factual.has_images and compared.counterfactual.has_images):
        return None
    rows = np.flatnonzero(factual.images.available)[: job.with_images]
    names = pd.DataFrame(index=factual.index, columns=["factual", "twin"], dtype=object)
    stems = [f"images/{row:06d}-{_safe(factual.index[row])}" for row in rows]
    names.iloc[rows] = [[f"{stem}-factual.png", f"{stem}-twin.png"] for stem in stems]
    return names


def own_images(folder: Path, names: pd.DataFrame | None) -> int:
    """Return how many images of twins are the patients' own, so that they have no mark."""
    if names is None:
        return 0
    return int((~FileImages([folder / name for name in names["twin"].dropna()]).synthetic).sum())


class TwinImages:
    """Write the images of a job; each process computes the table of the twins for itself.

    Args:
        job: Which twins.
        names: Their files, from `image_names`.
        folder: The folder of the twins.
        compared: The records beside their twins.
    """

    def __init__(
        self, job: TwinJob, names: pd.DataFrame, folder: Path, compared: Comparison
    ) -> None:
        self.job, self.names, self.folder = job, names, folder
        self.threads = torch.get_num_threads()
        self._compared: Comparison | None = compared
        size = compared.counterfactual.images.size
        # Four bytes a pixel; more than a job may keep is dropped once it is written.
        pixels = int(names["factual"].notna().sum()) * size[0] * size[1]
        self.forgets = 4 * pixels > _KEPT

    def __getstate__(self) -> dict[str, Any]:
        # The twins' images are functions, which cannot be pickled; the job can compute them.
        return self.__dict__ | {"folder": self.folder.resolve(), "_compared": None}

    @property
    def compared(self) -> Comparison:
        """The records beside their twins, images not yet computed."""
        if self._compared is None:
            torch.set_num_threads(self.threads)  # this is a new process
            self._compared = self.job.compare()
        return self._compared

    def write(self, workers: int = 1, cluster: str | None = None) -> None:
        """Write factual and twin image of each record that gets images, and a figure of pairs.

        Args:
            workers: Processes on this machine; see `causalcxr.common.parallel.run`.
            cluster: The address of a Dask scheduler whose workers write them instead.
        """
        (self.folder / "images").mkdir(exist_ok=True)
        rows = np.flatnonzero(self.names["factual"].notna())
        # The processes share the cores.
        self.threads = max(1, self.threads // workers)
        # The batches are the same however many processes share them.
        step = at_a_time(self.compared.counterfactual.images.size, _BATCH)
        starts = range(0, len(rows), step)
        batches = [rows[start : start + step] for start in starts]
        written = sum((self.folder / name).exists() for name in self.names["twin"].iloc[rows])
        resuming(written, len(rows), "twins")
        # Always closed, so that no worker writes after an error in this process.
        with closing(run(_write_batch, batches, self, workers=workers, cluster=cluster)) as done:
            for _ in progress(starts, "Making twins", "images"):
                next(done)
        self.compared.plot(self.job.pairs, self.folder / "pairs.png")


def _write_batch(job: TwinImages, rows: np.ndarray) -> None:
    """Write the images of some rows, unless an interrupted run has written them all."""
    names = job.names.iloc[rows]
    if all((job.folder / name).exists() for name in names.to_numpy().ravel()):
        return
    # A batch that is not complete is written again as a whole.
    sides = {"factual": job.compared.factual, "twin": job.compared.counterfactual}
    for side, cohort in sides.items():
        images = cohort.images.select(rows)
        files = [job.folder / name for name in names[side]]
        for file, image, synthetic in zip(files, images[:], images.synthetic, strict=True):
            _write_png(_temporary(file), image[0], synthetic=bool(synthetic))
        # A file is renamed once its bytes are on the disk, so every named image is complete.
        sync_files(map(_temporary, files))
        for file in files:
            _temporary(file).replace(file)
        if job.forgets:
            cohort.images.forget()


def _temporary(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.tmp")


def _write_png(path: Path, image: np.ndarray, *, synthetic: bool) -> None:
    """Write a 16-bit PNG; a synthetic one has the mark in its text."""
    with path.open("wb") as file:
        write_png(file, image, synthetic=synthetic)


def _safe(label: object) -> str:
    """Return a record's name as part of a file name; its position in front makes it unique."""
    text = "-".join(map(str, label)) if isinstance(label, tuple) else str(label)
    stem = text.removesuffix(".png")
    return "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "_" for c in stem)[:60]
