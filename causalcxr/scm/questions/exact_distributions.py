"""The exact distribution of a twin's levels, and its bounds, by sums over its ancestors' states.

The joint distribution of the ancestors is carried down the graph. Each ancestor is summed out
after its last child, so that few variables are active at one time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters

import torch
from torch import Tensor

from causalcxr.scm.questions.transition_probabilities import extreme_mean
from causalcxr.scm.questions.twin_network import TwinNetwork, level_probabilities, state_values

__all__ = ["MOST_STATES", "exact_and_bounds", "exact_distributions"]

MOST_STATES = 4096  # joint states of a row; with more, the ancestors are sampled
_BUDGET = 2**20  # numbers in one tensor at most
# One axis a variable; "n" is the record.
_LETTERS = ascii_letters.replace("n", "")


def exact_distributions(network: TwinNetwork, targets: Iterable[str]) -> dict[str, Tensor]:
    """Return P(twin = level | record) by enumeration, for the targets where that is possible.

    Args:
        network: The twins of n records.
        targets: Discrete variables.

    Returns:
        Shape (n, K) each; NaN where the twin is missing with certainty. One minus the sum of a row
        is the probability that the twin is missing. Left out are targets with too many joint
        states, and those with an ancestor that may change and is continuous or whose coupling has
        no closed form.
    """
    return _over_rows([(network, _Enumeration.forward)], targets)[0]


def exact_and_bounds(
    networks: Sequence[TwinNetwork], free: TwinNetwork, targets: Iterable[str]
) -> tuple[list[dict[str, Tensor]], dict[str, tuple[Tensor, Tensor]]]:
    """Return `exact_distributions` under several couplings, and bounds that hold for any coupling.

    The equations in `free.free` may have any coupling that keeps their learned distributions; the
    others have that of `free`. One step from the fact, these are the bounds of Frechet and
    Hoeffding, and they are attained. Further down the graph, the worst coupling is chosen anew for
    every setting of the ancestors that are still needed, by dynamic programming from the target
    upwards. This includes every coupling, so the bounds hold; they may be wider than the sharpest
    ones where a variable's coupling would have to depend on more than its own parents.

    Args:
        networks: The twins of the same records under different couplings.
        free: The same with some couplings free.
        targets: Discrete variables; what one network leaves out, all leave out.

    Returns:
        For each network the probabilities of each target, (n, K); and the bounds of each target,
        lower and upper, (n, K) each.
    """
    jobs = [*((network, _Enumeration.forward) for network in networks)]
    jobs += [(free, _Enumeration.lowest), (free, _Enumeration.highest)]
    *distributions, lowest, highest = _over_rows(jobs, targets)
    return distributions, {name: (lowest[name], highest[name]) for name in lowest}


@dataclass(frozen=True)
class _Step:
    """One variable of an enumeration, and the variables not yet summed out before and after it."""

    name: str
    parents: tuple[str, ...]  # those that may change
    before: tuple[str, ...]
    after: tuple[str, ...]


def _steps(network: TwinNetwork, target: str) -> list[_Step] | None:
    """Return the steps to a target, or None where it cannot be enumerated."""
    # All ancestors that may change, in the graph's order.
    lineage = network.lineage(target)
    if not all(network.coupling(name) for name in lineage):
        return None
    steps: list[_Step] = []
    active: tuple[str, ...] = ()
    for i, name in enumerate(lineage):
        # Keep a variable only while a later one needs it: this bounds the joint states.
        later = {parent for other in lineage[i + 1 :] for parent in network.graph[other].parents}
        parents = tuple(p for p in lineage[:i] if p in network.graph[name].parents)
        after = tuple(n for n in (*active, name) if n in later or n == target)
        steps.append(_Step(name, parents, active, after))
        active = after
    widest = max(prod(network.states(n) for n in step.before) for step in steps)
    return steps if widest <= MOST_STATES else None


class _Enumeration:
    """Sums over the joint states of some records.

    Args:
        network: The twins of these records.
        transitions: Those computed so far, by variable and coupling; networks may share them.
    """

    def __init__(self, network: TwinNetwork, transitions: dict[tuple[str, str], Tensor]) -> None:
        self.network, self.transitions = network, transitions

    def transition(self, step: _Step) -> Tensor:
        """Return a variable's distribution for each setting of changing parents, (n, S.., S)."""
        key = (step.name, self.network.coupling(step.name))
        if key not in self.transitions:
            self.transitions[key] = self._transition(step)
        return self.transitions[key]

    def _transition(self, step: _Step) -> Tensor:
        # Records that the variable cannot tell apart share one computation.
        first, kind = self._kinds(step)
        network = self.network.rows(first)
        n, sizes = len(network), [network.states(p) for p in step.parents]
        rows = torch.arange(n).repeat_interleave(prod(sizes))
        columns = {}
        for name in network.graph[step.name].parents:
            if name in step.parents:
                # Every state of a changing parent, along an axis of its own.
                axis = step.parents.index(name)
                shape = [n, *(size if i == axis else 1 for i, size in enumerate(sizes))]
                grid = state_values(network, name).reshape(shape).expand(n, *sizes)
                columns[name] = grid.reshape(-1)
            else:
                columns[name] = network.twin_column(name)[rows]
        p = network.transition(step.name, rows, columns)
        return p.reshape(n, *sizes, -1)[kind]

    def _kinds(self, step: _Step) -> tuple[Tensor, Tensor]:
        """Return the first record of each kind that the variable can tell apart, and all kinds."""
        network, parents = self.network, self.network.graph[step.name].parents
        columns = [network.factual[name] for name in (step.name, *parents)]
        columns += [network.twin_column(name) for name in parents if name not in step.parents]
        keys = torch.stack(columns, 1).nan_to_num(nan=-torch.inf)  # NaN is not equal to NaN
        kinds, kind = torch.unique(keys, dim=0, return_inverse=True)
        first = torch.full((len(kinds),), len(network))
        first.scatter_reduce_(0, kind, torch.arange(len(network)), "amin")
        return first, kind

    def forward(self, steps: Sequence[_Step]) -> Tensor:
        """Return the distribution of the last variable's states, shape (n, S)."""
        # Variable elimination: multiply by each transition, and sum out what is not needed later.
        joint = torch.ones(len(self.network), dtype=torch.float64)
        axis = {step.name: letter for step, letter in zip(steps, _LETTERS, strict=False)}
        for step in steps:
            # One letter per variable, n for the records.
            was, own, now = (
                "n" + "".join(axis[name] for name in names)
                for names in (step.before, (*step.parents, step.name), step.after)
            )
            joint = torch.einsum(f"{was},{own}->{now}", joint, self.transition(step))
        return joint

    def lowest(self, steps: Sequence[_Step]) -> Tensor:
        """Return the lowest probability of each level of the last variable, shape (n, K)."""
        return self._extreme(steps, largest=False)

    def highest(self, steps: Sequence[_Step]) -> Tensor:
        """Return the highest probability of each level of the last variable, shape (n, K)."""
        return self._extreme(steps, largest=True)

    def _extreme(self, steps: Sequence[_Step], *, largest: bool) -> Tensor:
        network, target = self.network, steps[-1].name
        extremes = []
        for level in range(len(network.graph[target].levels)):
            # Dynamic programming from the target upwards: the value of each state is the extreme
            # probability that the target then has this level.
            value = torch.zeros(len(network), network.states(target), dtype=torch.float64)
            value[:, level] = 1.0
            for step in reversed(steps):
                p = self._spread(self.transition(step), step, (*step.parents, step.name))
                value = self._spread(value, step, step.after)
                if network.coupling(step.name) == "any":
                    value = extreme_mean(p, value, largest=largest)
                else:
                    value = (p * value).sum(-1)
            extremes.append(value)
        return torch.stack(extremes, 1)

    def _spread(self, tensor: Tensor, step: _Step, names: Sequence[str]) -> Tensor:
        """Return a tensor with an axis for each variable active before a step, and for its own."""
        every = (*step.before, step.name)
        sizes = (self.network.states(name) if name in names else 1 for name in every)
        return tensor.reshape(len(tensor), *sizes)


