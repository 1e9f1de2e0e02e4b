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
    import pandas as pd

    from causalcxr.audit.attribute_reader import AttributeReader
    from causalcxr.audit.cross_fitted_reader import CrossFittedReader
    from causalcxr.audit.pairs import Pairs
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.graph.interventions import Intervention
    from causalcxr.radit.features import CrossFittedFeatures
    from causalcxr.scm.scm import SCM

__all__ = ["PairsOptions", "ReaderOptions", "fit_reader", "pairs", "show_quality"]


@dataclass(frozen=True, kw_only=True)
class ReaderOptions:
    """How the reader of attributes is trained."""

    reader: Annotated[
        str,
        typer.Option(
            metavar="COHORT",
            help="Records with images, on which an independent reader of attributes is trained: "
            "other patients, or any with --features or --folds.",
        ),
    ] = ""
    features: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Features that 'radit features' has trained; the reader uses them and their "
            "folds of patients.",
        ),
    ] = ""
    folds: Annotated[
        int,
        typer.Option(
            help="Folds of patients: each patient is read by a model that has not seen them; 0 "
            "for one model, which needs other patients."
        ),
    ] = 0

    def reader_identity(self) -> dict[str, Any]:
        """What determines the reader besides its records; nothing by default."""
        identity: dict[str, Any] = {"reader_folds": self.folds} if self.folds else {}
        if self.features:
            identity["reader_features"] = self.load_features().content
        return identity

    def load_features(self) -> "CrossFittedFeatures":
        """Load the features.

        Raises:
            AuditError: If there is no reader to use them, or the number of folds is another one.
            ModelError: If the file is unusable.
        """
        from causalcxr.common.errors import AuditError
        from causalcxr.radit.features import load_cross_fitted

        if not self.reader:
            raise AuditError("--features without --reader: give the records of the reader, too")
        features = load_cross_fitted(self.features)
        if self.folds not in (0, len(features.folds)):
            raise AuditError(
                f"--folds {self.folds}: the features have {len(features.folds)} folds; leave out "
                "--folds"
            )
        return features


@dataclass(frozen=True, kw_only=True)
class PairsOptions(ActionOptions, RecordOptions, ReaderOptions, OutputOptions):
    """Which pairs of which records."""

    model: ModelFolder
    draws: Annotated[
        int, typer.Option(help="Posterior samples of each record; 3 or more show how they vary.")
    ] = 1
    seed: Seed = 0


def pairs(options: PairsOptions) -> None:
    """Make factual, twin and null images of a cohort, and check the quality of each pair."""
    action = options.action("pairs")
    from causalcxr.audit.attribute_reader import AttributeReader
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
    reader = None if training is None else fit_reader(training, model, options)
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
    if training is not None and isinstance(reader, AttributeReader):
        _warn_of_same_patients(training, cohort)


def fit_reader(
    cohort: "Cohort", model: "SCM", options: ReaderOptions
) -> "AttributeReader | CrossFittedReader":
    """Train a reader of the attributes of a model's graph on records with images."""
    from causalcxr.audit.attribute_reader import AttributeReader
    from causalcxr.audit.cross_fitted_reader import CrossFittedReader
    from causalcxr.common.progress import Progress

    with Progress("Training a reader of attributes"):
        if options.features:
            features = options.load_features()
            return CrossFittedReader.fit(cohort, model.graph, features=features)
        if options.folds:
            return CrossFittedReader.fit(cohort, model.graph, folds=options.folds)
        return AttributeReader.fit(cohort, model.graph)


def show_quality(table: "pd.DataFrame") -> None:
    """Show the quality of a cross-fitted reader on patients that it has not seen."""
    from causalcxr.apps.cli.answer_screen import show

    show(
        "Quality of the reader on patients that it has not seen (95 % intervals; a calibration "
        "slope of 1 is calibrated)",
        [
            {
                "attribute": name,
                "measure": row["measure"],
                "quality": f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]",
                "slope": f"{row['slope']:.2f}",
                "images": f"{row['n']:,}",
                "positives": f"{row['positives']:,}" if row["positives"] >= 0 else "",
            }
            for name, row in table.to_dict("index").items()
        ],
    )


def _warn_of_same_patients(training: "Cohort", cohort: "Cohort") -> None:
    """Say so if the reader was trained on patients whose twins it reads."""
    from causalcxr.apps.cli.answer_screen import console

    n = len(set(training.patients) & set(cohort.patients))
    if n and training.source == cohort.source:
        console().print(
            f"The reader was trained on {n:,} of these patients, so its checks are too "
            "favourable; give --folds 5."
        )


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
        **options.reader_identity(),
    }


def _show(
    result: "Pairs",
    reader: "AttributeReader | CrossFittedReader | None",
    has_images: bool,
    options: PairsOptions,
    action: "Intervention",
) -> None:
    """Show the quality of the reader, how many pairs were accepted, and the files."""
    from causalcxr.apps.cli.answer_screen import console, print_couplings, rounded_rows, show
    from causalcxr.audit.cross_fitted_reader import CrossFittedReader

    # A poor reader makes poor checks, so its quality comes first.
    if isinstance(reader, CrossFittedReader):
        show_quality(reader.table)
    elif reader is not None:
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
    if not_checked := result.about["not_checked"]:
        console().print(
            f"Not checked, as the reader cannot read it well enough: {', '.join(not_checked)}",
            markup=False,
        )
    print_couplings(result.about.get("coupling", {}))
    files = f"{', '.join(result.worlds)}, pairs.csv, manifest.json"
    console().print(f"{options.out}: {files}", markup=False)
