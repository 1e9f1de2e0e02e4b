"""The truth during training: the error of twins of held-out phantoms, relative to a copy's."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalcxr.apps.training.training_source import TrainingSource, parent_columns
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError, MechanismError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph.graph import Graph
from causalcxr.graph.interventions import Shift, do
from causalcxr.graph.variables import Variable
from causalcxr.images.shrunk_images import shrunk
from causalcxr.mechanisms.image_equation import Chunk, Solving
from causalcxr.mechanisms.image_transport import image_equation
from causalcxr.radit.codec import Codec
from causalcxr.radit.transformer import RadiT
from causalcxr.sources.phantom import load, truth

__all__ = ["TruthCheck", "truth_check"]

_SEED = 77_003  # of the held-out phantoms; no cohort of a user is likely to have it
_POOL = 1000  # phantoms from which those of an intervention are chosen
_EACH = 4  # phantoms of an intervention
_MOST = 8  # interventions


@dataclass(frozen=True)
class _Twins:
    """Some phantoms, and their true twins under one intervention."""

    variable: str
    factual: Mapping[str, Tensor]
    twin: Mapping[str, Tensor]
    images: Tensor
    true: Tensor
    keys: np.ndarray

    @property
    def change(self) -> float:
        """The mean absolute difference of phantoms and true twins: the error of a copy."""
        return float((self.images - self.true).abs().mean())


@dataclass(frozen=True)
class TruthCheck:
    """Held-out phantoms with true twins, to compare the twins of a network with.

    Args:
        twins: Phantoms and true twins, an entry for each intervention.
    """

    twins: Sequence[_Twins]

    def errors(self, net: RadiT, codec: Codec) -> dict[str, float]:
        """Return |twin - true| / |factual - true| for each variable, and their mean as `truth`.

        Twins are made by transport. No number is returned if the network's changes diverge, as
        they may early in a training.

        Args:
            net: The network.
            codec: Between images and latents.
        """
        # All twins at once, as small batches are slow.
        names = self.twins[0].factual
        factual, twin = (
            {name: torch.cat([getattr(each, kind)[name] for each in self.twins]) for name in names}
            for kind in ("factual", "twin")
        )
        images = torch.cat([each.images for each in self.twins])
        draws = Draws(np.concatenate([each.keys for each in self.twins]), 0, "Image")
        solving = Solving(coupling="transport", chunk=Chunk(len(images)))
        noise = image_equation(net, factual, solving, codec).abduct(images, draws)
        try:
            twins = image_equation(net, twin, solving, codec).predict(noise).clamp(0, 1)
        except MechanismError:
            return {}
        parts = twins.split([len(each.images) for each in self.twins])
        errors = {
            each.variable: float((part - each.true).abs().mean()) / each.change
            for each, part in zip(self.twins, parts, strict=True)
        }
        mean = float(np.mean(list(errors.values())))
        return {"truth": mean} | {f"truth/{name}": error for name, error in errors.items()}


def truth_check(
    sources: Sequence[TrainingSource], graph: Graph, size: tuple[int, int]
) -> TruthCheck:
    """Return phantoms like those of a run, with a seed of their own, and their true twins.

    Every binary parent of the image is set to its other level, and a standard deviation is added
    to every number; the variables whose true effect on the image is largest are kept.

    Args:
        sources: The sources of the run; the first one with phantoms decides their world.
        graph: The graph of the run.
        size: Height and width of the images that the network or its codec takes.

    Raises:
        CohortError: If no source has phantoms.
    """
    phantoms = next((each.phantoms for each in sources if each.phantoms is not None), None)
    if phantoms is None:
        raise CohortError("truth needs phantoms in the cohort; set truth to 0, or add a phantom")
    world = replace(phantoms.world, missing=False)
    pool = load(n=_POOL, seed=_SEED, size=phantoms.size[0], bits=phantoms.bits, world=world)
    equations = Graph.load(world.graph)
    variables = [
        equations[name]
        for name in graph[graph.image].parents
        if name in equations.order and equations[name].mechanism.kind != "derived"
    ]
    chosen = [
        _twins(pool, variable, graph, size)
        for variable in variables
        if not variable.is_discrete or variable.type == "binary"
    ]
    strongest = sorted(chosen, key=lambda each: -each.change)[:_MOST]
    return TruthCheck([each for each in strongest if each.change > 0])


def _twins(pool: Cohort, variable: Variable, graph: Graph, size: tuple[int, int]) -> _Twins:
    """Return phantoms of a pool and their true twins under an intervention on one variable."""
    column, values = pool.table[variable.name], None
    if variable.type == "binary":
        first, second = variable.levels
        is_first = (column == first).to_numpy()
        # Half of the phantoms with each level, if there are so many.
        rows = _some(is_first, _EACH // 2), _some(~is_first, _EACH // 2)
        rows = np.concatenate(rows)
        values: Any = np.where(is_first[rows], second, first)
    else:
        step = variable.resolution or 1.0
        shift = max(step, step * round(float(column.std()) / step))
        highest = variable.range[1] if variable.range else np.inf
        rows = _some((column + shift <= highest).to_numpy(), _EACH)
        values = Shift(shift)
    some = pool.at(rows)
    true = truth(some, do({variable.name: values}))
    return _Twins(
        variable.name,
        parent_columns(some, graph),
        parent_columns(true, graph),
        torch.from_numpy(shrunk(some.images, size)[:]),
        torch.from_numpy(shrunk(true.images, size)[:]),
        record_keys(some.records),
    )


def _some(is_allowed: np.ndarray, n: int) -> np.ndarray:
    """Return the first n positions that are allowed."""
    return np.flatnonzero(is_allowed)[:n]
