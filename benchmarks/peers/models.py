"""The models of the table: a network, and how its equation is bound."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._image_twins import GRAPH
from benchmarks.peers.families import FAMILIES, snapshot, solving, trained_network
from causalcxr import Cohort
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.mechanisms.image_equation import ImageEquation
from causalcxr.radit.transformer import RadiTConfig

__all__ = [
    "MINUTES",
    "VARIANTS",
    "Model",
    "Variant",
    "WithoutAbduction",
    "model",
    "parents_of",
    "train_network",
]

#: Of processor time, for each network.
MINUTES = 24.0
_CONFIG = RadiTConfig.from_name("tiny", 64)
_VARIABLES = tuple(GRAPH[name] for name in GRAPH[GRAPH.image].parents)

#: Parents -> the image's equation.
Model = Callable[[Columns], Equation]
Binding = Callable[[nn.Module, Columns], Equation]


class WithoutAbduction(Equation):
    """Generate without abduction: the noise does not depend on the image."""

    def __init__(self, equation: Equation) -> None:
        self.equation = equation

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return noise from the prior."""
        return self.equation.sample_noise(draws.on("anew"))

    def predict(self, u: Tensor) -> Tensor:
        """Return images."""
        return self.equation.predict(u)


@dataclass(frozen=True)
class Variant:
    """A network and how its equation is bound; the family's default if `bind` is None."""

    family: str
    bind: Binding | None = None


VARIANTS: Mapping[str, Variant] = {
    "RadiT": Variant("RadiT"),
    "RadiT, threshold .03": Variant(
        "RadiT",
        lambda net, parents: ImageEquation(net, parents, solving(parents, threshold=0.03)),
    ),
    "RadiT, guided 1.5": Variant(
        "RadiT", lambda net, parents: ImageEquation(net, parents, solving(parents, 1.5))
    ),
    "RadiT, without abduction": Variant(
        "RadiT", lambda net, parents: WithoutAbduction(FAMILIES["RadiT"].bind(net, parents))
    ),
    "RadiT, transport": Variant("RadiT, transport"),
    "HVAE, beta 9": Variant("HVAE, beta 9"),
    "HVAE": Variant("HVAE"),
    "DDIM U-Net": Variant("DDIM U-Net"),
}


def train_network(
    name: str, images: Callable[[], tuple[Cohort, np.ndarray]], minutes: float, folder: Path
) -> dict[str, float]:
    """Train a model's network unless that is done, and return figures of its training."""

    def training_data() -> tuple[Tensor, Columns]:
        cohort, pixels = images()
        return torch.from_numpy(pixels), parents_of(cohort)

    return trained_network(
        VARIANTS[name].family, _CONFIG, _VARIABLES, training_data, minutes=minutes, folder=folder
    )[1]


def parents_of(cohort: Cohort) -> Columns:
    """Return the image's parents of a cohort, each (n,)."""
    columns = cohort.columns(GRAPH)
    return {v.name: torch.from_numpy(columns[v.name]) for v in _VARIABLES}


def model(name: str, folder: Path, share: float = 1.0) -> Model:
    """Return a model after a share of its network's training."""
    variant = VARIANTS[name]
    net = snapshot(variant.family, _CONFIG, _VARIABLES, share, folder)
    bind = variant.bind or FAMILIES[variant.family].bind
    return lambda parents: bind(net, {v.name: parents[v.name] for v in _VARIABLES})
