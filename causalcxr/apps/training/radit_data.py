"""The data of a training run of RadiT: the sources, their images or latents, and the network."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from causalcxr.apps.training.radit_config import RunConfig
from causalcxr.apps.training.training_source import TrainingSource, apportioned, load_source
from causalcxr.common.errors import CohortError, ModelError, nearest
from causalcxr.graph.graph import Graph
from causalcxr.radit.codec import Codec, Pixels
from causalcxr.radit.shape import RadiTConfig
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.vae_weights import load_codec
from causalcxr.radit.weights import adopt_weights, resolve

__all__ = ["RunData", "load_data", "network_of", "read_codec", "variables_of"]


@dataclass(frozen=True)
class RunData:
    """The data of a run: one source, or several that each have a share of every batch.

    Args:
        sources: The sources; their training records are numbered consecutively.
        counts: How many records of a batch each of several sources has; empty for one source.
    """

    sources: tuple[TrainingSource, ...]
    counts: tuple[int, ...] = ()

    @property
    def source(self) -> str:
        """The names of the sources."""
        return " + ".join(dict.fromkeys(each.cohort.source for each in self.sources))

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """The parents of all training records, each (n,)."""
        names = self.sources[0].columns
        return {name: torch.cat([each.columns[name] for each in self.sources]) for name in names}

    @property
    def parts(self) -> tuple[tuple[int, int], ...]:
        """The records of each of several sources, and how many of them a batch has."""
        return tuple(
            (len(each.cohort), count)
            for each, count in zip(self.sources, self.counts, strict=bool(self.counts))
        )

    def images(self, rows: Tensor) -> Tensor:
        """Return pixels or latents (B, C, h, w) of training records, (B,) positions."""
        if len(self.sources) == 1:
            return self.sources[0].images(rows.numpy())
        ends = np.cumsum([len(each.cohort) for each in self.sources])
        where = np.searchsorted(ends, rows.numpy(), side="right")
        out = None
        for k in np.unique(where):
            each, chosen = self.sources[k], where == k
            images = each.images(rows.numpy()[chosen] - (ends[k] - len(each.cohort)))
            out = images.new_empty(len(rows), *images.shape[1:]) if out is None else out
            out[torch.from_numpy(chosen).to(out.device)] = images
        return out


def load_data(config: RunConfig, graph: Graph, codec: Codec, device: str) -> RunData:
    """Read the training records: those with an image, of the training split if there is one.

    Args:
        config: The run.
        graph: Its graph.
        codec: Encodes the images.
        device: The device of the codec.

    Raises:
        CohortError: If a source has none, or its images are smaller than the network's.
        ModelError: If the latents are of other records or of another autoencoder.
    """
    variables_of(graph)
    several = len(config.sources) > 1
    if several and config.latents:
        raise ModelError("latents are those of one cohort; leave them out, or train on one")
    sources = tuple(
        load_source(
            each.source,
            each.share,
            graph,
            config.sides,
            validation=config.validation,
            seed=config.seed,
            codec=codec,
            device=device,
            folder=Path(config.out).with_suffix(".training") / "images",
            latents=config.latents,
        )
        for each in config.sources
    )
    if not several:
        return RunData(sources)
    batch = config.training.batch
    if batch < len(sources):
        raise CohortError(f"a batch of {batch} cannot have images of {len(sources)} cohorts")
    counts = apportioned([each.share for each in sources], batch)
    for each, count in zip(sources, counts, strict=True):
        if len(each.cohort) < count:
            raise CohortError(
                f"{each.spec}: {len(each.cohort)} images to train on, and every batch takes "
                f"{count}; lower its share or the batch"
            )
    return RunData(sources, tuple(counts))


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
    height, width = config.sides
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
        return adopt_weights(resolve(config.weights, max(config.sides)), shape, variables)
    # The seed decides the weights, and the caller's generator stays as it was.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return RadiT(shape, variables)
