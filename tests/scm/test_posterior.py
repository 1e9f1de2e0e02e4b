"""Abduction with missing values, against enumeration, conditioning and quadrature."""

import numpy as np
import pandas as pd
import pytest
import torch

import causalcxr as cx
from causalcxr import Cohort, Graph, Variable
from causalcxr.common.errors import ModelError
from causalcxr.common.random_numbers import record_keys
from causalcxr.mechanisms import Equation, Mechanism
from causalcxr.scm.fitting import Fitted
from causalcxr.scm.missing_blocks import split_missing
from causalcxr.scm.particles import RotatedDraws
from causalcxr.scm.posterior import abduct_observed, complete_observed

LEVELS = {"A": ["a0", "a1"], "B": ["b0", "b1", "b2"], "C": ["c0", "c1"], "E": ["e0", "e1"]}
DISCRETE = """
variables:
  A: {type: binary, levels: [a0, a1]}
  B: {type: categorical, levels: [b0, b1, b2], parents: [A], mechanism: {kind: discrete}}
  C: {type: binary, levels: [c0, c1], parents: [A, B]}
  E: {type: binary, levels: [e0, e1], parents: [B, C]}
  R: {type: binary, levels: [r0, r1], parents: [A, C], mechanism: {kind: derived, rule: any_of}}
"""


def levels_of(rng, p):
    """Sample one level per row from probabilities of shape (n, K)."""
    return (rng.random((len(p), 1)) > p.cumsum(1)).sum(1)


@pytest.fixture(scope="module")
def discrete():
    """Five discrete variables, one a rule, whose equations are fitted."""
    rng, n = np.random.default_rng(0), 4000
    a = rng.integers(0, 2, n)
    b = levels_of(rng, np.where(a[:, None], [0.2, 0.3, 0.5], [0.6, 0.3, 0.1]))
    c = (rng.random(n) < 0.15 + 0.3 * a + 0.2 * b).astype(int)
    e = (rng.random(n) < np.where(b == 1, 0.8, 0.3) - 0.2 * c).astype(int)
    codes = {"A": a, "B": b, "C": c, "E": e, "R": a | c}
    table = pd.DataFrame({k: [f"{k.lower()}{v}" for v in column] for k, column in codes.items()})
    return cx.SCM(Graph.parse(DISCRETE)).fit(Cohort(table))


def enumerated(model, **observed):
    """The exact posterior of A, B, C, E from the model's log-masses."""
    index = pd.MultiIndex.from_product(LEVELS.values(), names=LEVELS)
    table = index.to_frame(index=False)
    rule = np.where((table["A"] == "a1") | (table["C"] == "c1"), "r1", "r0")
    table["R"] = rule
    mass = np.exp(model.log_prob(Cohort(table)).sum(axis=1))
    for name, level in observed.items():
        mass[table[name] != level] = 0.0
    return pd.Series((mass / mass.sum()).to_numpy(), index=index)


def record(**observed):
    full = {name: observed.get(name) for name in ("A", "B", "C", "E", "R")}
    return pd.DataFrame([full], index=["p"])


def variation(draws, exact):
    """The total variation between the frequencies of draws and exact masses."""
    result = draws.groupby(list(LEVELS)).size().reindex(exact.index, fill_value=0)
    return 0.5 * (result / result.sum() - exact).abs().sum()


EVIDENCE = [{"E": "e1"}, {"E": "e1", "C": "c0"}, {"R": "r1", "E": "e0"}, {"R": "r0"}, {"B": "b1"}]


@pytest.mark.parametrize("seen", EVIDENCE, ids=str)
def test_discrete_posterior_equals_enumeration(discrete, seen):
    made = complete_observed(discrete, Cohort(record(**seen)), draws=40_000)
    assert variation(made.cohort.table, enumerated(discrete, **seen)) < 0.01
    assert made.report["method"].tolist() == ["exact"]
    for name, level in seen.items():
        assert (made.cohort.table[name] == level).all()
    assert not made.cohort.table.isna().any().any()


@pytest.mark.parametrize("seen", EVIDENCE[:3], ids=str)
def test_particles_equal_enumeration(discrete, seen):
    made = complete_observed(
        discrete, Cohort(record(**seen)), draws=40_000, states=1, particles=16384
    )
    assert made.report["method"].tolist() == ["particles"]
    assert variation(made.cohort.table, enumerated(discrete, **seen)) < 0.02


