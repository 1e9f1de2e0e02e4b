"""Build a store from a specification: sources are harmonised, combined and written."""

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType

import numpy as np

from causalcxr import sources
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.loading import source_module
from causalcxr.common.errors import CohortError, nearest
from causalcxr.images.decoding import Limits
from causalcxr.images.file_images import FileImages
from causalcxr.sources.harmonised import Harmonised, ImagePaths, Rule, combined
from causalcxr.sources.policy import Policy
from causalcxr.sources.store.image_inputs import CohortImageInput, FileImageInput, ImageInput
from causalcxr.sources.store.plan import Plan
from causalcxr.sources.store.spec import LimitsSpec, SourceSpec, Spec
from causalcxr.sources.store.writing import write_plan

__all__ = ["build", "make_plan"]


@dataclass(frozen=True)
class _Part:
    """The rows of one source, and their images."""

    rows: Harmonised
    images: ImageInput
    size: tuple[int, int] | None  # of its images, if all have one size


@dataclass(frozen=True)
class _Report:
    """The report of a build."""

    combined: Harmonised
    parts: tuple[Harmonised, ...]

    def __call__(self, folder: Path, quarantined: Mapping[str, int]) -> None:
        # matplotlib is slow to import, and needed once, at the end.
        from causalcxr.sources.report import write_report

        write_report(self.combined, folder, self.parts, quarantined)


