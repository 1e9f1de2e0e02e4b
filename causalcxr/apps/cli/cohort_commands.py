"""`causalcxr cohort`: make cohorts and look at them."""

from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import Cluster, Out, Overwrite, Seed, Spec, Workers
from causalcxr.common.progress import resumable

__all__ = ["app"]

app = typer.Typer(help="Make cohorts and look at them.", no_args_is_help=True)

_BITS = {"png": 8, "dicom": 12}


@app.command()
def phantom(
    out: Out,
    n: Annotated[int, typer.Option(help="Number of patients.")] = 2000,
    seed: Seed = 0,
    size: Annotated[int, typer.Option(help="Pixels along each side, 32 to 512.")] = 64,
    graph: Annotated[
        str, typer.Option(help="cxr7, or cxr7-acquisition: disease decides how one is filmed.")
    ] = "cxr7",
    missing: Annotated[
        bool, typer.Option("--missing", help="Leave blank what is often not recorded.")
    ] = False,
    format: Annotated[str, typer.Option(help="Of the images: png or dicom.")] = "png",
    bits: Annotated[
        int | None,
        typer.Option(help="Of a film's grey levels, 8 or 12; by default 8, of DICOM 12."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw patients from the phantom and write table, images and manifest.

    A command that was interrupted goes on where it stopped when it is given again.
    """
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.cohort.saved import save

    bits = _BITS.get(format, 8) if bits is None else bits
    asked = {
        "n": n, "seed": seed, "size": size, "graph": graph, "missing": int(missing), "bits": bits,
    }  # fmt: skip
    drawn = Cohort.load("phantom", **asked)
    with resumable(f"the images so far are beside {out}"):
        made = save(drawn, out, format, {"source": "phantom", **asked}, overwrite=overwrite)
    print(f"{made}: {n:,} phantoms")


@app.command()
def show(
    cohort: Spec,
    out: Annotated[
        Path | None, typer.Option(help="Also draw the first images to this PNG.")
    ] = None,
) -> None:
    """Say what a cohort holds."""
    from causalcxr.apps.cli.jobs import show_cohort
    from causalcxr.cohort.selection import load_cohort

    show_cohort(load_cohort(cohort), out)


@app.command()
def save(cohort: Spec, out: Out, overwrite: Overwrite = False) -> None:
    """Read a cohort from anywhere and write it as a folder of its own."""
    from causalcxr.apps.cli.jobs import save_cohort

    save_cohort(cohort, out, overwrite=overwrite)


@app.command()
def build(
    spec: Annotated[
        Path,
        typer.Argument(metavar="SPEC.yaml", help="Sources, policy, size.", show_default=False),
    ],
    out: Annotated[
        Path | None, typer.Option(help="Where to write, instead of the file's own output.")
    ] = None,
    workers: Workers = 1,
    cluster: Cluster = None,
    overwrite: Overwrite = False,
) -> None:
    """Harmonise sources and write their records and images as one store.

    A command that was interrupted goes on where it stopped when it is given again.
    """
    from causalcxr.sources.store.building import build as build_store
    from causalcxr.sources.store.layout import QUARANTINE, opened

    with resumable("the shards so far are beside the store"):
        folder = build_store(
            spec, output=out, workers=workers, cluster=cluster, overwrite=overwrite
        )
    made = opened(folder)
    print(f"{folder}: {made['records']:,} records, {made['images']:,} images")
    if quarantined := made["quarantined"]["images"]:
        reasons = ", ".join(f"{k} {v:,}" for k, v in made["quarantined"]["reasons"].items())
        print(f"{quarantined:,} images could not be read ({reasons}); see {folder / QUARANTINE}")


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="A store.", show_default=False)],
) -> None:
    """Read every byte of a store and say which files are not as they were written."""
    from causalcxr.common.errors import CohortError
    from causalcxr.sources.store.reading import check as check_store

    wrong = list(check_store(folder))
    for line in wrong:
        print(line)
    if wrong:
        raise CohortError(f"{folder}: {len(wrong)} files are damaged; build the store again")
    print(f"{folder}: every file is as it was written")


@app.command()
def report(
    path: Annotated[
        Path,
        typer.Argument(help="The folder of a data set as it is published.", show_default=False),
    ],
    out: Out,
    decide: Annotated[
        list[str] | None,
        typer.Option(help="A decision of the policy, such as uncertain=u_zeros; may be repeated."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Say what harmonising a data set does to its rows: report.html and report.json."""
    from causalcxr.sources import harmonise
    from causalcxr.sources.policy import Policy
    from causalcxr.sources.report import save_report

    decisions = dict(text.partition("=")[::2] for text in decide or ())
    harmonised = harmonise(path, Policy.parse(decisions))
    page = save_report(harmonised, out, overwrite=overwrite)
    print(f"{page}: {harmonised.rows_in:,} rows in, {len(harmonised):,} rows out")