_Job = tuple[TwinNetwork, Callable[[_Enumeration, Sequence[_Step]], Tensor]]


def _over_rows(jobs: Sequence[_Job], targets: Iterable[str]) -> list[dict[str, Tensor]]:
    """Enumerate in chunks of rows, so that the memory does not grow with the number of records.

    The networks differ in their couplings alone. A target has an answer for all or for none.
    """
    plans: dict[str, list[_Step]] = {}
    for name in targets:
        # All networks have the same graph, so the first one's steps serve all.
        steps = [_steps(network, name) for network, _ in jobs]
        if None not in steps:
            plans[name] = steps[0]
    network = jobs[0][0]
    size = max(1, _BUDGET // _widest(network, plans))
    parts: list[dict[str, list[Tensor]]] = [{name: [] for name in plans} for _ in jobs]
    for start in range(0, max(len(network), 1), size) if plans else ():
        # Networks of one chunk share the transitions that they have in common.
        transitions: dict[tuple[str, str], Tensor] = {}
        for (every_row, answer), pieces in zip(jobs, parts, strict=True):
            enumeration = _Enumeration(every_row.rows(slice(start, start + size)), transitions)
            for name, steps in plans.items():
                pieces[name].append(answer(enumeration, steps))
    return [
        {
            name: level_probabilities(network, name, torch.cat(chunks))
            for name, chunks in pieces.items()
            if chunks
        }
        for pieces in parts
    ]


def _widest(network: TwinNetwork, plans: Mapping[str, Sequence[_Step]]) -> int:
    """Return the largest number of joint states in any step, per record."""
    widths = [
        prod(network.states(n) for n in (*names, step.name))
        for steps in plans.values()
        for step in steps
        for names in (step.before, step.parents)
    ]
    return max(widths, default=1)
