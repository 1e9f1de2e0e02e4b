"""`causalcxr radit`: training the networks of the image mechanism."""

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import CohortName, Out, Overwrite
from causalcxr.apps.cli.verbs import verb
from causalcxr.common.progress import resumable

__all__ = ["EncodeOptions", "TrainOptions", "app"]

app = typer.Typer(help="Train weights of the image mechanism.", no_args_is_help=True)

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


def _command() -> str:
    return shlex.join(["causalcxr", *sys.argv[1:]])
