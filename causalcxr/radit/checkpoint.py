"""Checkpoints: the whole state of a training run in one safetensors file; it resumes bit-exact.

Networks, dictionaries of tensors and optimisers are distinguished by the names of the tensors. The
settings of optimisers are in the header as JSON, and so is a hash of the file. Tensors are written
one at a time, so a large run needs no second copy in memory; tensors that are distributed over
processes are gathered on the way.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn
from torch.optim import Optimizer

from causalcxr.common.errors import ModelError
from causalcxr.common.files import atomic_file, remove_litter
from causalcxr.common.locks import exclusive
from causalcxr.radit.parallel import distributed_like, gathered

__all__ = [
    "NotFinite",
    "Part",
    "exclusive_folder",
    "read_checkpoint",
    "run_identity",
    "write_checkpoint",
]

Part = nn.Module | Optimizer | Mapping[str, Tensor]

_NAMES = {
    torch.float64: "F64",
    torch.int64: "I64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.float16: "F16",
    torch.bfloat16: "BF16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}
_BLANK = "0" * 64  # in the header in place of the file's hash while that is computed
# Bytes read at a time to hash a file.
_CHUNK = 2**24


class NotFinite(ModelError):
    """A tensor to be written is not finite."""


def write_checkpoint(
    path: Path, parts: Mapping[str, Part], about: Mapping[str, str], *, writes: bool = True
) -> None:
    """Write a checkpoint; after a kill at any moment the last one or this one is complete.

    Args:
        path: The safetensors file.
        parts: Networks, tensors and optimisers, by names without dots.
        about: Texts for the header, such as the step.
        writes: Whether this process writes; where tensors are distributed over processes, all
            call and one writes.

    Raises:
        NotFinite: If a tensor is not finite; the last checkpoint stays.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = Path(folder) / "run.safetensors"
        ...     write_checkpoint(file, {"net": {"w": torch.ones(2)}}, {"step": "3"})
        ...     w = torch.zeros(2)
        ...     read_checkpoint(file, {"net": {"w": w}})["step"], w.tolist()
        ('3', [1.0, 1.0])
    """
    tensors, words = _flat(parts)
    # Larger items first, so that each tensor is aligned.
    order = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))
    # Gathering needs every process: those that do not write join in and drop the result.
    if not writes:
        for name in order:
            _content(path, name, tensors[name])
        return
    # The header goes first, with zeros in place of the hash.
    header = _header({name: tensors[name] for name in order}, {**words, **about})
    digest = hashlib.sha256(header)
    with atomic_file(path) as file:
        file.write(header)
        for name in order:
            content = _content(path, name, tensors[name])
            digest.update(content)
            file.write(content)
        # Put the hash where the zeros were; the length of the header stays the same.
        file.seek(header.index(_BLANK.encode()))
        file.write(digest.hexdigest().encode())


def read_checkpoint(
    path: Path, parts: Mapping[str, Part], *, run: str | None = None
) -> dict[str, str]:
    """Fill networks, tensors and optimisers from a checkpoint in place, all of them or none.

    Args:
        path: A file written by `write_checkpoint`.
        parts: The same parts, of the same shapes; optimisers may be new.
        run: The identity that the header must have.

    Returns:
        The texts of the header.

    Raises:
        ModelError: If the file is not safetensors, was changed, is not finite, is of another run,
            or does not fit.
    """
    try:
        with safe_open(path, "pt") as file:
            about = file.metadata() or {}
            if run is not None and about.get("run", run) != run:
                raise ModelError(
                    f"{path}: the checkpoint is of another run (other settings, seed, starting "
                    "weights, records or images); delete it to start again, or use another folder"
                )
            # Check the run first: a checkpoint of another run gets the clearer message.
            if about.get("content") != _digest(path):
                raise ModelError(
                    f"{path}: changed since it was written, or not a checkpoint of this version; "
                    "delete it to start again"
                )
            # Check everything before anything is filled: a misfit leaves all parts as they were.
            names = set(file.keys())
            for name in names:
                _check_finite(path, name, file.get_tensor(name))
            filled = [_fit(path, key, part, file, about) for key, part in parts.items()]
            if extra := names - {name for used, _ in filled for name in used}:
                raise ModelError(_unfit(path, f"it also holds {min(extra)!r}"))
            for _, fill in filled:
                fill()
    except (SafetensorError, OSError) as error:
        reason = " ".join(str(error).split())[:120]
        raise ModelError(
            f"{path}: not a safetensors file ({reason}); pickled checkpoints are refused"
        ) from error
    ours = {"content", *(f"optimiser {key}" for key in parts)}
    return {key: value for key, value in about.items() if key not in ours}


def run_identity(settings: object, *groups: Mapping[str, Tensor]) -> str:
    """Return a hash of the settings and tensors that a run starts with.

    Args:
        settings: An object whose `repr` shows every setting.
        *groups: Tensors by name, such as weights and columns.

    Example:
        >>> ones = {"w": torch.ones(2)}
        >>> run_identity("seed 0", ones) == run_identity("seed 1", ones)
        False
    """
    digest = hashlib.sha256(repr(settings).encode())
    for tensors in groups:
        for name, value in tensors.items():
            digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


@contextmanager
def exclusive_folder(folder: Path) -> Iterator[None]:
    """Prevent other processes from training in a folder at the same time.

    Raises:
        ModelError: If another process is training there.
    """
    refusal = ModelError(
        f"{folder}: another process is training here at this moment; wait until it ends, or use "
        "another folder"
    )
    folder.mkdir(parents=True, exist_ok=True)
    with exclusive(folder / ".lock", refusal):
        remove_litter(folder)
        yield


def _flat(parts: Mapping[str, Part]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return all tensors under `part.name`, and the settings of optimisers as JSON."""
    tensors: dict[str, Tensor] = {}
    words: dict[str, str] = {}
    for key, part in parts.items():
        if not isinstance(part, Optimizer):
            tensors |= {f"{key}.{name}": value for name, value in _named(part).items()}
            continue
        # An optimiser: tensors by the number of their parameter, all else as JSON.
        state = part.state_dict()
        rest: dict[str, dict[str, Any]] = {}
        for j, entry in state["state"].items():
            for name, value in entry.items():
                if isinstance(value, Tensor):
                    tensors[f"{key}.{j}.{name}"] = value
                else:
                    rest.setdefault(str(j), {})[name] = value
        words[f"optimiser {key}"] = json.dumps({"groups": state["param_groups"], "rest": rest})
    return tensors, words


