"""Abduction from what is observed alone: draws of the missing values, then of the noise.

The posterior p(missing, u | observed) is that of the fitted equations with *all* parents filled
in, for values that are missing at random given the observed ones: that a value is missing is no
evidence by itself. The radiograph is no evidence either, as its density is not at hand.

A record's missing values fall into blocks that the observed values separate, and a block is either
enumerated, exactly, or weighed by particles. Values without an observed descendant follow their
equations.

References:
    | Shachter, Evaluating influence diagrams, 1986 (barren nodes)
    | Owen, Monte Carlo theory, methods and examples, chapters 9 and 17 (importance weights,
    rotated low-discrepancy points)
"""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.common.errors import ModelError, brief
from causalcxr.common.progress import progress
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.common.threads import one_thread
from causalcxr.graph.graph import Graph
from causalcxr.mechanisms import Equation
from causalcxr.scm.missing_blocks import Blocks, split_missing
from causalcxr.scm.particles import RotatedDraws
from causalcxr.scm.prediction import Noise, bind

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["Completion", "abduct_observed", "complete_observed"]

_ROWS = 1 << 17  # rows of filled-in records at a time: some tens of megabytes of features
_FEW = 100.0  # an effective sample size below this is few: more particles, and then a warning
_MORE = 16  # so many times the particles, in the second attempt
# What stands for -inf where a value contradicts a rule: completions that break fewer rules win
# outright, and a record that breaks one whatever is filled in keeps a posterior.
_BROKEN = -1e4


@dataclass(frozen=True)
class Completion:
    """Records with their missing values drawn, and how each record's were found.

    Args:
        cohort: The records, each as often as draws were asked for; what was observed stands.
        report: One row a record. `missing`: how many values were; `method`: `complete` (nothing
            was missing), `forward` (no observed descendant), `exact` (enumerated) or `particles`,
            the worst of its blocks; `states`: how many completions the largest block weighed;
            `ess`: the lowest effective sample size of its particles, NaN without any; `low`:
            whether that is below 100.
    """

    cohort: Cohort
    report: pd.DataFrame


def abduct_observed(
    model: "SCM",
    cohort: Records,
    *,
    draws: int | None = None,
    seed: int = 0,
    states: int = 4096,
    particles: int = 1024,
) -> Noise:
    """Return noise and missing values drawn together, given what is observed.

    The noise is that of completed records, so `predict` gives counterfactuals of missing values
    too. A record with nothing missing gets the noise that `SCM.abduct` gives it. A warning about
    records with few effective particles is the last of the notes of the noise's cohort.

    Args:
        model: A fitted model.
        cohort: Factual records, some values missing.
        draws: Posterior draws a record, told apart by the index level "draw"; by default one for
            each row as it is.
        seed: A record's draws depend on this, on its id and its draw, and on nothing else.
        states: A block with at most so many joint states is enumerated.
        particles: Weighed completions of any other block, a power of two; 16 times as many where
            the effective sample size is below 100.

    Raises:
        CohortError: If a value is none that the graph declares.
        ModelError: If the model is not fitted or stale, or states or particles do not fit.

    Example:
        >>> from causalcxr import SCM
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> model = SCM(graph).fit(Cohort(pd.DataFrame({"Sex": ["F", "M"] * 20})))
        >>> noise = abduct_observed(model, Cohort(pd.DataFrame({"Sex": ["F", None]})), draws=50)
        >>> men = model.predict(noise).table["Sex"].eq("M").groupby("record").mean()
        >>> men.tolist()[0], 0.2 < men.tolist()[1] < 0.8
        (0.0, True)
    """
    completion = complete_observed(
        model, cohort, draws=draws, seed=seed, states=states, particles=particles
    )
    return model.abduct(completion.cohort, seed=seed)


