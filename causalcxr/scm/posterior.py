"""Abduction with missing values: samples of these, then of the noise.

The posterior p(missing, u | observed) is that of the fitted equations with *all* parents filled
in. It assumes that values are missing at random given the observed ones: it is no evidence in
itself that a value is missing. The radiograph is not used, as its density is not available.

The observed values separate a record's missing values into blocks. A block is either enumerated,
which is exact, or weighted by particles. Values without an observed descendant are sampled from
their equations.

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
_LOW_ESS = 100.0  # an effective sample size below this needs more particles, then a warning
_MORE = 16  # times the particles, in the second attempt
# Replaces -inf where a value contradicts a rule: completions that break fewer rules get all the
# weight, and a record that breaks a rule under every completion still has a posterior.
_BROKEN = -1e4


@dataclass(frozen=True)
class Completion:
    """Records with their missing values sampled, and the method for each record.

    Args:
        cohort: The records, one row per draw; observed values stay.
        report: One row per record. `missing`: the number of missing values; `method`: `complete`
            (nothing was missing), `forward` (no observed descendant), `exact` (enumerated) or
            `particles`, whichever comes last among its blocks; `states`: the number of weighted
            completions of the largest block; `ess`: the lowest effective sample size of its
            particles, NaN without any; `low`: whether that is below 100.
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
    """Return noise and missing values sampled together, given what is observed.

    The noise is that of completed records, so that `predict` gives counterfactuals of missing
    values, too. A complete record gets the noise that `SCM.abduct` gives it. The last note of the
    noise's cohort warns about records with a low effective sample size.

    Args:
        model: A fitted model.
        cohort: Factual records, some values missing.
        draws: Posterior samples per record, numbered by the index level "draw"; by default one for
            each row, under its own index.
        seed: A record's samples depend on this, on its id and its draw, and on nothing else.
        states: A block with at most this many joint states is enumerated.
        particles: Weighted completions of any other block, a power of two; 16 times as many where
            the effective sample size is below 100.

    Raises:
        CohortError: If the graph does not declare a value.
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
    """Return the records with missing values sampled from p(missing | observed).

    A variable that training never observed has no equation: it stays missing, and its children's
    equations are evaluated with that parent missing, as they were trained.

    Args:
        model: A fitted model.
        cohort: Factual records, some values missing.
        draws: See `abduct_observed`, as for the rest.
        seed: See there.
        states: See there.
        particles: See there.

    Raises:
        CohortError: If the graph does not declare a value.
        ModelError: If the model is not fitted or stale, or states or particles do not fit.
    """
    model._check_ready()
    # Particles are points of a rotated sequence, which is balanced at powers of two.
    if states < 1 or particles < 2 or particles & (particles - 1):
        raise ModelError(
            f"posterior: states={states}, particles={particles}; give at least one state, and a "
            "power of two as particles, such as 1024"
        )
    cohort = as_cohort(cohort)
    # One row per record and draw.
    repeated = cohort if draws is None else cohort.repeat(draws)
    sampler = _Sampler(model, cohort, repeated, seed)
    # Blocks first: values sampled forward may have them as parents.
    with torch.no_grad(), one_thread():
        sampler.sample_blocks(states, particles)
        sampler.sample_forward()
    report, columns = sampler.report(cohort.index), sampler.completed()
    completed = repeated.with_columns(model.graph, columns) if columns else repeated
    return Completion(completed.described(completed.source, *_notes(report)), report)


class _Sampler:
    """Sample the missing values of all records at once.

    Args:
        model: A fitted model.
        cohort: n records.
        repeated: The same, one row per draw.
        seed: Of all samples.
    """

    def __init__(self, model: "SCM", cohort: Cohort, repeated: Cohort, seed: int) -> None:
        self.graph: Graph = model.graph
        tabular = [name for name in self.graph.order if not self.graph[name].is_image]
        self.names = [name for name in tabular if name in model.fitted]
        self.mechanisms = {name: model.fitted[name].mechanism for name in self.names}
        # Every variable has its own dimensions of the particles' points, from `first` on.
        widths = [max(1, len(self.graph[name].levels)) for name in self.names]
        self.first = dict(zip(self.names, np.cumsum([0, *widths]).tolist(), strict=False))
        # Observed values once per record, sampled ones once per draw.
        columns = cohort.columns(self.graph)
        self.observed = {name: torch.tensor(columns[name]) for name in tabular}
        self.count = len(repeated) // max(1, len(cohort))
        self.sampled = {
            name: column[:, None].repeat(1, self.count) for name, column in self.observed.items()
        }
        self.keys = record_keys(cohort.records)
        self.draws = Draws(record_keys(repeated.records), seed, draw=repeated.draws)
        values = np.array([columns[name] for name in self.names])
        self.missing = np.isnan(values.reshape(len(self.names), len(cohort))).T
        self.blocks = split_missing(self.graph, self.names, self.missing)
        # Of each record, for the report: 0 complete, 1 forward, 2 exact, 3 particles.
        self.method = self.missing.any(1).astype(int)
        self.size = np.ones(len(cohort), dtype=np.int64)
        self.ess = np.full(len(cohort), np.nan)

    def sample_blocks(self, states: int, particles: int) -> None:
        """Sample every block's values: by enumeration up to `states`, else by particles."""
        large = self.blocks.states > states
        np.maximum.at(self.method, self.blocks.rows, np.where(large, 3, 2))
        # Enumeration: blocks with equally many states at a time.
        for size in np.unique(self.blocks.states[~large]).astype(int):
            self._sample(self.blocks.take(self.blocks.states == size), int(size), exact=True)
        # Particles, and more of them where the effective sample size is low.
        ess, rest = np.full(len(self.blocks), np.nan), np.flatnonzero(large)
        for size in (particles, _MORE * particles):
            ess[rest] = self._sample(self.blocks.take(rest), size, exact=False)
            rest = rest[ess[rest] < _LOW_ESS]
        # A record's worst block counts.
        np.fmin.at(self.ess, self.blocks.rows, ess)

    def sample_forward(self) -> None:
        """Sample values without an observed descendant from their equations, parents first."""
        for i, name in enumerate(self.names):
            rows = self.blocks.barren[:, i]
            if not rows.any():
                continue
            # Rows are flattened: every draw of a record has parents of its own.
            parents = {p: self.sampled[p][rows].flatten() for p in self.graph[name].parents}
            equation = self.mechanisms[name](parents)
            draws = self.draws.rows(np.repeat(rows, self.count)).on(f"missing {name}")
            values = equation.predict(equation.sample_noise(draws))
            self.sampled[name][rows] = values.reshape(-1, self.count)

    def completed(self) -> dict[str, np.ndarray]:
        """Return the columns with missing values, filled in, one value per record and draw."""
        filled = np.flatnonzero(self.missing.any(0))
        return {self.names[i]: self.sampled[self.names[i]].flatten().numpy() for i in filled}

    def report(self, index: pd.Index) -> pd.DataFrame:
        """Return the method by which each record's missing values were sampled."""
        return pd.DataFrame(
            {
                "missing": self.missing.sum(1),
                "method": np.array(["complete", "forward", "exact", "particles"])[self.method],
                "states": self.size,
                "ess": self.ess,
                "low": self.ess < _LOW_ESS,
            },
            index=index,
        )

    def _sample(self, blocks: Blocks, size: int, *, exact: bool) -> np.ndarray:
        """Sample each block among `size` completions; return the effective sample sizes, (b,)."""
        np.maximum.at(self.size, blocks.rows, size)
        ess, step = np.empty(len(blocks)), max(1, _ROWS // size)
        for start in progress(range(0, len(blocks), step), "Sampling missing values", "records"):
            some = blocks.take(slice(start, start + step))
            # Weight the completions of each block, then choose one per draw.
            columns, log_weights = self._weighted(some, size, exact)
            weights = torch.softmax(log_weights, 1)
            # The effective sample size, 1 / sum w^2.
            ess[start : start + step] = (1 / weights.square().sum(1)).numpy()
            chosen = _choose(weights, self._uniform(some))
            for i in np.flatnonzero(some.members.any(0)):
                mine, name = some.members[:, i], self.names[i]
                values = columns[name].reshape(len(some), size).gather(1, chosen)
                self.sampled[name][some.rows[mine]] = values[mine]
        return ess

    def _weighted(
        self, blocks: Blocks, size: int, exact: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return completions of each block, (b * size,) per column, and log-weights, (b, size).

        Exact: every joint state, weighted by all the equations that have a member of the block.
        Else: missing values sampled from their equations, weighted by those of observed values.
        """
        # Every block gets `size` copies of its record.
        rows = np.repeat(blocks.rows, size)
        columns = {name: column[rows] for name, column in self.observed.items()}
        # Enumeration: fill in every joint state of the members.
        if exact:
            for i, state in blocks.enumerated(size):
                mine = blocks.members[:, i].repeat(size)
                columns[self.names[i]][mine] = torch.from_numpy(state.ravel()[mine])
        # Parents first, so that every parent has a value when its child needs it.
        total = torch.zeros(len(rows), dtype=torch.float64)
        for i, name in enumerate(self.names):
            member = blocks.members[:, i]
            # A missing value is sampled given its parents, which are complete by now.
            if not exact and member.any():
                at = np.flatnonzero(member.repeat(size))
                draws = RotatedDraws(self.keys[rows[at]], self.draws.seed, f"particles {name}")
                draws = replace(draws, size=size, first=self.first[name])
                equation = self._equation(name, columns, at)
                columns[name][at] = equation.predict(equation.sample_noise(draws))
            # An observed value weights the completion by its likelihood.
            weighting = blocks.touched[:, i] & (exact | ~member)
            if not weighting.any():
                continue
            at = np.flatnonzero(weighting.repeat(size))
            x, equation = columns[name][at], self._equation(name, columns, at)
            # -inf becomes a large finite loss, see `_BROKEN`.
            log_prob = equation.log_prob(x)
            total[at] += log_prob.nan_to_num(nan=0.0, neginf=_BROKEN)
            # Where a parent without an equation leaves a rule undecided, the value stays missing.
            undecided = log_prob.isnan() & torch.from_numpy(member.repeat(size)[at])
            columns[name][at] = x.masked_fill(undecided, torch.nan)
        return columns, total.reshape(len(blocks), size)

    def _equation(self, name: str, columns: dict[str, Tensor], at: np.ndarray) -> Equation:
        return bind(self.mechanisms[name], {p: columns[p][at] for p in self.graph[name].parents})

    def _uniform(self, blocks: Blocks) -> Tensor:
        """Return the random numbers that choose a completion, one per draw, shape (b, count)."""
        u = torch.empty(len(blocks), self.count, dtype=torch.float64)
        for i in np.unique(blocks.labels):
            mine = np.flatnonzero(blocks.labels == i)
            rows = blocks.rows[mine, None] * self.count + np.arange(self.count)
            draws = self.draws.rows(rows.ravel()).on(f"posterior {self.names[i]}")
            u[mine] = torch.from_numpy(draws.uniform().reshape(rows.shape))
        return u


def _choose(weights: Tensor, u: Tensor) -> Tensor:
    """Return the completion that each random number selects, shape (b, count)."""
    cumulative = weights.cumsum(1)
    # Division by the last entry makes it exactly 1, so that no u lies above it.
    return torch.searchsorted(cumulative / cumulative[:, -1:], u, right=True)


def _notes(report: pd.DataFrame) -> list[str]:
    """Return the notes on sampled values, a warning last."""
    n_missing = report["missing"].sum()
    if not n_missing:
        return []
    notes = [f"{n_missing:,} missing values drawn given the observed ones"]
    if report["low"].any():
        worst = report["ess"].idxmin()
        notes.append(
            f"warning: the effective sample size is below {_LOW_ESS:g} in "
            f"{report['low'].sum():,} of {len(report):,} records, {report['ess'].min():.1f} in "
            f"record {brief(worst)}; use more particles"
        )
    return notes