def build(
    file: str | Path,
    *,
    output: str | Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Build the store that a file specifies; an interrupted build resumes.

    The store does not depend on how the work is divided, so a build may resume with more or fewer
    workers.

    Args:
        file: A file as described in `store.spec`.
        output: The folder to write, in place of the file's `output`.
        workers: The number of processes; see `common.parallel.run`.
        cluster: The address of a Dask scheduler; see `common.parallel.run`.
        overwrite: Replace the store in the folder, even an identical one.

    Returns:
        The folder of the store.

    Raises:
        CohortError: If the file is not valid, a source cannot be read, or the store cannot be
            written. Images that cannot be read are listed, and the build continues.
    """
    spec, home = Spec.load(file), Path(file).parent
    plan = make_plan(spec, home)
    folder = home / spec.output if output is None else Path(output)
    return write_plan(
        plan, folder, workers=workers, cluster=cluster, shard=spec.shard, overwrite=overwrite
    )


def make_plan(spec: Spec, home: Path) -> Plan:
    """Return the records and the images, unread, of a specification.

    Args:
        spec: The specification.
        home: The folder to which its paths are relative.

    Raises:
        CohortError: As `build` does.
    """
    parts = [_part(entry, spec, home) for entry in spec.sources]
    sources = [part.rows for part in parts]
    rows = sources[0]
    if len(sources) > 1:
        rows = combined(sources, spec.splits.fractions, spec.splits.seed)
    # Published splits count unless there are none or they are to be ignored.
    cohort = rows.cohort(files=False)
    if cohort.splits is None or spec.splits.published == "ignore":
        cohort = cohort.assign_splits(spec.splits.fractions, spec.splits.seed)
    return Plan(
        cohort,
        tuple(_positioned(parts)),
        _size(spec, parts),
        {"build": spec.name or "", "sources": rows.source, "records": len(rows)},
        {
            "spec": spec.as_dict(),
            "policy": rows.policy,
            "rules": [asdict(rule) for rule in rows.rules],
        },
        # The report has the splits of the store, published or drawn.
        _Report(replace(rows, splits=cohort.splits.to_numpy()), tuple(sources)),
    )


def _positioned(parts: list[_Part]) -> Iterator[tuple[np.ndarray, ImageInput]]:
    """Yield the images of each part, with the positions of their rows in the store."""
    end = 0
    for part in parts:
        start, end = end, end + len(part.rows)
        yield np.arange(start, end), part.images


def _part(entry: SourceSpec, spec: Spec, home: Path) -> _Part:
    path = None if entry.path is None else home / entry.path
    name, module = _source(entry, path)
    # Sources that interpret their rows have a policy, others have options.
    if _harmonises(module):
        if entry.options:
            raise CohortError(
                f"source {name!r} has no options; give the decisions about its rows as policy"
            )
        if path is None:
            raise CohortError(f"source {name!r} needs a path")
        policy = Policy.parse({**spec.policy, **entry.policy})
        rows = module.harmonise(path, policy)
        return _Part(rows, FileImageInput(rows.images, _limits(spec.limits), _root(path)), None)
    if entry.policy:
        raise CohortError(
            f"source {name!r} has no policy; its rows are read as they are; leave policy out"
        )
    options = dict(entry.options)
    if isinstance(options.get("images"), str):  # the folder of a table's images
        options["images"] = home / options["images"]
    try:
        cohort = module.load(path, **options)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise CohortError(
            f"source {name!r} does not have all of the options {', '.join(options)}"
        ) from None
    made_from = f"{name} {entry.path} {sorted(entry.options.items())}"
    return _cohort_part(cohort, made_from, spec, home if path is None else _root(path))


def _cohort_part(cohort: Cohort, made_from: str, spec: Spec, root: Path) -> _Part:
    """Return a cohort as a part; images in files are read from the files."""
    if cohort.index.nlevels > 1:
        raise CohortError(f"{cohort.source}: a store holds records, not several draws of each")
    images = cohort.images
    rows = Harmonised(
        cohort.table,
        cohort.patients.to_numpy(),
        None if cohort.splits is None else cohort.splits.to_numpy(),
        list(images.paths) if isinstance(images, FileImages) else ImagePaths.none(len(cohort)),
        tuple(Rule("as-read", note, 0, (), "noted") for note in cohort.notes),
        cohort.source,
        cohort.origin or "",
    )
    # Files are read as they are; other images through the cohort.
    if images is None:
        return _Part(rows, FileImageInput([None] * len(cohort)), None)
    if isinstance(images, FileImages):
        limits, synthetic = _limits(spec.limits), images.declared_synthetic
        files = FileImageInput(images.paths, limits, root, synthetic)
        return _Part(rows, files, images.size_given)
    return _Part(rows, CohortImageInput(images, made_from), images.size)


def _source(entry: SourceSpec, path: Path | None) -> tuple[str, ModuleType]:
    """Return the named source, or the one that recognises the path."""
    names_allowed = dict.fromkeys((*sources.NAMED, *sources.READERS))
    names = [entry.source] if entry.source else list(sources.READERS)
    if entry.source and entry.source not in names_allowed:
        hint = nearest(entry.source, names_allowed) or f"; allowed: {', '.join(names_allowed)}"
        raise CohortError(f"no source {entry.source[:80]!r}{hint}")
    if path is not None and not path.exists():
        raise CohortError(
            f"{path}: no such file or folder; paths are relative to the specification"
        )
    for name in names:
        module = source_module(name)
        if entry.source or module.recognises(path):
            return name, module
    raise CohortError(f"{path}: no source can read this; name one of {', '.join(names_allowed)}")


def _harmonises(module: ModuleType) -> bool:
    """Return whether a source reads rows under a policy."""
    harmonise = getattr(module, "harmonise", None)
    return harmonise is not None and "policy" in inspect.signature(harmonise).parameters


def _size(spec: Spec, parts: list[_Part]) -> tuple[int, int]:
    """Return the size of every image: that of the specification, or the size of all images."""
    if spec.size is not None:
        return spec.size
    sizes = {part.size for part in parts if part.images.available.any()}
    if len(sizes) > 1 or None in sizes:
        raise CohortError(
            "the images may differ in size; give the size to which all are fitted, "
            "such as size: 512"
        )
    return next(iter(sizes), (0, 0)) or (0, 0)


def _limits(limits: LimitsSpec) -> Limits:
    return Limits(
        pixels=int(limits.megapixels * 2**20),
        bytes=int(limits.megabytes * 2**20),
        seconds=limits.seconds,
    )


def _root(path: Path) -> Path:
    return path if path.is_dir() else path.parent
