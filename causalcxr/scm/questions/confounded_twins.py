"""Twins whose outcome shares a hidden cause with its cause: the same engine, other noise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.threads import over_rows
from causalcxr.graph.interventions import BoundIntervention
from causalcxr.mechanisms import Mechanism
from causalcxr.mechanisms.noise_scores import (
    noise_from_scores,
    score_interval,
    scores_from_noise,
)
from causalcxr.scm.prediction import Noise, Prediction, bind, same_bits
from causalcxr.scm.questions.confounded_pairs import Pair
from causalcxr.scm.questions.correlated_noise import moved_scores

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["ConfoundedTwins"]

_AT_ONCE = 2**18  # rows (record, rho) predicted at once


@dataclass(frozen=True)
class ConfoundedTwins:
    """The twins of records under an action, whatever the noises of a pair have in common.

    Args:
        model: The model.
        noise: The abducted noise of n rows.
        action: The intervention; empty for the records as they are.
    """

    model: "SCM"
    noise: Noise
    action: BoundIntervention

    @cached_property
    def fixed(self) -> dict[str, Tensor]:
        """The values that are set or held, (n,) each."""
        acted = self.model.do(self.action) if self.action else self.model
        return acted._fixed(self.noise)

    @cached_property
    def columns(self) -> dict[str, Tensor]:
        """The twins without a hidden cause, (n,) each: the model's own answer."""
        return self._predict(self.noise, self.fixed).columns

    def moved(self, name: str) -> Tensor:
        """Return in which rows the twin's value differs from the factual one, shape (n,)."""
        return ~same_bits(self.columns[name], self.noise.columns[name])

    def below(self, outcome: str) -> list[str]:
        """Return the outcome and its descendants, which its noise can change."""
        graph = self.model.graph
        lineage = {outcome} | set(graph.descendants(outcome))
        return [n for n in graph.order if n in lineage and not graph[n].is_image]

    def under(self, pair: Pair, grid: Sequence[float]) -> list[Mapping[str, Tensor]]:
        """Return the outcome and its descendants for each correlation, (n,) each."""
        names = self.below(pair.outcome)
        own = {name: self.columns[name] for name in names}
        rest = [rho for rho in grid if rho != 0]
        at_once = max(1, _AT_ONCE // max(len(self.noise), 1))
        answers: dict[float, Mapping[str, Tensor]] = {}
        for start in range(0, len(rest), at_once):
            some = rest[start : start + at_once]
            moved = self.with_noise(pair.outcome, self._correlated(pair, some))
            answers |= dict(zip(some, moved, strict=True))
        return [answers.get(rho, own) for rho in grid]

    def with_noise(self, outcome: str, noises: Sequence[Tensor]) -> list[dict[str, Tensor]]:
        """Return the outcome and its descendants under each noise of the outcome, (n,) each.

        Args:
            outcome: The variable whose noise is replaced.
            noises: Its noise, once for each answer.
        """
        names, n, count = self.below(outcome), len(self.noise), len(noises)
        # All answers below one another: one pass down the graph. Only the outcome and its
        # descendants are computed again.
        kept = {name: self.noise.values[name] for name in names if name in self.noise.values}
        repeated = replace(self.noise, values=kept).rows(np.tile(np.arange(n), count))
        repeated = replace(repeated, values={**repeated.values, outcome: torch.cat(list(noises))})
        fixed = {k: v.repeat(count) for k, v in self.columns.items() if k not in names}
        fixed |= {k: v.repeat(count) for k, v in self.fixed.items() if k in names}
        columns = self._predict(repeated, fixed).columns
        return [{k: columns[k][i * n : (i + 1) * n] for k in names} for i in range(count)]

    def _correlated(self, pair: Pair, grid: Sequence[float]) -> list[Tensor]:
        """Return the noise that gives the twin's outcome under each correlation."""
        mechanisms, facts, twins = self.model._mechanisms, self.noise.columns, self.columns
        cause, outcome = mechanisms[pair.cause], mechanisms[pair.outcome]
        u = self.noise.values[pair.outcome]
        # Where neither the cause nor its parents differ, the noise stays as it is.
        moved = self.moved(pair.cause)
        for parent in cause.parents:
            moved = moved | self.moved(parent.name)
        chosen = moved.nonzero()[:, 0].numpy()

        def block(rows: np.ndarray | slice) -> dict[float, Tensor]:
            rows = chosen[rows]
            before, after = (_interval(cause, columns, rows) for columns in (facts, twins))
            scores = scores_from_noise(outcome, u[rows])
            moved = {rho: moved_scores(scores, before, after, rho) for rho in grid}
            return {rho: noise_from_scores(outcome, u[rows], v) for rho, v in moved.items()}

        if not len(chosen):
            return [u for _ in grid]
        noises, rows = over_rows(len(chosen), block), torch.from_numpy(chosen)
        return [u.index_put((rows,), noises[rho]) for rho in grid]

    def _predict(self, noise: Noise, fixed: Mapping[str, Tensor]) -> Prediction:
        return Prediction(self.model.graph, self.model._mechanisms, noise, fixed)


def _interval(
    mechanism: Mechanism, columns: Mapping[str, Tensor], rows: np.ndarray
) -> tuple[Tensor, Tensor]:
    """Return the scores that give a variable's values under its parents' values, in some rows."""
    equation = bind(mechanism, {p.name: columns[p.name][rows] for p in mechanism.parents})
    return score_interval(mechanism, equation, columns[mechanism.variable.name][rows])
