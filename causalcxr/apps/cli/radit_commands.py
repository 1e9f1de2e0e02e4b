"""`causalcxr radit`: training the networks of the image mechanism."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from causalcxr.apps.cli.options import Out, Overwrite, Spec
from causalcxr.common.progress import resumable

__all__ = ["app"]

app = typer.Typer(help="Train weights of the image mechanism.", no_args_is_help=True)

Config = Annotated[Path, typer.Argument(help="A YAML file, see docs/training.md.")]
Changes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="What to change of it, such as training.steps=500 or out=runs/a.safetensors.",
        show_default=False,
    ),
]


@app.command("train")
def train(config: Config, changes: Changes = None, overwrite: Overwrite = False) -> None:
    """Train RadiT on a cohort's images; an interrupted run goes on where it stopped."""
    from causalcxr.apps.training.radit_config import RunConfig, read_config
    from causalcxr.apps.training.radit_job import train_weights

    asked = read_config(config, RunConfig, changes or [])
    with resumable("training goes on from its last checkpoint"):
        print(train_weights(asked, _command(), overwrite=overwrite))


@app.command("vae")
def vae(config: Config, changes: Changes = None, overwrite: Overwrite = False) -> None:
    """Train an autoencoder of images; an interrupted run goes on where it stopped."""
    from causalcxr.apps.training.radit_config import read_config
    from causalcxr.apps.training.vae_config import VAEConfig
    from causalcxr.apps.training.vae_job import train_autoencoder

    asked = read_config(config, VAEConfig, changes or [])
    with resumable("training goes on from its last checkpoint"):
        print(train_autoencoder(asked, _command(), overwrite=overwrite))


@app.command("encode")
def encode(
    codec: Annotated[
        Path, typer.Argument(help="An autoencoder, as 'radit vae' writes it.", show_default=False)
    ],
    cohort: Spec,
    out: Out,
    batch: Annotated[int, typer.Option(help="Images at a time.")] = 32,
    shard: Annotated[int, typer.Option(help="Records a file.")] = 4096,
    dtype: Annotated[str, typer.Option(help="float16 or float32.")] = "float16",
    device: Annotated[str, typer.Option(help="auto, cpu or cuda.")] = "auto",
) -> None:
    """Encode a cohort's images once and keep the latents; interrupted, it goes on."""
    from causalcxr.apps.training.vae_job import encode_cohort

    with resumable(f"the latents so far are in {out}"):
        latents = encode_cohort(
            codec, cohort, out, batch=batch, shard=shard, dtype=dtype, device=device
        )
    print(f"{latents.folder}: {latents}")


def _command() -> str:
    return shlex.join(["causalcxr", *sys.argv[1:]])
