"""Is an equation right? Its noise, probabilities and intervals on held-out records."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.cohort.splits import SPLITS, draw_splits
from causalcxr.common.errors import ModelError
from causalcxr.common.progress import progress
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.common.threads import one_thread
from causalcxr.graph.variables import Variable
from causalcxr.mechanisms import Equation, build
from causalcxr.scm.prediction import bind
from causalcxr.scm.questions import goodness_of_fit as goodness
from causalcxr.scm.questions.check_plot import Panel
from causalcxr.scm.questions.check_result import Check
from causalcxr.scm.questions.goodness_of_fit import Finding

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["Check", "check"]

_PRIOR = 200_000  # so many draws stand for the prior of the noise
_FEWEST = 50  # records; below, a test says nothing


def check(
    model: "SCM",
    cohort: Records,
    *,
    split: str | None = None,
    rows: int = 20_000,
    alpha: float = 0.01,
    least: float = 0.02,
    seed: int = 0,
) -> Check:
    """Test each tabular equation of a model on held-out records.

    Where an equation is right, the noise that explains the records has the law of its prior and
    tells nothing about the parents, probabilities come true as often as they say, intervals hold
    what they promise, and the parents help to predict. An equation fails where a test is
    significant over the whole family (Benjamini-Hochberg) and the effect is not negligible. Each
    parent is tested alone; records of one patient count as alike as they are.

    Args:
        model: A fitted model; what is set by `do` plays no part.
        cohort: Records with splits, or the ones that taught the model.
        split: "test", "val" or "train", or "all" for every record. By default test, else val,
            drawn as `fit` draws it where the cohort has no splits. Validation rows chose when
            training stopped.
        rows: At most so many records, chosen by a hash of their ids.
        alpha: The false discovery rate.
        least: Effects below this are no failure, however significant: a distance of distributions,
            of ranks or of probabilities, or nats.
        seed: Of the posterior draws and of the choice of records.

    Returns:
        The result; a variable with fewer than 50 usable records is untested.

    Raises:
        CohortError: If a value is none that the graph declares.
        ModelError: If the model is not fitted or stale, or no record is held out.

    Example:
        >>> from causalcxr import SCM, Graph
        >>> graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
        >>> men = pd.DataFrame({"Sex": ["F", "M", "M", "M"] * 200})
        >>> model = SCM(graph).fit(Cohort(men))
        >>> dict(check(model, Cohort(men), split="all").failed)
        {}
        >>> women = pd.DataFrame({"Sex": ["F", "F", "F", "M"] * 200})
        >>> list(check(model, Cohort(women), split="all").failed)
        ['Sex']
    """
    model._check_ready()
    cohort = as_cohort(cohort)
    positions, rest, where = _held_out(cohort, split)
    order = Draws(record_keys(cohort.records[positions]), seed, "check", cohort.draws[positions])
    chosen = positions[np.sort(np.argsort(order.uniform()[:, 0], kind="stable")[:rows])]
    columns = cohort.columns(model.graph)
    groups = pd.factorize(cohort.patients.iloc[chosen])[0]
    part = cohort.at(chosen)
    draws = Draws(record_keys(part.records), seed, draw=part.draws)
    found, untested = [], {}
    with torch.no_grad(), one_thread():
        for name in progress(model.graph.tabular, "Testing", "equations"):
            if name not in model.fitted:
                untested[name] = "training never observed it"
                continue
            mechanism = model.fitted[name].mechanism
            parents = {p.name: columns[p.name][chosen] for p in mechanism.parents}
            # A stream of its own: a cohort that the model drew itself may have used the other.
            own = draws.on(f"{name} check")
            subject = _Subject(model.graph[name], mechanism, parents, own)
            usable = subject.observe(columns[name][chosen], groups)
            if usable < _FEWEST:
                untested[name] = (
                    f"{usable} of {len(chosen):,} records can be tested; {_FEWEST} are needed"
                )
                continue
            found.append(subject.report(columns[name][rest]))
    return Check.of(found, untested, len(chosen), where, alpha=alpha, least=least)


class _Subject:
    """One equation under test.

    Args:
        variable: Its variable.
        mechanism: Its mechanism.
        parents: The factual parents of n records, as arrays.
        draws: The random numbers of these records.
    """

    def __init__(
        self, variable: Variable, mechanism: Any, parents: dict[str, np.ndarray], draws: Draws
    ) -> None:
        self.variable, self.mechanism, self.draws = variable, mechanism, draws
        self.parents = {p.name: (p, parents[p.name]) for p in mechanism.parents}
        self.equation = bind(mechanism, {k: torch.from_numpy(v) for k, v in parents.items()})

    def observe(self, x: np.ndarray, groups: np.ndarray) -> int:
        """Find noise and likelihood where there is a value and a law; return in how many rows."""
        values = torch.from_numpy(x)
        n = len(x)
        u = self.equation.abduct(values, self.draws).reshape(n, -1).numpy()
        logp = self.equation.log_prob(values).numpy()
        keep = np.isfinite(u).all(axis=1) & ~np.isnan(logp)
        self.prior = _prior(self.equation, self.draws, u.shape[1])
        self.x, self.u, self.logp, self.groups = x[keep], u[keep], logp[keep], groups[keep]
        self.probabilities = _probabilities(self.equation, self.variable, n)[keep]
        self.kept = keep
        if not keep.any():
            return 0
        self.residual = self._residual()
        self.effective = keep.sum() / goodness.design_effect(self.residual, self.groups)
        return int(keep.sum())

    def _residual(self) -> np.ndarray:
        """Return the rank of each value in its predicted law, drawn inside a level's share."""
        v = self.draws.on(f"{self.draws.stream} rank").uniform()[self.kept, 0]
        if self.variable.is_discrete:
            at = self.x.astype(int)[:, None]
            upper = np.cumsum(self.probabilities, axis=1)
            share = np.take_along_axis(self.probabilities, at, 1)[:, 0]
            return (np.take_along_axis(upper, at, 1)[:, 0] - share * v).clip(1e-9, 1 - 1e-9)
        prior = np.sort(self.prior[:, 0])
        return (np.searchsorted(prior, self.u[:, 0]) + v) / (len(prior) + 1)

    def report(self, train: np.ndarray) -> tuple[list[dict], dict, Panel]:
        """Return the tests, the likelihood and what is drawn.

        Args:
            train: The values that the marginal law is read off, NaN where missing.
        """
        marginal = _marginal(self.variable, train if len(train) else self.x, self.x)
        gain, error = goodness.mean_and_error(self.logp - marginal, self.groups)
        n = len(self.x)
        likelihood = {
            "variable": self.variable.name,
            "n": n,
            "log_prob": float(self.logp.mean()),
            "marginal": float(marginal.mean()),
            "gain": gain,
            "error": error,
        }
        tests = [self._noise(), *map(self._parent, self.parents), self._own()]
        tests += self._likelihood(gain, error)
        for each in tests:
            each.update(variable=self.variable.name, n=n, effective=self.effective)
        return tests, likelihood, self._panel()

    def _noise(self) -> dict:
        found = goodness.same_distribution(self.u, self.prior, self.effective)
        return _row("noise", found, f"its noise is not the prior's (distance {found.effect:.3f})")

    def _parent(self, name: str) -> dict:
        parent, column = self.parents[name]
        found = goodness.independence(
            self.residual, column[self.kept], len(parent.levels), self.effective
        )
        words = f"its noise depends on {name} (its rank moves by {found.effect:.3f})"
        return _row("independence", found, words, against=name)

    def _own(self) -> dict:
        """Return what only levels, or only numbers, have: calibration or coverage."""
        if not self.variable.is_discrete:
            found, words = goodness.coverage(self.residual, self.effective)
            return _row("coverage", found, words)
        levels = self._levels()
        each = [
            goodness.calibration(self.probabilities[:, k], self.x == k, self.effective)
            for k in levels
        ]
        worst = min(range(len(each)), key=lambda i: (each[i].p, -each[i].effect))
        p = min(1.0, each[worst].p * len(each))
        found = Finding(each[worst].effect, p)
        level = self.variable.levels[levels[worst]]
        words = f"its probabilities of {level} are off by {found.effect:.3f}"
        return _row("calibration", found, words, against=level)

    def _levels(self) -> list[int]:
        """Return the levels whose probability is to be tested: of two, one tells all."""
        k = len(self.variable.levels)
        return [1] if k == 2 else list(range(k))

    def _likelihood(self, gain: float, error: float) -> list[dict]:
        """Return the test that the equation is no worse than the marginal law."""
        if impossible := int(np.isneginf(self.logp).sum()):
            words = f"{impossible:,} of {len(self.x):,} values are impossible under it"
            return [_row("likelihood", Finding(impossible / len(self.x), 0.0), words)]
        if not self.parents or not error > 0:
            return []
        words = f"its gain over the marginal is {gain:+.3f} nats a record"
        found = Finding(max(0.0, -gain), float(norm.cdf(gain / error)))
        return [_row("likelihood", found, words)]

    def _panel(self) -> Panel:
        if not self.variable.is_discrete:
            return Panel(self.residual, {})
        curves = {
            self.variable.levels[k]: goodness.calibration_bins(
                self.probabilities[:, k], (self.x == k).astype(np.float64)
            )
            for k in self._levels()
        }
        return Panel(self.residual, curves)


