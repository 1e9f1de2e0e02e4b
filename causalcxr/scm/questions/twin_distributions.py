"""The law of a twin's discrete variables, given all that is observed of the record.

Given a record, the noises of its equations are independent, so the twin is a small Bayesian
network: each variable that moves has a transition (`transitions`), from its fact, under the
factual parents, to its twin, under the twin's parents. `drawn` draws the ancestors and keeps the
closed form of the last step; `enumeration` sums over them.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

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
from causalcxr.scm.prediction import bind
from causalcxr.scm.questions.coupling_transitions import COUPLINGS, MOST_TRANSPORTED, upper_bounds

__all__ = ["Case", "drawn", "levels_of", "values_of"]

_AT_ONCE = 2**16  # rows (record, draw) drawn at once
_MANY = 128  # levels; where a variable has more, fewer rows are
_DECIDED = ("rule", "unlearned")  # couplings in which the twin's parents decide what is missing


@dataclass(frozen=True)
class Case:
    """What is asked: the facts of n records, what is set, and how each equation is coupled.

    Args:
        graph: The graph.
        mechanisms: The learned equations, by name.
        factual: Every tabular variable, (n,) each, NaN where missing.
        fixed: The variables that are set or held, (n,) each.
        couplings: Names of `COUPLINGS`, for the variables that do not keep their own.
        free: The discrete variables whose coupling may be anything, where bounds are sought.
        moving: The variables that are computed and may differ from their fact in some row, in
            order. Found from the facts if not given.
    """

    graph: Graph
    mechanisms: Mapping[str, Mechanism]
    factual: Mapping[str, Tensor]
    fixed: Mapping[str, Tensor]
    couplings: Mapping[str, str] = field(default_factory=dict)
    free: frozenset[str] = frozenset()
    moving: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.moving is None:  # of a part of the rows it is that of the whole: same axes
            object.__setattr__(self, "moving", self._moving())

    def __len__(self) -> int:
        return len(next(iter(self.factual.values())))

    def rows(self, rows: Tensor | slice) -> "Case":
        """Return the case of some of the records."""
        factual = {name: column[rows] for name, column in self.factual.items()}
        fixed = {name: column[rows] for name, column in self.fixed.items()}
        return replace(self, factual=factual, fixed=fixed)

    def _moving(self) -> tuple[str, ...]:
        changed = {n for n, v in self.fixed.items() if not _same(v, self.factual[n]).all()}
        found: list[str] = []
        for name in self.graph.order:
            computed = name in self.factual and name not in self.fixed
            if computed and changed & set(self.graph[name].parents):
                found.append(name)
                changed.add(name)
        return tuple(found)

    def coupling(self, name: str) -> str:
        """Return how fact and twin of a variable belong together, "" without a closed form.

        One of `COUPLINGS`; "any"; "rule" for an equation without randomness; "unlearned" for a
        variable without an equation, which is missing where a parent changed.
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
        """Return how many states a twin can have: its levels, and missing where facts decide."""
        return len(self.graph[name].levels) + (self.coupling(name) in ("rule", "unlearned"))

    def twin_column(self, name: str) -> Tensor:
        """Return the twin's value of a variable that does not move, shape (n,)."""
        return self.fixed.get(name, self.factual[name])

    def lineage(self, target: str) -> tuple[str, ...]:
        """Return what moves among a variable's ancestors, and itself, in order."""
        found = {target}
        for name in reversed(self.moving):
            if found & set(self.graph.children(name)):
                found.add(name)
        return tuple(name for name in self.moving if name in found)

    def transition(self, name: str, rows: Tensor, parents: Mapping[str, Tensor]) -> Tensor:
        """Return the law of a twin's states given its parents, or its upper bounds.

        A fact stands where no parent differs, whatever the coupling. A missing fact has no law:
        state 0 stands for it.

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
        stands = torch.ones(len(x), dtype=torch.bool)
        for parent, column in parents.items():
            stands &= _same(column, self.factual[parent][rows])
        fact = torch.where(x.isnan(), count - 1, level) if kind in _DECIDED else level
        kept = one_hot(fact, count).double()
        if kind == "unlearned":
            gone = one_hot(torch.tensor(count - 1), count).double()
            return torch.where(stands[:, None], kept, gone)
        equation = bind(self.mechanisms[name], parents)
        before = bind(self.mechanisms[name], self.factual)
        if kind == "rule":
            nobody = Draws(np.zeros(len(self), dtype=np.uint64))  # a rule draws nothing
            twin = equation.predict(before.abduct(self.factual[name], nobody)[rows])
            state = twin.nan_to_num(nan=count - 1).long()
            law = one_hot(state, count).double()
        else:
            if kind == "ot" and count > MOST_TRANSPORTED:
                raise ModelError(
                    f"variable {name!r}: the coupling ot can be summed for at most "
                    f"{MOST_TRANSPORTED} levels and it has {count}; use coupling: gumbel, merge "
                    f"levels, or ask counterfactual(draws=...)"
                )
            p, q = before.log_probs.exp()[rows], equation.log_probs.exp()
            law = (upper_bounds if kind == "any" else COUPLINGS[kind])(p, q, level)
        return torch.where((stands | x.isnan() & (kind not in _DECIDED))[:, None], kept, law)


def drawn(
    case: Case, targets: Iterable[str], draws: Draws, count: int
) -> dict[str, tuple[Tensor, Tensor]]:
    """Return P(twin = level | record) over posterior draws, and its standard error.

    The ancestors are drawn; the last step is in closed form where there is one, so only the
    ancestors make noise (Rao-Blackwell).

    Args:
        case: What is asked.
        targets: Discrete variables that move.
        draws: The random numbers of the n records.
        count: How many draws a record.

    Returns:
        Two tensors of shape (n, K) each, NaN where every twin is missing.
    """
    targets = list(targets)
    needed = {name for target in targets for name in case.lineage(target)}
    parts: dict[str, list[tuple[Tensor, Tensor]]] = {name: [] for name in targets}
    widest = max((case.states(name) for name in needed if case.coupling(name)), default=1)
    size = max(1, _AT_ONCE * _MANY // (count * max(_MANY, widest)))
    for start in range(0, max(len(case), 1), size):
        rows = slice(start, start + size)
        part = case.rows(rows)
        laws = _walk(part, needed, _repeated(draws, rows, count), count)
        for name in targets:
            law = laws[name].reshape(len(part), count, case.states(name))
            error = law.std(1) if count > 1 else torch.full_like(law[:, 0], torch.nan)
            parts[name].append((law.mean(1), error / count**0.5))
    found = {}
    for name, pieces in parts.items():
        mean, error = (torch.cat(piece) for piece in zip(*pieces, strict=True))
        found[name] = (levels_of(case, name, mean), error[:, : len(case.graph[name].levels)])
    return found


def _walk(case: Case, needed: set[str], draws: Draws, count: int) -> dict[str, Tensor]:
    """Draw the twins' values down the graph; return the law of each discrete one, a row a draw."""
    case = case.rows(torch.arange(len(case)).repeat_interleave(count))
    rows, values, laws = torch.arange(len(case)), {}, {}
    for name in (name for name in case.moving if name in needed):
        parents = {p: values.get(p, case.twin_column(p)) for p in case.graph[name].parents}
        if not case.coupling(name):
            values[name] = _predicted(case, name, parents, draws)
            if case.graph[name].is_discrete:
                level = values[name].nan_to_num().long()
                laws[name] = one_hot(level, case.states(name)).double()
            continue
        law = laws[name] = case.transition(name, rows, parents)
        u = torch.from_numpy(draws.on(f"{name}, transition").uniform())
        state = (law.cumsum(1)[:, :-1] < u).sum(1)
        values[name] = values_of(case, name).gather(1, state[:, None]).squeeze(1)
    return laws


