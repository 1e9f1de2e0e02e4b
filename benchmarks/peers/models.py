"""The models of the table: which network, asked in which way."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks._twins import GRAPH
from benchmarks.peers.families import FAMILIES, learned, snapshot, solving
from causalcxr import Cohort
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.mechanisms.image_equation import ImageEquation
from causalcxr.radit.transformer import RadiTConfig

__all__ = ["MINUTES", "WAYS", "Anew", "Model", "Way", "model", "parents_of", "trained_by"]

#: Of one processor, for each network.
MINUTES = 24.0
_CONFIG = RadiTConfig.from_name("tiny", 64)
_VARIABLES = tuple(GRAPH[name] for name in GRAPH[GRAPH.image].parents)

#: Parents -> the image's equation.
Model = Callable[[Columns], Equation]
Binding = Callable[[nn.Module, Columns], Equation]


class Anew(Equation):
    """Generate without abduction: noise that knows nothing of the image."""

    def __init__(self, equation: Equation) -> None:
        self.equation = equation

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return noise of the prior."""
        return self.equation.sample_noise(draws.on("anew"))

    def predict(self, u: Tensor) -> Tensor:
        """Return images."""
        return self.equation.predict(u)


@dataclass(frozen=True)
class Way:
    """A network and how it is asked; the family's own way if nothing is given."""

    family: str
    bind: Binding | None = None


WAYS: Mapping[str, Way] = {
    "RadiT": Way("RadiT"),
    "RadiT, threshold .03": Way(
        "RadiT",
        lambda net, parents: ImageEquation(net, parents, solving(parents, threshold=0.03)),
    ),
    "RadiT, guided 1.5": Way(
        "RadiT", lambda net, parents: ImageEquation(net, parents, solving(parents, 1.5))
    ),
    "RadiT, anew": Way("RadiT", lambda net, parents: Anew(FAMILIES["RadiT"].bind(net, parents))),
    "HVAE, beta 9": Way("HVAE, beta 9"),
    "HVAE": Way("HVAE"),
    "DDIM U-Net": Way("DDIM U-Net"),
}


def trained_by(
    name: str, films: Callable[[], tuple[Cohort, np.ndarray]], minutes: float, folder: Path
) -> dict[str, float]:
    """Train a model's network where that is not done, and return how it went."""

    def taught() -> tuple[Tensor, Columns]:
        cohort, grey = films()
        return torch.from_numpy(grey), parents_of(cohort)

    return learned(WAYS[name].family, _CONFIG, _VARIABLES, taught, minutes=minutes, folder=folder)[
        1
    ]


def parents_of(cohort: Cohort) -> Columns:
    """Return the image's parents of some records, each (n,)."""
    columns = cohort.columns(GRAPH)
    return {v.name: torch.from_numpy(columns[v.name]) for v in _VARIABLES}


def model(name: str, folder: Path, share: float = 1.0) -> Model:
    """Return a model whose network has had a share of its training."""
    way = WAYS[name]
    net = snapshot(way.family, _CONFIG, _VARIABLES, share, folder)
    bind = way.bind or FAMILIES[way.family].bind
    return lambda parents: bind(net, {v.name: parents[v.name] for v in _VARIABLES})
