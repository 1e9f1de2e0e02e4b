"""`causalcxr app`: the explorer in the browser."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["explore"]

_COHORT = "A cohort, or several: a saved folder, phantom:n=500,seed=1, a store, a .csv."


def explore(
    model: Annotated[
        Path | None,
        typer.Argument(help="A fitted model's folder; by default cxr7 is fitted to phantoms."),
    ] = None,
    cohort: Annotated[list[str] | None, typer.Argument(help=_COHORT)] = None,
    port: Annotated[int, typer.Option(help="Of 127.0.0.1; 0 for any that is free.")] = 8080,
    show: Annotated[bool, typer.Option(help="Open the page in the browser.")] = True,
    out: Annotated[
        Path, typer.Option(help="Where models go that are fitted to an edited graph.")
    ] = Path("explorer-models"),
) -> None:
    """Explore patients and their twins in the browser, on this machine only."""
    from functools import partial

    from causalcxr.apps.explorer.opening import workbench_of
    from causalcxr.apps.explorer.serving import serve

    tell = partial(print, flush=True)
    serve(workbench_of(model, cohort or (), out, tell), port, show=show, tell=tell)
