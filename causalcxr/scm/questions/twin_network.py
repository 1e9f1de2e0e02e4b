"""A twin as a Bayesian network: the distribution of its discrete variables, given the record.

Given a record, the noise terms of its equations are independent, so the twin is a small Bayesian
network. Each variable that may change has a transition (see `transition_probabilities`): from its
factual value, under the factual parents, to its value in the twin, under the twin's parents.
`sampled_distributions` samples the ancestors and uses the closed form of the last step;
`exact_distributions` sums over them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from causalcxr.common.errors import ModelError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.graph import Graph
from causalcxr.mechanisms import Mechanism
from causalcxr.mechanisms.derived import DerivedMechanism
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.scm.prediction import Noise, bind, same_bits
from causalcxr.scm.questions.transition_probabilities import (
    COUPLINGS,
    MOST_TRANSPORTED,
    upper_bounds,
)

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["TwinNetwork", "level_probabilities", "sampled_distributions", "state_values"]

_AT_ONCE = 2**16  # rows (record, draw) sampled at once
_MANY = 128  # levels; with more of them, fewer rows are sampled at once
_DECIDED = ("rule", "unlearned")  # here the twin's parents determine whether it is missing


@dataclass(frozen=True)
class TwinNetwork:
    """The twins of n records: their facts, the values that are set, the coupling of each equation.

    Args:
        graph: The graph.
        mechanisms: The learned equations, by name.
        factual: Every tabular variable, (n,) each, NaN where missing.
        fixed: The variables that are set or held, (n,) each.
        couplings: Names of `COUPLINGS`, for variables whose own coupling is replaced.
        free: The discrete variables that may have any coupling, for bounds.
        moving: The variables that are computed and may differ from their fact in some row, parents
            first. By default determined from the facts.
    """

    graph: Graph
    mechanisms: Mapping[str, Mechanism]
    factual: Mapping[str, Tensor]
    fixed: Mapping[str, Tensor]
    couplings: Mapping[str, str] = field(default_factory=dict)
    free: frozenset[str] = frozenset()
    moving: tuple[str, ...] | None = None

    @classmethod
    def from_model(cls, model: "SCM", noise: Noise) -> "TwinNetwork":
        """Return the twins of the records that noise explains, under a model's interventions."""
        return cls(model.graph, model._mechanisms, noise.columns, model._fixed(noise))

    def __post_init__(self) -> None:
        if self.moving is None:  # some of the rows keep the tuple of all: the same axes
            object.__setattr__(self, "moving", self._moving())

    def __len__(self) -> int:
        return len(next(iter(self.factual.values())))

    def rows(self, rows: Tensor | slice) -> "TwinNetwork":
        """Return the twins of some of the records."""
        factual = {name: column[rows] for name, column in self.factual.items()}
        fixed = {name: column[rows] for name, column in self.fixed.items()}
        return replace(self, factual=factual, fixed=fixed)

    def _moving(self) -> tuple[str, ...]:
        changed = {n for n, v in self.fixed.items() if not same_bits(v, self.factual[n]).all()}
        moving: list[str] = []
        for name in self.graph.order:
            computed = name in self.factual and name not in self.fixed
            if computed and changed & set(self.graph[name].parents):
                moving.append(name)
                changed.add(name)
        return tuple(moving)

    def coupling(self, name: str) -> str:
        """Return the coupling of a variable's factual and counterfactual value.

        One of `COUPLINGS`; "any"; "rule" for an equation without noise; "unlearned" for a variable
        without an equation, which is missing where a parent changed; "" without a closed form.
        """
        mechanism = self.mechanisms.get(name)
        if not self.graph[name].is_discrete:
            return ""
        if isinstance(mechanism, DiscreteMechanism):
            if name in self.free:
                return "any"
            own = self.couplings.get(name, mechanism.options["coupling"])
            return own if own in COUPLINGS else ""
        if isinstance(mechanism, DerivedMechanism):
            return "rule"
        return "unlearned" if mechanism is None else ""

    def states(self, name: str) -> int:
        """Return the number of states: the levels, and missing where parents determine that."""
        return len(self.graph[name].levels) + (self.coupling(name) in ("rule", "unlearned"))

    def twin_column(self, name: str) -> Tensor:
        """Return the twin's value of a variable that does not change, shape (n,)."""
        return self.fixed.get(name, self.factual[name])

    def lineage(self, target: str) -> tuple[str, ...]:
        """Return the variable and its ancestors that may change, parents first."""
        lineage = {target}
        for name in reversed(self.moving):
            if lineage & set(self.graph.children(name)):
                lineage.add(name)
        return tuple(name for name in self.moving if name in lineage)

    def transition(self, name: str, rows: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Return the distribution of a twin's states given its parents, or its upper bounds.

        A factual value stays where no parent differs, whatever the coupling. A missing one has no
        distribution: state 0 stands for it.

        Args:
            name: The variable.
            rows: The record of each row, shape (m,).
            parents: The twin's parents, (m,) each.

        Returns:
            Shape (m, `states(name)`).

        Raises:
            ModelError: If the coupling is ot and there are more than 50 levels.
        """
        x, kind = self.factual[name][rows], self.coupling(name)
        level, count = x.nan_to_num().long(), self.states(name)
        # Where no parent changed, the fact stands.
        stands = torch.ones(len(x), dtype=torch.bool)
        for parent, column in parents.items():
            stands &= same_bits(column, self.factual[parent][rows])
        # Missing is the last state of variables whose parents decide whether it is missing.
        fact = torch.where(x.isnan(), count - 1, level) if kind in _DECIDED else level
        kept = one_hot(fact, count).double()
        if kind == "unlearned":
            gone = one_hot(torch.tensor(count - 1), count).double()
            return torch.where(stands[:, None], kept, gone)
        moved = (self._rule if kind == "rule" else self._coupled)(name, rows, parents)
        # A missing fact stays missing, unless the parents decide.
        unchanged = stands | x.isnan() & (kind not in _DECIDED)
        return torch.where(unchanged[:, None], kept, moved)

    def _rule(self, name: str, rows: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Return the state that a rule gives, with probability 1, shape (m, S)."""
        before, after = (bind(self.mechanisms[name], p) for p in (self.factual, parents))
        unused = Draws(np.zeros(len(self), dtype=np.uint64))  # a rule has no noise
        twin = after.predict(before.abduct(self.factual[name], unused)[rows])
        count = self.states(name)
        return one_hot(twin.nan_to_num(nan=count - 1).long(), count).double()

    def _coupled(self, name: str, rows: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Return what the coupling implies for the factual level, shape (m, K)."""
        kind, count = self.coupling(name), self.states(name)
        if kind == "ot" and count > MOST_TRANSPORTED:
            raise ModelError(
                f"variable {name!r}: has {count} levels, coupling ot can be summed for at most "
                f"{MOST_TRANSPORTED}; use coupling: gumbel, merge levels, or use "
                "counterfactual(draws=...)"
            )
        before, after = (bind(self.mechanisms[name], p) for p in (self.factual, parents))
        p, q = before.log_probs.exp()[rows], after.log_probs.exp()
        level = self.factual[name][rows].nan_to_num().long()
        return (upper_bounds if kind == "any" else COUPLINGS[kind])(p, q, level)


def sampled_distributions(
    network: TwinNetwork, targets: Iterable[str], draws: Draws, count: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return P(twin = level | record) from posterior samples, and its standard error.

    The ancestors are sampled; the last step uses the closed form where there is one, so that only
    the ancestors contribute Monte Carlo error (Rao-Blackwell).

    Args:
        network: The twins of n records.
        targets: Discrete variables that may change.
        draws: The random numbers of the n records.
        count: Samples per record.

    Returns:
        Two tensors of shape (n, K) each, NaN where every twin is missing.
    """
    targets = list(targets)
    # Only ancestors of the targets are sampled.
    needed = {name for target in targets for name in network.lineage(target)}
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in targets}
    widest = max((network.states(name) for name in needed if network.coupling(name)), default=1)
    size = max(1, _AT_ONCE * _MANY // (count * max(_MANY, widest)))
    for start in range(0, max(len(network), 1), size):
        rows = slice(start, start + size)
        part = network.rows(rows)
        sampled = _sample(part, needed, _repeated(draws, rows, count), count)
        for name in targets:
            # Average the distributions, not samples of levels: their error is smaller.
            p = sampled[name].reshape(len(part), count, network.states(name))
            error = p.std(1) if count > 1 else torch.full_like(p[:, 0], torch.nan)
            parts[name].append((p.mean(1), error / count**0.5))
    distributions = {}
    for name, pieces in parts.items():
        mean, error = (torch.cat(piece) for piece in zip(*pieces, strict=True))
        n_levels = len(network.graph[name].levels)
        distributions[name] = (level_probabilities(network, name, mean), error[:, :n_levels])
    return distributions


def _sample(network: TwinNetwork, needed: set[str], draws: Draws, count: int) -> dict[str, Tensor]:
    """Sample twins down the graph; return the distribution of each discrete variable, by row."""
    network = network.rows(torch.arange(len(network)).repeat_interleave(count))
    rows, values, distributions = torch.arange(len(network)), {}, {}
    for name in (name for name in network.moving if name in needed):
        parents = {p: values.get(p, network.twin_column(p)) for p in network.graph[name].parents}
        # No closed form: abduct, and predict with the same noise.
        if not network.coupling(name):
            values[name] = _predicted(network, name, parents, draws)
            if network.graph[name].is_discrete:
                level = values[name].nan_to_num().long()
                distributions[name] = one_hot(level, network.states(name)).double()
            continue
        p = distributions[name] = network.transition(name, rows, parents)
        # A level from its distribution, as a parent of what follows.
        u = torch.from_numpy(draws.on(f"{name}, transition").uniform())
        state = (p.cumsum(1)[:, :-1] < u).sum(1)
        values[name] = state_values(network, name).gather(1, state[:, None]).squeeze(1)
    return distributions


def _predicted(
    network: TwinNetwork, name: str, parents: Mapping[str, Tensor], draws: Draws
) -> Tensor:
    """Return the twin's value with the noise of the record; the fact where no parent differs."""
    x = network.factual[name]
    if name not in network.mechanisms:
        twin = torch.full_like(x, torch.nan)
    else:
        noise = bind(network.mechanisms[name], network.factual).abduct(x, draws.on(name))
        twin = bind(network.mechanisms[name], parents).predict(noise)
    stands = torch.ones(len(x), dtype=torch.bool)
    for parent, column in parents.items():
        stands &= same_bits(column, network.factual[parent])
    return torch.where(stands, x, twin)


def state_values(network: TwinNetwork, name: str) -> Tensor:
    """Return the value that each state of a twin stands for, shape (n, S); NaN is missing."""
    count, levels = network.states(name), len(network.graph[name].levels)
    values = torch.arange(count, dtype=torch.float64).expand(len(network), -1).clone()
    values[:, levels:] = torch.nan
    if count == levels:
        values[network.factual[name].isnan()] = torch.nan
    return values


def level_probabilities(network: TwinNetwork, name: str, states: Tensor) -> Tensor:
    """Return the probabilities of the levels, NaN where the twin is missing with certainty.

    Args:
        network: The twins of n records.
        name: The variable.
        states: The probability of each state, shape (n, S).
    """
    levels = len(network.graph[name].levels)
    gone = states[:, levels:].sum(1) > 1 - 1e-12
    if network.states(name) == levels:
        gone = network.factual[name].isnan()
    return states[:, :levels].masked_fill(gone[:, None], torch.nan)


def _repeated(draws: Draws, rows: slice, count: int) -> Draws:
    """Return the random numbers of some records, `count` samples each, one after the other."""
    part = draws.rows(rows)
    first = np.broadcast_to(np.asarray(part.draw), (len(part),))
    each = first[:, None] * count + np.arange(count)
    return replace(part, keys=part.keys.repeat(count), draw=each.reshape(-1))