def test_contradicted_rule_leaves_a_posterior(discrete):
    seen = {"A": "a1", "R": "r0", "B": "b0"}
    made = complete_observed(discrete, Cohort(record(**seen)), draws=2000).cohort.table
    share = (made["C"] == "c0").mean()
    # Every completion breaks the rule once, so that the rule tells nothing of C.
    exact = enumerated(discrete, A="a1", B="b0").groupby("C").sum()["c0"]
    assert share == pytest.approx(exact, abs=4 * 0.5 / 2000**0.5)


def test_separated_missing_values_are_independent():
    rng, n = np.random.default_rng(0), 2000
    flips = np.cumsum(rng.random((n, 4)) < [0.5, 0.3, 0.3, 0.3], axis=1) % 2
    named = [Variable("V0", "binary")]
    named += [Variable(f"V{i}", "binary", parents=(f"V{i - 1}",)) for i in range(1, 4)]
    table = pd.DataFrame(np.where(flips == 1, "P", "N"), columns=[v.name for v in named])
    model = cx.SCM(Graph(named)).fit(Cohort(table))
    gaps = pd.DataFrame({"V0": [None], "V1": ["P"], "V2": [None], "V3": ["N"]}, index=["p"])
    made = complete_observed(model, Cohort(gaps), draws=10_000)
    assert made.report["states"].tolist() == [2]
    drawn = made.cohort.table[["V0", "V2"]].eq("P").to_numpy()
    assert abs(np.corrcoef(drawn.T)[0, 1]) < 4.5 / 10_000**0.5


# Linear equations with Gaussian noise: everything is known


class LinearGaussian(Mechanism):
    """Compute x = sum of weights times parents + scale u, u ~ N(0, 1)."""

    def __init__(self, variable, parents, weights=(), scale=1.0):
        super().__init__(variable, parents)
        self.weights, self.scale = weights, scale

    def forward(self, parents):
        terms = [w * parents[p.name] for w, p in zip(self.weights, self.parents, strict=True)]
        return LinearEquation(sum(terms, torch.zeros(1).double()), self.scale)


class LinearEquation(Equation):
    def __init__(self, mean, scale):
        self.mean, self.scale = mean, scale

    def abduct(self, x, draws):
        return (x - self.mean) / self.scale

    def predict(self, u):
        return self.mean + self.scale * u

    def sample_noise(self, draws):
        return torch.from_numpy(draws.normal()[:, 0])

    def log_prob(self, x):
        return torch.distributions.Normal(self.mean, self.scale).log_prob(x)


def linear_model():
    """X -> Y -> Z and X -> Z."""
    x, y, z = (Variable("X", "continuous"), *(Variable(n, "continuous") for n in "YZ"))
    graph = Graph([x, y.replace(parents=("X",)), z.replace(parents=("X", "Y"))])
    made = {
        "X": LinearGaussian(graph["X"], []),
        "Y": LinearGaussian(graph["Y"], [x], [1.5], 0.8),
        "Z": LinearGaussian(graph["Z"], [x, y], [-0.5, 1.0], 0.6),
    }
    fitted = {name: Fitted(m, graph.equation_hash(name), name, 0, 0) for name, m in made.items()}
    return cx.SCM(graph)._with(fitted=fitted)


def gaussian():
    """The covariance of (X, Y, Z), from the matrix that takes the noise to them."""
    a = np.array([[1, 0, 0], [1.5, 0.8, 0], [-0.5 + 1.5, 0.8, 0.6]])
    return a @ a.T


@pytest.mark.parametrize("seen", [{"Y": 2.0, "Z": 0.5}, {"Z": -1.5}, {"X": 1.0, "Z": 2.0}])
def test_linear_gaussian_posterior_is_the_closed_form(seen):
    names, n = ["X", "Y", "Z"], 20_000
    cohort = Cohort(pd.DataFrame([{k: seen.get(k, np.nan) for k in names}], index=["p"]))
    made = complete_observed(linear_model(), cohort, draws=n, particles=16384)
    hidden = [i for i, name in enumerate(names) if name not in seen]
    known = [i for i, name in enumerate(names) if name in seen]
    s = gaussian()
    gain = s[np.ix_(hidden, known)] @ np.linalg.inv(s[np.ix_(known, known)])
    mean = gain @ np.array(list(seen.values()))
    covariance = s[np.ix_(hidden, hidden)] - gain @ s[np.ix_(known, hidden)]
    drawn = made.cohort.table[[names[i] for i in hidden]].to_numpy()
    error = np.sqrt(np.diag(covariance) / n)
    assert np.abs(drawn.mean(0) - mean).max() < 4.5 * error.max() + 0.005
    assert np.abs(np.cov(drawn.T).reshape(covariance.shape) - covariance).max() < 0.02
    assert made.report["ess"].iloc[0] > 1000