def complete_observed(
    model: "SCM",
    cohort: Records,
    *,
    draws: int | None = None,
    seed: int = 0,
    states: int = 4096,
    particles: int = 1024,
) -> Completion:
    """Return the records with missing values drawn from p(missing | observed).

    A variable that training never observed has no equation: it stays missing, and its children's
    equations are asked with that parent missing, as they were trained.

    Args:
        model: A fitted model.
        cohort: Factual records, some values missing.
        draws: As in `abduct_observed`, and so are the others.
        seed: As there.
        states: As there.
        particles: As there.

    Raises:
        CohortError: If a value is none that the graph declares.
        ModelError: If the model is not fitted or stale, or states or particles do not fit.
    """
    model._check_ready()
    if states < 1 or particles < 2 or particles & (particles - 1):
        raise ModelError(
            f"posterior: states is {states} and particles is {particles}; give at least one "
            "state, and as particles a power of two such as 1024"
        )
    cohort = as_cohort(cohort)
    repeated = cohort if draws is None else cohort.repeat(draws)
    search = _Search(model, cohort, repeated, seed)
    with torch.no_grad(), one_thread():
        search.find(states, particles)
        search.forward()
    report, columns = search.report(cohort.index), search.completed()
    completed = repeated.with_columns(model.graph, columns) if columns else repeated
    return Completion(completed.described(completed.source, *_notes(report)), report)


