"""The axioms of every structural causal model, on random graphs, weights and records.

The axioms of composition, effectiveness and reversibility are those of Galles and Pearl (1998);
weights are drawn at random, which asks more of an equation than a fit does.
"""

import tempfile

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from random_worlds import World, actions, settings_of, worlds

import causalcxr as cx
from causalcxr import Cohort, Graph, do
from causalcxr.common.random_numbers import Draws, record_keys


def twins_of(world: World, cohort: Cohort, action: dict, **options: object) -> Cohort:
    act = do(action, beyond_range=True)
    return world.model.counterfactual(cohort, act, seed=world.seed, **options)


def same(one: Cohort, two: Cohort) -> None:
    pd.testing.assert_frame_equal(one.table, two.table, check_exact=True)


def near(world: World, one: dict, two: dict, digits: float) -> None:
    """Assert that columns agree: bit-exact where the variable allows it, else to some digits."""
    for name in world.graph.tabular:
        assert (np.isnan(one[name]) == np.isnan(two[name])).all(), name
        off = np.abs(one[name] - two[name]) / (1 + np.abs(one[name]))
        assert np.nan_to_num(off).max() <= (0 if world.exact(name) else digits), name


def composition(world: World, data: st.DataObject) -> None:
    """The null intervention changes nothing; nor does setting a value that the twin has."""
    cohort = world.cohort
    same(world.model.counterfactual(cohort, seed=world.seed), cohort)
    again = world.model.counterfactual(cohort, seed=world.seed, recompute=True)
    near(world, world.columns(again), world.columns(cohort), 1e-6)
    action = data.draw(actions(world.graph, len(world.complete)))
    twins = twins_of(world, world.complete, action)
    also = data.draw(st.sampled_from(world.graph.tabular))
    if also not in action and not twins.table[also].isna().any():
        own = {also: twins.table[also].tolist()}
        same(twins_of(world, world.complete, action | own), twins)


def effectiveness(world: World, data: st.DataObject) -> None:
    """Every twin has the value that is set."""
    action = data.draw(actions(world.graph, len(world.cohort)))
    for recompute in (False, True):
        twins = twins_of(world, world.cohort, action, recompute=recompute).table
        for name, value in action.items():
            if isinstance(value, cx.Shift):
                facts = world.cohort.table[name]
                assert np.allclose(twins[name], facts + value.amount, atol=1e-9, equal_nan=True)
            else:
                wanted = value if isinstance(value, list) else [value] * len(twins)
                assert twins[name].tolist() == wanted


def reversibility(world: World, data: st.DataObject) -> None:
    """If Y = y once W is set to w, and W = w once Y is set to y, then Y = y without either."""
    names = st.sampled_from(world.graph.tabular)
    x, w, y = (data.draw(names) for _ in range(3))
    if len({x, w, y}) < 3:
        return
    n = len(world.complete)
    first = {x: data.draw(settings_of(world.graph[x], n))}
    asked = twins_of(world, world.complete, first).table[w]
    value = asked.mode().iloc[0] if len(asked.mode()) else None
    if value is None:
        return
    y_of_w = twins_of(world, world.complete, first | {w: value}).table[y]
    if y_of_w.isna().any():
        return
    w_of_y = twins_of(world, world.complete, first | {y: y_of_w.tolist()}).table[w]
    freely = twins_of(world, world.complete, first).table[y]
    rows = (w_of_y == value).to_numpy()
    pd.testing.assert_series_equal(freely[rows], y_of_w[rows], check_exact=True)


def consistency(world: World, data: st.DataObject) -> None:
    """Setting the observed value changes nothing."""
    names = data.draw(st.lists(st.sampled_from(world.graph.tabular), min_size=1, max_size=3))
    action = {name: lambda column: column for name in names}
    same(twins_of(world, world.cohort, action), world.cohort)
    again = twins_of(world, world.cohort, action, recompute=True)
    near(world, world.columns(again), world.columns(world.cohort), 1e-6)


def locality(world: World, data: st.DataObject) -> None:
    """Non-descendants of the intervention do not change."""
    action = data.draw(actions(world.graph, len(world.cohort)))
    aside = set(world.graph.tabular) - set(action) - world.graph.descendants(*action)
    for recompute in (False, True):
        twins = twins_of(world, world.cohort, action, recompute=recompute)
        null = world.model.counterfactual(world.cohort, seed=world.seed, recompute=recompute)
        for name in aside:
            pd.testing.assert_series_equal(twins.table[name], null.table[name], check_exact=True)


