"""Write a store atomically, shard by shard, with one or several processes."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import numpy as np

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.common.files import atomic_write
from causalcxr.common.parallel import run
from causalcxr.common.progress import Progress, progress, resuming
from causalcxr.common.result_folder import ResultFolder
from causalcxr.sources.store.finishing import finish
from causalcxr.sources.store.image_inputs import (
    CohortImageInput,
    ImageFault,
    ImageInput,
    ReadImage,
)
from causalcxr.sources.store.index import index_table, parquet
from causalcxr.sources.store.layout import KIND, shard_name
from causalcxr.sources.store.plan import Plan, job_identity
from causalcxr.sources.store.shards import write_shard

__all__ = ["write", "write_plan"]

_SHARD = 128  # mebibytes of pixels, approximately: the most work that a kill can lose
_MAX_IMAGES = 4096  # of a shard
_MAX_SHARDS, _TASKS_PER_WORKER = 16, 4  # shards of a task; tasks for each worker, if possible
_CLUSTER = 64  # assumed number of workers of a cluster


@dataclass(frozen=True)
class _Output:
    """The folders into which workers write."""

    place: Path
    notes: Path
    size: tuple[int, int]

    def note(self, number: int) -> Path:
        return self.notes / f"{number:05d}.json"


@dataclass(frozen=True)
class _Shard:
    """A shard to write."""

    number: int
    input: int  # the position of its images in the plan
    chosen: np.ndarray  # the positions of its images in that input
    rows: np.ndarray  # the rows of these images in the store


@dataclass(frozen=True)
class _Task:
    """Shards that one worker writes one after the other, with the same reader processes."""

    numbers: tuple[int, ...]
    counts: tuple[int, ...]  # of images in each shard
    images: ImageInput


def write(
    cohort: Cohort,
    folder: str | Path,
    *,
    size: int | tuple[int, int] | None = None,
    asked: Mapping[str, Any] | None = None,
    workers: int = 1,
    cluster: str | None = None,
    shard: float = _SHARD,
    overwrite: bool = False,
) -> Path:
    """Write a cohort as a store.

    Args:
        cohort: The records; images are read or computed shard by shard.
        folder: A new or empty folder.
        size: The side, or height and width, to which images are fitted; by default their own.
        asked: The origin of the cohort, as JSON: its source and settings. With it an interrupted
            call with the same origin resumes; without it, unfinished work is removed.
        workers: The number of processes; see `common.parallel.run`.
        cluster: The address of a Dask scheduler; see `common.parallel.run`.
        shard: Mebibytes of pixels in a file, approximately.
        overwrite: Replace the store in the folder, even an identical one.

    Returns:
        The folder.

    Raises:
        CohortError: If the folder holds something else, or the cohort cannot be stored.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write(Cohort.load("phantom", n=3, size=32), f"{folder}/store")
        ...     Cohort.load(path)
        Cohort(3 records of 3 patients, 3 images, from phantom)
    """
    images = cohort.images
    size = (size, size) if isinstance(size, int) else size
    plan = Plan(
        cohort.with_images(None),
        ()
        if images is None
        else ((np.arange(len(cohort)), CohortImageInput(images, cohort.source)),),
        size or ((0, 0) if images is None else images.size),
        None if asked is None else {"source": cohort.source, **asked},
    )
    return write_plan(
        plan, folder, workers=workers, cluster=cluster, shard=shard, overwrite=overwrite
    )


def write_plan(
    plan: Plan,
    folder: str | Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    shard: float = _SHARD,
    overwrite: bool = False,
) -> Path:
    """Write a plan; see `write`. The store does not depend on how the work is divided."""
    parquet()  # a missing package is reported now rather than after hours
    folder, table = Path(folder), index_table(plan.cohort)
    # `shard` MiB of 16-bit pixels, but at least one image.
    per_shard = max(
        1, min(_MAX_IMAGES, int(shard * 2**20) // max(1, 2 * plan.size[0] * plan.size[1]))
    )
    job = None if plan.made_from is None else job_identity(plan, table, per_shard)
    # A complete store may be too large to verify its content.
    result = ResultFolder(folder, KIND, "a store", job, overwrite, thorough=False)
    with result.writing() as draft:
        if draft.complete:
            return folder
        output = _Output(draft.place, draft.place.parent / "notes", plan.size)
        for subfolder in (output.place / "images", output.notes):
            subfolder.mkdir(exist_ok=True)
        shards = _shards(plan, per_shard)
        _write_shards(output, plan, shards, workers, cluster)
        finish(draft, _notes(output, shards), plan, table)
    return folder


def _shards(plan: Plan, per_shard: int) -> list[_Shard]:
    """Divide the images into shards; rows without an image are in none."""
    shards: list[_Shard] = []
    for k, (rows, images) in enumerate(plan.images):
        available = np.flatnonzero(images.available)
        for start in range(0, len(available), per_shard):
            chosen = available[start : start + per_shard]
            shards.append(_Shard(len(shards), k, chosen, rows[chosen]))
    return shards


def _groups(shards: list[_Shard], size: int) -> list[list[_Shard]]:
    """Group shards of the same input, at most `size` of them."""
    by_input = (list(group) for _, group in groupby(shards, key=lambda shard: shard.input))
    return [group[k : k + size] for group in by_input for k in range(0, len(group), size)]


def _task(plan: Plan, shards: list[_Shard]) -> _Task:
    images = plan.images[shards[0].input][1]
    return _Task(
        tuple(shard.number for shard in shards),
        tuple(len(shard.chosen) for shard in shards),
        images.part(np.concatenate([shard.chosen for shard in shards])),
    )


def _write_shards(
    output: _Output, plan: Plan, shards: list[_Shard], workers: int, cluster: str | None
) -> None:
    remaining = [shard for shard in shards if not output.note(shard.number).exists()]
    n_done = len(shards) - len(remaining)
    resuming(n_done, len(shards), "shards")
    n_workers = _CLUSTER if cluster is not None else workers
    # Each task starts its own reader processes, so a single worker gets few, long tasks.
    n_tasks = 1 if n_workers == 1 else _TASKS_PER_WORKER * n_workers
    groups = _groups(remaining, max(1, min(_MAX_SHARDS, len(remaining) // n_tasks)))
    # A task holds the paths of its files, so tasks are created one at a time.
    tasks = (_task(plan, group) for group in groups)
    # Closed in any case, so that no worker writes after this process has stopped.
    count = Progress("Writing", len(shards), "shards", done=n_done)
    results = run(_write_task, tasks, output, workers=workers, cluster=cluster)
    with closing(results) as finished, count:
        for group in groups:
            next(finished)
            count.add(len(group))


def _write_task(output: _Output, task: _Task) -> int:
    """Write shards, and a note after each: a shard with a note is complete."""
    if not output.notes.is_dir():
        raise CohortError(f"{output.notes}: missing; workers need access to the store's folder")
    results = task.images.read(output.size)
    for number, count in zip(task.numbers, task.counts, strict=True):
        pixels, synthetic, faults = _filled(results, count, output.size)
        name = shard_name(number)
        # The shard first: without a note it is written again.
        digest = write_shard(output.place / name, pixels)
        note = {
            "file": name, "images": len(pixels), "sha256": digest, "faults": faults,
            "synthetic": synthetic,
        }  # fmt: skip
        atomic_write(output.note(number), json.dumps(note))
    return sum(task.counts)


def _filled(
    results: Iterator[ReadImage | ImageFault], count: int, size: tuple[int, int]
) -> tuple[np.ndarray, list[int], list[dict[str, Any]]]:
    """Return the next images, which of them are synthetic, and which could not be read."""
    pixels, synthetic, faults = np.empty((count, *size), dtype=np.uint16), [], []
    n_read = 0
    for offset, result in enumerate(islice(results, count)):
        if isinstance(result, ImageFault):
            fault = {"reason": result.reason, "file": result.file, "told": result.detail}
            faults.append({"offset": offset, **fault})
        else:
            # Images move up, so that an unreadable one leaves no gap.
            pixels[n_read] = result.pixels
            synthetic += [n_read] if result.synthetic else []
            n_read += 1
    return pixels[:n_read], synthetic, faults


def _notes(output: _Output, shards: list[_Shard]) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield the rows of each shard, and the note on it."""
    for shard in progress(shards, "Reading notes", "shards"):
        yield shard.rows, json.loads(output.note(shard.number).read_text(encoding="utf-8"))
