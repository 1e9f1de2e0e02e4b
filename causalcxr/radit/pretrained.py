"""Networks of other libraries, loaded from a folder on this machine and checked.

Nothing is ever downloaded, and no pickled weights are opened.
"""

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from causalcxr.common.errors import ModelError, install

__all__ = ["import_extra", "local_model"]


def import_extra(library: str) -> ModuleType:
    """Import a library of the extra `latent`, or raise an error that says how to install it.

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
        folder: A folder with `config.json` and safetensors.

    Raises:
        ModelError: If the folder does not hold this class complete and finite.
    """
    _check_folder(folder, name)
    build = getattr(import_extra(library), name)
    try:
        model, report = build.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, output_loading_info=True
        )
    except Exception as error:  # the library, or a damaged file, may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise ModelError(f"{folder}: {name} cannot be loaded ({reason})") from error
    # Missing tensors would keep arbitrary initial values: refuse them.
    lacking = [*report["missing_keys"], *report["mismatched_keys"]]
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
    """Check that the folder holds this class, before a library tries to load it."""
    config = folder / "config.json"
    if not config.is_file():
        raise ModelError(
            f"{folder}: no config.json; use the published folder of {name}, see docs/latents.md"
        )
    try:
        settings = json.loads(config.read_text(encoding="utf-8"))
        # diffusers names its class, transformers lists its architectures.
        class_name = settings.get("_class_name") or (settings.get("architectures") or [name])[0]
    except (ValueError, AttributeError, LookupError, TypeError) as error:
        raise ModelError(f"{config}: not the configuration of a network ({error})") from error
    if class_name != name:
        raise ModelError(f"{config}: this is a {class_name}; expected {name}")
    if not list(folder.glob("*.safetensors")):
        raise ModelError(f"{folder}: no .safetensors file; pickled weights (.bin) are refused")
