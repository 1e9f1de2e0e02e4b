"""Networks of other libraries, read from a folder on this machine: safetensors, all of it, finite.

Nothing is ever fetched, and no pickled weights are opened.
"""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from causalcxr.common.errors import ModelError, install

__all__ = ["import_extra", "local_model"]


def import_extra(library: str) -> ModuleType:
    """Import a library of the extra `latent`, or say how it is had.

    Raises:
        ModelError: If it is not installed.

    Example:
        >>> import_extra("json").dumps(1)
        '1'
        >>> import_extra("nowhere")
        Traceback (most recent call last):
        causalcxr.common.errors.ModelError: nowhere is not installed; in the folder of ...
    """
    try:
        return import_module(library)
    except ModuleNotFoundError as error:
        raise ModelError(f"{library} is not installed; {install('latent')}") from error


def local_model(library: str, name: str, folder: Path) -> Any:
    """Load a network with `from_pretrained` of its own library.

    Args:
        library: diffusers or transformers.
        name: The class.
        folder: With `config.json` and safetensors.

    Raises:
        ModelError: Naming the folder and what is wrong with it.
    """
    _check_folder(folder, name)
    build = getattr(import_extra(library), name)
    try:
        model, told = build.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # whatever the library, or a damaged file, may raise
        what = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{folder}: {name} cannot be read from here ({what})") from error
    lacking = [*told["missing_keys"], *told["mismatched_keys"]]
    if lacking:
        raise ModelError(
            f"{folder}: {len(lacking)} tensors of {name} are missing or of another shape, such as "
            f"{lacking[0]!r}; copy the folder again"
        )
    for key, tensor in model.state_dict().items():
        if tensor.is_floating_point() and not tensor.isfinite().all():
            raise ModelError(f"{folder}: tensor {key!r} is not finite; copy the folder again")
    return model.float().eval().requires_grad_(False)


def _check_folder(folder: Path, name: str) -> None:
    """Refuse what is no folder of that class, before a library guesses what to do about it."""
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"{folder}: no config.json here; put the published folder of {name} there, see "
            "docs/latents.md"
        )
    try:
        words = json.loads(config.read_text(encoding="utf-8"))
        told = words.get("_class_name") or (words.get("architectures") or [name])[0]
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise ModelError(f"{config}: not the configuration of a network ({error})") from error
    if told != name:
        raise ModelError(f"{config}: this is a {told}; expected {name}")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: no .safetensors here; pickled weights (.bin) are refused")
