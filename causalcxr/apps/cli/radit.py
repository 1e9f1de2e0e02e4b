"""`causalcxr radit`: training the networks of the image mechanism."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import CohortName, Out, Overwrite, Seed
from causalcxr.apps.cli.verbs import verb
from causalcxr.common.progress import resumable

__all__ = ["CalibrateOptions", "EncodeOptions", "FeaturesOptions", "TrainOptions", "app"]

app = typer.Typer(
    help="Train weights of the image mechanism, and features of images.", no_args_is_help=True
)

_RESUMES = "training resumes from its last checkpoint"


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """The configuration of a training."""

    config: Annotated[Path, typer.Argument(help="A YAML file, see docs/training.md.")]
    changes: Annotated[
        Sequence[str],
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Changes to the file, such as training.steps=500 or out=runs/a.safetensors.",
            show_default=False,
        ),
    ] = ()
    overwrite: Overwrite = False


@verb(app)
def train(options: TrainOptions) -> None:
    """Train RadiT on a cohort's images; the same command resumes an interrupted run."""
    from causalcxr.apps.training.radit_config import RunConfig, read_config
    from causalcxr.apps.training.radit_job import train_weights

    config = read_config(options.config, RunConfig, options.changes)
    with resumable(_RESUMES):
        print(train_weights(config, _command(), overwrite=options.overwrite))


@verb(app)
def vae(options: TrainOptions) -> None:
    """Train an autoencoder of images; the same command resumes an interrupted run."""
    from causalcxr.apps.training.radit_config import read_config
    from causalcxr.apps.training.vae_config import VAEConfig
    from causalcxr.apps.training.vae_job import train_autoencoder

    config = read_config(options.config, VAEConfig, options.changes)
    with resumable(_RESUMES):
        print(train_autoencoder(config, _command(), overwrite=options.overwrite))


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """Which autoencoder, which images, and how the latents are stored."""

    codec: Annotated[
        Path, typer.Argument(help="An autoencoder, as 'radit vae' writes it.", show_default=False)
    ]
    cohort: CohortName
    out: Out
    batch: Annotated[int, typer.Option(help="Images in a batch.")] = 32
    shard: Annotated[int, typer.Option(help="Records in a file.")] = 4096
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16"
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto"


@verb(app)
def encode(options: EncodeOptions) -> None:
    """Encode a cohort's images and store the latents; the same command resumes."""
    from causalcxr.apps.training.vae_job import encode_cohort

    with resumable(f"the latents so far are in {options.out}"):
        latents = encode_cohort(
            options.codec,
            options.cohort,
            options.out,
            batch=options.batch,
            shard=options.shard,
            dtype=options.dtype,
            device=options.device,
        )
    print(f"{latents.folder}: {latents}")


@dataclass(frozen=True, kw_only=True)
class FeaturesOptions:
    """On which cohort features are trained, and how."""

    cohort: CohortName
    out: Out
    graph: Annotated[str, typer.Option(help="A graph, whose variables are learned.")] = "cxr7"
    start: Annotated[
        str, typer.Option(help="The features to start from: a bundled name or a file.")
    ] = "phantom"
    epochs: Annotated[int, typer.Option(help="Passes over the images, for each network.")] = 20
    folds: Annotated[
        int, typer.Option(help="Folds of patients; each is left out of one network.")
    ] = 5
    seed: Seed = 0
    minutes: Annotated[
        float, typer.Option(help="Stop after so many minutes; the same command resumes.")
    ] = float("inf")
    overwrite: Overwrite = False


@verb(app)
def features(options: FeaturesOptions) -> None:
    """Train features on a cohort's labels, cross-fitted by patient; the same command resumes."""
    from causalcxr.apps.cli.answer_screen import console
    from causalcxr.apps.cli.pairs import show_quality
    from causalcxr.apps.training.features_job import FeaturesRun, train_cohort_features
    from causalcxr.radit.features_train import FeaturesConfig

    run = FeaturesRun(
        cohort=options.cohort,
        out=options.out,
        graph=options.graph,
        start=options.start,
        config=FeaturesConfig(epochs=options.epochs, folds=options.folds),
        seed=options.seed,
        minutes=options.minutes,
    )
    with resumable(_RESUMES):
        table = train_cohort_features(run, _command(), overwrite=options.overwrite)
    if table is None:
        console().print("The time is over; run the same command again to resume.")
        return
    show_quality(table)
    console().print(f"{options.out}: features; the card is beside it", markup=False)


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Which weights are calibrated, and on which images."""

    weights: Annotated[
        str,
        typer.Argument(help="A bundled name such as phantom-64, or a file.", show_default=False),
    ]
    cohort: CohortName
    out: Out
    graph: Annotated[str, typer.Option(help="A graph, whose image has the variables.")] = "cxr7"
    codec: Annotated[Path | None, typer.Option(help="The autoencoder of weights for latents.")] = (
        None
    )
    records: Annotated[
        int, typer.Option(help="Records that get another value of each variable.")
    ] = 64
    seed: Seed = 0
    overwrite: Overwrite = False


@verb(app)
def calibrate(options: CalibrateOptions) -> None:
    """Calibrate the weight of each variable under transport, without true twins."""
    from causalcxr.apps.cli.answer_screen import console, show_calibration
    from causalcxr.apps.training.calibration_job import CalibrationRun, calibrate_weights

    run = CalibrationRun(
        weights=options.weights,
        cohort=options.cohort,
        out=options.out,
        graph=options.graph,
        codec=options.codec,
        records=options.records,
        seed=options.seed,
    )
    calibration = calibrate_weights(run, overwrite=options.overwrite)
    show_calibration(calibration)
    console().print(f"{options.out}: the same weights, with their calibration", markup=False)


def _command() -> str:
    return shlex.join(["causalcxr", *sys.argv[1:]])