def test_twins_of_missing_values_follow_the_posterior():
    model, n = linear_model(), 20_000
    cohort = Cohort(pd.DataFrame({"X": [np.nan], "Y": [2.0], "Z": [0.5]}, index=["p"]))
    noise = abduct_observed(model, cohort, draws=n, particles=16384)
    twins = model.do(y=0.0).predict(noise).table
    # Z_{y=0} = Z - 1.0 (2.0 - 0): X stays what it was, so the twin of Z is known though X is not.
    assert np.allclose(twins["Z"], 0.5 - 2.0)
    # Y_{x=0} = Y - 1.5 X, with X drawn from its posterior given Y and Z.
    s = gaussian()
    gain = s[:1, 1:] @ np.linalg.inv(s[1:, 1:])
    x = (gain @ np.array([2.0, 0.5]))[0]
    moved = model.do(x=0.0).predict(noise).table["Y"]
    spread = 1.5 * np.sqrt((s[:1, :1] - gain @ s[1:, :1])[0, 0])
    assert moved.mean() == pytest.approx(2.0 - 1.5 * x, abs=4.5 * spread / n**0.5 + 0.01)
    assert moved.std() == pytest.approx(spread, rel=0.03)


def test_low_effective_sample_size_is_reported():
    model = linear_model()
    table = pd.DataFrame({"X": [np.nan, np.nan], "Y": [2.0, 40.0], "Z": [0.5, 9.0]}, index=[4, 7])
    made = complete_observed(model, Cohort(table))
    assert made.report["low"].tolist() == [False, True]
    assert made.report["states"].tolist() == [1024, 16384]
    warning = made.cohort.notes[-1]
    assert warning.startswith("warning: the effective sample size is below 100 in 1 of 2 records")
    assert "record 7" in warning
    assert abduct_observed(model, Cohort(table)).cohort.notes[-1] == warning


# On the expert graph


def test_complete_records_have_bit_exact_noise(expert, phantoms):
    whole = phantoms.select(~phantoms.table[list(expert.graph.tabular)].isna().any(axis=1))
    one, other = expert.abduct(whole, seed=3), abduct_observed(expert, whole, seed=3)
    assert len(whole) > 1000
    for name, values in one.values.items():
        assert torch.equal(values, other.values[name])
    assert other.cohort.notes == whole.notes
    some = abduct_observed(expert, phantoms, seed=3).cohort.table.loc[whole.index]
    pd.testing.assert_frame_equal(some, whole.table, check_exact=True)


def test_samples_do_not_depend_on_other_records(expert, phantoms):
    few = phantoms.head(300)
    all_of_them = complete_observed(expert, few, seed=1).cohort
    order = np.random.default_rng(0).permutation(300)
    part = complete_observed(expert, few.at(order[:40]), seed=1).cohort.table
    pd.testing.assert_frame_equal(part, all_of_them.table.iloc[order[:40]], check_exact=True)
    many = complete_observed(expert, few, draws=3, seed=1).cohort
    first = many.table.xs(0, level="draw")
    pd.testing.assert_frame_equal(first, all_of_them.table, check_exact=True)
    again = complete_observed(expert, few.repeat(3), seed=1).cohort
    pd.testing.assert_frame_equal(again.table, many.table, check_exact=True)


def test_missing_age_has_the_enumerated_posterior(expert, phantoms):
    """Age has 106 possible values, over which the test can sum."""
    row = phantoms.at([5])
    assert row.table["Age"].isna().all()
    ages = np.arange(106.0)
    table = pd.concat([row.table] * 106).reset_index(drop=True).assign(Age=ages)
    assert not table.drop(columns="Race").isna().any().any()
    # Without its race the record is summed over races too.
    races = expert.graph["Race"].levels
    every = pd.concat([table.assign(Race=race) for race in races], ignore_index=True)
    log_mass = expert.log_prob(Cohort(every)).sum(axis=1).to_numpy().reshape(len(races), 106)
    if row.table["Race"].notna().all():
        log_mass = log_mass[[list(races).index(row.table["Race"].iloc[0])]]
    exact = np.exp(log_mass - log_mass.max()).sum(0)
    exact /= exact.sum()
    made = complete_observed(expert, row, draws=20_000, particles=4096)
    result = np.bincount(made.cohort.table["Age"].astype(int), minlength=106) / 20_000
    assert 0.5 * np.abs(result.cumsum() - exact.cumsum()).max() < 0.02
    assert 0.5 * np.abs(result - exact).sum() < 0.05


