"""Autoencoders on disk: one safetensors file each.

The header holds the kind, the configuration of the network and a hash of the tensors: so a file
is loaded as its own class, and a changed file is refused.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.radit.autoencoder import Autoencoder
from causalcxr.radit.flux import FluxCodec, flux_from_settings
from causalcxr.radit.vae import RadVAE, RadVAEConfig
from causalcxr.radit.weights import check_unchanged, content_hash

__all__ = ["VERSION", "load_codec", "rad_vae", "save_codec"]

VERSION = "1"  # increased when the same tensors get another meaning


def rad_vae(config: RadVAEConfig, seed: int = 0) -> RadVAE:
    """Build a Rad-VAE with initial weights drawn from a seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return RadVAE(config)


_KINDS: dict[str, tuple[type[Autoencoder], Callable[[Mapping[str, Any]], Autoencoder]]] = {
    "rad-vae": (RadVAE, lambda settings: rad_vae(RadVAEConfig(**settings))),
    "flux2-vae": (FluxCodec, flux_from_settings),
}


def save_codec(path: Path, codec: Autoencoder, **about: str) -> None:
    """Write an autoencoder, atomically.

    Args:
        path: The safetensors file.
        codec: A `RadVAE`, or a `FluxCodec` without adapters.
        **about: Texts for the header.

    Raises:
        ModelError: If it is of neither class, or its adapters have not been merged.
    """
    # Refuse classes that `load_codec` could not rebuild, and adapters not merged.
    kind = next((name for name, (type, _) in _KINDS.items() if isinstance(codec, type)), None)
    tensors = codec.state_dict()
    if kind is None or any("lora_" in name for name in tensors):
        reason = "merge its adapters first" if kind else "not an autoencoder of this package"
        raise ModelError(f"{path}: {type(codec).__name__} cannot be saved: {reason}")
    metadata = {
        "kind": kind,
        "version": VERSION,
        "config": json.dumps(codec.settings()),
        "content": content_hash(tensors),
    }
    save_tensors(Path(path), tensors, about | metadata)


def load_codec(path: str | Path) -> Autoencoder:
    """Load an autoencoder of either kind, frozen.

    Args:
        path: A file written by `save_codec`.

    Raises:
        ModelError: If it is missing, pickled, not finite, changed, of another version, or not an
            autoencoder.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; train it with 'causalcxr radit vae'")
    tensors, about = load_tensors(path)
    kind = about.get("kind")
    if kind not in _KINDS:
        kinds = " or ".join(_KINDS)
        raise ModelError(f"{path}: kind {kind or 'missing'}; expected {kinds}")
    if about.get("version") != VERSION:
        raise ModelError(
            f"{path}: an autoencoder of version {about.get('version')}, this package reads "
            f"{VERSION}; train it again with 'causalcxr radit vae'"
        )
    # Verify the hash, then build the class and fill it.
    check_unchanged(path, tensors, about)
    try:
        codec = _KINDS[kind][1](json.loads(about["config"]))
        codec.load_state_dict(tensors)
    # Its message is already complete.
    except ModelError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: the tensors do not fit the header ({reason}); fetch or train it again"
        ) from error
    return codec.eval().requires_grad_(False)
