"""The contract of every kind of mechanism, and the values and options that each must refuse."""

import numpy as np
import pytest
import torch

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Variable
from causalcxr.mechanisms import build
from causalcxr.mechanisms.contract import check_mechanism
from causalcxr.mechanisms.discrete import DiscreteMechanism, MonotoneEquation
from causalcxr.mechanisms.encoding import ParentEncoder
from causalcxr.mechanisms.rounding import Rounding

N = 1000
AGE = Variable("Age", "continuous", unit="year", range=(0.0, 105.0), resolution=1.0)
WEIGHT = Variable("Weight", "continuous")
SEX = Variable("Sex", "binary", levels=("F", "M"))
RACE = Variable("Race", "categorical", levels=("a", "b", "c"))
PARENTS = (AGE, SEX, RACE)
KINDS = {
    "spline": {"type": "continuous"},
    "spline on a lattice": {"type": "continuous", "resolution": 0.5, "range": (0.0, 60.0)},
    "cnf": {"type": "continuous", "mechanism": {"kind": "flow", "transform": "cnf", "hidden": 16}},
    "monotone binary": {"type": "binary"},
    "monotone ordinal": {"type": "ordinal", "levels": ("0", "1", "2", "3")},
    "gumbel binary": {"type": "binary", "mechanism": {"kind": "discrete", "coupling": "gumbel"}},
    "gumbel categorical": {"type": "categorical", "levels": ("p", "q", "r")},
    "ot categorical": {
        "type": "categorical",
        "levels": ("p", "q", "r"),
        "mechanism": {"kind": "discrete", "coupling": "ot"},
    },
    "independent categorical": {
        "type": "categorical",
        "levels": ("p", "q", "r"),
        "mechanism": {"kind": "discrete", "coupling": "independent"},
    },
    "spline on levels": {"type": "ordinal", "levels": ("0", "1", "2", "3"), "mechanism": "flow"},
}


def population(n=N, seed=0):
    rng = np.random.default_rng(seed)
    age = np.clip(np.round(rng.normal(55, 18, n)), 0, 105)
    sex, race = (rng.random(n) < 0.5) * 1.0, rng.choice(3, n, p=(0.5, 0.3, 0.2)) * 1.0
    drive = (age - 55) / 18 + 0.8 * sex - 0.4 * race
    noise = rng.normal(size=n)
    columns = {"Age": age, "Sex": sex, "Race": race}
    columns = {name: torch.tensor(column) for name, column in columns.items()}
    columns["Sex"][rng.random(n) < 0.1] = torch.nan
    columns["Age"][rng.random(n) < 0.05] = torch.nan
    return columns, torch.tensor(drive), torch.tensor(noise)


def values(variable, drive, noise):
    total = drive + noise
    if variable.resolution:
        x = (30 + 5 * total).div(0.5).round().mul(0.5).clamp(0, 60)
    elif not variable.is_discrete:
        x = 20 + 3 * total
    else:
        cuts = torch.linspace(-1, 1, len(variable.levels) + 1, dtype=torch.float64)[1:-1]
        x = (total[:, None] > cuts).double().sum(1)
    x[::17] = torch.nan
    return x


# Few epochs: the rules of the contract hold for any fit.
SHORT = {"flow": {"epochs": 4, "bins": 4, "hidden": 8}, "discrete": {"epochs": 6}}


def fit(kind, n=N, short=True):
    """Return a fitted mechanism, its values and their parents."""
    parents, drive, noise = population(n)
    variable = Variable("X", parents=[p.name for p in PARENTS], **KINDS[kind])
    options = dict(variable.mechanism.options)
    if short:
        options = SHORT[variable.mechanism.kind] | options
        options = {k: v for k, v in options.items() if k != "bins" or "transform" not in options}
    mechanism = build(
        variable.replace(mechanism={"kind": variable.mechanism.kind, **options}), PARENTS
    )
    x = values(variable, drive, noise)
    mechanism.fit(x, parents, seed=0)
    return mechanism, x, parents