def _row(test: str, found: Finding, told: str, against: str = "") -> dict:
    return {"test": test, "against": against, "effect": found.effect, "p": found.p, "told": told}


def _held_out(cohort: Cohort, split: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the positions to look at, those of the train split, and a word for the former."""
    splits = cohort.splits
    drawn = draw_splits(cohort.patients, (0.9, 0.1, 0.0)) if splits is None else splits
    drawn = np.asarray(drawn)
    train = np.flatnonzero(drawn == "train")
    if split == "all":
        return np.arange(len(cohort)), train, "all"
    if split is not None and split not in SPLITS:
        raise ModelError(f"check: no split {split!r}; use {', '.join(SPLITS)} or all")
    name = split or ("test" if (drawn == "test").any() else "val")
    positions = np.flatnonzero(drawn == name)
    if not len(positions):
        raise ModelError(
            f"check: none of {len(cohort):,} records is in the {name} split; give held-out "
            "records, or pass split='all'"
        )
    return positions, train, name


def _prior(equation: Equation, draws: Draws, width: int) -> np.ndarray:
    """Return many draws of the noise from its prior, shape (m, k)."""
    times = int(np.clip(_PRIOR // max(len(draws), 1), 2, 200))
    parts = [
        equation.sample_noise(Draws(draws.keys, draws.seed, f"{draws.stream} prior", k))
        for k in range(times)
    ]
    return torch.cat(parts).reshape(-1, width).numpy()


def _probabilities(equation: Equation, variable: Variable, n: int) -> np.ndarray:
    """Return the predicted probability of each level, shape (n, K); (n, 0) of a number."""
    levels = range(len(variable.levels))
    masses = [equation.log_prob(torch.full((n,), float(k)).double()).exp() for k in levels]
    return torch.stack(masses, 1).numpy() if masses else np.zeros((n, 0))


def _marginal(variable: Variable, train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the log-probability of values under the marginal law of the training rows."""
    known = train[~np.isnan(train)]
    if variable.is_discrete:
        count = np.bincount(known.astype(int), minlength=len(variable.levels)) + 0.5
        return np.log(count / count.sum())[x.astype(int)]
    # An untrained flow without parents is its quantile map: the marginal, in the same units.
    law = build(variable.replace(parents=(), mechanism="flow"), [])
    given: Tensor = torch.from_numpy(known)
    if len(known):
        law.prepare(given, {})
    return law({}).log_prob(torch.from_numpy(x)).numpy()