def solitude(world: World, data: st.DataObject) -> None:
    """A twin depends on its own record, and neither on the batch nor on the order."""
    n = len(world.cohort)
    action = data.draw(actions(world.graph, n))
    whole = twins_of(world, world.cohort, action, recompute=True)
    order = np.random.default_rng(world.seed).permutation(n)
    for rows in (order, order[: n // 3], order[:1]):
        part = {
            name: [value[i] for i in rows] if isinstance(value, list) else value
            for name, value in action.items()
        }
        twins = twins_of(world, world.cohort.at(rows), part, recompute=True)
        same(twins, whole.at(rows))


def memory(world: World, data: st.DataObject) -> None:
    """A model that was saved and loaded gives the same twins."""
    action = data.draw(actions(world.graph, len(world.cohort)))
    with tempfile.TemporaryDirectory() as folder:
        loaded = cx.SCM.load(world.model.save(f"{folder}/model"))
    act = do(action, beyond_range=True)
    same(
        loaded.counterfactual(world.cohort, act, seed=world.seed),
        twins_of(world, world.cohort, action),
    )


def composed_by_hand(model: cx.SCM, cohort: Cohort, fixed: dict, seed: int) -> dict:
    """Return every twin's column: abduct and predict, equation by equation, down the graph."""
    facts = {name: torch.tensor(c) for name, c in cohort.columns(model.graph).items()}
    draws = Draws(record_keys(cohort.records), seed, draw=cohort.draws)
    twins = {}
    for name in model.graph.order:
        mechanism = model.fitted[name].mechanism
        before = mechanism({p: facts[p] for p in model.graph.parents(name)})
        after = mechanism({p: twins[p] for p in model.graph.parents(name)})
        own = torch.tensor(fixed[name]) if name in fixed else None
        twins[name] = after.predict(before.abduct(facts[name], draws.on(name)))
        twins[name] = twins[name] if own is None else own
    return {name: column.numpy() for name, column in twins.items()}


def equations(world: World, data: st.DataObject) -> None:
    """Twins are the equations composed by hand, however many variables are set.

    Whether everything is computed anew or facts stand where no parent changed.
    """
    action = data.draw(actions(world.graph, len(world.cohort)))
    for recompute in (True, False):
        twins = world.columns(twins_of(world, world.cohort, action, recompute=recompute))
        fixed = {name: twins[name] for name in action}
        by_hand = composed_by_hand(world.model, world.cohort, fixed, world.seed)
        near(world, twins, by_hand, 1e-5)


PROPERTIES = [
    composition, effectiveness, reversibility, consistency, locality, solitude, memory, equations,
]  # fmt: skip
CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]


@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
@settings(max_examples=6, deadline=None, derandomize=True, suppress_health_check=CHECKS)
@given(world=worlds(), data=st.data())
def test_axiom_holds_in_random_worlds(holds, world, data):
    holds(world, data)


@pytest.mark.slow
@pytest.mark.parametrize("holds", PROPERTIES, ids=lambda holds: holds.__name__)
@settings(max_examples=120, deadline=None, derandomize=True, suppress_health_check=CHECKS)
@given(world=worlds(), data=st.data())
def test_axiom_holds_in_many_random_worlds(holds, world, data):
    holds(world, data)


CHAIN = """
variables:
  Age:    {type: continuous, resolution: 1, range: [0, 105], mechanism: empirical}
  Sex:    {type: binary, levels: [F, M]}
  Weight: {type: continuous, parents: [Age, Sex], mechanism: {kind: flow, bins: 4, epochs: 1}}
  Grade:  {type: ordinal, levels: ["0", "1", "2"], parents: [Age, Weight]}
  Dose:   {type: continuous, parents: [Grade, Weight],
           mechanism: {kind: flow, transform: cnf, hidden: 8, epochs: 1}}
  View:   {type: categorical, levels: [AP, PA, LAT], parents: [Dose, Sex]}
  Risk:   {type: continuous, parents: [View, Dose, Age],
           mechanism: {kind: flow, bins: 4, epochs: 1}}
"""


@pytest.fixture(scope="module")
def chain():
    """A chain of mixed types, trained on records in which each variable depends on its parents."""
    rng, n = np.random.default_rng(0), 1200
    age = np.clip(np.round(rng.normal(55, 15, n)), 18, 95)
    sex = rng.integers(0, 2, n)
    weight = 60 + 12 * sex + 0.2 * age + 8 * rng.normal(size=n)
    grade = np.digitize((age - 55) / 15 + (weight - 75) / 10 + rng.logistic(size=n), [-1, 1])
    dose = np.exp(0.4 * grade + weight / 100 + 0.3 * rng.normal(size=n))
    scores = np.stack([0 * dose, dose - 2, sex - 0.5], 1) + rng.gumbel(size=(n, 3))
    view = scores.argmax(1)
    risk = dose * (1 + 0.3 * view) + age / 20 + 0.5 * rng.normal(size=n)
    columns = {"Age": age, "Sex": np.array(["F", "M"])[sex], "Weight": weight}
    columns |= {"Grade": grade.astype(str), "Dose": dose}
    columns |= {"View": np.array(["AP", "PA", "LAT"])[view], "Risk": risk}
    cohort = Cohort(pd.DataFrame(columns))
    return cx.SCM(Graph.parse(CHAIN)).fit(cohort), cohort


@pytest.mark.parametrize(
    "action",
    [
        {"Age": 80, "Dose": 4.0},
        {"Sex": "M", "Grade": "2"},
        {"Age": cx.Shift(10), "Grade": "0", "View": "LAT"},
        {"Sex": "F", "Weight": cx.Shift(-5), "Dose": 2.5},
    ],
    ids=lambda action: ", ".join(action),
)
@pytest.mark.parametrize("recompute", [False, True])
def test_joint_interventions_compose_the_equations(chain, action, recompute):
    model, cohort = chain
    twins = model.counterfactual(cohort, do(action, beyond_range=True), recompute=recompute)
    result = twins.columns(model.graph)
    by_hand = composed_by_hand(model, cohort, {name: result[name] for name in action}, 0)
    moved = 0
    for name, column in by_hand.items():
        assert np.abs(result[name] - column).max() <= 1e-5, name
        changed = (result[name] != cohort.columns(model.graph)[name]).any()
        moved += changed and name not in action
    assert moved >= 2  # mediators and outcomes
