"""Building a store from what a file asks for: sources are harmonised, put together and written."""

import inspect
from collections.abc import Mapping
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
from causalcxr.sources.store.films import CohortFilms, FileFilms, Films
from causalcxr.sources.store.plan import Plan
from causalcxr.sources.store.spec import LimitsSpec, SourceSpec, Spec
from causalcxr.sources.store.writing import carry_out

__all__ = ["build", "planned"]


@dataclass(frozen=True)
class _Piece:
    """The rows of one source, and where their images come from."""

    rows: Harmonised
    films: Films
    size: tuple[int, int] | None  # of its images, where they are of one size


@dataclass(frozen=True)
class _Report:
    """What the report of a build tells."""

    whole: Harmonised
    parts: tuple[Harmonised, ...]

    def __call__(self, folder: Path, quarantined: Mapping[str, int]) -> None:
        # matplotlib takes a moment to import, and is wanted once, at the end.
        from causalcxr.sources.report import write_report

        write_report(self.whole, folder, self.parts, quarantined)


def build(
    file: str | Path,
    *,
    output: str | Path | None = None,
    workers: int = 1,
    cluster: str | None = None,
    overwrite: bool = False,
) -> Path:
    """Build the store that a file asks for; an interrupted call goes on where it stopped.

    How the work is shared out changes no byte of the store, so a build may go on with more
    workers, or fewer.

    Args:
        file: A file as `store.spec` describes it.
        output: Where to write, instead of the file's own `output`.
        workers: Processes; see `engine.run`, also for scripts that ask for more than one.
        cluster: The address of a Dask scheduler; see `engine.run`.
        overwrite: Replace the store that the folder holds, even the same one.

    Returns:
        The folder of the store.

    Raises:
        CohortError: If the file asks for what is not possible, a source cannot be read, or the
            store cannot be written. Images that cannot be read end nothing: they are listed.
    """
    spec, home = Spec.load(file), Path(file).parent
    plan = planned(spec, home)
    folder = home / spec.output if output is None else Path(output)
    return carry_out(
        plan, folder, workers=workers, cluster=cluster, shard=spec.shard, overwrite=overwrite
    )


def planned(spec: Spec, home: Path) -> Plan:
    """Return what a specification asks for: its records, and their images, unread.

    Args:
        spec: What is asked for.
        home: The folder that its paths start from.

    Raises:
        CohortError: As `build` does.
    """
    pieces = [_piece(entry, spec, home) for entry in spec.sources]
    parts = [piece.rows for piece in pieces]
    whole = parts[0] if len(parts) == 1 else combined(
        parts, spec.splits.fractions, spec.splits.seed
    )  # fmt: skip
    cohort = whole.cohort(files=False)
    if cohort.splits is None or spec.splits.published == "ignore":
        cohort = cohort.assign_splits(spec.splits.fractions, spec.splits.seed)
    ends = np.cumsum([len(part) for part in parts])
    rows = [np.arange(end - len(part), end) for end, part in zip(ends, parts, strict=True)]
    films = tuple((r, piece.films) for r, piece in zip(rows, pieces, strict=True))
    return Plan(
        cohort,
        films,
        _size(spec, pieces),
        {"build": spec.name or "", "sources": whole.source, "records": len(whole)},
        {
            "spec": spec.as_dict(),
            "policy": whole.policy,
            "rules": [asdict(rule) for rule in whole.rules],
        },
        # The splits are those of the store, whoever drew them.
        _Report(replace(whole, splits=cohort.splits.to_numpy()), tuple(parts)),
    )


def _piece(entry: SourceSpec, spec: Spec, home: Path) -> _Piece:
    path = None if entry.path is None else home / entry.path
    name, module = _source(entry, path)
    if _harmonises(module):
        if entry.options:
            raise CohortError(
                f"source {name!r} takes no options; what is decided about its rows is its policy"
            )
        if path is None:
            raise CohortError(f"source {name!r} needs a path")
        policy = Policy.parse({**spec.policy, **entry.policy})
        rows = module.harmonise(path, policy)
        return _Piece(rows, FileFilms(rows.images, _limits(spec.limits), _root(path)), None)
    if entry.policy:
        raise CohortError(f"source {name!r} has no policy; its rows are read as they are")
    options = dict(entry.options)
    if isinstance(options.get("images"), str):  # a folder of images, beside a table
        options["images"] = home / options["images"]
    try:
        cohort = module.load(path, **options)
    except TypeError as error:
        if "keyword argument" not in str(error):
            raise
        raise CohortError(f"source {name!r} does not take all of {', '.join(options)}") from None
    told = f"{name} {entry.path} {sorted(entry.options.items())}"
    return _piece_of(cohort, told, spec, home if path is None else _root(path))


def _piece_of(cohort: Cohort, told: str, spec: Spec, root: Path) -> _Piece:
    """Return a cohort that is harmonised already; what it has in files is read from them."""
    if cohort.index.nlevels > 1:
        raise CohortError(f"{cohort.source}: a store is built of records, not of draws of them")
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
    if images is None:
        return _Piece(rows, FileFilms([None] * len(cohort)), None)
    if isinstance(images, FileImages):
        limits, known = _limits(spec.limits), images.declared_synthetic
        films = FileFilms(images.paths, limits, root, known)
        return _Piece(rows, films, images.size_given)
    return _Piece(rows, CohortFilms(images, told), images.size)


def _source(entry: SourceSpec, path: Path | None) -> tuple[str, ModuleType]:
    """Return the source that is named, or that recognises the path."""
    known = dict.fromkeys((*sources.NAMED, *sources.READERS))
    names = [entry.source] if entry.source else list(sources.READERS)
    if entry.source and entry.source not in known:
        hint = nearest(entry.source, known) or f"; there are {', '.join(known)}"
        raise CohortError(f"no source {entry.source[:80]!r}{hint}")
    if path is not None and not path.exists():
        raise CohortError(f"{path}: there is no such file or folder; paths start at the spec's")
    for name in names:
        module = source_module(name)
        if entry.source or module.recognises(path):
            return name, module
    raise CohortError(f"{path}: no source can read this; name one of {', '.join(known)}")


def _harmonises(module: ModuleType) -> bool:
    """Return whether a source reads rows under a policy."""
    harmonise = getattr(module, "harmonise", None)
    return harmonise is not None and "policy" in inspect.signature(harmonise).parameters


def _size(spec: Spec, pieces: list[_Piece]) -> tuple[int, int]:
    """Return the size of every image: what is asked for, or what all of them have."""
    if spec.size is not None:
        return spec.size
    sizes = {piece.size for piece in pieces if piece.films.available.any()}
    if len(sizes) > 1 or None in sizes:
        raise CohortError(
            "the images are not known to be of one size; give the size to which all are fitted, "
            "such as size: 512"
        )
    return next(iter(sizes), (0, 0)) or (0, 0)


def _limits(given: LimitsSpec) -> Limits:
    return Limits(
        pixels=int(given.megapixels * 2**20),
        bytes=int(given.megabytes * 2**20),
        seconds=given.seconds,
    )


def _root(path: Path) -> Path:
    return path if path.is_dir() else path.parent
