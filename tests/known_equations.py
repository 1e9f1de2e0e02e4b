"""Models whose equations are known, for tests against closed forms."""

from collections.abc import Callable

import torch
from torch import Tensor

import causalcxr as cx
from causalcxr import Cohort, Graph, Variable
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms import Equation, Mechanism
from causalcxr.scm.fitting import Fitted
from causalcxr.scm.support import count_support

EquationFunction = Callable[..., Tensor]


class AdditiveNoise(Equation):
    """x = mean + u, u ~ N(0, 1)."""

    def __init__(self, mean: Tensor) -> None:
        self.mean = mean

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        return x - self.mean

    def predict(self, u: Tensor) -> Tensor:
        return self.mean + u

    def sample_noise(self, draws: Draws) -> Tensor:
        return torch.from_numpy(draws.normal()[:, 0])


class Threshold(Equation):
    """x = 1 where u > 1 - p, u ~ U(0, 1)."""

    def __init__(self, p: Tensor) -> None:
        self.p = p

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        v = torch.from_numpy(draws.uniform()[:, 0])
        return torch.where(x == 1, 1 - self.p + self.p * v, (1 - self.p) * v)

    def predict(self, u: Tensor) -> Tensor:
        return (u > 1 - self.p).double()

    def sample_noise(self, draws: Draws) -> Tensor:
        return torch.from_numpy(draws.uniform()[:, 0])


class KnownMechanism(Mechanism):
    """An equation whose mean, or P(second level), is a known function of the parents."""

    def __init__(
        self, variable: Variable, parents: list[Variable], function: EquationFunction | float
    ) -> None:
        super().__init__(variable, parents)
        self.function = function

    def forward(self, parents: dict[str, Tensor]) -> Equation:
        function = (
            self.function
            if callable(self.function)
            else lambda: torch.tensor([self.function]).double()
        )
        return (Threshold if self.variable.is_discrete else AdditiveNoise)(function(**parents))


def known_model(
    graph: Graph, equations: dict[str, EquationFunction | float], n: int
) -> tuple[cx.SCM, Cohort]:
    """Return the model of known equations, and n records of it."""
    fitted = {}
    for name, function in equations.items():
        mechanism = KnownMechanism(graph[name], [graph[p] for p in graph.parents(name)], function)
        fitted[name] = Fitted(mechanism, graph.equation_hash(name), name, 0, 0)
    model = cx.SCM(graph)._with(fitted=fitted)
    cohort = model.sample(n, seed=7)
    return model._with(support=count_support(graph, cohort.columns(graph))), cohort


def numbers(**parents: tuple[str, ...]) -> Graph:
    return Graph([Variable(name, "continuous", parents=names) for name, names in parents.items()])


def binaries(**parents: tuple[str, ...]) -> Graph:
    return Graph([Variable(name, "binary", parents=names) for name, names in parents.items()])


def linear_world() -> tuple[cx.SCM, Cohort]:
    """Y = 13 A + 7 M + 11 K + u, K = 3 A + M / 2 + u, M = 2 A + u."""
    graph = numbers(A=(), M=("A",), K=("A", "M"), Y=("A", "M", "K"))
    equations = {
        "A": 0.0,
        "M": lambda A: 2 * A,
        "K": lambda A, M: 3 * A + M / 2,
        "Y": lambda A, M, K: 13 * A + 7 * M + 11 * K,
    }
    return known_model(graph, equations, 50)


def kite_world() -> tuple[cx.SCM, Cohort]:
    """A -> W, W -> M, and Y of A, W and M."""
    graph = binaries(A=(), W=("A",), M=("W",), Y=("A", "W", "M"))
    equations = {
        "A": 0.4,
        "W": lambda A: 0.2 + 0.6 * A,
        "M": lambda W: 0.1 + 0.7 * W,
        "Y": lambda A, W, M: 0.05 + 0.2 * A + 0.1 * W + 0.1 * M + 0.5 * W * M,
    }
    return known_model(graph, equations, 20_000)