@pytest.fixture(scope="module")
def fitted():
    return {kind: fit(kind) for kind in KINDS}


def intervened(parents):
    return {**parents, "Sex": torch.ones(len(parents["Sex"]), dtype=torch.float64)}


@pytest.mark.parametrize("kind", KINDS)
def test_fitted_mechanism_fulfils_the_contract(fitted, kind):
    mechanism, x, parents = fitted[kind]
    calibrated = not kind.startswith(("cnf", "spline"))
    check_mechanism(mechanism, x, parents, intervened(parents), calibrated=calibrated)


@pytest.mark.slow  # 3,000 records and all epochs, so that the fits are calibrated too
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "cnf"])
def test_long_fit_is_calibrated(kind):
    mechanism, x, parents = fit(kind, n=3000, short=False)
    check_mechanism(mechanism, x, parents, intervened(parents), calibrated=True)


@pytest.mark.parametrize("fields", list(KINDS.values()), ids=list(KINDS))
def test_root_fulfils_the_contract(fields):
    _, drive, noise = population(400)
    root = build(Variable("X", **fields), [])
    x = values(root.variable, drive, noise)
    root.fit(x, {}, seed=0)
    check_mechanism(root, x, {}, {})


def test_rule_follows_kleene_logic():
    parts = [Variable(name, "binary") for name in ("A", "B")]
    spec = {"kind": "derived", "rule": "none_of"}
    rule = build(Variable("No Finding", "binary", parents=["A", "B"], mechanism=spec), parts)
    nan = torch.nan
    columns = {"A": [0.0, 1, 0, 1, nan], "B": [0.0, 0, nan, nan, nan]}
    columns = {k: torch.tensor(v, dtype=torch.float64) for k, v in columns.items()}
    x = torch.tensor([1.0, 0, 1, 0, nan], dtype=torch.float64)
    assert rule.encode(columns)[:, 0].nan_to_num(nan=-1).tolist() == [1, 0, -1, 0, -1]
    u = rule(columns).abduct(x, Draws(np.arange(5, dtype=np.uint64)))
    assert rule(columns).predict(u).nan_to_num(nan=-1).tolist() == [1, 0, 1, 0, -1]
    ill = {**columns, "A": torch.ones(5, dtype=torch.float64)}
    assert rule(ill).predict(u).nan_to_num(nan=-1).tolist() == [0, 0, 0, 0, -1]
    well = {**columns, "A": torch.zeros(5, dtype=torch.float64)}
    assert rule(well).predict(u).nan_to_num(nan=-1).tolist() == [1, 1, 1, -1, -1]
    assert not rule.trainable
    assert rule.fit(x, columns, seed=0).validation == []


def test_rule_fulfils_the_contract():
    rng = np.random.default_rng(0)
    parts = [Variable(name, "binary") for name in ("A", "B")]
    spec = {"kind": "derived", "rule": "any_of"}
    rule = build(Variable("Any", "binary", parents=["A", "B"], mechanism=spec), parts)
    columns = {k: torch.tensor(rng.integers(0, 2, 400) * 1.0) for k in "AB"}
    x = rule.encode(columns)[:, 0]
    twin = {**columns, "A": torch.zeros(400, dtype=torch.float64)}
    check_mechanism(rule, x, columns, twin)


def test_naive_inverse_fails_the_contract(fitted):
    class Naive(MonotoneEquation):
        def abduct(self, x, draws):  # the middle of the cell: composes, and is wrong
            edges = self.log_probs.exp().cumsum(1)
            k = x.nan_to_num().long()[:, None]
            middle = (edges - self.log_probs.exp() / 2).gather(1, k)[:, 0]
            return middle.masked_fill(x.isnan(), torch.nan)

    class Trap(DiscreteMechanism):
        def forward(self, parents):
            return Naive(self, self.log_probs(self.encode(parents)))

    mechanism, x, parents = fitted["monotone binary"]
    trap = Trap(mechanism.variable, mechanism.parents)
    trap.load_state_dict(mechanism.state_dict())
    with pytest.raises(
        MechanismError, match=r"Trap of .X. fails the rule: (counterfactual|the pooled)"
    ):
        check_mechanism(trap, x, parents, intervened(parents))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hiden": 3}, "'hiden' is not known; did you mean 'hidden'"),
        ({"coupling": "monotonic"}, "did you mean 'monotone'"),
        ({"hidden": 1.5}, "must be a whole number"),
        ({"lr": -1.0}, "must be a number above zero"),
    ],
)
def test_invalid_option_names_the_remedy(options, message):
    with pytest.raises(MechanismError, match=message):
        DiscreteMechanism(SEX, [], **options)


