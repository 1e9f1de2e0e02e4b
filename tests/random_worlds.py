"""Random graphs of mixed types, models of them with random weights, records and interventions."""

from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st

import causalcxr as cx
from causalcxr import Cohort, Graph, Shift, Variable
from causalcxr.mechanisms import Mechanism, build
from causalcxr.scm.fitting import Fitted
from causalcxr.scm.support import count_support

FLOW = {"kind": "flow", "hidden": 6, "bins": 4}
LEVELS = {"binary": ("n", "p"), "ordinal": ("0", "1", "2", "3"), "categorical": ("a", "b", "c")}
HALVES = {"resolution": 0.5, "range": (-20.0, 20.0)}


def discrete(type: str, coupling: str) -> dict:
    mechanism = {"kind": "discrete", "hidden": 6, "coupling": coupling}
    return {"type": type, "levels": LEVELS[type], "mechanism": mechanism}


KINDS = {
    "spline": {"type": "continuous", "mechanism": FLOW},
    "spline on a lattice": {"type": "continuous", "mechanism": FLOW, **HALVES},
    "ode": {"type": "continuous", "mechanism": {**FLOW, "transform": "cnf"}},
    "ode on a lattice": {
        "type": "continuous",
        "mechanism": {**FLOW, "transform": "cnf", "solver": "euler"},
        **HALVES,
    },
    "pair": {
        "type": "continuous",
        "mechanism": {**FLOW, "transform": "cnf", "solver": "reversible", "ode_steps": 8},
    },
    "levels of a flow": {"type": "ordinal", "levels": LEVELS["ordinal"], "mechanism": FLOW},
    "monotone binary": discrete("binary", "monotone"),
    "gumbel binary": discrete("binary", "gumbel"),
    "monotone ordinal": discrete("ordinal", "monotone"),
    "gumbel": discrete("categorical", "gumbel"),
    "ot": discrete("categorical", "ot"),
    "dequantised": discrete("categorical", "dequantised"),
    "independent": discrete("categorical", "independent"),
}
UNTRAINED = {  # roots, and rules
    "empirical": {"type": "continuous", "mechanism": "empirical"},
    "any of": {"type": "binary", "mechanism": {"kind": "derived", "rule": "any_of"}},
    "above": {
        "type": "binary",
        "mechanism": {"kind": "derived", "rule": "at_least", "threshold": 0.5},
    },
}


@dataclass(frozen=True)
class World:
    """A model with random weights, and records sampled from it, some values missing."""

    model: cx.SCM
    complete: Cohort
    cohort: Cohort
    seed: int

    @property
    def graph(self) -> Graph:
        return self.model.graph

    def columns(self, cohort: Cohort) -> dict[str, np.ndarray]:
        return cohort.columns(self.graph)

    def exact(self, name: str) -> bool:
        return bool(self.graph[name].is_discrete or self.graph[name].resolution)


@st.composite
def graphs(draw: st.DrawFn, most: int = 12) -> Graph:
    """Draw a graph of 2 to 12 variables, each with up to three parents."""
    variables: list[Variable] = []
    for k in range(draw(st.integers(2, most))):
        parents = draw(st.lists(st.sampled_from(variables or [None]), max_size=3, unique=True))
        parents = [p for p in parents if p is not None]
        kinds = dict(KINDS)
        if not parents:
            kinds["empirical"] = UNTRAINED["empirical"]
        elif all(p.type == "binary" for p in parents):
            kinds["any of"] = UNTRAINED["any of"]
        elif len(parents) == 1 and parents[0].type == "continuous":
            kinds["above"] = UNTRAINED["above"]
        fields = kinds[draw(st.sampled_from(sorted(kinds)))]
        variables.append(Variable(f"V{k}", parents=[p.name for p in parents], **fields))
    return Graph(variables)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Draw a graph, the weights of its equations, and 40 records."""
    graph, seed = draw(graphs()), draw(st.integers(0, 2**20))
    gaps = draw(st.sampled_from([0.0, 0.2]))
    random = np.random.default_rng(seed)
    columns = {name: torch.from_numpy(_values(graph[name], random)) for name in graph.order}
    generator = torch.Generator().manual_seed(seed)
    fitted = {}
    for name in graph.order:
        mechanism = build(graph[name], [graph[p] for p in graph.parents(name)])
        mechanism.prepare(columns[name], {p: columns[p] for p in graph.parents(name)})
        _randomise(mechanism, generator)
        equation_hash = f"{graph.equation_hash(name)} {seed}"
        fitted[name] = Fitted(mechanism, graph.equation_hash(name), equation_hash, seed, 200)
    model = cx.SCM(graph)._with(fitted=fitted)
    complete = model.sample(40, seed=seed)
    model = model._with(support=count_support(graph, complete.columns(graph)))
    incomplete = {
        name: np.where(random.random(40) < gaps, np.nan, column)
        for name, column in complete.columns(graph).items()
    }
    return World(model, complete, complete.with_columns(graph, incomplete), seed)


@st.composite
def actions(draw: st.DrawFn, graph: Graph, n: int) -> dict:
    """Draw settings of one to three variables, those after the first downstream of it if any."""
    first = draw(st.sampled_from(graph.tabular))
    after = sorted(graph.descendants(first)) or [n for n in graph.tabular if n != first]
    more = draw(st.lists(st.sampled_from(after), max_size=2, unique=True))
    return {name: draw(settings_of(graph[name], n)) for name in [first, *more]}


@st.composite
def settings_of(draw: st.DrawFn, variable: Variable, n: int) -> object:
    """Draw one value for all, one for each record, or a shift."""
    if variable.is_discrete:
        values = st.sampled_from(variable.levels)
    else:
        values = st.integers(-6, 6).map(lambda half: half / 2)
        if draw(st.integers(0, 3)) == 0:
            return Shift(draw(values))
    one_each = st.lists(values, min_size=3, max_size=3).map(lambda three: (three * n)[:n])
    return draw(st.one_of(values, one_each))


def _values(variable: Variable, random: np.random.Generator, n: int = 200) -> np.ndarray:
    """Return values that a variable can take, skewed where it is a number."""
    if variable.is_discrete:
        return random.integers(0, len(variable.levels), n).astype(float)
    x = random.normal(size=n) + random.exponential(size=n)
    return np.round(x * 2) / 2 if variable.resolution else x


def _randomise(mechanism: Mechanism, generator: torch.Generator) -> None:
    """Draw random weights, so that every parent has an effect."""
    mechanism.reset(generator)
    size = 0.1 if mechanism.options.get("transform") == "cnf" else 0.4
    with torch.no_grad():
        for p in mechanism.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    mechanism.eval().requires_grad_(False)
