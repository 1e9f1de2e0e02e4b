"""Weights on disk: safetensors with the shape of the network and the meaning of each embedding beside them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from causalcxr.errors import ModelError
from causalcxr.tensors import load_tensors, save_tensors
from causalcxr.variables import Variable
from causalcxr.radit.transformer import RadiT, RadiTConfig

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
            f"weights {name!r} at {resolution} pixels: no such file and not bundled (bundled: {', '.join(names)});"
            " give a path or train them with 'causalcxr radit train'"
        )
    return path


def save_radit(path: Path, net: RadiT, state: Mapping[str, Tensor] | None = None, **about: object) -> None:
    """Write a network's weights, or another state of it (a moving average), atomically."""
    notes = {"config": asdict(net.config), "variables": net.conditioner.describe(), **about}
    metadata = {k: v if isinstance(v, str) else json.dumps(v) for k, v in notes.items()}
    save_tensors(path, state or net.state_dict(), metadata)


def adopt_weights(path: Path, config: RadiTConfig, variables: Sequence[Variable]) -> RadiT:
    """Build a network for these variables from weights trained for these or for others.

    Embeddings follow the names of variables and levels, see `Conditioner.adopt`; all other tensors must fit.

    Raises:
        ModelError: If the weights are of another shape of network.
    """
    tensors, about = load_tensors(path)
    saved = RadiTConfig(**json.loads(about.get("config", "{}")))
    if saved != config:
        raise ModelError(f"{path}: weights are for {saved}, the graph asks for {config}; change size or resolution")
    with torch.random.fork_rng(devices=[]):
        net = RadiT(config, variables)
    prefix = "conditioner."
    theirs = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    mine = net.conditioner.adopt(theirs, about["variables"])
    rest = {k: v for k, v in tensors.items() if not k.startswith(prefix)}
    net.load_state_dict(rest | {prefix + k: v for k, v in mine.items()})
    return net
