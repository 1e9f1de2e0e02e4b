"""Checks of each equation on held-out records: its noise, probabilities and intervals."""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import norm

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
from causalcxr.scm.questions.goodness_of_fit import FitTest

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["Check", "check"]

_PRIOR = 200_000  # samples that represent the prior of the noise
_FEWEST = 50  # records; with fewer, a test has no power


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

    If an equation is right, the abducted noise has the distribution of its prior and is
    independent of the parents, probabilities are calibrated, intervals have their nominal
    coverage, and the parents improve the prediction. An equation fails if a test is significant
    after correction over all tests (Benjamini-Hochberg) and the effect is not negligible. Each
    parent is tested by itself; the effective number of records allows for clusters of records by
    patient.

    Args:
        model: A fitted model; interventions are ignored.
        cohort: Records with splits, or the training cohort.
        split: "test", "val" or "train", or "all" for every record. By default test, else val,
            assigned as by `fit` if the cohort has no splits. Validation rows were used for early
            stopping.
        rows: The largest number of records, chosen by a hash of their ids.
        alpha: The false discovery rate.
        least: Smaller effects are no failure, however significant. Effects are distances between
            distributions, ranks or probabilities, or nats.
        seed: Of the posterior samples and of the choice of records.

    Returns:
        The result; a variable with fewer than 50 usable records is untested.

    Raises:
        CohortError: If the graph does not declare a value.
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
    # A random subset by record, whatever the order of the rows; kept in the cohort's order.
    order = Draws(record_keys(cohort.records[positions]), seed, "check", cohort.draws[positions])
    chosen = positions[np.sort(np.argsort(order.uniform()[:, 0], kind="stable")[:rows])]
    columns = cohort.columns(model.graph)
    # Patients are clusters: rows of one patient are not independent.
    groups = pd.factorize(cohort.patients.iloc[chosen])[0]
    part = cohort.at(chosen)
    draws = Draws(record_keys(part.records), seed, draw=part.draws)
    results, untested = [], {}
    with torch.no_grad(), one_thread():
        for name in progress(model.graph.tabular, "Testing", "equations"):
            if name not in model.fitted:
                untested[name] = "training never observed it"
                continue
            mechanism = model.fitted[name].mechanism
            parents = {p.name: columns[p.name][chosen] for p in mechanism.parents}
            # A separate stream: a cohort sampled from the model may have used the usual one.
            own = draws.on(f"{name} check")
            test = _EquationTest(model.graph[name], mechanism, parents, own)
            usable = test.observe(columns[name][chosen], groups)
            if usable < _FEWEST:
                untested[name] = (
                    f"{usable} of {len(chosen):,} records can be tested; {_FEWEST} are needed"
                )
                continue
            results.append(test.report(columns[name][rest]))
    return Check.from_tests(results, untested, len(chosen), where, alpha=alpha, least=least)


