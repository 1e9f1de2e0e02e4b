"""Tensors on disk: safetensors files, written atomically and checked when read.

Pickles are neither written nor read: opening one runs any code that it holds.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from causalcxr.common.errors import ModelError
from causalcxr.common.files import atomic_write

__all__ = ["device_of", "load_tensors", "pack_tensors", "save_tensors"]


def device_of(name: str) -> str:
    """Return the device to work on; "auto" is a GPU if there is one.

    Raises:
        ModelError: If there is no such device here.

    Example:
        >>> device_of("cpu")
        'cpu'
    """
    best = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "auto":
        return best
    if name.partition(":")[0] not in ("cpu", best):
        raise ModelError(f"device {name!r} is unavailable here; use auto or {best}")
    return name


def pack_tensors(tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> bytes:
    """Return the content of a safetensors file, the same bytes for the same tensors and words."""
    # Clones, as safetensors refuses tensors that share memory.
    ready = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    return _ordered(save(ready, dict(about)))


def _ordered(content: bytes) -> bytes:
    """Sort the words in the header: the library writes them in an order that changes.

    A file consists of eight bytes for the length of the header, the header in JSON padded with
    spaces to a multiple of eight bytes, and the tensors.
    """
    end = 8 + int.from_bytes(content[:8], "little")
    # Sort the words; the tensors and their order stay as they are.
    header = json.loads(content[8:end])
    words = header.pop("__metadata__", {})
    text = json.dumps({"__metadata__": dict(sorted(words.items())), **header}).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[end:]


def save_tensors(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Write tensors and their metadata, atomically."""
    atomic_write(path, pack_tensors(tensors, about))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read tensors and their metadata; refuse other formats and values that are not finite.

    Raises:
        ModelError: With the file and the fault.
    """
    try:
        with safe_open(path, "pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            about = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise ModelError(
            f"{path}: not a safetensors file ({error}); pickled weights are refused"
        ) from error
    # Integers have no NaN, so only floats are checked.
    bad = [k for k, v in tensors.items() if v.is_floating_point() and not v.isfinite().all()]
    if bad:
        raise ModelError(f"{path}: tensor {bad[0]!r} is not finite; train or fetch it again")
    return tensors, about
