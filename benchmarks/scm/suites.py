"""Structural causal models with known equations, and therefore known counterfactuals.

Three families: the suite of causal normalising flows (additive noise, except in one equation), a
suite whose noise is not additive, and five random models of mixed types. In each, x is increasing
(or decreasing) in its own noise, so the counterfactual is identified.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from causalcxr import Graph
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph import Variable

__all__ = ["SUITES", "Node", "Suite", "mixed"]

Values = Mapping[str, np.ndarray]
_REAL_LINE = (-np.inf, np.inf)


@dataclass(frozen=True)
class Node:
    """One true structural equation.

    Args:
        parents: The names of the direct causes.
        value: Of a continuous variable: values of the parents and noise u ~ N(0, 1) -> x, (n,).
        logits: Of a discrete one: values of the parents and n -> unnormalised log p, (n, K).
        levels: The texts of the levels; two are coupled by their order, more by Gumbel noise.
        support: The open interval that contains all possible values.
    """

    parents: tuple[str, ...] = ()
    value: Callable[[Values, np.ndarray], np.ndarray] | None = None
    logits: Callable[[Values, int], np.ndarray] | None = None
    levels: tuple[str, ...] = ()
    support: tuple[float, float] = _REAL_LINE

    def noise(self, draws: Draws) -> np.ndarray:
        """Return noise from the prior: (n,) of N(0, 1) or U(0, 1), or (n, K) of Gumbel(0)."""
        if not self.levels:
            return draws.normal()[:, 0]
        return draws.uniform()[:, 0] if len(self.levels) == 2 else draws.gumbel(len(self.levels))

    def predict(self, values: Values, u: np.ndarray) -> np.ndarray:
        """Return x, (n,): a number, or the position of a level."""
        if not self.levels:
            return self.value(values, u)
        logp = _log_softmax(self.logits(values, len(u)))
        if len(self.levels) == 2:
            return (u > np.exp(logp[:, 0])).astype(float)
        return (logp + u).argmax(1).astype(float)

    def posterior(self, values: Values, u: np.ndarray, draws: Draws) -> np.ndarray:
        """Return noise given x: the true noise of a number, a posterior sample for a level.

        Args:
            values: The factual values of all variables, (n,) each.
            u: The true noise; for a level, only the level that it gives is used.
            draws: The random numbers of the n records.
        """
        if not self.levels:
            return u
        x = self.predict(values, u).astype(int)[:, None]
        logp = _log_softmax(self.logits(values, len(u)))
        if len(self.levels) == 2:
            low = np.where(x[:, 0] == 1, np.exp(logp[:, 0]), 0.0)
            return low + np.exp(np.take_along_axis(logp, x, 1)[:, 0]) * draws.uniform()[:, 0]
        g = draws.gumbel(len(self.levels) + 1)
        below = -np.logaddexp(-g[:, :1], -(g[:, 1:] + logp))
        np.put_along_axis(below, x, g[:, :1], 1)
        return below - logp


@dataclass(frozen=True)
class Suite:
    """A model: nodes in causal order.

    Args:
        name: Of the model.
        nodes: The equations, causes first.

    Example:
        >>> suite = SUITES["chain-nlin"]
        >>> noise = suite.noise(3, seed=0)
        >>> facts = suite.values(noise)
        >>> twins = suite.values(noise, {"x1": 0.0})
        >>> bool((twins["x2"] == 1 + noise["x2"] / 4).all())
        True
    """

    name: str
    nodes: Mapping[str, Node] = field(default_factory=dict)

    @property
    def continuous(self) -> list[str]:
        """The names of the continuous variables."""
        return [name for name, node in self.nodes.items() if not node.levels]

    @property
    def discrete(self) -> list[str]:
        """The names of the discrete variables."""
        return [name for name, node in self.nodes.items() if node.levels]

    def noise(self, n: int, seed: int) -> dict[str, np.ndarray]:
        """Return the noise of n records; the first ones do not depend on n."""
        keys = record_keys(pd.RangeIndex(n))
        return {name: node.noise(Draws(keys, seed, name)) for name, node in self.nodes.items()}

    def values(
        self, noise: Values, action: Mapping[str, float] | None = None
    ) -> dict[str, np.ndarray]:
        """Return every variable, (n,) each; those of the action are set by intervention."""
        values: dict[str, np.ndarray] = {}
        for name, node in self.nodes.items():
            u = noise[name]
            fixed = (action or {}).get(name)
            values[name] = node.predict(values, u) if fixed is None else np.full(len(u), fixed)
        return values

    def posterior(
        self, values: Values, noise: Values, *, draw: int, seed: int
    ) -> dict[str, np.ndarray]:
        """Return one exact posterior sample of the noise given the facts."""
        keys = record_keys(pd.RangeIndex(len(next(iter(values.values())))))
        return {
            name: node.posterior(values, noise[name], Draws(keys, seed, f"oracle {name}", draw))
            for name, node in self.nodes.items()
        }

    def descendants(self, name: str) -> list[str]:
        """Return the descendants of a variable, causes first."""
        names = {name}
        for other, node in self.nodes.items():
            if names.intersection(node.parents):
                names.add(other)
        return [other for other in self.nodes if other in names and other != name]

    def actions(self, values: Values) -> Iterator[tuple[str, float]]:
        """Yield the interventions: each quartile, or each level, of each variable with effects.

        Args:
            values: The training values, which determine the quartiles.
        """
        for name, node in self.nodes.items():
            if not self.descendants(name):
                continue
            levels = range(len(node.levels))
            values_to_set = levels if node.levels else np.percentile(values[name], (25, 50, 75))
            yield from ((name, float(value_to_set)) for value_to_set in values_to_set)

    def graph(self) -> Graph:
        """Return the graph as users would declare it: types, levels and parents, no range."""
        types = {0: "continuous", 2: "binary"}
        return Graph(
            [
                Variable(
                    name,
                    types.get(len(node.levels), "categorical"),
                    parents=node.parents,
                    **({"levels": node.levels} if node.levels else {}),
                )
                for name, node in self.nodes.items()
            ],
            name=self.name,
        )

    def impossible(self, values: Values) -> int:
        """Return how many values the true equations cannot give."""
        count = 0
        for name, node in self.nodes.items():
            low, high = (-0.5, len(node.levels) - 0.5) if node.levels else node.support
            count += int((~((values[name] > low) & (values[name] < high))).sum())
        return count


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    top = logits - logits.max(1, keepdims=True)
    return top - np.log(np.exp(top).sum(1, keepdims=True))


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def _softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0, x)


def _softsign(x: np.ndarray) -> np.ndarray:
    return x / (1 + np.abs(x))


def _suite(name: str, **equations: Callable | tuple) -> Suite:
    """Return a suite of equations f(parent, ..., u), whose arguments name the parents."""
    nodes = {}
    for variable, entry in equations.items():
        function, support = entry if isinstance(entry, tuple) else (entry, _REAL_LINE)
        count = function.__code__.co_argcount
        parents = function.__code__.co_varnames[: count - 1]

        def value(values: Values, u: np.ndarray, f: Callable = function, p=parents) -> np.ndarray:  # noqa: ANN001
            return f(*(values[each] for each in p), u)

        nodes[variable] = Node(parents, value, support=support)
    return Suite(name, nodes)


def _noise(u: np.ndarray) -> np.ndarray:
    return u


ADDITIVE = [
    _suite(
        "triangle-nlin",
        x1=_noise,
        x2=lambda x1, u: 2 * x1**2 + u,
        x3=lambda x1, x2, u: 20 / (1 + np.exp(x1 - x2**2)) + u,
    ),
    _suite(
        "simpson-nlin",
        x1=_noise,
        x2=lambda x1, u: _softplus(1 - x1) + np.sqrt(3 / 20) * u,
        x3=lambda x1, x2, u: np.tanh(2 * x2) + 1.5 * x1 - 1 + np.tanh(u),
        x4=lambda x3, u: (x3 - 4) / 5 + 3 + u / np.sqrt(10),
    ),
    _suite(
        "simpson-symprod",
        x1=_noise,
        x2=lambda x1, u: 2 * np.tanh(2 * x1) + u / np.sqrt(10),
        x3=lambda x1, x2, u: x1 * x2 / 2 + u / np.sqrt(2),
        x4=lambda x1, u: np.tanh(1.5 * x1) + np.sqrt(0.3) * u,
    ),
    _suite(
        "fork-nlin",
        x1=_noise,
        x2=_noise,
        x3=lambda x1, x2, u: 4 * _sigmoid(x1 + x2) - x2**2 + u / 2,
        x4=lambda x3, u: 20 * _sigmoid(x3 - x3**2 / 2) + u,
    ),
    _suite(
        "chain-nlin",
        x1=_noise,
        x2=lambda x1, u: np.exp(x1 / 2) + u / 4,
        x3=lambda x2, u: (x2 - 5) ** 3 / 15 + u,
    ),
    _suite(
        "diamond-nlin",
        x1=_noise,
        x2=lambda x1, u: x1**2 + u / 2,
        x3=lambda x1, x2, u: x2**2 - 2 * _sigmoid(x1) + u / 2,
        # The denominator comes close to zero, so x4 has no finite variance.
        x4=lambda x2, x3, u: x3 / (np.abs(x2 + 2) + x3 + 0.5) + u / 10,
    ),
]

NON_ADDITIVE = [
    _suite(
        "triangle-mult",
        x0=lambda u: u + 1,
        x1=lambda x0, u: 2 * x0**2 - _softsign(x0 + u),
        x2=lambda x0, x1, u: 20 / (1 + np.exp(x0 - x1**2)) + u,
    ),
    _suite(
        "chain-8",
        x0=_noise,
        x1=(lambda x0, u: np.exp(_softsign(x0 + u)), (np.exp(-1), np.exp(1))),
        x2=lambda x1, u: x1 + _softsign(np.exp(x1) * u),
        x3=lambda x2, u: x2 + _softsign(np.exp(x2) * u),
        x4=lambda x3, u: x3 + _softsign(np.exp(x3) * u),
        x5=lambda x4, u: x4 + _softsign(np.exp(x4) * u),
        x6=lambda x5, u: x5 + _softsign(np.exp(x5) * u),
        x7=lambda x6, u: x6 + _softsign(np.exp(x6) * u),
    ),
    _suite(
        "m-graph",
        x0=_noise,
        x1=_noise,
        x2=(lambda x0, u: _softsign(np.exp(x0) + u), (-1.0, 1.0)),
        x3=lambda x0, x1, u: (x1**2 + x0**2 / 2 + 1) * u,
        x4=lambda x1, u: (-1.5 * x1**2 - 1) * u,
    ),
]


def mixed(seed: int) -> Suite:
    """Return a random model of 5 to 8 binary, nominal and skewed continuous variables.

    Each has up to three parents among the earlier variables. The contribution of a parent is
    squashed into [-1, 1], or one number per level, and pairs of parents interact. A continuous
    variable is log-normal, with location and scale that depend on its parents.

    Args:
        seed: Of the graph and of the coefficients.
    """
    rng = np.random.default_rng([seed, 2026])
    count = int(rng.integers(5, 9))
    kinds = ["continuous", "binary", "nominal", *rng.choice(["continuous", "binary"], count - 3)]
    nodes: dict[str, Node] = {}
    for i, kind in enumerate(rng.permutation(kinds)):
        parents = tuple(sorted(rng.permutation([*nodes])[: int(rng.integers(1, 4))].tolist()))
        nodes[f"x{i}"] = _random_node(kind, parents, nodes, rng)
    return Suite(f"mixed-{seed}", nodes)


def _random_node(
    kind: str, parents: tuple[str, ...], nodes: Values, rng: np.random.Generator
) -> Node:
    """Draw the coefficients of one equation."""
    if kind == "continuous":
        location, log_scale = (
            _random_function(parents, nodes, rng, 1),
            _random_function(parents, nodes, rng, 1),
        )

        def value(values: Values, u: np.ndarray) -> np.ndarray:
            scale = 0.5 * np.exp(0.4 * log_scale(values, len(u))[:, 0])
            return np.exp(0.7 * location(values, len(u))[:, 0] + scale * u)

        return Node(parents, value, support=(0.0, np.inf))
    levels = ("N", "P") if kind == "binary" else tuple("abc")
    logit_function = _random_function(parents, nodes, rng, len(levels))
    base = rng.normal(0, 0.5, len(levels))
    return Node(
        parents, logits=lambda values, n: base + 1.5 * logit_function(values, n), levels=levels
    )


def _random_function(
    parents: tuple[str, ...], nodes: Mapping[str, Node], rng: np.random.Generator, width: int
) -> Callable[[Values, int], np.ndarray]:
    """Draw a smooth function of the parents, (n, width), with products of pairs."""
    tables = {p: rng.uniform(-1, 1, len(nodes[p].levels)) for p in parents if nodes[p].levels}
    centres = {p: rng.uniform(-0.5, 0.5) for p in parents}
    single = rng.normal(0, 1, (len(parents), width))
    pairs = np.triu(rng.normal(0, 1, (width, len(parents), len(parents))), 1)

    def function(values: Values, n: int) -> np.ndarray:
        if not parents:
            return np.zeros((n, width))
        columns = [
            tables[p][values[p].astype(int)]
            if p in tables
            else np.tanh(np.log(values[p]) - centres[p])
            for p in parents
        ]
        f = np.stack(columns, 1)
        return f @ single + np.einsum("ni,kij,nj->nk", f, pairs, f)

    return function


SUITES = {
    suite.name: suite for suite in (*ADDITIVE, *NON_ADDITIVE, *(mixed(seed) for seed in range(5)))
}
