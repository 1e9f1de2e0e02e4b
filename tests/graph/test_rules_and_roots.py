"""Rules over numbers, and roots left as they were observed; inside a model as well."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

import causalcxr as cx
from causalcxr.common.errors import GraphError, MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Graph, Variable
from causalcxr.graph.mechanism_spec import MechanismSpec
from causalcxr.graph.rules import check_parent_types
from causalcxr.mechanisms import build
from causalcxr.mechanisms.contract import check_mechanism
from causalcxr.mechanisms.empirical import EmpiricalMechanism

AGE = Variable("Age", "continuous", unit="year", range=(0.0, 105.0), resolution=1.0)
SEX = Variable("Sex", "binary", levels=("F", "M"))
NAN = float("nan")
ROOTS = {
    "whole numbers": AGE.replace(mechanism="empirical"),
    "numbers": Variable("Dose", "continuous", mechanism="empirical"),
    "binary": SEX.replace(mechanism="empirical"),
    "categorical": Variable(
        "View", "categorical", levels=("AP", "PA", "L"), mechanism="empirical"
    ),
}


def column(*numbers):
    return torch.tensor(numbers, dtype=torch.float64)


def draws(n, seed=0):
    return Draws(np.arange(n, dtype=np.uint64), seed=seed, stream="X")


def rule(name, threshold=65):
    spec = {"kind": "derived", "rule": name, "threshold": threshold}
    return build(Variable("Old", "binary", parents=["Age"], mechanism=spec), [AGE])


def observed(variable, n=3000):
    rng = np.random.default_rng(0)
    if variable.is_discrete:
        x = rng.integers(0, len(variable.levels), n) * 1.0
    else:
        x = np.clip(np.round(rng.normal(55, 18, n), 0 if variable.resolution else 9), 0, 105)
    x[::19] = NAN
    return torch.tensor(x)


# Rules over a number


def test_rule_is_true_from_the_threshold():
    ages = {"Age": column(0, 64, 65, 66, NAN)}
    assert rule("at_least").encode(ages)[:, 0].nan_to_num(nan=-1).tolist() == [0, 0, 1, 1, -1]
    assert rule("below").encode(ages)[:, 0].nan_to_num(nan=-1).tolist() == [1, 1, 0, 0, -1]
    below_zero = {"Age": column(-1, -0.5, 0)}
    assert rule("at_least", -0.5).encode(below_zero)[:, 0].tolist() == [0, 1, 1]
    assert rule("at_least", 0).encode(below_zero)[:, 0].tolist() == [0, 0, 1]


def test_twins_of_a_numeric_rule_follow_the_number():
    old, ages, older = rule("at_least"), {"Age": column(60, 70, NAN)}, column(70, 80, NAN)
    u = old(ages).abduct(column(0, 1, 1), draws(3))
    assert old(ages).predict(u).tolist() == [0, 1, 1]
    assert old({"Age": older}).predict(u).tolist() == [1, 1, 1]
    assert old({"Age": column(60, 60, 60)}).predict(u).tolist() == [0, 0, 0]
    assert old(ages).log_prob(column(0, 0, 1))[:2].tolist() == [0, -math.inf]
    assert old(ages).log_prob(column(0, 0, 1))[2].isnan()


@pytest.mark.parametrize("name", ["at_least", "below"])
def test_numeric_rule_meets_the_contract(name):
    ages = observed(AGE, 400).nan_to_num(nan=50.0)
    x = rule(name).encode({"Age": ages})[:, 0]
    check_mechanism(rule(name), x, {"Age": ages}, {"Age": (ages + 10).clamp(max=105)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rule": "at_least"}, r"needs a threshold: \{kind: derived, rule: at_least, thresh"),
        ({"threshold": 65}, r"rule 'none_of' has no threshold; .* at_least or below"),
        ({"rule": "at_least", "threshold": math.nan}, r"threshold nan .* a finite number"),
        ({"rule": "at_least", "threshold": "65"}, r"threshold '65' .* a finite number"),
        ({"rule": "atleast", "threshold": 65}, r"did you mean 'at_least'"),
    ],
)
def test_misplaced_threshold_is_refused_with_the_remedy(options, message):
    with pytest.raises(GraphError, match=message):
        Variable("Old", "binary", parents=["Age"], mechanism={"kind": "derived", **options})


@pytest.mark.parametrize(
    ("options", "parents", "message"),
    [
        ({"rule": "at_least", "threshold": 65}, [AGE, AGE], "reads one parent, not 2"),
        ({"rule": "at_least", "threshold": 65}, [], "reads one parent, not 0"),
        (
            {"rule": "at_least", "threshold": 65},
            [SEX],
            "'Sex' is binary; the rule 'at_least' needs a continuous one",
        ),
        ({"rule": "any_of"}, [SEX, AGE], "'Age' is continuous; a derived rule needs"),
        ({"rule": "any_of"}, [], "needs parents to be derived from"),
    ],
)
def test_parents_that_do_not_suit_a_rule_are_refused(options, parents, message):
    with pytest.raises(GraphError, match=message):
        check_parent_types(MechanismSpec("derived", options), parents)
    made = Variable("Old", "binary", parents=["Z"], mechanism={"kind": "derived", **options})
    with pytest.raises(MechanismError, match=message):
        build(made, parents)


# Roots as they were observed


@pytest.mark.parametrize("kind", ROOTS)
def test_empirical_root_meets_the_contract(kind):
    root, x = build(ROOTS[kind], []), observed(ROOTS[kind])
    root.fit(x, {}, seed=0)
    check_mechanism(root, x, {}, {}, calibrated=True)
    assert torch.equal(
        root({}).predict(root({}).abduct(x, draws(3000))).nan_to_num(-1), x.nan_to_num(-1)
    )


def test_ranks_of_ties_fill_their_step():
    root = build(ROOTS["binary"], [])
    root.fit(column(*[0] * 30, *[1] * 70), {}, seed=0)
    u = root({}).abduct(torch.ones(5000).double(), draws(5000))
    assert u[:, 1].eq(0).all()
    assert stats.kstest(u[:, 0].numpy(), stats.uniform(0.3, 0.7).cdf).pvalue > 1e-4
    assert root({}).log_prob(column(0, 1)).exp().tolist() == pytest.approx([0.3, 0.7])


def test_samples_are_observed_values_at_their_frequencies():
    root, x = build(ROOTS["numbers"], []), column(1.25, 1.25, 7, 1e6)
    root.fit(x, {}, seed=0)
    sampled = root({}).predict(root({}).sample_noise(draws(20_000)))
    values, counts = sampled.unique(return_counts=True)
    assert values.tolist() == [1.25, 7, 1e6]
    assert (counts / 20_000).tolist() == pytest.approx(
        [0.5, 0.25, 0.25], abs=4 * 0.5 / 20_000**0.5
    )


def test_unseen_value_is_returned_with_zero_mass():
    root = build(ROOTS["numbers"], [])
    root.fit(column(10, 20, 30.5), {}, seed=0)
    x = column(-3.7, 10, 63.2, 20.1, 1e-3)
    u = root({}).abduct(x, draws(5))
    assert root({}).predict(u).tolist() == x.tolist()
    assert 0 < u[1, 0] < 1 / 3
    others = u[[0, 2, 3, 4], 0].tolist()
    assert others == pytest.approx([1 / 3, 1, 2 / 3, 1 / 3], abs=1e-5)
    assert root({}).log_prob(x).isinf().tolist() == [True, False, True, True, True]


def test_empirical_root_refuses_parents_and_invalid_values():
    root = EmpiricalMechanism(ROOTS["whole numbers"], [])
    with pytest.raises(MechanismError, match=r"multiples of 1 in \[0, 105\]"):
        root.fit(column(1, 2.5), {}, seed=0)
    with pytest.raises(MechanismError, match="'empirical' is for roots; remove its parents"):
        EmpiricalMechanism(ROOTS["binary"], [AGE])
    with pytest.raises(MechanismError, match="'bins' is not known"):
        EmpiricalMechanism(AGE, [], bins=3)


# In a model

YAML = """
variables:
  Age: {type: continuous, range: [0, 105], resolution: 1, mechanism: empirical}
  View:
    type: categorical
    levels: [AP, PA, LATERAL]
    parents: [Age]
    mechanism: {kind: discrete, coupling: ot, epochs: 3}
  Grade:
    {type: ordinal, levels: [a, b, c], parents: [Age], mechanism: {kind: flow, bins: 4, epochs: 3}}
  Pain:
    type: categorical
    levels: [x, y, z]
    parents: [View]
    mechanism: {kind: discrete, coupling: independent, epochs: 3}
