"""The models of the table: fitted equations of the variables, and networks for the image."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.morpho.world import GRAPH, load
from benchmarks.peers.families import FAMILIES, trained_network
from causalcxr import SCM, Cohort
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.radit.transformer import RadiTConfig
from causalcxr.radit.weights import content_hash

__all__ = ["Model", "image_model", "parents", "table_model"]

#: Parents -> the image's equation.
Model = Callable[[Columns], Equation]

_CONFIG = RadiTConfig.from_name("tiny", 32)
_VARIABLES = tuple(GRAPH[name] for name in GRAPH[GRAPH.image].parents)
_TRAINING_SEED = 105
_N_TABLE = 4000  # digits suffice for the equations of the variables


def parents(cohort: Cohort) -> Columns:
    """Return the image's parents of a cohort, each (n,)."""
    columns = cohort.columns(GRAPH)
    return {v.name: torch.from_numpy(columns[v.name]) for v in _VARIABLES}


def table_model(records: int, folder: Path) -> SCM:
    """Return the fitted equations of digit, thickness and intensity.

    Args:
        records: Training digits; at most 4,000 of them are used.
        folder: The model is saved here; an existing one is loaded.
    """
    place = folder / "table"
    if not place.exists():
        digits = load(min(records, _N_TABLE), seed=_TRAINING_SEED).with_images(None)
        SCM(GRAPH).fit(digits).save(place)
    return SCM.load(place)


def image_model(
    name: str, *, records: int, minutes: float, folder: Path
) -> tuple[Model, str, dict[str, float]]:
    """Return a trained image model, a hash of its weights, and figures of its training.

    Args:
        name: One of `benchmarks.peers.families.FAMILIES`.
        records: Training digits.
        minutes: Of processor time.
        folder: The weights are saved here; existing ones are loaded.
    """

    def training_data() -> tuple[Tensor, Columns]:
        digits = load(records, seed=_TRAINING_SEED)
        return torch.from_numpy(digits.images.grey_levels()), parents(digits)

    net, figures = trained_network(
        name, _CONFIG, _VARIABLES, training_data, minutes=minutes, folder=folder
    )
    bind = FAMILIES[name].bind
    return lambda columns: bind(net, columns), content_hash(net.state_dict()), figures