def _predicted(case: Case, name: str, parents: Mapping[str, Tensor], draws: Draws) -> Tensor:
    """Return the twin's value with the noise of the record; the fact where no parent differs."""
    x = case.factual[name]
    if name not in case.mechanisms:
        twin = torch.full_like(x, torch.nan)
    else:
        noise = bind(case.mechanisms[name], case.factual).abduct(x, draws.on(name))
        twin = bind(case.mechanisms[name], parents).predict(noise)
    stands = torch.ones(len(x), dtype=torch.bool)
    for parent, column in parents.items():
        stands &= _same(column, case.factual[parent])
    return torch.where(stands, x, twin)


def values_of(case: Case, name: str) -> Tensor:
    """Return the value that each state of a twin stands for, shape (n, S); NaN is missing."""
    count, levels = case.states(name), len(case.graph[name].levels)
    values = torch.arange(count, dtype=torch.float64).expand(len(case), -1).clone()
    values[:, levels:] = torch.nan
    if count == levels:
        values[case.factual[name].isnan()] = torch.nan
    return values


def levels_of(case: Case, name: str, law: Tensor) -> Tensor:
    """Return the law of the levels, NaN where the twin is missing for certain."""
    levels = len(case.graph[name].levels)
    gone = law[:, levels:].sum(1) > 1 - 1e-12
    if case.states(name) == levels:
        gone = case.factual[name].isnan()
    return law[:, :levels].masked_fill(gone[:, None], torch.nan)


def _repeated(draws: Draws, rows: slice, count: int) -> Draws:
    """Return the random numbers of some records, `count` draws each, one after the other."""
    part = draws.rows(rows)
    first = np.broadcast_to(np.asarray(part.draw), (len(part),))
    each = first[:, None] * count + np.arange(count)
    return replace(part, keys=part.keys.repeat(count), draw=each.reshape(-1))


def _same(a: Tensor, b: Tensor) -> Tensor:
    """Return where two columns are equal bit for bit; missing is equal to missing."""
    return (a == b) | (a.isnan() & b.isnan())
