"""Writing a store: shard by shard, by as many processes as there are, whole or not at all."""

import json
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
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
from causalcxr.sources.store.films import CohortFilms, Fault, Film, Films
from causalcxr.sources.store.finishing import finish
from causalcxr.sources.store.index import parquet, table_of
from causalcxr.sources.store.layout import KIND, shard_name
from causalcxr.sources.store.plan import Plan, job_of
from causalcxr.sources.store.shards import write_shard

__all__ = ["carry_out", "write"]

_SHARD = 128  # mebibytes of pixels, about: what a kill costs at most, and an object's usual size
_MOST = 4096  # images of a shard
_TOGETHER, _SHARES = 16, 4  # shards of a task at most; tasks a worker, where there are so many
_CLUSTER = 64  # workers that a cluster is thought to have


@dataclass(frozen=True)
class _Desk:
    """Where workers write."""

    place: Path
    notes: Path
    size: tuple[int, int]

    def note(self, number: int) -> Path:
        return self.notes / f"{number:05d}.json"


@dataclass(frozen=True)
class _Part:
    """One shard to be: which of a plan's films, which of them, and which rows they belong to."""

    number: int
    films: int
    chosen: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class _Task:
    """Some shards that one worker writes, one after the other: it starts its readers once."""

    numbers: tuple[int, ...]
    counts: tuple[int, ...]
    films: Films


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
        cohort: The records; images are read, or computed, shard by shard.
        folder: A new or empty folder.
        size: The side, or height and width, to which images are fitted; by default as they are.
        asked: What the cohort was made from, as JSON: its source and settings. With it an
            interrupted call goes on where it stopped, where the same is asked; without it, what
            is not finished is removed.
        workers: Processes; see `engine.run`, also for scripts that ask for more than one.
        cluster: The address of a Dask scheduler; see `engine.run`.
        shard: Mebibytes of pixels in a file, about.
        overwrite: Replace the store that the folder holds, even the same one.

    Returns:
        The folder.

    Raises:
        CohortError: If the folder is not ours to take, or the cohort cannot be written so.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write(Cohort.load("phantom", n=3, size=32), f"{folder}/store")
        ...     Cohort.load(path)
        Cohort(3 records of 3 patients, 3 images, from phantom)
    """
    images = cohort.images
    given = (size, size) if isinstance(size, int) else size
    plan = Plan(
        cohort.with_images(None),
        () if images is None else ((np.arange(len(cohort)), CohortFilms(images, cohort.source)),),
        given or ((0, 0) if images is None else images.size),
        None if asked is None else {"source": cohort.source, **asked},
    )
    return carry_out(
        plan, folder, workers=workers, cluster=cluster, shard=shard, overwrite=overwrite
    )


def carry_out(
    plan: Plan,
    folder: str | Path,
    *,
    workers: int = 1,
    cluster: str | None = None,
    shard: float = _SHARD,
    overwrite: bool = False,
) -> Path:
    """Write what is planned; see `write`. How it is shared out changes no byte of the store."""
    parquet()  # missed now rather than after hours
    folder, table = Path(folder), table_of(plan.cohort)
    each = max(1, min(_MOST, int(shard * 2**20) // max(1, 2 * plan.size[0] * plan.size[1])))
    job = None if plan.made_from is None else job_of(plan, table, each)
    # A store may be too large to be read only to see that nothing is to be done.
    result = ResultFolder(folder, KIND, "a store", job, overwrite, thorough=False)
    with result.writing() as draft:
        if draft.complete:
            return folder
        desk = _Desk(draft.place, draft.place.parent / "notes", plan.size)
        for each_folder in (desk.place / "images", desk.notes):
            each_folder.mkdir(exist_ok=True)
        parts = _parts(plan, each)
        _write_shards(desk, plan, parts, workers, cluster)
        finish(draft, _notes(desk, parts), plan, table)
    return folder


def _parts(plan: Plan, each: int) -> list[_Part]:
    """Cut the images into shards; rows without an image take part in none."""
    parts: list[_Part] = []
    for k, (rows, films) in enumerate(plan.films):
        present = np.flatnonzero(films.available)
        for start in range(0, len(present), each):
            chosen = present[start : start + each]
            parts.append(_Part(len(parts), k, chosen, rows[chosen]))
    return parts


def _groups(parts: list[_Part], most: int) -> list[list[_Part]]:
    """Put shards of the same films together, at most so many."""
    by_films = (list(some) for _, some in groupby(parts, key=lambda part: part.films))
    return [some[k : k + most] for some in by_films for k in range(0, len(some), most)]


def _task(plan: Plan, parts: list[_Part]) -> _Task:
    films = plan.films[parts[0].films][1]
    return _Task(
        tuple(part.number for part in parts),
        tuple(len(part.chosen) for part in parts),
        films.part(np.concatenate([part.chosen for part in parts])),
    )


def _write_shards(
    desk: _Desk, plan: Plan, parts: list[_Part], workers: int, cluster: str | None
) -> None:
    left = [part for part in parts if not desk.note(part.number).exists()]
    resuming(len(parts) - len(left), len(parts), "shards")
    several = _CLUSTER if cluster is not None else workers
    # Each task starts its readers anew, so alone there are as few tasks as may be.
    shares = 1 if several == 1 else _SHARES * several
    groups = _groups(left, max(1, min(_TOGETHER, len(left) // shares)))
    # A task holds the paths of its files: it is made when it is wanted, not for all at once.
    tasks = (_task(plan, some) for some in groups)
    # Closed whatever happens, so that no worker writes after this process has given up.
    count = Progress("Writing", len(parts), "shards", done=len(parts) - len(left))
    working = run(_write_task, tasks, desk, workers=workers, cluster=cluster)
    with closing(working) as done, count:
        for some in groups:
            next(done)
            count.add(len(some))


def _write_task(desk: _Desk, task: _Task) -> int:
    """Write shards, and after each a note on it: what has a note is complete."""
    if not desk.notes.is_dir():
        raise CohortError(f"{desk.notes}: not there; workers must see the folder of the store")
    found = task.films.read(desk.size)
    for number, count in zip(task.numbers, task.counts, strict=True):
        pixels, synthetic, faults = _filled(found, count, desk.size)
        name = shard_name(number)
        digest = write_shard(desk.place / name, pixels)
        note = {
            "file": name, "images": len(pixels), "sha256": digest, "faults": faults,
            "synthetic": synthetic,
        }  # fmt: skip
        atomic_write(desk.note(number), json.dumps(note))
    return sum(task.counts)


def _filled(
    found: Iterator[Film | Fault], count: int, size: tuple[int, int]
) -> tuple[np.ndarray, list[int], list[dict[str, Any]]]:
    """Return the next images side by side, which are synthetic, and which could not be read."""
    pixels, synthetic, faults = np.empty((count, *size), dtype=np.uint16), [], []
    good = 0
    for offset, result in enumerate(islice(found, count)):
        if isinstance(result, Fault):
            faults.append({"offset": offset, **asdict(result)})
        else:
            pixels[good] = result.pixels
            synthetic += [good] if result.synthetic else []
            good += 1
    return pixels[:good], synthetic, faults


def _notes(desk: _Desk, parts: list[_Part]) -> Iterator[tuple[np.ndarray, dict[str, Any]]]:
    """Yield what was written: the rows of each shard, and the note on it."""
    for part in progress(parts, "Reading notes", "shards"):
        yield part.rows, json.loads(desk.note(part.number).read_text(encoding="utf-8"))