def test_value_the_variable_cannot_take_is_refused(fitted):
    draws = Draws(np.arange(2, dtype=np.uint64))
    for kind, value in (
        ("monotone binary", 2.0),
        ("gumbel categorical", 0.5),
        ("spline", torch.inf),
        ("spline on a lattice", 30.2),
        ("spline on a lattice", 61.0),
    ):
        mechanism, x, parents = fitted[kind]
        two = {name: column[:2] for name, column in parents.items()}
        with pytest.raises(MechanismError, match="1 of 2 rows"):
            mechanism(two).abduct(torch.tensor([x[1], value]), draws)
    bad = {name: torch.tensor([7.0], dtype=torch.float64) for name in ("Age", "Sex", "Race")}
    with pytest.raises(MechanismError, match="'Sex': 7 is not a level"):
        fitted["spline"][0](bad)
    with pytest.raises(MechanismError, match="no column for parent 'Age'"):
        fitted["spline"][0]({})


def test_categorical_variable_refuses_the_monotone_coupling():
    with pytest.raises(MechanismError, match="no order"):
        DiscreteMechanism(RACE, [], coupling="monotone")


def test_missing_parents_are_zeros_and_a_flag():
    encoder = ParentEncoder(PARENTS)
    row = {p.name: torch.tensor([torch.nan], dtype=torch.float64) for p in PARENTS}
    assert encoder(row).tolist() == [[0, 1, 0, 0, 1, 0, 0, 0, 1]]
    row = {"Age": torch.zeros(1).double(), "Sex": torch.ones(1).double()}
    row["Race"] = torch.full((1,), 2.0, dtype=torch.float64)
    assert encoder(row).tolist() == [[0, 0, 0, 1, 0, 0, 0, 1, 0]]


def test_parent_dropout_hides_one_in_four_unless_often_missing():
    encoder = ParentEncoder((SEX, RACE))
    columns = {"Sex": torch.ones(20000).double(), "Race": torch.ones(20000).double()}
    features = encoder.drop(encoder(columns), torch.Generator().manual_seed(0))
    assert features.sum(1).eq(2).all()
    assert features[:, 2].mean().item() == pytest.approx(0.25, abs=0.012)
    assert features[:, 6].mean().item() == pytest.approx(0.25, abs=0.012)
    columns["Race"][::50] = torch.nan
    encoder.prepare(columns)
    features = encoder.drop(encoder(columns), torch.Generator().manual_seed(0))
    assert encoder.unlearned.tolist() == [False, False, True, False, False, False, False]
    assert features[:, 2].mean().item() == pytest.approx(0.25, abs=0.012)
    assert features[:, 6].sum().item() == 400


def test_rounding_returns_exact_decimals():
    rng = np.random.default_rng(0)
    tenths = torch.tensor(
        [round(float(v), 1) for v in rng.uniform(-500, 500, 5000)], dtype=torch.float64
    )
    lattice = Rounding(Variable("T", "continuous", resolution=0.1))
    assert torch.equal(lattice(tenths + 1e-9), tenths)
    free = Rounding(WEIGHT)
    free.fit(tenths)
    assert torch.equal(free(tenths + 1e-9), tenths)
    assert torch.equal(free(1e12 * tenths), 1e12 * tenths)


def test_fit_without_an_observed_value_is_refused():
    mechanism = build(SEX, [])
    with pytest.raises(MechanismError, match="'Sex' has no observed value"):
        mechanism.fit(torch.full((5,), torch.nan), {}, seed=0)