def test_posterior_leaves_no_twin_missing(expert, phantoms):
    noise = abduct_observed(expert, phantoms.head(200), draws=2)
    twins = expert.do(sex="M").predict(noise)
    assert not twins.table[list(expert.graph.tabular)].isna().any().any()
    same = expert.predict(noise, recompute=True).table
    pd.testing.assert_frame_equal(same, noise.cohort.table, check_exact=True)


@pytest.mark.parametrize("states", [4096, 1])
def test_unobserved_variable_stays_missing(
    states,
):
    graph = Graph.parse("""
variables:
  A: {type: binary, levels: [a0, a1]}
  Q: {type: binary, levels: [q0, q1]}
  R: {type: binary, levels: [r0, r1], parents: [A, Q], mechanism: {kind: derived, rule: any_of}}
  S: {type: binary, levels: [s0, s1], parents: [R]}
""")
    a = np.array(["a0", "a1"] * 300)
    r = np.where(a == "a1", "r1", None)
    s = np.where((a == "a1") ^ (np.arange(600) % 5 == 0), "s1", "s0")
    model = cx.SCM(graph).fit(Cohort(pd.DataFrame({"A": a, "R": r, "S": s})))
    assert model.unseen == {"Q"}
    gaps = pd.DataFrame({"A": ["a0", "a1", None], "R": None, "S": "s1"})
    made = complete_observed(model, Cohort(gaps), draws=50, states=states).cohort.table
    assert "Q" not in made
    # A positive parent decides the rule; a negative one leaves it to Q, of which nothing is known.
    assert made["R"].xs(0, level="record").isna().all()
    assert (made["R"].xs(1, level="record") == "r1").all()
    last = made.xs(2, level="record")
    assert last["A"].nunique() == 2
    assert (last["R"].notna() == (last["A"] == "a1")).all()


# Its parts


def test_blocks_of_a_chain():
    named = [Variable("V0", "binary")]
    named += [Variable(f"V{i}", "binary", parents=(f"V{i - 1}",)) for i in range(1, 7)]
    graph = Graph(named)
    missing = np.array([[1, 1, 0, 1, 0, 1, 1], [0] * 7], dtype=bool)
    blocks = split_missing(graph, list(graph.order), missing)
    leaf = graph.with_variable(Variable("W", "binary", parents=("V0",)))
    more = split_missing(leaf, [*graph.order, "W"], np.c_[missing, [True, False]])
    assert more.barren[0, 7]
    assert more.touched[:, :7].tolist() == blocks.touched.tolist()
    assert not more.touched[:, 7].any()
    assert blocks.rows.tolist() == [0, 0]
    assert blocks.members.astype(int).tolist() == [[1, 1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0, 0]]
    assert blocks.touched.astype(int).tolist() == [[1, 1, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0, 0]]
    assert blocks.barren[0].astype(int).tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert blocks.states.tolist() == [4.0, 2.0]


def test_rotated_sobol_points_are_uniform():
    keys = record_keys(pd.RangeIndex(500))
    draws = RotatedDraws(np.repeat(keys, 64), 0, "X", size=64, first=3)
    u = draws.uniform(2).reshape(500, 64, 2)
    assert np.abs(np.sort(u[:, 0, 0]) - (np.arange(500) + 0.5) / 500).max() < 1.95 / 500**0.5
    error = np.abs(u.mean(1) - 0.5).max()
    assert error < 0.5 / 64 + 1e-12  # plain Monte Carlo: 0.036 on average, 0.12 at worst
    assert abs(np.corrcoef(u[:, :, 0].ravel(), u[:, :, 1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize("bad", [{"states": 0}, {"particles": 1000}, {"particles": 1}])
def test_posterior_refuses_unusable_sizes(discrete, bad):
    with pytest.raises(ModelError, match="a power of two as particles, such as 1024"):
        complete_observed(discrete, Cohort(record(E="e1")), **bad)
