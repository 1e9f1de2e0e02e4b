"""The models of the table: learned equations of the variables, and networks for the image."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.morpho.world import GRAPH, load
from benchmarks.peers.families import FAMILIES, learned
from causalcxr import SCM, Cohort
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.radit.transformer import RadiTConfig
from causalcxr.radit.weights import content_hash

__all__ = ["Model", "image_model", "parents", "table_model"]

#: Parents -> the image's equation.
Model = Callable[[Columns], Equation]

_CONFIG = RadiTConfig.from_name("tiny", 32)
_VARIABLES = tuple(GRAPH[name] for name in GRAPH[GRAPH.image].parents)
_TAUGHT = 105  # the seed of the digits that teach
_ENOUGH = 4000  # digits for the equations of the variables, which are quickly learned


def parents(cohort: Cohort) -> Columns:
    """Return the image's parents of some records, each (n,)."""
    columns = cohort.columns(GRAPH)
    return {v.name: torch.from_numpy(columns[v.name]) for v in _VARIABLES}


def table_model(records: int, folder: Path) -> SCM:
    """Return the learned equations of digit, thickness and intensity.

    Args:
        records: Digits that teach them; 4,000 of them where there are more.
        folder: Where they are kept; a model that is there is read.
    """
    place = folder / "table"
    if not place.exists():
        known = load(min(records, _ENOUGH), seed=_TAUGHT).with_images(None)
        SCM(GRAPH).fit(known).save(place)
    return SCM.load(place)


def image_model(
    name: str, *, records: int, minutes: float, folder: Path
) -> tuple[Model, str, dict[str, float]]:
    """Return a trained image model, a hash of its weights, and how its training went.

    Args:
        name: One of `benchmarks.peers.families.FAMILIES`.
        records: Digits that teach it.
        minutes: Of the processor.
        folder: Where weights are kept; those that are there are read.
    """

    def taught() -> tuple[Tensor, Columns]:
        known = load(records, seed=_TAUGHT)
        return torch.from_numpy(known.images.grey_levels()), parents(known)

    net, figures = learned(name, _CONFIG, _VARIABLES, taught, minutes=minutes, folder=folder)
    bind = FAMILIES[name].bind
    return lambda given: bind(net, given), content_hash(net.state_dict()), figures