def _named(part: nn.Module | Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    return part.state_dict() if isinstance(part, nn.Module) else part


def _header(tensors: Mapping[str, Tensor], words: Mapping[str, str]) -> bytes:
    """Return the header of a safetensors file: its length in eight bytes, and JSON."""
    rows: dict[str, Any] = {"__metadata__": {"content": _BLANK, **dict(sorted(words.items()))}}
    # Offsets are relative to the end of the header.
    end = 0
    for name, value in tensors.items():
        start, end = end, end + value.numel() * value.element_size()
        shape = list(value.shape)
        rows[name] = {
            "dtype": _NAMES[value.dtype],
            "shape": shape,
            "data_offsets": [start, end],
        }
    text = json.dumps(rows).encode()
    # Pad with spaces, so that the tensors start at a multiple of eight bytes.
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def _content(path: Path, name: str, value: Tensor) -> bytes:
    """Return a tensor's bytes, gathered if it is distributed over processes."""
    full = gathered(value)
    if full.is_floating_point() and not full.isfinite().all():
        raise NotFinite(f"{path}: {name!r} is not finite; the last checkpoint is kept")
    # View as bytes first: numpy has no bfloat16.
    flat = full.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes()


def _digest(path: Path) -> str:
    """Return the hash of a file with its own hash blanked out."""
    with path.open("rb") as file:
        start = file.read(8)
        # At most 1 GiB of header: a damaged length must not fill the memory.
        header = start + file.read(min(int.from_bytes(start, "little"), 2**30))
        mark = b'"content": "'
        at = header.find(mark) + len(mark)
        # Zeros in place of the hash, as when the file was written.
        digest = hashlib.sha256(header[:at] + _BLANK.encode() + header[at + len(_BLANK) :])
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _check_finite(path: Path, name: str, value: Tensor) -> None:
    if value.is_floating_point() and not value.isfinite().all():
        raise ModelError(f"{path}: tensor {name!r} is not finite; delete it to start again")


def _unfit(path: Path, reason: str) -> str:
    rest = "delete it, or use another folder"
    return f"{path}: the checkpoint does not fit this run ({reason}); {rest}"


def _fit(path: Path, key: str, part: Part, file: Any, about: Mapping[str, str]) -> tuple:
    """Check one part; return the names of its tensors, and a function that fills it."""
    if isinstance(part, Optimizer):
        return _fit_optimiser(path, key, part, file, about)
    tensors, names = _named(part), set(file.keys())
    for name, value in tensors.items():
        saved_name = f"{key}.{name}"
        if saved_name not in names:
            raise ModelError(_unfit(path, f"it has no {saved_name!r}"))
        _check_shape(path, saved_name, file.get_slice(saved_name), value)

    def fill() -> None:
        with torch.no_grad():
            for name, value in tensors.items():
                value.copy_(distributed_like(file.get_tensor(f"{key}.{name}"), value))

    return [f"{key}.{name}" for name in tensors], fill


def _check_shape(path: Path, name: str, saved: Any, value: Tensor) -> None:
    old = saved.get_dtype(), tuple(saved.get_shape())
    new = _NAMES[value.dtype], tuple(value.shape)
    if old != new:
        raise ModelError(_unfit(path, f"{name!r} is {old[0]} {old[1]}, not {new[0]} {new[1]}"))


def _fit_optimiser(
    path: Path, key: str, part: Optimizer, file: Any, about: Mapping[str, str]
) -> tuple:
    """Check an optimiser's state; its parameters are identified by their numbers."""
    # The settings: the same parameters in the same groups.
    saved = json.loads(about.get(f"optimiser {key}", "null"))
    current = part.state_dict()["param_groups"]
    if saved is None or [g["params"] for g in saved["groups"]] != [g["params"] for g in current]:
        raise ModelError(_unfit(path, f"{key!r} has other parameters"))
    weights = [weight for group in part.param_groups for weight in group["params"]]
    # The tensors: each has the shape of its parameter, or is a scalar such as a step count.
    names = [name for name in file.keys() if name.startswith(f"{key}.")]  # noqa: SIM118
    for name in names:
        shape, place = file.get_slice(name).get_shape(), int(name.split(".")[1])
        if place >= len(weights) or (shape and tuple(shape) != tuple(weights[place].shape)):
            raise ModelError(_unfit(path, f"{name!r} has the shape {tuple(shape)}"))

    def fill() -> None:
        # The state of each parameter: plain values from the header, then tensors.
        state: dict[int, dict[str, Any]] = {int(j): dict(v) for j, v in saved["rest"].items()}
        for name in names:
            j, word = name.removeprefix(f"{key}.").split(".", 1)
            value = file.get_tensor(name)
            like = weights[int(j)]
            state.setdefault(int(j), {})[word] = (
                distributed_like(value, like) if value.ndim else value
            )
        # The kernels that compute the steps are chosen for this machine.
        kernels = [{k: group[k] for k in ("fused", "foreach") if k in group} for group in current]
        groups = [_group(g) | h for g, h in zip(saved["groups"], kernels, strict=True)]
        part.load_state_dict({"state": state, "param_groups": groups})

    return names, fill


def _group(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a group of parameters, with tuples where JSON has lists."""
    return {
        key: tuple(value) if isinstance(value, list) and key != "params" else value
        for key, value in saved.items()
    }
