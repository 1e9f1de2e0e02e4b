"""What benchmarks of image counterfactuals share: interventions, equations, errors."""

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
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import adopt_weights, resolve

__all__ = ["ACTIONS", "GRAPH", "bound", "chance", "films", "network", "reached", "wrong"]

GRAPH = Graph.load("cxr7")
# Name -> which records, what is done to them.
ACTIONS: Mapping[str, tuple[str, Intervention]] = {
    "do(sex=M)": ("Sex == 'F'", do(sex="M")),
    "do(view=PA), of AP": ("View == 'AP'", do(view="PA")),
    "do(cardiomegaly=P)": ("Cardiomegaly == 'N'", do(cardiomegaly="P")),
    "do(cardiomegaly=N)": ("Cardiomegaly == 'P'", do(cardiomegaly="N")),
    "do(pleural_effusion=P)": ("`Pleural Effusion` == 'N'", do(pleural_effusion="P")),
    "do(pleural_effusion=N)": ("`Pleural Effusion` == 'P'", do(pleural_effusion="N")),
    "do(age+20)": ("Age <= 85", do(age=Shift(20))),
}


def network(weights: str | Path = "phantom", resolution: int = 64, graph: Graph = GRAPH) -> RadiT:
    """Return a trained network of the tiny size for the parents of a graph's image."""
    variables = [graph[name] for name in graph[graph.image].parents]
    config = RadiTConfig.from_name("tiny", resolution)
    net = adopt_weights(resolve(str(weights), resolution), config, variables)
    return net.eval().requires_grad_(False)


def bound(
    net: RadiT, cohort: Cohort, solving: Solving | None = None, graph: Graph = GRAPH
) -> ImageEquation:
    """Return the image's equation under the variables of some records.

    Few records are not filled up to a large batch.
    """
    how, columns = solving or Solving(), cohort.columns(graph)
    how = replace(how, chunk=Chunk(min(len(cohort), how.chunk.size)))
    parents = {name: torch.from_numpy(columns[name]) for name in net.conditioner.names}
    return image_equation(net, parents, how)


def chance(cohort: Cohort, seed: int = 0) -> Draws:
    """Return the random numbers of some records."""
    return Draws(record_keys(cohort.records), seed, "Image")


def films(cohort: Cohort) -> Tensor:
    """Return radiographs, (n, 1, H, W), 0 to 1."""
    return torch.from_numpy(cohort.images[:])


def reached(action: Intervention) -> set[str]:
    """Return what an intervention reaches: its variables and their descendants."""
    names = set(action.bind(GRAPH).names)
    return names | {each for name in names for each in GRAPH.descendants(name)}


def wrong(twins: Tensor, true: Tensor, factual: Tensor) -> float:
    """Return |twin - true| / |factual - true|: one is no better than a copy."""
    error, copy = (twins.clamp(0, 1) - true).abs().mean(), (factual - true).abs().mean()
    return float(error / copy)
