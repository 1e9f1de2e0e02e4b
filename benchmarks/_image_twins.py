"""Interventions, equations and errors shared by the benchmarks of image counterfactuals."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from causalcxr import Cohort, Graph, do
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph.interventions import Intervention, Shift
from causalcxr.mechanisms.image_equation import Chunk, ImageEquation, Solving
from causalcxr.mechanisms.image_transport import image_equation
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.weights import adopt_weights, resolve

__all__ = [
    "ACTIONS",
    "GRAPH",
    "affected",
    "bind_parents",
    "load_network",
    "radiographs",
    "record_draws",
    "relative_error",
]

GRAPH = Graph.load("cxr7")
# Name -> (condition that selects records, intervention).
ACTIONS: Mapping[str, tuple[str, Intervention]] = {
    "do(sex=M)": ("Sex == 'F'", do(sex="M")),
    "do(view=PA), of AP": ("View == 'AP'", do(view="PA")),
    "do(cardiomegaly=P)": ("Cardiomegaly == 'N'", do(cardiomegaly="P")),
    "do(cardiomegaly=N)": ("Cardiomegaly == 'P'", do(cardiomegaly="N")),
    "do(pleural_effusion=P)": ("`Pleural Effusion` == 'N'", do(pleural_effusion="P")),
    "do(pleural_effusion=N)": ("`Pleural Effusion` == 'P'", do(pleural_effusion="N")),
    "do(age+20)": ("Age <= 85", do(age=Shift(20))),
}


def load_network(
    weights: str | Path = "phantom", resolution: int = 64, graph: Graph = GRAPH
) -> RadiT:
    """Return a trained network for the parents of a graph's image, of the size of the weights."""
    variables = [graph[name] for name in graph[graph.image].parents]
    net = adopt_weights(resolve(str(weights), resolution), None, variables)
    return net.eval().requires_grad_(False)


def bind_parents(
    net: RadiT, cohort: Cohort, solving: Solving | None = None, graph: Graph = GRAPH
) -> ImageEquation:
    """Return the image's equation given the variables of some records.

    A few records are not padded to a large batch.
    """
    options, columns = solving or Solving(), cohort.columns(graph)
    options = replace(options, chunk=Chunk(min(len(cohort), options.chunk.size)))
    parents = {name: torch.from_numpy(columns[name]) for name in net.conditioner.names}
    return image_equation(net, parents, options)


def record_draws(cohort: Cohort, seed: int = 0) -> Draws:
    """Return the random numbers of some records for their images."""
    return Draws(record_keys(cohort.records), seed, "Image")


def radiographs(cohort: Cohort) -> Tensor:
    """Return radiographs, (n, 1, H, W), 0 to 1."""
    return torch.from_numpy(cohort.images[:])


def affected(action: Intervention) -> set[str]:
    """Return the variables that an intervention sets, and their descendants."""
    names = set(action.bind(GRAPH).names)
    return names | {each for name in names for each in GRAPH.descendants(name)}


def relative_error(twins: Tensor, true: Tensor, factual: Tensor) -> float:
    """Return |twin - true| / |factual - true|; 1 is no better than a copy."""
    error, copy = (twins.clamp(0, 1) - true).abs().mean(), (factual - true).abs().mean()
    return float(error / copy)
