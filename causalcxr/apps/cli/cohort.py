"""`causalcxr cohort`: make cohorts and look at them."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalcxr.apps.cli.options import CohortName, OutputOptions, Overwrite, Seed, WorkerOptions
from causalcxr.apps.cli.verbs import verb

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort

__all__ = [
    "BuildOptions",
    "CohortShowOptions",
    "PhantomOptions",
    "ReportOptions",
    "SaveOptions",
    "StoreCheckOptions",
    "app",
    "draw_sheet",
    "print_cohort",
]

app = typer.Typer(help="Make cohorts and look at them.", no_args_is_help=True)

_BITS = {"png": 8, "dicom": 12}
_ON_SHEET = 24  # images


@dataclass(frozen=True, kw_only=True)
class PhantomOptions(OutputOptions):
    """How many phantoms, and what their images and table are like."""

    n: Annotated[int, typer.Option(help="Number of patients.")] = 2000
    seed: Seed = 0
    size: Annotated[int, typer.Option(help="Pixels along each side, 32 to 512.")] = 64
    graph: Annotated[
        str,
        typer.Option(
            help="cxr7, or cxr7-acquisition: there, disease affects how the image is acquired."
        ),
    ] = "cxr7"
    missing: Annotated[
        bool, typer.Option("--missing", help="Leave blank what is often not recorded.")
    ] = False
    format: Annotated[str, typer.Option(help="Format of the images: png or dicom.")] = "png"
    bits: Annotated[
        int | None,
        typer.Option(help="Bits of a pixel, 8 or 12; by default 8 for PNG and 12 for DICOM."),
    ] = None


@verb(app)
def phantom(options: PhantomOptions) -> None:
    """Draw patients from the phantom and write table, images and manifest.

    The same command resumes an interrupted run.
    """
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.cohort.saved import save
    from causalcxr.common.progress import resumable

    # All options, spelled out, as they are also the identity of the folder.
    settings = {
        "n": options.n,
        "seed": options.seed,
        "size": options.size,
        "graph": options.graph,
        "missing": int(options.missing),
        "bits": _BITS.get(options.format, 8) if options.bits is None else options.bits,
    }
    cohort = Cohort.load("phantom", **settings)
    identity = {"source": "phantom", **settings}
    with resumable(f"the images so far are beside {options.out}"):
        folder = save(cohort, options.out, options.format, identity, overwrite=options.overwrite)
    print(f"{folder}: {options.n:,} phantoms")


@dataclass(frozen=True, kw_only=True)
class CohortShowOptions:
    """Which cohort, and where its images are drawn."""

    cohort: CohortName
    out: Annotated[Path | None, typer.Option(help="Also draw the first images to this PNG.")] = (
        None
    )


@verb(app)
def show(options: CohortShowOptions) -> None:
    """Show what a cohort contains."""
    from causalcxr.cohort.selection import load_cohort

    cohort = load_cohort(options.cohort)
    print_cohort(cohort)
    if options.out is not None:
        draw_sheet(cohort, options.out)
        print(f"drawn to {options.out}")


@dataclass(frozen=True, kw_only=True)
class SaveOptions(OutputOptions):
    """Which cohort."""

    cohort: CohortName


@verb(app)
def save(options: SaveOptions) -> None:
    """Read a cohort of any source and write it as a folder of its own."""
    from causalcxr.cohort.fingerprints import fingerprint
    from causalcxr.cohort.saved import save as write_cohort
    from causalcxr.cohort.selection import load_cohort

    cohort = load_cohort(options.cohort)
    identity = {"source": cohort.source, "fingerprint": fingerprint(cohort)}
    folder = write_cohort(cohort, options.out, made_from=identity, overwrite=options.overwrite)
    print(f"{folder}: {cohort}")


@dataclass(frozen=True, kw_only=True)
class BuildOptions(WorkerOptions):
    """Which specification, and where the store is written."""

    spec: Annotated[
        Path,
        typer.Argument(metavar="SPEC.yaml", help="Sources, policy, size.", show_default=False),
    ]
    out: Annotated[
        Path | None, typer.Option(help="Where to write, instead of the file's own output.")
    ] = None
    overwrite: Overwrite = False


@verb(app)
def build(options: BuildOptions) -> None:
    """Harmonise sources and write their records and images as one store.

    The same command resumes an interrupted run.
    """
    from causalcxr.common.progress import resumable
    from causalcxr.sources.store.building import build as build_store
    from causalcxr.sources.store.layout import QUARANTINE, read_manifest

    with resumable("the shards so far are beside the store"):
        folder = build_store(
            options.spec,
            output=options.out,
            workers=options.workers,
            cluster=options.cluster,
            overwrite=options.overwrite,
        )
    manifest = read_manifest(folder)
    print(f"{folder}: {manifest['records']:,} records, {manifest['images']:,} images")
    quarantined = manifest["quarantined"]
    # Unreadable images do not stop a build, but they are always reported.
    if n_images := quarantined["images"]:
        reasons = ", ".join(f"{k} {v:,}" for k, v in quarantined["reasons"].items())
        print(f"{n_images:,} images could not be read ({reasons}); see {folder / QUARANTINE}")


@dataclass(frozen=True, kw_only=True)
class StoreCheckOptions:
    """Which store."""

    folder: Annotated[Path, typer.Argument(help="A store.", show_default=False)]


@verb(app)
def check(options: StoreCheckOptions) -> None:
    """Read every byte of a store and list the files that have changed since they were written."""
    from causalcxr.common.errors import CohortError
    from causalcxr.sources.store.reading import check as check_store

    damaged = list(check_store(options.folder))
    for line in damaged:
        print(line)
    if damaged:
        raise CohortError(
            f"{options.folder}: {len(damaged)} files are damaged; build the store again"
        )
    print(f"{options.folder}: every file is as it was written")


@dataclass(frozen=True, kw_only=True)
class ReportOptions(OutputOptions):
    """Which data set, and under which decisions of the policy."""

    path: Annotated[
        Path,
        typer.Argument(help="The folder of a data set as it is published.", show_default=False),
    ]
    decide: Annotated[
        Sequence[str],
        typer.Option(
            help="A decision of the policy, such as uncertain=u_zeros; may be given several times."
        ),
    ] = ()


@verb(app)
def report(options: ReportOptions) -> None:
    """Report what harmonisation does to the rows of a data set: report.html and report.json."""
    from causalcxr.sources import harmonise
    from causalcxr.sources.policy import Policy
    from causalcxr.sources.report import save_report

    decisions = dict(text.partition("=")[::2] for text in options.decide)
    harmonised = harmonise(options.path, Policy.parse(decisions))
    page = save_report(harmonised, options.out, overwrite=options.overwrite)
    print(f"{page}: {harmonised.rows_in:,} rows in, {len(harmonised):,} rows out")


def print_cohort(cohort: "Cohort") -> None:
    """Print the columns of a cohort: missing values, range or most frequent values."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from causalcxr.common.terminal import visible

    title = Text(visible(repr(cohort)))  # Text, not markup: a source may be called [bold]
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    for heading in ("column", "missing", "values"):
        table.add_column(heading)
    for name, column in cohort.table.items():
        missing = f"{column.isna().sum():,}"
        values = visible(_summary(column.dropna()))
        table.add_row(Text(visible(str(name))), missing, Text(values))
    Console().print(table)
    for note in cohort.notes:
        print(visible(note))


def _summary(column: Any) -> str:
    """Return the range of a column of numbers, or the most frequent values of another one."""
    if not len(column):
        return ""
    if column.dtype.kind in "iuf":
        return f"{column.min():g} to {column.max():g}, median {column.median():g}"
    counts = column.value_counts()
    more = f", and {len(counts) - 8:,} more" if len(counts) > 8 else ""
    return ", ".join(f"{value} {count:,}" for value, count in counts.head(8).items()) + more


def draw_sheet(cohort: "Cohort", out: Path) -> None:
    """Draw the first images of a cohort on one sheet.

    Raises:
        CohortError: If the cohort has no images, or the file cannot be written.
    """
    from causalcxr.common.errors import CohortError
    from causalcxr.images.contact_sheet import contact_sheet

    if not cohort.has_images:
        raise CohortError(f"{cohort.source}: no images to draw")
    first = cohort.with_images_only().head(_ON_SHEET)
    names = [str(record) for record in first.records]
    try:
        contact_sheet(first.images[:], names, path=out, synthetic=first.images.synthetic)
    except OSError as error:
        raise CohortError(f"{out}: cannot be written ({error.strerror or error})") from None
