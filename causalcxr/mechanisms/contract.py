"""The rules for every structural equation, as a suite of checks for your own mechanism."""

import copy
from collections.abc import Sequence

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Columns, Equation, Mechanism

__all__ = ["check_mechanism"]

_ALPHA = 1e-5  # a statistical rule fails where its p-value is below this
_SIGMA = 4.5  # and where a mean or a correlation is off by more than this many standard errors


def check_mechanism(
    mechanism: Mechanism,
    x: Tensor,
    parents: Columns,
    parents_cf: Columns,
    *,
    seed: int = 0,
    calibrated: bool = False,
) -> None:
    """Check a fitted scalar mechanism against every rule; docs/mechanisms.md has an example.

    Args:
        mechanism: The fitted mechanism; it is not changed.
        x: Observed values, shape (n,), n at least 200, some missing if possible.
        parents: Observed parents.
        parents_cf: The same parents under an intervention.
        seed: Seed of the noise.
        calibrated: Also check that the noise of the *observed* values follows the prior and is
            independent of the parents. That holds only where the model fits the data, so it tests
            the fit too.

    Raises:
        MechanismError: If a rule fails; the message names the first.

    Example:
        >>> from causalcxr.graph import Variable
        >>> from causalcxr.mechanisms import build
        >>> sex = build(Variable("Sex", "binary"), [])
        >>> x = torch.arange(400, dtype=torch.float64) % 2
        >>> _ = sex.fit(x, {}, seed=0)
        >>> check_mechanism(sex, x, {}, {})
    """
    n, state = len(x), torch.random.get_rng_state()
    # Copies, to show at the end that no check has changed its inputs.
    copies = [t.clone() for t in (x, *parents.values(), *parents_cf.values())]
    draws = Draws(np.arange(n, dtype=np.uint64), seed=seed, stream=mechanism.variable.name)
    suite = _Suite(mechanism, x, parents, parents_cf, draws)
    with torch.no_grad():
        suite.shapes()
        suite.null_intervention()
        suite.missing_value()
        suite.missing_parents()
        suite.batch_and_order()
        suite.save_and_load()
        suite.likelihood()
        suite.marginals()
        suite.noise_is_prior(observed=False)
        # The noise of observed values follows the prior only if the model fits.
        if calibrated:
            suite.noise_is_prior(observed=True)
    suite.gradients()
    now = (x, *parents.values(), *parents_cf.values())
    _rule(all(map(_same, copies, now)), mechanism, "inputs are not changed")
    is_untouched = torch.equal(state, torch.random.get_rng_state())
    _rule(is_untouched, mechanism, "the global random state is not changed")


