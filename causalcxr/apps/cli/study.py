"""`causalcxr study`: a reader study in the browser, from the plan to the report."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import Out, Overwrite, Seed
from causalcxr.apps.cli.verbs import verb

__all__ = ["AnalyseOptions", "ServeOptions", "StudyOptions", "app"]

app = typer.Typer(
    help="Ask readers which radiographs are real: plan, serve, analyse.", no_args_is_help=True
)

_POOL = "A cohort: a saved folder, phantom:n=500,seed=1, a store, a .csv."
StudyFolder = Annotated[Path, typer.Argument(help="The folder of a study.", show_default=False)]


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """The plan of a study."""

    real: Annotated[str, typer.Argument(help=f"Real images. {_POOL}", show_default=False)]
    synthetic: Annotated[
        str, typer.Argument(help=f"Synthetic images. {_POOL}", show_default=False)
    ]
    out: Out
    kind: Annotated[
        str, typer.Option(help="2afc: which of two is real? single: is this one real?")
    ] = "2afc"
    trials: Annotated[int, typer.Option(help="Questions in each presentation.")] = 100
    readers: Annotated[
        str, typer.Option(help="Their number, or their names separated by commas.")
    ] = "3"
    presentations: Annotated[
        int, typer.Option(help="How often each reader answers each question.")
    ] = 2
    match: Annotated[
        Sequence[str],
        typer.Option(
            help="A column by which the pools are matched; may be given several times. By default "
            "View; '' for none.",
            show_default=False,
        ),
    ] = ("View",)
    size: Annotated[
        int | None, typer.Option(help="Longer side in pixels, where the pools differ in size.")
    ] = None
    smooth: Annotated[
        bool, typer.Option("--smooth", help="Interpolate images that are shown enlarged.")
    ] = False
    leave_out: Annotated[
        bool, typer.Option("--leave-out", help="Leave out what only one pool has, such as a view.")
    ] = False
    title: Annotated[str, typer.Option(help="The title above the images.")] = "Real or synthetic?"
    seed: Seed = 0


@verb(app)
def new(options: StudyOptions) -> None:
    """Draw a study from a pool of real and a pool of synthetic images."""
    from causalcxr.apps.study.creation import make_study
    from causalcxr.cohort.selection import load_cohort

    readers = options.readers
    plan = make_study(
        load_cohort(options.real),
        load_cohort(options.synthetic),
        options.out,
        kind=options.kind,
        trials=options.trials,
        # A number of readers, or their names.
        readers=int(readers) if readers.strip().isdecimal() else readers.split(","),
        presentations=options.presentations,
        seed=options.seed,
        match=[name for name in options.match if name],
        size=options.size,
        smooth=options.smooth,
        leave_out=options.leave_out,
        title=options.title,
    )
    size = f"{len(plan.trials)} trials x {plan.presentations}, {len(plan.readers)} readers"
    print(f"{options.out}: {size}; next: causalcxr study serve {options.out}")


@dataclass(frozen=True, kw_only=True)
class ServeOptions:
    """Which study, and where it is served."""

    folder: StudyFolder
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 for any free port.")] = 8080
    name: Annotated[
        Sequence[str],
        typer.Option(help="A name under which a proxy on this machine offers the pages."),
    ] = ()


@verb(app)
def serve(options: ServeOptions) -> None:
    """Serve a study to its readers, from this machine only; print their links."""
    from functools import partial

    from causalcxr.apps.study.server import serve as serve_study

    serve_study(options.folder, options.port, options.name, report=partial(print, flush=True))


@dataclass(frozen=True, kw_only=True)
class AnalyseOptions:
    """Which study, and where the report is written."""

    folder: StudyFolder
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where to write; by default DIR/analysis, which each analysis replaces.",
            show_default=False,
        ),
    ] = None
    seed: Seed = 0
    overwrite: Overwrite = False


@verb(app)
def analyse(options: AnalyseOptions) -> None:
    """Write report.html and tables (.csv) of the answers so far."""
    from causalcxr.apps.study.analysis import analyse as analyse_study
    from causalcxr.apps.study.report import write_report

    result = analyse_study(options.folder, seed=options.seed)
    # The study's own analysis covers the answers so far, so each analysis replaces it.
    is_own = options.out is None
    out = options.folder / "analysis" if is_own else options.out
    page = write_report(result, out, overwrite=options.overwrite or is_own)
    print(f"{page}: {len(result.responses):,} of {result.expected:,} answers")
