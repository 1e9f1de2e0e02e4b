"""The exact law of a twin's levels, and its bounds, by sums over the joint states of ancestors.

The joint law of the ancestors is carried down the graph; each is summed out once its last child
is done, so what is alive at one time stays small.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import prod
from string import ascii_letters

import torch
from torch import Tensor

from causalcxr.scm.questions.coupling_transitions import extreme_mean
from causalcxr.scm.questions.twin_distributions import Case, levels_of, values_of

__all__ = ["MOST_STATES", "exact", "exact_and_bounds"]

MOST_STATES = 4096  # joint states of a row; more are drawn rather than enumerated
_BUDGET = 2**20  # numbers that one step may hold
# One axis a variable; "n" is the record.
_LETTERS = ascii_letters.replace("n", "")


def exact(case: Case, targets: Iterable[str]) -> dict[str, Tensor]:
    """Return P(twin = level | record) by enumeration, for the targets where that can be done.

    Args:
        case: What is asked.
        targets: Discrete variables.

    Returns:
        Shape (n, K) each; NaN where the twin is missing for certain. The rest up to one is the
        probability that the twin is missing. Targets with a moving ancestor that is continuous,
        or whose coupling has no closed form, or with too many joint states, are left out.
    """
    return _over_rows([(case, _Enumeration.forward)], targets)[0]


def exact_and_bounds(
    cases: Sequence[Case], free: Case, targets: Iterable[str]
) -> tuple[list[dict[str, Tensor]], dict[str, tuple[Tensor, Tensor]]]:
    """Return `exact` of several couplings, and the least and the most that any can answer.

    The equations in `free.free` may be coupled in any way that keeps their learned laws; the
    others are coupled as `free` says. One step from the fact, this is the bound of Frechet and
    Hoeffding and is attained. Down the graph, the worst coupling is chosen anew for every
    setting of the ancestors that are still needed, by dynamic programming from the target
    upwards. That contains every coupling, so the bounds hold; where a variable's coupling would
    have to depend on more than its own parents they may be wider than the sharpest.

    Args:
        cases: What is asked; they differ in their couplings alone, and share what they can.
        free: The same with some couplings free.
        targets: Discrete variables; those that any case leaves out are left out of all.

    Returns:
        One answer a case, (n, K) each target; and the bounds of each target, (n, K) each.
    """
    jobs = [*((case, _Enumeration.forward) for case in cases)]
    jobs += [(free, _Enumeration.least), (free, _Enumeration.most)]
    *laws, least, most = _over_rows(jobs, targets)
    return laws, {name: (least[name], most[name]) for name in least}


@dataclass(frozen=True)
class _Step:
    """One variable of an enumeration: what is alive before it, and after it."""

    name: str
    parents: tuple[str, ...]  # those that move
    before: tuple[str, ...]
    after: tuple[str, ...]


def _plan(case: Case, target: str) -> list[_Step] | None:
    """Return the steps to a target, or None where it cannot be enumerated."""
    lineage = case.lineage(target)
    if not all(case.coupling(name) for name in lineage):
        return None
    steps: list[_Step] = []
    alive: tuple[str, ...] = ()
    for i, name in enumerate(lineage):
        later = {parent for other in lineage[i + 1 :] for parent in case.graph[other].parents}
        parents = tuple(p for p in lineage[:i] if p in case.graph[name].parents)
        after = tuple(n for n in (*alive, name) if n in later or n == target)
        steps.append(_Step(name, parents, alive, after))
        alive = after
    widest = max(prod(case.states(n) for n in step.before) for step in steps)
    return steps if widest <= MOST_STATES else None


class _Enumeration:
    """Sums over the joint states of some records.

    Args:
        case: What is asked.
        known: The transitions computed so far, by variable and coupling.
    """

    def __init__(self, case: Case, known: dict[tuple[str, str], Tensor]) -> None:
        self.case, self.known = case, known

    def transition(self, step: _Step) -> Tensor:
        """Return a variable's law for every setting of its moving parents, (n, S.., S)."""
        key = (step.name, self.case.coupling(step.name))
        if key not in self.known:
            self.known[key] = self._transition(step)
        return self.known[key]

    def _transition(self, step: _Step) -> Tensor:
        some, place = self._different(step)
        case = self.case.rows(some)
        sizes = [case.states(p) for p in step.parents]
        rows = torch.arange(len(case)).repeat_interleave(prod(sizes))
        columns = {}
        for name in case.graph[step.name].parents:
            if name in step.parents:
                axis = step.parents.index(name)
                shape = [len(case), *(size if i == axis else 1 for i, size in enumerate(sizes))]
                grid = values_of(case, name).reshape(shape).expand(len(case), *sizes)
                columns[name] = grid.reshape(-1)
            else:
                columns[name] = case.twin_column(name)[rows]
        law = case.transition(step.name, rows, columns)
        return law.reshape(len(case), *sizes, -1)[place]

    def _different(self, step: _Step) -> tuple[Tensor, Tensor]:
        """Return one record of each kind that the variable can tell apart, and each one's kind."""
        case, parents = self.case, self.case.graph[step.name].parents
        seen = [case.factual[name] for name in (step.name, *parents)]
        seen += [case.twin_column(name) for name in parents if name not in step.parents]
        keys = torch.stack(seen, 1).nan_to_num(nan=-torch.inf)  # one NaN is not another's equal
        kinds, place = torch.unique(keys, dim=0, return_inverse=True)
        first = torch.full((len(kinds),), len(case))
        first.scatter_reduce_(0, place, torch.arange(len(case)), "amin")
        return first, place

    def forward(self, plan: Sequence[_Step]) -> Tensor:
        """Return the law of the last variable's states, shape (n, S)."""
        joint = torch.ones(len(self.case), dtype=torch.float64)
        axis = {step.name: letter for step, letter in zip(plan, _LETTERS, strict=False)}
        for step in plan:
            was, own, now = (
                "n" + "".join(axis[name] for name in names)
                for names in (step.before, (*step.parents, step.name), step.after)
            )
            joint = torch.einsum(f"{was},{own}->{now}", joint, self.transition(step))
        return joint

    def least(self, plan: Sequence[_Step]) -> Tensor:
        """Return the least probability of each level of the last variable, shape (n, K)."""
        return self._extreme(plan, largest=False)

    def most(self, plan: Sequence[_Step]) -> Tensor:
        """Return the greatest probability of each level of the last variable, shape (n, K)."""
        return self._extreme(plan, largest=True)

    def _extreme(self, plan: Sequence[_Step], *, largest: bool) -> Tensor:
        case, target = self.case, plan[-1].name
        found = []
        for level in range(len(case.graph[target].levels)):
            worth = torch.zeros(len(case), case.states(target), dtype=torch.float64)
            worth[:, level] = 1.0
            for step in reversed(plan):
                law = self._spread(self.transition(step), step, (*step.parents, step.name))
                worth = self._spread(worth, step, step.after)
                if case.coupling(step.name) == "any":
                    worth = extreme_mean(law, worth, largest=largest)
                else:
                    worth = (law * worth).sum(-1)
            found.append(worth)
        return torch.stack(found, 1)

    def _spread(self, tensor: Tensor, step: _Step, names: Sequence[str]) -> Tensor:
        """Return a tensor with one axis for all that is alive before a step, and for its own."""
        every = (*step.before, step.name)
        sizes = (self.case.states(name) if name in names else 1 for name in every)
        return tensor.reshape(len(tensor), *sizes)


