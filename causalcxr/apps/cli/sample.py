"""`causalcxr sample`: draw new records from a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import Do, ModelFolder, OutputOptions, Seed

__all__ = ["SampleOptions", "sample"]


@dataclass(frozen=True, kw_only=True)
class SampleOptions(OutputOptions):
    """How many records, of which model, under which intervention."""

    model: ModelFolder
    n: Annotated[int, typer.Option(help="Number of records.")] = 24
    do: Do = ()
    seed: Seed = 0


def sample(options: SampleOptions) -> None:
    """Draw new records, images included, and write them as a cohort."""
    from causalcxr.apps.cli.cohort import draw_sheet, print_cohort
    from causalcxr.cohort.saved import save
    from causalcxr.graph.interventions import parse
    from causalcxr.scm.identity import model_identity
    from causalcxr.scm.scm import SCM

    model, action = SCM.load(options.model), parse(options.do)
    # The identity of the folder: model, intervention, seed and number of records.
    identity = {
        "source": "model",
        "n": options.n,
        "seed": options.seed,
        "intervention": action.bind(model.graph).to_json(),
        **model_identity(model),
    }
    cohort = model.do(action).sample(options.n, seed=options.seed)

    def write_sheet(folder: Path) -> None:
        if cohort.has_images:
            draw_sheet(cohort, folder / "samples.png")

    save(cohort, options.out, made_from=identity, overwrite=options.overwrite, beside=write_sheet)
    print_cohort(cohort)
    print(f"{options.out}: {cohort}")
