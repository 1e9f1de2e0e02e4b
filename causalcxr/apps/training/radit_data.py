"""The data of a training run of RadiT: images or their latents, and the held-out records."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from causalcxr.apps.training.radit_config import RunConfig
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.loading import source_module
from causalcxr.cohort.selection import parse_spec
from causalcxr.cohort.splits import draw_splits
from causalcxr.common.errors import CohortError, ModelError, nearest
from causalcxr.graph.graph import Graph
from causalcxr.images.shrunk_images import shrunk
from causalcxr.radit.codec import Codec, Pixels
from causalcxr.radit.latents import Latents
from causalcxr.radit.shape import RadiTConfig
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.vae_weights import load_codec
from causalcxr.radit.weights import adopt_weights, resolve

__all__ = ["HeldOutImages", "RunData", "load_data", "network_of", "read_codec", "variables_of"]

_HELD_OUT = 512  # held-out images of a loss, at most


@dataclass(frozen=True)
class HeldOutImages:
    """Held-out images and their parents.

    Args:
        images: Pixels or latents, (k, C, h, w).
        columns: The parents, each (k,).
    """

    images: Tensor
    columns: dict[str, Tensor]


@dataclass(frozen=True)
class RunData:
    """The data of a run.

    Args:
        cohort: The training records.
        columns: Their parents, each (n,).
        images: Row numbers (B,) -> pixels or latents (B, C, h, w).
        held_out: The held-out records, if any.
    """

    cohort: Cohort
    columns: dict[str, Tensor]
    images: Callable[[Tensor], Tensor]
    held_out: HeldOutImages | None


def load_data(config: RunConfig, graph: Graph, codec: Codec, device: str) -> RunData:
    """Read the training records: those with an image, of the training split if there is one.

    Raises:
        CohortError: If there are none, or their images are smaller than the network's.
        ModelError: If the latents are of other records or of another autoencoder.
    """
    cohort = _cohort(config)
    training, held = _parts(cohort, config)
    if not len(training):
        raise CohortError(f"{config.cohort}: no images to train on")
    read = _reader(config, cohort, codec, device)
    names = [variable.name for variable in variables_of(graph)]
    held_out = None
    if len(held):
        # Evenly spread over the held-out records, not the first ones.
        rows = held[np.arange(min(len(held), _HELD_OUT)) * len(held) // min(len(held), _HELD_OUT)]
        held_out = HeldOutImages(read(rows).cpu(), _columns(cohort.at(rows), graph, names))
    records = cohort.at(training)
    columns = _columns(records, graph, names)
    return RunData(records, columns, lambda rows: read(training[rows.numpy()]), held_out)


def variables_of(graph: Graph) -> list:
    """Return the parents of a graph's image.

    Raises:
        ModelError: If it has no image.
    """
    if graph.image is None:
        raise ModelError(f"graph {graph.name!r} has no image variable to train")
    return [graph[name] for name in graph[graph.image].parents]


def read_codec(config: RunConfig, device: str) -> Codec:
    """Return the codec of the latents, or that of pixels."""
    if config.latents and not config.codec:
        raise ModelError("latents need the codec that made them; add codec: FILE")
    return load_codec(config.codec).to(device) if config.codec else Pixels()


def network_of(config: RunConfig, graph: Graph, codec: Codec) -> RadiT:
    """Return the network before training.

    Raises:
        ModelError: If there is no such size or field, or the starting weights do not fit.
    """
    height, width = _sides(config)
    if height % codec.factor or width % codec.factor:
        raise ModelError(
            f"{height} x {width} pixels are no multiple of the codec's {codec.factor}; change the "
            "resolution"
        )
    # The network sees latents, which are smaller than images by the codec's factor.
    height, width = height // codec.factor, width // codec.factor
    side = height if height == width else (height, width)
    fields = RadiTConfig.__dataclass_fields__
    for name in config.network:
        if name not in fields:
            raise ModelError(f"network: no field {name!r}{nearest(name, fields)}")
    try:
        shape = RadiTConfig.from_name(
            config.size, side, **{"channels": codec.channels, **config.network}
        )
    except TypeError as error:
        raise ModelError(f"network {config.network}: {error}; see RadiTConfig") from None
    variables = variables_of(graph)
    if config.weights:
        return adopt_weights(resolve(config.weights, max(_sides(config))), shape, variables)
    # The seed decides the weights, and the caller's generator stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return RadiT(shape, variables)


def _sides(config: RunConfig) -> tuple[int, int]:
    side = config.resolution
    return (side, side) if isinstance(side, int) else side


def _cohort(config: RunConfig) -> Cohort:
    """Return the records that have an image."""
    (name, options), sides = parse_spec(config.cohort), _sides(config)
    size = sides[0] if sides[0] == sides[1] else sides
    # Images of a folder are shrunk here, as those of twins are; others are made at this size.
    given = options if _is_folder(name) else {"size": size, **options}
    try:
        cohort = Cohort.load(name, **given).with_images_only()
    except TypeError as error:
        if isinstance(size, tuple):
            raise CohortError(f"cohort {config.cohort!r}: its images are square") from error
        # Any other TypeError is a bug, not an unknown option.
        if "keyword argument" not in str(error):
            raise
        names = ", ".join(["size", *options])
        raise CohortError(f"cohort {config.cohort!r}: does not take all of {names}") from None
    if not len(cohort):
        return cohort
    if config.latents and cohort.images.size != sides:
        raise CohortError(
            f"{config.cohort}: images are {cohort.images.size[0]} x {cohort.images.size[1]} "
            f"pixels, the latents are for {sides[0]} x {sides[1]}; change the resolution"
        )
    return cohort.with_images(shrunk(cohort.images, sides))


def _is_folder(name: str) -> bool:
    """Return whether a cohort is a saved folder or a store, whose images are of one size."""
    readers = (source_module(each) for each in ("folder", "stored"))
    return "://" in name or any(reader.recognises(Path(name)) for reader in readers)


def _parts(cohort: Cohort, config: RunConfig) -> tuple[np.ndarray, np.ndarray]:
    """Return the positions of training and held-out records; no patient is in both."""
    splits = None if cohort.splits is None else cohort.splits.to_numpy()
    if splits is None:
        share = config.validation
        splits = draw_splits(cohort.patients, (1 - share, share, 0.0), config.seed)
    return np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")


def _columns(cohort: Cohort, graph: Graph, names: list[str]) -> dict[str, Tensor]:
    """Return the parents of the image, (n,) each."""
    columns = cohort.columns(graph)
    return {name: torch.from_numpy(columns[name]) for name in names}


def _reader(
    config: RunConfig, cohort: Cohort, codec: Codec, device: str
) -> Callable[[np.ndarray], Tensor]:
    """Return a function from positions in the cohort to pixels or latents."""
    if config.latents:
        return Latents(Path(config.latents), codec, cohort).__getitem__
    pixels = cohort.images.in_memory()

    @torch.no_grad()
    def read(rows: np.ndarray) -> Tensor:
        images = torch.from_numpy(pixels[rows]) * 2 - 1
        return images if isinstance(codec, Pixels) else codec.encode(images.to(device))

    return read
