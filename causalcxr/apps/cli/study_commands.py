"""`causalcxr study`: a reader study in the browser, from the plan to the report."""

from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import Out, Overwrite, Seed

__all__ = ["app"]

app = typer.Typer(
    help="Ask readers which radiographs are real: plan, serve, analyse.", no_args_is_help=True
)

_POOL = "A cohort: a saved folder, phantom:n=500,seed=1, a store, a .csv."
Study = Annotated[Path, typer.Argument(help="The folder of a study.", show_default=False)]


@app.command("new")
def new(
    real: Annotated[str, typer.Argument(help=f"Real images. {_POOL}", show_default=False)],
    synthetic: Annotated[
        str, typer.Argument(help=f"Synthetic images. {_POOL}", show_default=False)
    ],
    out: Out,
    kind: Annotated[str, typer.Option(help="2afc: which of two is real? single: is it?")] = "2afc",
    trials: Annotated[int, typer.Option(help="Questions in each presentation.")] = 100,
    readers: Annotated[
        str, typer.Option(help="How many, or their names, separated by commas.")
    ] = "3",
    presentations: Annotated[
        int, typer.Option(help="How often each reader answers each question.")
    ] = 2,
    match: Annotated[
        list[str] | None,
        typer.Option(
            help="A column by which the pools are matched; several times. By default View; '' for "
            "none."
        ),
    ] = None,
    size: Annotated[
        int | None, typer.Option(help="Longer side in pixels, where the pools differ in size.")
    ] = None,
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Interpolate images that are shown enlarged.")
    ] = False,
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave out what only one pool has, such as a view.")
    ] = False,
    title: Annotated[
        str, typer.Option(help="What stands above the images.")
    ] = "Real or synthetic?",
    seed: Seed = 0,
) -> None:
    """Draw a study from a pool of real and a pool of synthetic images."""
    from causalcxr.apps.study.making import make_study
    from causalcxr.cohort.selection import load_cohort

    plan = make_study(
        load_cohort(real),
        load_cohort(synthetic),
        out,
        kind=kind,
        trials=trials,
        readers=int(readers) if readers.strip().isdecimal() else readers.split(","),
        presentations=presentations,
        seed=seed,
        match=["View"] if match is None else [name for name in match if name],
        size=size,
        smooth=smooth,
        leave_out=leave_out,
        title=title,
    )
    asked = f"{len(plan.trials)} trials x {plan.presentations}, {len(plan.readers)} readers"
    print(f"{out}: {asked}; next: causalcxr study serve {out}")


@app.command("serve")
def serve(
    folder: Study,
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 for any that is free.")] = 8080,
    name: Annotated[
        list[str] | None,
        typer.Option(help="A name under which a proxy on this machine offers the pages."),
    ] = None,
) -> None:
    """Serve a study to its readers, from this machine only; print their links."""
    from functools import partial

    from causalcxr.apps.study.server import serve as serve_study

    serve_study(folder, port, name or (), tell=partial(print, flush=True))


@app.command("analyse")
def analyse(
    folder: Study,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write; by default DIR/analysis, which each analysis replaces.",
            show_default=False,
        ),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
) -> None:
    """Write report.html and tables (.csv) of the answers so far."""
    from causalcxr.apps.study.analyse import analyse as analyse_study
    from causalcxr.apps.study.report import write_report

    found = analyse_study(folder, seed=seed)
    # The study's own analysis is that of the answers so far, so that it is always replaced.
    place = folder / "analysis" if out is None else out
    page = write_report(found, place, overwrite=overwrite or out is None)
    print(f"{page}: {len(found.responses):,} of {found.expected:,} answers")
