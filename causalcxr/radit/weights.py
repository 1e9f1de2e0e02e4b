"""Weights on disk: safetensors that say what they are for.

The header holds the shape of the network and what each embedding stands for, so that weights can
be taken over to other variables, and refused where they do not fit.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from causalcxr.errors import ModelError
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.tensors import load_tensors, save_tensors
from causalcxr.variables import Variable

__all__ = ["BUNDLED", "adopt_weights", "resolve", "save_radit"]

BUNDLED = Path(__file__).parent.parent / "weights"


def resolve(name: str, resolution: int) -> Path:
    """Find weights by a bundled name ("phantom") or a path.

    Raises:
        ModelError: If there is no such file; the message lists the bundled names.
    """
    bundled = BUNDLED / f"{name}-{resolution}.safetensors"
    path = bundled if bundled.exists() else Path(name)
    if not path.is_file():
        names = sorted(p.stem for p in BUNDLED.glob("*.safetensors"))
        raise ModelError(
            f"weights {name!r} at {resolution} pixels: no such file and not bundled (bundled: "
            f"{', '.join(names)}); give a path or train them with 'causalcxr radit train'"
        )
    return path


def save_radit(path: Path, net: RadiT, **about: str) -> None:
    """Write a network's weights atomically, with words about them."""
    metadata = {"config": json.dumps(asdict(net.config)), "variables": net.conditioner.describe()}
    save_tensors(path, net.state_dict(), metadata | about)


def adopt_weights(path: Path, config: RadiTConfig, variables: Sequence[Variable]) -> RadiT:
    """Build a network for these variables from weights trained for these or for others.

    Embeddings follow the names of variables and levels, see `Conditioner.adopt`; all other tensors
    must fit.

    Args:
        path: A safetensors file that `save_radit` wrote.
        config: The shape of the network that is wanted.
        variables: The tabular parents of the image.

    Raises:
        ModelError: If the file holds no weights of RadiT, or of another shape of network.
    """
    tensors, about = load_tensors(path)
    saved = _config(path, about)
    if saved != config:
        raise ModelError(
            f"{path}: weights are for {saved}, the graph asks for {config}; change size or "
            "resolution, or choose other weights"
        )
    with torch.random.fork_rng(devices=[]):
        net = RadiT(config, variables)
    prefix = "conditioner."
    theirs = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    rest = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
    try:
        mine = net.conditioner.adopt(theirs, about["variables"])
        net.load_state_dict(rest | {prefix + k: v for k, v in mine.items()})
    except (RuntimeError, LookupError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: tensors do not fit what the header says of them ({error}); fetch or train "
            "the weights again"
        ) from error
    return net


def _config(path: Path, about: Mapping[str, str]) -> RadiTConfig:
    """Return the shape of the network that the header of a file tells."""
    try:
        return RadiTConfig(**json.loads(about["config"]))
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: the header does not tell the shape of a RadiT; give a file that 'causalcxr "
            "radit train' wrote"
        ) from error