class _Search:
    """Find the missing values of all records at once.

    Args:
        model: A fitted model.
        cohort: n records.
        repeated: The same, each as often as draws are asked for.
        seed: Of all draws.
    """

    def __init__(self, model: "SCM", cohort: Cohort, repeated: Cohort, seed: int) -> None:
        self.graph: Graph = model.graph
        tabular = [name for name in self.graph.order if not self.graph[name].is_image]
        self.names = [name for name in tabular if name in model.fitted]
        self.mechanisms = {name: model.fitted[name].mechanism for name in self.names}
        widths = [max(1, len(self.graph[name].levels)) for name in self.names]
        self.first = dict(zip(self.names, np.cumsum([0, *widths]).tolist(), strict=False))
        found = cohort.columns(self.graph)
        self.observed = {name: torch.tensor(found[name]) for name in tabular}
        self.count = len(repeated) // max(1, len(cohort))
        self.drawn = {
            name: column[:, None].repeat(1, self.count) for name, column in self.observed.items()
        }
        self.keys = record_keys(cohort.records)
        self.draws = Draws(record_keys(repeated.records), seed, draw=repeated.draws)
        columns = np.array([found[name] for name in self.names])
        self.missing = np.isnan(columns.reshape(len(self.names), len(cohort))).T
        self.blocks = split_missing(self.graph, self.names, self.missing)
        # Of each record, for the report: 0 complete, 1 forward, 2 exact, 3 particles.
        self.method = self.missing.any(1).astype(int)
        self.size = np.ones(len(cohort), dtype=np.int64)
        self.ess = np.full(len(cohort), np.nan)

    def find(self, states: int, particles: int) -> None:
        """Draw every block's values: exactly where its states are few, else by particles."""
        many = self.blocks.states > states
        np.maximum.at(self.method, self.blocks.rows, np.where(many, 3, 2))
        for size in np.unique(self.blocks.states[~many]).astype(int):
            self._draw(self.blocks.take(self.blocks.states == size), int(size), exact=True)
        ess, rest = np.full(len(self.blocks), np.nan), np.flatnonzero(many)
        for size in (particles, _MORE * particles):
            ess[rest] = self._draw(self.blocks.take(rest), size, exact=False)
            rest = rest[ess[rest] < _FEW]
        np.fmin.at(self.ess, self.blocks.rows, ess)

    def forward(self) -> None:
        """Draw what has no observed descendant from its equation, parents first."""
        for i, name in enumerate(self.names):
            rows = self.blocks.barren[:, i]
            if not rows.any():
                continue
            parents = {p: self.drawn[p][rows].flatten() for p in self.graph[name].parents}
            equation = self.mechanisms[name](parents)
            draws = self.draws.rows(np.repeat(rows, self.count)).on(f"missing {name}")
            values = equation.predict(equation.sample_noise(draws))
            self.drawn[name][rows] = values.reshape(-1, self.count)

    def completed(self) -> dict[str, np.ndarray]:
        """Return the columns with something missing, filled in, one value a record and draw."""
        filled = np.flatnonzero(self.missing.any(0))
        return {self.names[i]: self.drawn[self.names[i]].flatten().numpy() for i in filled}

    def report(self, index: pd.Index) -> pd.DataFrame:
        """Return how each record's missing values were found."""
        return pd.DataFrame(
            {
                "missing": self.missing.sum(1),
                "method": np.array(["complete", "forward", "exact", "particles"])[self.method],
                "states": self.size,
                "ess": self.ess,
                "low": self.ess < _FEW,
            },
            index=index,
        )

    def _draw(self, blocks: Blocks, size: int, *, exact: bool) -> np.ndarray:
        """Draw some blocks' values among `size` completions each, and return their ESS, (b,)."""
        np.maximum.at(self.size, blocks.rows, size)
        ess, step = np.empty(len(blocks)), max(1, _ROWS // size)
        for start in progress(range(0, len(blocks), step), "Drawing missing values", "records"):
            some = blocks.take(slice(start, start + step))
            columns, log_weights = self._weigh(some, size, exact)
            weights = torch.softmax(log_weights, 1)
            ess[start : start + step] = (1 / weights.square().sum(1)).numpy()
            chosen = _choose(weights, self._uniform(some))
            for i in np.flatnonzero(some.members.any(0)):
                mine, name = some.members[:, i], self.names[i]
                values = columns[name].reshape(len(some), size).gather(1, chosen)
                self.drawn[name][some.rows[mine]] = values[mine]
        return ess

    def _weigh(self, blocks: Blocks, size: int, exact: bool) -> tuple[dict[str, Tensor], Tensor]:
        """Return completions of each block, (b * size,) a column, and log-weights, (b, size).

        Exact: every joint state, weighed by all the equations that the block touches. Else missing
        values drawn from their equations, weighed by those of the observed.
        """
        rows = np.repeat(blocks.rows, size)
        columns = {name: column[rows] for name, column in self.observed.items()}
        if exact:
            for i, state in blocks.enumerated(size):
                mine = blocks.members[:, i].repeat(size)
                columns[self.names[i]][mine] = torch.from_numpy(state.ravel()[mine])
        total = torch.zeros(len(rows), dtype=torch.float64)
        for i, name in enumerate(self.names):
            member = blocks.members[:, i]
            if not exact and member.any():
                at = np.flatnonzero(member.repeat(size))
                draws = RotatedDraws(self.keys[rows[at]], self.draws.seed, f"particles {name}")
                draws = replace(draws, size=size, first=self.first[name])
                equation = self._equation(name, columns, at)
                columns[name][at] = equation.predict(equation.sample_noise(draws))
            weighed = blocks.touched[:, i] & (exact | ~member)
            if not weighed.any():
                continue
            at = np.flatnonzero(weighed.repeat(size))
            x, equation = columns[name][at], self._equation(name, columns, at)
            log_prob = equation.log_prob(x)
            total[at] += log_prob.nan_to_num(nan=0.0, neginf=_BROKEN)
            # A rule that an unlearned parent leaves undecided leaves the missing value missing.
            undecided = log_prob.isnan() & torch.from_numpy(member.repeat(size)[at])
            columns[name][at] = x.masked_fill(undecided, torch.nan)
        return columns, total.reshape(len(blocks), size)

    def _equation(self, name: str, columns: dict[str, Tensor], at: np.ndarray) -> Equation:
        return bind(self.mechanisms[name], {p: columns[p][at] for p in self.graph[name].parents})

    def _uniform(self, blocks: Blocks) -> Tensor:
        """Return the numbers that choose a block's completion, one a draw, shape (b, count)."""
        u = torch.empty(len(blocks), self.count, dtype=torch.float64)
        for i in np.unique(blocks.labels):
            mine = np.flatnonzero(blocks.labels == i)
            rows = blocks.rows[mine, None] * self.count + np.arange(self.count)
            draws = self.draws.rows(rows.ravel()).on(f"posterior {self.names[i]}")
            u[mine] = torch.from_numpy(draws.uniform().reshape(rows.shape))
        return u


def _choose(weights: Tensor, u: Tensor) -> Tensor:
    """Return the completion that each number u falls on, shape (b, count)."""
    cumulative = weights.cumsum(1)
    # Divided by its own last entry, the last one is 1 and no u is beyond it.
    return torch.searchsorted(cumulative / cumulative[:, -1:], u, right=True)


def _notes(report: pd.DataFrame) -> list[str]:
    """Return what a cohort with drawn values says of them, a warning last."""
    drawn = report["missing"].sum()
    if not drawn:
        return []
    notes = [f"{drawn:,} missing values drawn given the observed ones"]
    if report["low"].any():
        worst = report["ess"].idxmin()
        notes.append(
            f"warning: the effective sample size is below {_FEW:g} in {report['low'].sum():,} of "
            f"{len(report):,} records, {report['ess'].min():.1f} in record {brief(worst)}; "
            "give more particles"
        )
    return notes