"""


def test_every_kind_fits_saves_and_returns_the_facts(tmp_path):
    rng = np.random.default_rng(0)
    ages = rng.integers(20, 90, 600)
    table = pd.DataFrame(
        {
            "Age": ages,
            "View": np.where(ages + rng.normal(0, 20, 600) > 60, "AP", "PA"),
            "Grade": rng.choice(list("abc"), 600),
            "Pain": rng.choice(list("xyz"), 600),
        }
    )
    table.loc[:5, "View"] = "LATERAL"
    table.loc[3, "Age"] = None
    cohort, graph = cx.Cohort(table), Graph.parse(YAML)
    assert Graph.parse(graph.to_yaml()).hash == graph.hash
    model = cx.SCM(graph).fit(cohort)
    same = model.do().predict(model.abduct(cohort), recompute=True)
    for name in graph.order:
        assert np.array_equal(
            cohort.columns(graph)[name], same.columns(graph)[name], equal_nan=True
        )
    loaded = cx.SCM.load(model.save(tmp_path / "model"))
    action = cx.do(age=80)
    one, two = (m.counterfactual(cohort, action).table for m in (model, loaded))
    pd.testing.assert_frame_equal(one, two)
    assert (one["View"] == "AP").mean() > (table["View"] == "AP").mean() + 0.1
    assert model.sample(50).table["Age"].isin(ages).all()


def test_hashes_of_old_specifications_stay():
    graph = Graph.parse("""
variables:
  Age: {type: continuous, range: [0, 105], resolution: 1}
  Weight: {type: continuous, parents: [Age], mechanism: {kind: flow, transform: cnf}}
  Sex: {type: binary, levels: [F, M]}
  View: {type: categorical, levels: [AP, PA, L], parents: [Age]}
  Grade: {type: ordinal, levels: [a, b, c], parents: [Sex]}
  Lesion: {type: binary, parents: [Age], mechanism: {kind: discrete, coupling: gumbel}}
  Clear: {type: binary, parents: [Lesion], mechanism: derived}
  Image: {type: image, parents: [Age]}
""")
    assert {name: graph.equation_hash(name)[:8] for name in graph.order} == {
        "Age": "68c6d52e",
        "Weight": "a7c8aa24",
        "Sex": "6e0ed6a4",
        "View": "1fbbb926",
        "Grade": "e5994741",
        "Lesion": "8d751829",
        "Clear": "0a3dbf33",
        "Image": "bc779573",
    }
