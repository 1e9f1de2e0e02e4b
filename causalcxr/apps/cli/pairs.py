"""`causalcxr pairs`: factual, twin and null images for an audit."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from causalcxr.apps.cli.options import (
    ActionOptions,
    ModelFolder,
    OutputOptions,
    RecordOptions,
    Seed,
)

if TYPE_CHECKING:
    from causalcxr.audit.attribute_reader import AttributeReader
    from causalcxr.audit.pairs import Pairs
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.graph.interventions import Intervention
    from causalcxr.scm.scm import SCM

__all__ = ["PairsOptions", "Reader", "fit_reader", "pairs"]

Reader = Annotated[
    str,
    typer.Option(
        metavar="COHORT",
        help="Other records with images, on which an independent reader of attributes is trained.",
    ),
]


@dataclass(frozen=True, kw_only=True)
class PairsOptions(ActionOptions, RecordOptions, OutputOptions):
    """Which pairs of which records."""

    model: ModelFolder
    draws: Annotated[
        int, typer.Option(help="Posterior samples of each record; 3 or more show how they vary.")
    ] = 1
    reader: Reader = ""
    seed: Seed = 0


def pairs(options: PairsOptions) -> None:
    """Make factual, twin and null images of a cohort, and check the quality of each pair."""
    action = options.action("pairs")
    from causalcxr.audit.making_pairs import make_worlds, write_pairs
    from causalcxr.audit.pairs import pairs_result
    from causalcxr.cohort.selection import load_cohort
    from causalcxr.common.progress import resumable
    from causalcxr.scm.scm import SCM

    model = SCM.load(options.model)
    action.bind(model.graph)  # refused before a cohort is read
    # The records to audit, and other ones for the reader to learn from.
    cohort = options.records.load()
    training = load_cohort(options.reader).with_images_only() if options.reader else None
    # The folder is checked before the reader is fitted and before any image is made.
    identity = _identity(options, action, model, cohort, training)
    pairs_result(options.out, identity, overwrite=options.overwrite).check()
    reader = None if training is None else fit_reader(training, model)
    if cohort.has_images:
        cohort = cohort.with_images_only()
    draws = options.draws if options.draws != 1 else None
    worlds = make_worlds(model, cohort, action, hold=options.hold, draws=draws, seed=options.seed)
    with resumable(f"the images so far are in {options.out}"):
        result = write_pairs(
            worlds,
            model.graph,
            action,
            options.out,
            reader=reader,
            identity=identity,
            overwrite=options.overwrite,
        )
    _show(result, reader, cohort.has_images, options, action)


def fit_reader(cohort: "Cohort", model: "SCM") -> "AttributeReader":
    """Train a reader of the attributes of a model's graph on records with images."""
    from causalcxr.audit.attribute_reader import AttributeReader
    from causalcxr.common.progress import Progress

    with Progress("Training a reader of attributes"):
        return AttributeReader.fit(cohort, model.graph)


def _identity(
    options: PairsOptions,
    action: "Intervention",
    model: "SCM",
    cohort: "Cohort",
    training: "Cohort | None",
) -> dict[str, Any]:
    """Return everything that determines the pairs."""
    from causalcxr.cohort.fingerprints import fingerprint
    from causalcxr.scm.identity import model_identity

    return {
        "action": action.bind(model.graph).to_json(),
        "hold": sorted(model.graph.find(name) for name in options.hold),
        "draws": options.draws,
        "seed": options.seed,
        "model": model_identity(model),
        "cohort": fingerprint(cohort),
        "reader": None if training is None else fingerprint(training),
    }


def _show(
    result: "Pairs",
    reader: "AttributeReader | None",
    has_images: bool,
    options: PairsOptions,
    action: "Intervention",
) -> None:
    """Show the quality of the reader, how many pairs were accepted, and the files."""
    from causalcxr.apps.cli.answer_screen import console, print_couplings, rounded_rows, show

    # A poor reader makes poor checks, so its quality comes first.
    if reader is not None:
        show(
            "Quality of the reader on records that it was not trained on (AUROC; for numbers, "
            "correlation)",
            [{"attribute": n, "quality": f"{q:.3f}"} for n, q in reader.quality.items()],
        )
    show(f"Pairs under {action.describe()}", rounded_rows(result.flow))
    if result.unchanged and has_images:
        console().print(f"{result.unchanged:,} unchanged: no image was made of their twins")
    if reader is None and has_images:
        console().print(
            "Without a reader, no check that twins show the values that were set; give "
            "--reader COHORT."
        )
    print_couplings(result.about.get("coupling", {}))
    files = f"{', '.join(result.worlds)}, pairs.csv, manifest.json"
    console().print(f"{options.out}: {files}", markup=False)
