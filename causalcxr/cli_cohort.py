"""`causalcxr cohort`: make cohorts and look at them."""

from pathlib import Path
from typing import Annotated

import typer

from causalcxr.cli_options import Out, Seed, Spec

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
) -> None:
    """Draw patients from the phantom and write table, images and manifest.

    A command that was interrupted goes on where it stopped when it is given again.
    """
    from causalcxr.cohort import Cohort
    from causalcxr.sources.folder import save

    bits = _BITS.get(format, 8) if bits is None else bits
    asked = {
        "n": n, "seed": seed, "size": size, "graph": graph, "missing": int(missing), "bits": bits,
    }  # fmt: skip
    made = save(Cohort.load("phantom", **asked), out, format, {"source": "phantom", **asked})
    print(f"{made}: {n:,} phantoms")


@app.command()
def show(
    cohort: Spec,
    out: Annotated[
        Path | None, typer.Option(help="Also draw the first images to this PNG.")
    ] = None,
) -> None:
    """Say what a cohort holds."""
    from causalcxr.jobs import load_cohort, show_cohort

    show_cohort(load_cohort(cohort), out)


@app.command()
def save(cohort: Spec, out: Out) -> None:
    """Read a cohort from anywhere and write it as a folder of its own."""
    from causalcxr.jobs import load_cohort

    loaded = load_cohort(cohort)
    print(f"{loaded.save(out)}: {loaded}")
