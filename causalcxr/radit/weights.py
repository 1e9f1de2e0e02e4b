"""Weights on disk: safetensors with a description in the header.

The header holds the shape of the network and the meaning of each embedding, so that weights can be
used for other variables, and refused where they do not fit; and a hash of the tensors, so that a
changed file is refused. Large networks are written in several files.
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from causalcxr.common.digests import file_digest
from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.graph.variables import Variable
from causalcxr.radit.growing import grown
from causalcxr.radit.shape import RadiTConfig
from causalcxr.radit.transformer import RadiT

__all__ = [
    "BUNDLED",
    "VERSION",
    "add_to_header",
    "adopt_weights",
    "check_unchanged",
    "content_hash",
    "resolve",
    "resolve_file",
    "save_radit",
    "saved_calibration",
    "shape_of",
]

BUNDLED = Path(__file__).parent / "bundled"
VERSION = "2"  # of the network; increased when the same tensors get another meaning
_SHARD = 16 * 2**20  # bytes per file


def resolve(name: str, resolution: int) -> Path:
    """Find weights by a bundled name ("phantom", or "phantom-64" in full) or a path.

    Raises:
        ModelError: If there is no such file; the message lists the bundled names.
    """
    # Weights of a lower resolution have their full name; they start a network of a higher one.
    if (BUNDLED / f"{name}.safetensors").is_file():
        return resolve_file(name)
    advice = "; give a path or train them with 'causalcxr radit train'"
    return _found(f"{name}-{resolution}", name, f"weights {name!r} at {resolution} pixels", advice)


def resolve_file(name: str) -> Path:
    """Find weights by the full name of a bundled file, such as "phantom-64", or by a path.

    Raises:
        ModelError: If there is no such file.
    """
    return _found(name, name, f"weights {name!r}")


def _found(stem: str, name: str, words: str, advice: str = "") -> Path:
    """Return the bundled file with a stem, else the path that the name is."""
    bundled = BUNDLED / f"{stem}.safetensors"
    path = bundled if bundled.exists() else Path(name)
    if not path.is_file():
        names = sorted(p.stem for p in BUNDLED.glob("*.safetensors") if p.stem[-1].isdigit())
        raise ModelError(
            f"{words}: no such file and not bundled (bundled: {', '.join(names)}){advice}"
        )
    return path


def shape_of(path: Path) -> RadiTConfig:
    """Return the shape of the network in a file of weights.

    Raises:
        ModelError: If the file does not hold weights of RadiT.
    """
    return _config(path, _read(path)[1])


def content_hash(tensors: Mapping[str, Tensor]) -> str:
    """Return a hash of tensors: names, types, shapes and every bit.

    Example:
        >>> content_hash({"a": torch.zeros(1)}) == content_hash({"a": torch.zeros(1).double()})
        False
    """
    digest = hashlib.sha256()
    # Sorted, so that the order of the tensors does not matter.
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\0".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def check_unchanged(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, str]) -> None:
    """Check tensors against the hash in their file's header.

    Raises:
        ModelError: If they differ.
    """
    if content_hash(tensors) != about.get("content"):
        raise ModelError(f"{path}: tensors were changed since they were written; fetch it again")


def save_radit(path: Path, net: RadiT, *, shard: int = _SHARD, **about: str) -> None:
    """Write a network's weights, with a description in the header.

    Args:
        path: The file to write; it is written last. Tensors that do not fit go to files beside it,
            `<name>.part2.safetensors` and so on.
        net: The network.
        shard: The largest number of bytes of tensors per file.
        **about: Texts for the header; the calibration of the network, if any, is added as JSON.
    """
    state = net.state_dict()
    tensors = {k: v for k, v in state.items() if not k.startswith("calibration.")}
    if net.calibration is not None:
        about = {"calibration": net.calibration.to_json(), **about}
    metadata = {
        "kind": "radit",
        "version": VERSION,
        "config": json.dumps(asdict(net.config)),
        "variables": net.conditioner.describe(),
    }
    _write(path, tensors, metadata | about, shard)


def add_to_header(path: Path, out: Path, **about: str) -> None:
    """Write the same weights with more texts in the header; all tensors stay bit-exact.

    Args:
        path: A safetensors file written by `save_radit`.
        out: The file to write, which may be the same one.
        **about: Texts for the header.

    Raises:
        ModelError: If the file does not hold weights of RadiT, or is damaged or changed.
    """
    tensors, metadata = _read(path)
    _write(out, tensors, metadata | about, _SHARD)


def saved_calibration(path: Path) -> str:
    """Return the calibration in the header of weights, JSON; "" if there is none.

    Raises:
        ModelError: If the file does not hold weights of RadiT, or is damaged or changed.
    """
    return _read(path)[1].get("calibration", "")


def _write(path: Path, tensors: dict[str, Tensor], about: dict[str, str], shard: int) -> None:
    """Write tensors in files of limited size, with texts in the header of the first."""
    # The further parts first: the main file lists their hashes.
    first, *others = _shards(tensors, shard)
    parts = {}
    for k, part in enumerate(others, 2):
        file = path.with_suffix(f".part{k}.safetensors")
        save_tensors(file, part, {"part_of": path.name})
        parts[file.name] = file_digest(file)
    about = about | {"content": content_hash(tensors), "parts": json.dumps(parts)}
    save_tensors(path, first, about)


def _shards(tensors: Mapping[str, Tensor], limit: int) -> Iterator[dict[str, Tensor]]:
    """Yield groups of tensors, in their order, of at most `limit` bytes or a single tensor."""
    group: dict[str, Tensor] = {}
    size = 0
    for name, value in tensors.items():
        if group and size + value.nbytes > limit:
            yield group
            group, size = {}, 0
        group[name], size = value, size + value.nbytes
    yield group


def adopt_weights(path: Path, config: RadiTConfig | None, variables: Sequence[Variable]) -> RadiT:
    """Build a network for these variables from weights trained for these or for others.

    Embeddings are matched by the names of variables and levels, see `Conditioner.adopt`; all other
    tensors must fit. A network of a lower resolution can start one of a higher resolution, see
    `causalcxr.radit.growing`.

    Args:
        path: A safetensors file written by `save_radit`.
        config: The shape of the network; None for that of the file.
        variables: The tabular parents of the image.

    Raises:
        ModelError: If the file does not hold weights of RadiT, is damaged or changed, or is of
            another version or another shape of network.
    """
    tensors, about = _read(path)
    saved = _config(path, about)
    config = config or saved
    tensors = grown(tensors, saved, config)
    if tensors is None:
        raise ModelError(
            f"{path}: weights are for {saved}, the graph asks for {config}; change size or "
            "resolution, or choose other weights"
        )
    # Building draws initial weights: the global random state is restored afterwards.
    with torch.random.fork_rng(devices=[]):
        net = RadiT(config, variables)
    # Embeddings are matched by name; all else must fit as it is.
    adopted = dict(tensors)
    try:
        embeddings = net.conditioner.adopt(_part(tensors, "conditioner."), about["variables"])
        _replace(adopted, "conditioner.", embeddings)
        if net.mean is not None:
            _replace(adopted, "mean.", net.mean.adopt(_part(tensors, "mean.")))
        net.load_state_dict(adopted)
    except (RuntimeError, LookupError, ValueError, AttributeError) as error:
        raise ModelError(
            f"{path}: the tensors do not fit the header ({error}); fetch or train the weights "
            "again"
        ) from error
    return net


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors of a part of a network, by their names in it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _replace(tensors: dict[str, Tensor], prefix: str, part: Mapping[str, Tensor]) -> None:
    """Replace all tensors of a part of a network."""
    for name in [name for name in tensors if name.startswith(prefix)]:
        del tensors[name]
    tensors |= {prefix + name: value for name, value in part.items()}


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return all tensors, and the texts of the first file's header, once they are verified."""
    tensors, about = load_tensors(path)
    # The version first: tensors of another version may have another meaning.
    if about.get("version") != VERSION:
        raise ModelError(
            f"{path}: weights of version {about.get('version', '1 or of something else')}, this "
            f"package reads {VERSION}; train them again with 'causalcxr radit train'"
        )
    # The bare name: a header must not point outside the folder.
    for name, digest in json.loads(about.get("parts", "{}")).items():
        part = path.with_name(Path(name).name)
        if not part.is_file() or file_digest(part) != digest:
            raise ModelError(f"{part}: missing, or not the part that {path.name} lists")
        tensors |= load_tensors(part)[0]
    check_unchanged(path, tensors, about)
    return tensors, about


def _config(path: Path, about: Mapping[str, str]) -> RadiTConfig:
    """Return the shape of the network in the header of a file."""
    try:
        return RadiTConfig(**json.loads(about["config"]))
    except (LookupError, TypeError, ValueError) as error:
        raise ModelError(
            f"{path}: the header does not hold the shape of a RadiT; use a file written by "
            "'causalcxr radit train'"
        ) from error
