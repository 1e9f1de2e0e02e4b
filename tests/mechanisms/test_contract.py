"""The contract of equations: the one of the docs keeps it, and each rule finds who breaks it."""

import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from causalcxr import SCM, Cohort, Graph, Variable
from causalcxr.common.errors import GraphError, MechanismError
from causalcxr.graph.mechanism_options import KINDS, OPTIONS
from causalcxr.mechanisms import REGISTRY, build, check_mechanism, register
from causalcxr.mechanisms.couplings import COUPLINGS as DISCRETE_COUPLINGS
from causalcxr.mechanisms.couplings import MonotoneEquation
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.mechanisms.image_equation import COUPLINGS as IMAGE_COUPLINGS
from causalcxr.radit.shape import SIZES
from causalcxr.radit.solvers import SOLVERS

PAGE = (Path(__file__).parents[2] / "docs" / "mechanisms.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
HOME: dict = {}
exec(BLOCKS[0], HOME)
Linear, LinearEquation = HOME["Linear"], HOME["LinearEquation"]
AGE = Variable("Age", "continuous")


@pytest.fixture
def registry(monkeypatch):
    """Leave the kinds as they were."""
    for where in (KINDS, OPTIONS, REGISTRY):
        for key, value in list(where.items()):
            monkeypatch.setitem(where, key, value)
    yield
    for where in (OPTIONS, REGISTRY):
        where.pop("linear", None)


@pytest.fixture(scope="module")
def weights():
    rng = np.random.default_rng(0)
    age = torch.tensor(rng.normal(size=1000))
    weight = 75 + 4 * age + 9 * torch.tensor(rng.normal(size=1000))
    weight[::20] = torch.nan
    parents = {"Age": age.masked_fill(torch.arange(1000) % 30 == 0, torch.nan)}
    mechanism = Linear(Variable("Weight", "continuous", parents=["Age"]), [AGE])
    mechanism.fit(weight, parents, seed=0)
    return mechanism, weight, parents


def test_code_of_the_documentation_runs_and_finds_the_known_twin(registry):
    page = dict(HOME)
    for block in BLOCKS[1:]:
        exec(block, page)
    before, after = page["table"], page["older"].table
    moved = (after["Weight"] - before["Weight"]) / (1.0 - before["Age"])
    assert moved.median() == pytest.approx(4.0, abs=0.8)
    assert moved.between(3.0, 6.0).sum() == moved.count()  # a line, but for normal scores


def test_registered_kind_saves_and_loads(registry, tmp_path):
    register("linear", Linear, types=["continuous"], options={"epochs": int})
    yaml = "variables: {A: {type: continuous}, X: {type: continuous, parents: [A], "
    graph = Graph.parse(yaml + "mechanism: {kind: linear, epochs: 3}}}")
    rng = np.random.default_rng(0)
    a = rng.normal(size=300)
    cohort = Cohort(pd.DataFrame({"A": a, "X": a + rng.normal(size=300)}))
    model = SCM(graph).fit(cohort)
    twins = model.counterfactual(cohort, a=0.5)
    loaded = SCM.load(model.save(tmp_path / "model"))
    assert loaded.counterfactual(cohort, a=0.5).table.equals(twins.table)
    with pytest.raises(GraphError, match="linear has no option 'epoch'"):
        Graph.parse(yaml + "mechanism: {kind: linear, epoch: 3}}}")
    with pytest.raises(GraphError, match="does not suit the type binary"):
        Variable("B", "binary", mechanism="linear")


def test_register_refuses_a_built_in_name_and_an_unknown_type(registry):
    with pytest.raises(GraphError, match="'flow' is built in; choose another name"):
        register("flow", Linear, types=["continuous"])
    with pytest.raises(GraphError, match="type 'continous' is not known; did you mean"):
        register("linear", Linear, types=["continous"])


def test_own_equation_refuses_a_value_outside_the_range():
    mechanism = Linear(Variable("X", "continuous", range=(0.0, 5.0)), [])
    with pytest.raises(MechanismError, match=r"finite numbers in \[0, 5\]; 1 of 2 rows"):
        mechanism.checked(torch.tensor([1.0, 7.0]))


# Each rule, broken once. Equations are broken in one method each, and keep the fitted weights.


class TwoNumbers(LinearEquation):
    def sample_noise(self, draws):
        return torch.from_numpy(draws.normal(2))


class OneRowMore(LinearEquation):
    def abduct(self, x, draws):
        return torch.cat((super().abduct(x, draws), torch.zeros(1).double()))

    def predict(self, u):
        return super().predict(u[:-1])

    def sample_noise(self, draws):
        return torch.zeros(len(draws) + 1).double()


class AsColumn(LinearEquation):
    def predict(self, u):
        return super().predict(u)[:, None]


class SinglePrecision(LinearEquation):
    def predict(self, u):
        return super().predict(u).float()


class Drifting(LinearEquation):
    def predict(self, u):
        return super().predict(u) + 0.01


class Imputing(LinearEquation):
    def abduct(self, x, draws):
        return super().abduct(x, draws).nan_to_num(nan=0.0)


class Defaulting(LinearEquation):
    def predict(self, u):
        return super().predict(u).nan_to_num(nan=75.0)


class GivingUp(LinearEquation):
    def predict(self, u):  # only an intervention takes the mean so far
        return super().predict(u).masked_fill(self.mean > 95, torch.nan)


class Herding(LinearEquation):
    def predict(self, u):
        return super().predict(u) + 1e-5 * u.nanmean()


class OddShape(LinearEquation):
    def log_prob(self, x):
        return super().log_prob(x)[:, None]


class Sure(LinearEquation):
    def log_prob(self, x):
        return super().log_prob(x).nan_to_num(nan=0.0)


class WrongUnits(LinearEquation):
    def log_prob(self, x):
        return super().log_prob(x) + self.scale.log()


class Gambling(LinearEquation):
    def sample_noise(self, draws):
        torch.rand(1)
        return super().sample_noise(draws)


class Lost(LinearEquation):
    def predict(self, u):
        return super().predict(u).masked_fill(self.unknown, torch.nan)


def linear_with(kind):
    """Return Linear with another equation."""

    class Broken(Linear):
        def forward(self, parents):
            return kind(self, *self.location_scale(self.encode(parents)))

    return Broken


class LosingMissing(Linear):
    def forward(self, parents):
        equation = Lost(self, *self.location_scale(self.encode(parents)))
        equation.unknown = parents["Age"].isnan()
        return equation


class BlindToMissing(Linear):
    def encode(self, parents):
        return torch.stack((parents["Age"], torch.zeros_like(parents["Age"])), 1)


class Remembering(Linear):
    offset = 0.0  # no buffer: it is not saved

    def location_scale(self, context):
        mean, scale = super().location_scale(context)
        return mean + self.offset * context[:, 0], scale


class Idle(Linear):
    def __init__(self, variable, parents, **options):
        super().__init__(variable, parents, **options)
        self.idle = nn.Parameter(torch.zeros(1, dtype=torch.float64))


class Vandal(Linear):
    def forward(self, parents):
        parents["Other"].add_(1.0)
        return super().forward(parents)


EQUATIONS = {
    TwoNumbers: "abducted noise has the shape of the prior's",
    OneRowMore: "noise has one row per record",
    AsColumn: "predictions have the shape of x",
    SinglePrecision: "noise and predictions are float64",
    Drifting: r"the null intervention returns the value \(1.0e-02 off\)",
    Imputing: "a missing value has no noise",
    Defaulting: "a missing value stays missing",
    GivingUp: "no other value becomes missing",
    Herding: "a prediction depends on its own record alone",
    OddShape: "log_prob has the shape of x",
    Sure: "log_prob is missing exactly where x is",
    WrongUnits: "the density integrates to the share of samples",
    Gambling: "the global random state is not changed",
}


def check(mechanism, x, parents, **options):
    check_mechanism(mechanism, x, parents, {**parents, "Age": parents["Age"] + 4}, **options)


def test_linear_equation_fulfils_every_rule(weights):
    check(*weights, calibrated=True)


@pytest.mark.parametrize("kind", EQUATIONS, ids=lambda kind: kind.__name__)
def test_broken_equation_names_the_rule(weights, kind):
    mechanism, x, parents = weights
    broken = linear_with(kind)(mechanism.variable, mechanism.parents)
    broken.load_state_dict(mechanism.state_dict())
    with pytest.raises(MechanismError, match=f"fails the rule: {EQUATIONS[kind]}"):
        check(broken, x, parents)


@pytest.mark.parametrize(
    ("kind", "rule"),
    [
        (BlindToMissing, "missing parents give finite noise"),
        (LosingMissing, "missing parents give finite predictions"),
        (Remembering, "a mechanism loaded from its state predicts the same"),
        (Idle, r"every parameter gets a finite gradient, not idle"),
        (Vandal, "inputs are not changed"),
    ],
    ids=lambda kind: getattr(kind, "__name__", ""),
)
def test_broken_mechanism_names_the_rule(weights, kind, rule):
    mechanism, x, parents = weights
    broken = kind(mechanism.variable, mechanism.parents)
    broken.load_state_dict(mechanism.state_dict(), strict=False)
    broken.offset = 1.0
    generator = torch.Generator().manual_seed(0)
    other = torch.randn(len(x), generator=generator, dtype=torch.float64)
    with pytest.raises(MechanismError, match=f"fails the rule: {rule}"):
        check(broken, x, {"Age": parents["Age"].nan_to_num(), "Other": other})


def test_poor_fit_fails_only_the_calibrated_rules(weights):
    mechanism, x, parents = weights
    wrong = Linear(mechanism.variable, mechanism.parents)
    wrong.load_state_dict(mechanism.state_dict())
    with torch.no_grad():
        wrong.weight[0] += 1.0
    check(wrong, x, parents)
    with pytest.raises(MechanismError, match="pooled noise of observed values follows the prior"):
        check(wrong, x, parents, calibrated=True)


class Cell(MonotoneEquation):
    """Draw the place in the cell from a part of it: every level returns, and the law is wrong."""

    def abduct(self, x, draws):
        level = x.nan_to_num().long()
        v = torch.from_numpy(draws.uniform()[:, 0])
        return self._within(level, self.place(v)).masked_fill(x.isnan(), torch.nan)


class Middle(Cell):
    def place(self, v):
        return torch.full_like(v, 0.5)


class OnOneSide(Cell):
    def place(self, v):
        return (v + self.parents["B"].nan_to_num()) / 2


class MoreThanOne(MonotoneEquation):
    def log_prob(self, x):
        return super().log_prob(x) + 0.1


@pytest.fixture(scope="module")
def findings():
    rng = np.random.default_rng(0)
    a = torch.tensor(rng.normal(size=2000))
    x = (torch.tensor(rng.logistic(size=2000)) + a > 0.5).double()
    columns = {"A": a, "B": torch.tensor(rng.integers(0, 2, 2000) * 1.0)}
    parents = [Variable("A", "continuous"), Variable("B", "binary")]
    mechanism = build(Variable("X", "binary", parents=["A", "B"]), parents)
    mechanism.fit(x, columns, seed=0)
    return mechanism, x, columns


@pytest.mark.parametrize(
    ("kind", "shift", "rule"),
    [
        (Middle, 1.0, "counterfactual marginals are the interventional ones"),
        (Middle, 0.0, "the pooled noise of the model's own samples follows the prior"),
        (OnOneSide, 0.0, "the noise of the model's own samples does not depend on 'B'"),
        (MoreThanOne, 0.0, "the masses of the levels sum to one"),
    ],
)
def test_noise_that_is_no_posterior_sample_names_the_rule(findings, kind, shift, rule):
    class Broken(DiscreteMechanism):
        def forward(self, parents):
            return kind(self, self.log_probs(self.encode(parents)), parents)

    mechanism, x, parents = findings
    broken = Broken(mechanism.variable, mechanism.parents)
    broken.load_state_dict(mechanism.state_dict())
    with pytest.raises(MechanismError, match=f"Broken of 'X' fails the rule: {rule}"):
        check_mechanism(broken, x, parents, {**parents, "A": parents["A"] + shift})


def test_the_words_of_each_option_are_those_of_the_code():
    assert OPTIONS["discrete"]["coupling"] == tuple(DISCRETE_COUPLINGS)
    assert OPTIONS["radit"]["coupling"] == tuple(IMAGE_COUPLINGS)
    assert OPTIONS["radit"]["method"] == tuple(SOLVERS)
    assert OPTIONS["radit"]["size"] == tuple(SIZES)