_Job = tuple[Case, Callable[[_Enumeration, Sequence[_Step]], Tensor]]


def _over_rows(jobs: Sequence[_Job], targets: Iterable[str]) -> list[dict[str, Tensor]]:
    """Enumerate chunk by chunk, so that the memory does not grow with the records.

    The cases differ in their couplings alone. A target is answered for all of them, or for none.
    """
    plans: dict[str, list[_Step]] = {}
    for name in targets:
        found = [_plan(case, name) for case, _ in jobs]
        if None not in found:
            plans[name] = found[0]
    case = jobs[0][0]
    widths = [
        prod(case.states(n) for n in (*names, step.name))
        for plan in plans.values()
        for step in plan
        for names in (step.before, step.parents)
    ]
    size = max(1, _BUDGET // max(widths, default=1))
    parts: list[dict[str, list[Tensor]]] = [{name: [] for name in plans} for _ in jobs]
    for start in range(0, max(len(case), 1), size) if plans else ():
        known: dict[tuple[str, str], Tensor] = {}
        for (whole, answer), pieces in zip(jobs, parts, strict=True):
            enumeration = _Enumeration(whole.rows(slice(start, start + size)), known)
            for name, plan in plans.items():
                pieces[name].append(answer(enumeration, plan))
    return [
        {name: levels_of(case, name, torch.cat(each)) for name, each in pieces.items() if each}
        for pieces in parts
    ]