class _Suite:
    """The rules, one per method."""

    def __init__(
        self, mechanism: Mechanism, x: Tensor, parents: Columns, parents_cf: Columns, draws: Draws
    ) -> None:
        self.mechanism, self.x, self.draws = mechanism, x, draws
        self.parents, self.parents_cf = parents, parents_cf
        with torch.no_grad():
            self.equation, self.equation_cf = mechanism(parents), mechanism(parents_cf)
            self.u = self.equation.abduct(x, draws)
            self.twin = self.equation_cf.predict(self.u)
        variable = mechanism.variable
        self.exact = variable.is_discrete or variable.resolution is not None

    def rule(self, holds: bool, words: str) -> None:
        _rule(holds, self.mechanism, words)

    def shapes(self) -> None:
        prior = self.equation.sample_noise(self.draws)
        self.rule(self.u.shape == prior.shape, "abducted noise has the shape of the prior's")
        self.rule(len(prior) == len(self.x), "noise has one row per record")
        self.rule(self.twin.shape == self.x.shape, "predictions have the shape of x")
        types = {self.u.dtype, prior.dtype, self.twin.dtype}
        self.rule(types == {torch.float64}, "noise and predictions are float64")

    def null_intervention(self) -> None:
        back = self.equation.predict(self.u)
        if self.exact:
            self.rule(_same(back, self.x), "the null intervention returns the value bit for bit")
            return
        worst = (back - self.x).abs().nan_to_num().max().item()
        scale = max(1.0, self.x[~self.x.isnan()].abs().max().item())
        self.rule(
            worst <= 1e-6 * scale, f"the null intervention returns the value ({worst:.1e} off)"
        )

    def missing_value(self) -> None:
        empty = torch.full_like(self.x, torch.nan)
        u = self.equation.abduct(empty, self.draws)
        self.rule(bool(u.isnan().all()), "a missing value has no noise")
        self.rule(bool(self.equation_cf.predict(u).isnan().all()), "a missing value stays missing")
        self.rule(_same(self.twin.isnan(), self.x.isnan()), "no other value becomes missing")

    def missing_parents(self) -> None:
        if not self.parents or not self.mechanism.trainable:
            return  # a rule may give no value without its parents
        # Hide all parents at once: noise and predictions must stay finite.
        hidden = {name: torch.full_like(c, torch.nan) for name, c in self.parents.items()}
        equation = self.mechanism(hidden)
        u = equation.abduct(self.x, self.draws)
        finite = u[~self.x.isnan()].isfinite()
        self.rule(bool(finite.all()), "missing parents give finite noise")
        self.rule(
            _same(equation.predict(u).isnan(), self.x.isnan()),
            "missing parents give finite predictions",
        )

    def batch_and_order(self) -> None:
        order = torch.randperm(len(self.x), generator=torch.Generator().manual_seed(1))
        for rows in (order, order[: len(order) // 3], order[:1]):
            part = {name: column[rows] for name, column in self.parents.items()}
            part_cf = {name: column[rows] for name, column in self.parents_cf.items()}
            u = self.mechanism(part).abduct(self.x[rows], self.draws.rows(rows.numpy()))
            twin = self.mechanism(part_cf).predict(u)
            self.rule(_same(twin, self.twin[rows]), "a prediction depends on its own record alone")

    def save_and_load(self) -> None:
        old = self.mechanism
        state = {name: value.clone() for name, value in old.state_dict().items()}
        new = type(old)(old.variable, old.parents, **old.options)
        new.load_state_dict(state)
        twin = new(self.parents_cf).predict(new(self.parents).abduct(self.x, self.draws))
        self.rule(_same(twin, self.twin), "a mechanism loaded from its state predicts the same")

    def likelihood(self) -> None:
        """Check that the log-density or log-mass, if any, is that of the equation."""
        try:
            logp = self.equation.log_prob(self.x)
        except NotImplementedError:
            return
        self.rule(logp.shape == self.x.shape, "log_prob has the shape of x")
        if not self.mechanism.trainable:
            return  # a rule, or a table of values, has mass for the values it has seen only
        variable, n = self.mechanism.variable, len(self.x)
        self.rule(_same(logp.isnan(), self.x.isnan()), "log_prob is missing exactly where x is")
        # Masses sum to one; a density is compared with samples.
        if variable.is_discrete:
            levels = [torch.full((n,), float(k)).double() for k in range(len(variable.levels))]
            total = sum(self.equation.log_prob(level).exp() for level in levels)
            self.rule(bool((total - 1).abs().max() < 1e-6), "the masses of the levels sum to one")
        elif variable.resolution is None:
            self._density()

    def _density(self) -> None:
        """Compare the integral of one record's density with the share of samples there."""
        n = len(self.x)
        # All rows get the first record's parents, so that the samples have one density.
        one = {name: column[:1].repeat(n) for name, column in self.parents.items()}
        equation = self.mechanism(one)
        samples = self._samples(equation, "density").sort().values
        # Between the quartiles of the samples the integral must be one half.
        low, high = samples[n // 4], samples[3 * n // 4]
        x = low + (high - low) * torch.linspace(0, 1, n, dtype=torch.float64)
        share = torch.trapezoid(equation.log_prob(x).exp(), x).item()
        words = f"the density integrates to the share of samples ({share:.3f} for 0.5)"
        # Beside the sampling error of the share, 0.01 for the numerical integral.
        self.rule(abs(share - 0.5) <= _SIGMA * 0.5 / n**0.5 + 0.01, words)

    def marginals(self) -> None:
        """Compare the twins of the model's own samples with samples under the intervention."""
        # Abduct the model's own samples: the rule then holds whether or not the model fits.
        own = self._own_samples()
        u = self.equation.abduct(own, self.draws.on("abduct"))
        twins = self.equation_cf.predict(u)
        samples = self._samples(self.equation_cf, "intervene")
        words = "counterfactual marginals are the interventional ones"
        if not self.mechanism.variable.is_discrete:
            self.rule(_two_sample(twins, samples) > _ALPHA, words)
            return
        # Compare the frequencies of each level by their standard error.
        for level in range(len(self.mechanism.variable.levels)):
            one, two = (twins == level).double(), (samples == level).double()
            spread = (one.var() + two.var()).div(len(one)).sqrt().item()
            off = abs(one.mean() - two.mean()).item()
            self.rule(off <= _SIGMA * spread + 1e-9, f"{words} (level {level} is {off:.4f} off)")

    def noise_is_prior(self, *, observed: bool) -> None:
        """Compare pooled noise with the prior, and correlate it with each parent."""
        if not self.mechanism.trainable and self.parents:
            return  # a rule has no noise
        x = self.x if observed else self._own_samples()
        source = "observed values" if observed else "the model's own samples"
        u = self.equation.abduct(x, self.draws.on("abduct"))
        prior = self.equation.sample_noise(self.draws.on("prior"))
        # Missing values have no noise to compare.
        keep = ~self._rows_missing(u).reshape(len(u), -1).any(1)
        u, prior = (a.reshape(len(a), -1).T for a in (u[keep], prior[keep]))
        for a, b in zip(u, prior, strict=True):
            words = f"the pooled noise of {source} follows the prior"
            self.rule(_two_sample(a, b) > _ALPHA, words)
            for name, column in self.parents.items():
                r = _correlation(a, column[keep])
                self.rule(abs(r) <= _SIGMA, f"the noise of {source} does not depend on {name!r}")

    def gradients(self) -> None:
        """Check the gradient of every parameter; noise is added first, as a layer may be zero."""
        if not self.mechanism.trainable:
            return
        perturbed = copy.deepcopy(self.mechanism)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in perturbed.parameters():
                p.add_(0.05 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
        perturbed.loss(self.x, self.parents).backward()
        for name, p in perturbed.named_parameters():
            has_gradient = p.grad is not None and p.grad.isfinite().all() and p.grad.any()
            self.rule(bool(has_gradient), f"every parameter gets a finite gradient, not {name}")

    def _own_samples(self) -> Tensor:
        return self._samples(self.equation, "sample")

    def _samples(self, equation: Equation, stream: str) -> Tensor:
        return equation.predict(equation.sample_noise(self.draws.on(stream)))

    def _rows_missing(self, u: Tensor) -> Tensor:
        missing = u.isnan()
        return missing & missing.reshape(len(u), -1).all(1).reshape(-1, *[1] * (u.ndim - 1))


def _rule(holds: bool, mechanism: Mechanism, words: str) -> None:
    if not holds:
        kind = type(mechanism).__name__
        raise MechanismError(f"{kind} of {mechanism.variable.name!r} fails the rule: {words}")


def _same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors are equal bit for bit; NaN equals NaN."""
    gap = -9e99
    return a.shape == b.shape and torch.equal(
        a.double().nan_to_num(nan=gap), b.double().nan_to_num(nan=gap)
    )


def _two_sample(a: Tensor, b: Tensor) -> float:
    """Return the p-value of the two-sample Kolmogorov-Smirnov test, without missing values."""
    one, two = (t[~t.isnan()].numpy() for t in (a, b))
    return float(stats.ks_2samp(one, two, method="asymp").pvalue)


def _correlation(noise: Tensor, column: Tensor) -> float:
    """Return the rank correlation of noise and a parent in standard errors."""
    keep = ~(noise.isnan() | column.isnan())
    columns: Sequence[np.ndarray] = [stats.rankdata(t[keep].numpy()) for t in (noise, column)]
    if len(columns[0]) < 3 or min(np.ptp(c) for c in columns) == 0:
        return 0.0
    return float(np.corrcoef(*columns)[0, 1] * np.sqrt(len(columns[0])))
