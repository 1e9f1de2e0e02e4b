"""`causalcxr app`: the explorer in the browser."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["ExploreOptions", "explore"]

_COHORT = "A cohort, or several: a saved folder, phantom:n=500,seed=1, a store, a .csv."


@dataclass(frozen=True, kw_only=True)
class ExploreOptions:
    """Which model and cohorts, and where they are served."""

    model: Annotated[
        Path | None,
        typer.Argument(help="A fitted model's folder; by default cxr7 is fitted to phantoms."),
    ] = None
    cohort: Annotated[Sequence[str], typer.Argument(help=_COHORT)] = ()
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 for any free port.")] = 8080
    show: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True
    out: Annotated[Path, typer.Option(help="Where models of edited graphs are written.")] = Path(
        "explorer-models"
    )


def explore(options: ExploreOptions) -> None:
    """Explore patients and their twins in the browser, on this machine only."""
    from functools import partial

    from causalcxr.apps.explorer.serving import serve
    from causalcxr.apps.explorer.startup import open_workspace

    report = partial(print, flush=True)
    workspace = open_workspace(options.model, options.cohort, options.out, report)
    serve(workspace, options.port, show=options.show, report=report)