class _EquationTest:
    """The tests of one equation.

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
        """Abduct the noise and evaluate the likelihood; return the number of usable rows."""
        values = torch.from_numpy(x)
        n = len(x)
        u = self.equation.abduct(values, self.draws).reshape(n, -1).numpy()
        logp = self.equation.log_prob(values).numpy()
        # Rows without noise or likelihood cannot be tested.
        keep = np.isfinite(u).all(axis=1) & ~np.isnan(logp)
        self.prior = _prior(self.equation, self.draws, u.shape[1])
        self.x, self.u, self.logp, self.groups = x[keep], u[keep], logp[keep], groups[keep]
        self.probabilities = _probabilities(self.equation, self.variable, n)[keep]
        self.kept = keep
        if not keep.any():
            return 0
        # The effective number of rows, after the clustering by patient.
        self.residual = self._residual()
        self.effective = keep.sum() / goodness.design_effect(self.residual, self.groups)
        return int(keep.sum())

    def _residual(self) -> np.ndarray:
        """Return the rank of each value in its predicted distribution, random within a level."""
        v = self.draws.on(f"{self.draws.stream} rank").uniform()[self.kept, 0]
        if self.variable.is_discrete:
            at = self.x.astype(int)[:, None]
            upper = np.cumsum(self.probabilities, axis=1)
            share = np.take_along_axis(self.probabilities, at, 1)[:, 0]
            return (np.take_along_axis(upper, at, 1)[:, 0] - share * v).clip(1e-9, 1 - 1e-9)
        prior = np.sort(self.prior[:, 0])
        return (np.searchsorted(prior, self.u[:, 0]) + v) / (len(prior) + 1)

    def report(self, train: np.ndarray) -> tuple[list[dict], dict, Panel]:
        """Return the tests, the likelihood and the data of the plots.

        Args:
            train: The values that give the marginal distribution, NaN where missing.
        """
        # What the parents add to the marginal distribution.
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
        # Noise against its prior, against each parent, then probabilities and likelihood.
        tests = [self._noise(), *map(self._parent, self.parents)]
        tests += [self._calibration_or_coverage()]
        tests += self._likelihood(gain, error)
        for each in tests:
            each.update(variable=self.variable.name, n=n, effective=self.effective)
        return tests, likelihood, self._panel()

    def _noise(self) -> dict:
        result = goodness.same_distribution(self.u, self.prior, self.effective)
        words = f"its noise is not the prior's (distance {result.effect:.3f})"
        return _row("noise", result, words)

    def _parent(self, name: str) -> dict:
        parent, column = self.parents[name]
        result = goodness.independence(
            self.residual, column[self.kept], len(parent.levels), self.effective
        )
        words = f"its noise depends on {name} (its rank moves by {result.effect:.3f})"
        return _row("independence", result, words, against=name)

    def _calibration_or_coverage(self) -> dict:
        """Return the test of calibration for levels, of coverage for numbers."""
        if not self.variable.is_discrete:
            result, words = goodness.coverage(self.residual, self.effective)
            return _row("coverage", result, words)
        levels = self._levels()
        each = [
            goodness.calibration(self.probabilities[:, k], self.x == k, self.effective)
            for k in levels
        ]
        # The worst level stands for all, with Bonferroni's correction.
        worst = min(range(len(each)), key=lambda i: (each[i].p, -each[i].effect))
        p = min(1.0, each[worst].p * len(each))
        result = FitTest(each[worst].effect, p)
        level = self.variable.levels[levels[worst]]
        words = f"its probabilities of {level} are off by {result.effect:.3f}"
        return _row("calibration", result, words, against=level)

    def _levels(self) -> list[int]:
        """Return the levels whose probability is tested: of two, one determines the other."""
        k = len(self.variable.levels)
        return [1] if k == 2 else list(range(k))

    def _likelihood(self, gain: float, error: float) -> list[dict]:
        """Return the test that the equation is no worse than the marginal distribution."""
        if impossible := int(np.isneginf(self.logp).sum()):
            words = f"{impossible:,} of {len(self.x):,} values are impossible under it"
            return [_row("likelihood", FitTest(impossible / len(self.x), 0.0), words)]
        if not self.parents or not error > 0:
            return []
        words = f"its gain over the marginal is {gain:+.3f} nats a record"
        result = FitTest(max(0.0, -gain), float(norm.cdf(gain / error)))
        return [_row("likelihood", result, words)]

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


def _row(test: str, result: FitTest, words: str, against: str = "") -> dict:
    return {
        "test": test,
        "against": against,
        "effect": result.effect,
        "p": result.p,
        "told": words,
    }


def _held_out(cohort: Cohort, split: str | None) -> tuple[np.ndarray, np.ndarray, str]:
    """Return the positions to test, those of the training split, and a word for the former."""
    splits = cohort.splits
    # The same split as `fit` draws, if the cohort has none.
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
    """Return many samples of the noise from its prior, shape (m, k)."""
    times = int(np.clip(_PRIOR // max(len(draws), 1), 2, 200))
    parts = [
        equation.sample_noise(Draws(draws.keys, draws.seed, f"{draws.stream} prior", k))
        for k in range(times)
    ]
    return torch.cat(parts).reshape(-1, width).numpy()


def _probabilities(equation: Equation, variable: Variable, n: int) -> np.ndarray:
    """Return the predicted probability of each level, shape (n, K); (n, 0) for a number."""
    levels = range(len(variable.levels))
    masses = [equation.log_prob(torch.full((n,), float(k)).double()).exp() for k in levels]
    return torch.stack(masses, 1).numpy() if masses else np.zeros((n, 0))


def _marginal(variable: Variable, train: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the log-probability of values under the marginal distribution in training."""
    observed = train[~np.isnan(train)]
    if variable.is_discrete:
        # Half a record per level: no level has probability zero.
        count = np.bincount(observed.astype(int), minlength=len(variable.levels)) + 0.5
        return np.log(count / count.sum())[x.astype(int)]
    # An untrained flow without parents is its quantile map: the marginal, in the same units.
    marginal = build(variable.replace(parents=(), mechanism="flow"), [])
    if len(observed):
        marginal.prepare(torch.from_numpy(observed), {})
    return marginal({}).log_prob(torch.from_numpy(x)).numpy()
