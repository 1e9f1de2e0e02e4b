"""One cohort of a training run: its training records, its held-out records, and their images."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from causalcxr.apps.training.kept_images import KeptImages
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.loading import source_module
from causalcxr.cohort.selection import parse_spec
from causalcxr.cohort.splits import draw_splits
from causalcxr.common.errors import CohortError
from causalcxr.graph.graph import Graph
from causalcxr.images.images import Images
from causalcxr.images.shrunk_images import ShrunkImages, shrunk
from causalcxr.radit.codec import Codec, Pixels
from causalcxr.radit.latents import Latents
from causalcxr.sources.phantom import PhantomImages

__all__ = ["HeldOutImages", "TrainingSource", "apportioned", "load_source", "parent_columns"]

_HELD_OUT = 512  # held-out images of a loss, at most

Reader = Callable[[np.ndarray], Tensor]


@dataclass(frozen=True)
class HeldOutImages:
    """Held-out images and their parents.

    Args:
        read: Returns the images, pixels or latents, (k, C, h, w); called once.
        columns: The parents, each (k,).
    """

    read: Callable[[], Tensor]
    columns: dict[str, Tensor]

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    @cached_property
    def images(self) -> Tensor:
        """Pixels or latents, (k, C, h, w)."""
        return self.read()


@dataclass(frozen=True)
class TrainingSource:
    """One cohort of a run.

    Args:
        spec: The cohort as the configuration names it.
        share: Its share of every batch.
        cohort: The training records.
        columns: Their parents, each (n,); missing where the cohort does not have a variable.
        images: Positions among the training records -> pixels or latents (B, C, h, w).
        held_out: The held-out records, if any.
        kept: The images of all records, if they are kept on disk.
        phantoms: The phantoms of all records before they are shrunk, if they are phantoms.
    """

    spec: str
    share: float
    cohort: Cohort
    columns: dict[str, Tensor]
    images: Reader
    held_out: HeldOutImages | None
    kept: KeptImages | None
    phantoms: PhantomImages | None


def load_source(
    spec: str,
    share: float,
    graph: Graph,
    size: tuple[int, int],
    *,
    validation: float,
    seed: int,
    codec: Codec,
    device: str,
    folder: Path,
    latents: str = "",
) -> TrainingSource:
    """Read the records of a cohort that have an image.

    Args:
        spec: As the command line names a cohort.
        share: Its share of every batch.
        graph: The graph, whose image has the parents.
        size: Height and width of the images that the network or the codec takes; larger ones are
            shrunk.
        validation: The share of the patients that are held out, if the cohort has no splits.
        seed: Seed of that division.
        codec: Encodes the images.
        device: The device of the codec.
        folder: The folder in which rendered and shrunk images are kept.
        latents: The folder of the cached latents of the cohort, if any.

    Raises:
        CohortError: If there are no records to train on, or their images are smaller.
        ModelError: If the latents are of other records or of another autoencoder.
    """
    cohort = _cohort(spec, size, has_latents=bool(latents))
    phantoms = cohort.images if isinstance(cohort.images, PhantomImages) else None
    if len(cohort):
        cohort = cohort.with_images(shrunk(cohort.images, size))
    splits = None if cohort.splits is None else cohort.splits.to_numpy()
    if splits is None:
        splits = draw_splits(cohort.patients, (1 - validation, validation, 0.0), seed)
    training, held = np.flatnonzero(splits == "train"), np.flatnonzero(splits == "val")
    if not len(training):
        raise CohortError(f"{spec}: no images to train on")
    read, kept = _reader(cohort, codec, device, folder, latents)
    held_out = None
    if len(held):
        # Evenly spread over the held-out records, not the first ones.
        rows = held[np.arange(min(len(held), _HELD_OUT)) * len(held) // min(len(held), _HELD_OUT)]
        held_out = HeldOutImages(lambda: read(rows).cpu(), parent_columns(cohort.at(rows), graph))
    records = cohort.at(training)
    columns = parent_columns(records, graph)
    return TrainingSource(
        spec,
        share,
        records,
        columns,
        lambda rows: read(training[rows]),
        held_out,
        kept,
        phantoms,
    )


def apportioned(shares: Sequence[float], batch: int) -> list[int]:
    """Return how many records of a batch each source has, by the largest remainders.

    Every source has at least one.

    Args:
        shares: The shares of the sources, which sum to 1.
        batch: Records per batch, at least one for each source.

    Example:
        >>> apportioned([0.8, 0.2], 64), apportioned([0.99, 0.01], 8)
        ([51, 13], [7, 1])
    """
    exact = np.array(shares) * batch
    counts = np.maximum(1, np.floor(exact)).astype(int)
    while (rest := batch - counts.sum()) != 0:
        # Give to the source that lacks most, or take from the one that has most too many.
        gap = exact - counts
        counts[gap.argmax() if rest > 0 else np.where(counts > 1, gap, np.inf).argmin()] += (
            1 if rest > 0 else -1
        )
    return counts.tolist()


def _cohort(spec: str, sides: tuple[int, int], *, has_latents: bool) -> Cohort:
    """Return the records that have an image."""
    name, options = parse_spec(spec)
    size = sides[0] if sides[0] == sides[1] else sides
    # Images of a folder are shrunk here, as those of twins are; others are made at this size.
    given = options if _is_folder(name) else {"size": size, **options}
    try:
        cohort = Cohort.load(name, **given).with_images_only()
    except TypeError as error:
        if isinstance(size, tuple):
            raise CohortError(f"cohort {spec!r}: its images are square") from error
        # Any other TypeError is a bug, not an unknown option.
        if "keyword argument" not in str(error):
            raise
        names = ", ".join(["size", *options])
        raise CohortError(f"cohort {spec!r}: does not take all of {names}") from None
    if has_latents and len(cohort) and cohort.images.size != sides:
        raise CohortError(
            f"{spec}: images are {cohort.images.size[0]} x {cohort.images.size[1]} pixels, the "
            f"latents are for {sides[0]} x {sides[1]}; change the resolution"
        )
    return cohort


def _is_folder(name: str) -> bool:
    """Return whether a cohort is a saved folder or a store, whose images are of one size."""
    readers = (source_module(each) for each in ("folder", "stored"))
    return "://" in name or any(reader.recognises(Path(name)) for reader in readers)


def parent_columns(cohort: Cohort, graph: Graph) -> dict[str, Tensor]:
    """Return the parents of the image, (n,) each."""
    columns = cohort.columns(graph)
    return {name: torch.from_numpy(columns[name]) for name in graph[graph.image].parents}


def _reader(
    cohort: Cohort, codec: Codec, device: str, folder: Path, latents: str
) -> tuple[Reader, KeptImages | None]:
    """Return a function from positions in the cohort to pixels or latents, and what is kept."""
    if latents:
        return Latents(Path(latents), codec, cohort).__getitem__, None
    kept = _kept(cohort.images, folder)
    pixels = cohort.images.in_memory() if kept is None else kept

    @torch.no_grad()
    def read(rows: np.ndarray) -> Tensor:
        images = torch.from_numpy(pixels[rows]) * 2 - 1
        return images if isinstance(codec, Pixels) else codec.encode(images.to(device))

    return read, kept


def _kept(images: Images, folder: Path) -> KeptImages | None:
    """Return images to keep on disk: phantoms, which are rendered, and images that are shrunk."""
    if isinstance(images, PhantomImages):
        return KeptImages(images, folder, levels=2**images.bits - 1)
    return KeptImages(images, folder, 65535) if isinstance(images, ShrunkImages) else None
