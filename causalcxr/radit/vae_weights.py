"""Autoencoders on disk: one safetensors file that says what it is.

The header holds the kind, the shape of the network and a hash of the tensors: so a file finds its
own class, and one that was changed is refused.
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
from causalcxr.radit.weights import content_hash

__all__ = ["VERSION", "load_codec", "rad_vae", "save_codec"]

VERSION = "1"  # raised when the same tensors would mean something else


def rad_vae(config: RadVAEConfig, seed: int = 0) -> RadVAE:
    """Build a Rad-VAE with first weights that the seed decides."""
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
        **about: Words for the header.

    Raises:
        ModelError: If it is neither, or adapters have not been merged.
    """
    kind = next((name for name, (type, _) in _KINDS.items() if isinstance(codec, type)), None)
    tensors = codec.state_dict()
    if kind is None or any("lora_" in name for name in tensors):
        what = "adapters that are not merged" if kind else "no autoencoder of this package"
        raise ModelError(f"{path}: {type(codec).__name__} is not saved: {what}")
    metadata = {
        "kind": kind,
        "version": VERSION,
        "config": json.dumps(codec.settings()),
        "content": content_hash(tensors),
    }
    save_tensors(Path(path), tensors, about | metadata)


def load_codec(path: str | Path) -> Autoencoder:
    """Read an autoencoder of either kind, frozen.

    Args:
        path: What `save_codec` wrote.

    Raises:
        ModelError: If it is missing, pickled, not finite, changed since it was written, of another
            version, or no autoencoder.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"{path}: no such file; train it with 'causalcxr radit vae'")
    tensors, about = load_tensors(path)
    kind = about.get("kind")
    if kind not in _KINDS:
        known = " or ".join(_KINDS)
        raise ModelError(f"{path}: this holds {kind or 'something else'}; expected {known}")
    if about.get("version") != VERSION:
        raise ModelError(
            f"{path}: an autoencoder of version {about.get('version')}, this package reads "
            f"{VERSION}; train it again with 'causalcxr radit vae'"
        )
    if content_hash(tensors) != about.get("content"):
        raise ModelError(f"{path}: tensors were changed since they were written; fetch it again")
    try:
        codec = _KINDS[kind][1](json.loads(about["config"]))
        codec.load_state_dict(tensors)
    except ModelError:
        raise
    except (RuntimeError, LookupError, TypeError, ValueError, AttributeError) as error:
        what = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{path}: tensors do not fit what the header says of them ({what}); fetch or train it "
            "again"
        ) from error
    return codec.eval().requires_grad_(False)
