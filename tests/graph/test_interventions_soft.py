"""Values drawn from a distribution, and several interventions with mediators between them."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from causalcxr import SCM, Cohort, Graph, Shift, Variable, do
from causalcxr.common.errors import InterventionError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph.intervention_values import needs_fact
from causalcxr.graph.interventions import Categorical, Intervention, Normal, Resample, parse
from causalcxr.scm.questions.effects import effect
from causalcxr.sources.phantom import truth

GRAPH = Graph(
    [
        Variable("Age", "continuous", unit="year", range=(0, 105), resolution=1),
        Variable("Weight", "continuous"),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("View", "categorical", levels=("AP", "PA", "LATERAL")),
    ]
)
N = 20_000
DRAWS = Draws(record_keys(pd.RangeIndex(N)), seed=1)


def drawn(intervention: Intervention, draws: Draws = DRAWS) -> np.ndarray:
    """Return what each record of one variable is set to."""
    bound = intervention.bind(GRAPH)
    gaps = np.full(len(draws), np.nan)
    (column,) = bound.values(dict.fromkeys(bound.names, gaps), draws).values()
    return column


# The laws


def test_draws_follow_the_normal_distribution():
    assert stats.kstest(drawn(do(weight=Normal(70, 12))), "norm", (70, 12)).pvalue > 1e-3
    cut = stats.truncnorm(-1, 0.5, 70, 12)
    assert stats.kstest(drawn(do(weight=Normal(70, 12, 58, 76))), cut.cdf).pvalue > 1e-3


@pytest.mark.parametrize("sign", [-1, 1])
def test_truncated_tail_keeps_its_shape(sign):
    ends = sorted((sign * 5.0, sign * 5.5))
    values = drawn(do(weight=Normal(0, 1, *ends)))
    assert ((values > ends[0]) & (values < ends[1])).all()
    assert stats.kstest(values, stats.truncnorm(*ends).cdf).pvalue > 1e-3


def test_normal_is_truncated_to_the_range():
    old = do(age=Normal(95, 10)).bind(GRAPH)
    assert old.describe() == "do(Age~normal(95, 10, 0, 105))"
    assert old.bind(GRAPH).describe() == old.describe()
    ages = drawn(do(age=Normal(95, 10)))
    assert ages.max() == 105
    assert (ages == np.round(ages)).all()
    assert do(age=Normal(95, 10, 60)).bind(GRAPH).describe() == "do(Age~normal(95, 10, 60, 105))"
    wild = do(age=Normal(95, 10), beyond_range=True)
    assert wild.bind(GRAPH).describe() == "do(Age~normal(95, 10))"
    assert drawn(wild).max() > 120


def test_shares_of_levels_are_the_probabilities():
    codes = drawn(do(view=Categorical({"lateral": 0.2, "AP": 0.8, "PA": 0})))
    assert np.bincount(codes.astype(int), minlength=3)[1] == 0
    assert (codes == 2).mean() == pytest.approx(0.2, abs=0.01)
    assert (drawn(do(view=Categorical({"PA": 1}))) == 1).all()


def test_resampling_does_not_depend_on_order():
    values = [61, 47, 47, 90]
    ages = drawn(do(age=Resample(values)))
    counts = pd.Series(ages).value_counts(normalize=True)
    assert counts.to_dict() == pytest.approx({47: 0.5, 61: 0.25, 90: 0.25}, abs=0.012)
    assert (drawn(do(age=Resample(values[::-1]))) == ages).all()
    sexes = drawn(do(sex=Resample(pd.Series(["m", "F", "M"]))))
    assert sexes.mean() == pytest.approx(2 / 3, abs=0.012)


# Draws belong to the record


def test_draw_depends_on_seed_record_draw_and_variable():
    law = do(weight=Normal(0, 1))
    values = drawn(law)
    rows = np.random.default_rng(0).permutation(N)[:50]
    assert (drawn(law, DRAWS.rows(rows)) == values[rows]).all()
    others = [Draws(DRAWS.keys, seed=2), Draws(DRAWS.keys, seed=1, draw=1), DRAWS.on("else")]
    same = [abs(np.corrcoef(drawn(law, each), values)[0, 1]) > 0.05 for each in others]
    assert same == [False, False, True]  # the stream is the variable's, whatever it was before
    noise = DRAWS.on("Weight").normal()[:, 0]  # of the variable's own equation
    assert abs(np.corrcoef(noise, values)[0, 1]) < 0.05
    age = drawn(do(age=Normal(50, 10)))
    assert abs(np.corrcoef(age, values)[0, 1]) < 0.05
    assert np.allclose(drawn(do(weight=Normal(3, 2))), 3 + 2 * values)


def test_shifts_and_functions_need_the_fact():
    assert [needs_fact(s) for s in (Normal(0, 1), 3, Shift(1), abs)] == [False, False, True, True]


# Refusals, words and manifests

REFUSED = {
    "no spread": (lambda: Normal(60, 0), r"normal\(60, 0\): .* the sd above zero"),
    "no number": (lambda: Normal("60", 1), "give numbers"),
    "bounds": (lambda: Normal(60, 1, 70, 65), "no mass between 70 and 65"),
    "far bounds": (lambda: Normal(0, 1, 9, 10), "no mass between 9 and 10"),
    "sum": (lambda: Categorical({"F": 0.3, "M": 0.6}), "the probabilities sum to 0.9, not to 1"),
    "negative": (lambda: Categorical({"F": -0.3, "M": 1.3}), "probability -0.3"),
    "no levels": (lambda: Categorical(["F"]), "give levels and probabilities"),
    "no values": (lambda: Resample([]), "give a column of values"),
    "one text": (lambda: Resample("FM"), "give a column of values"),
    "gaps": (lambda: Resample([1.0, np.nan, None]), r"2 of 3 values are missing; .*dropna"),
    "mean out of range": (
        lambda: do(age=Normal(150, 10)).bind(GRAPH),
        r"value 150 is outside the range \[0, 105\] year; .*beyond_range=True",
    ),
    "bound out of range": (lambda: do(age=Normal(50, 9, -5)).bind(GRAPH), "value -5 is outside"),
    "normal levels": (
        lambda: do(sex=Normal(0, 1)).bind(GRAPH),
        "needs a continuous variable; the levels are F, M",
    ),
    "levels of a number": (
        lambda: do(age=Categorical({"60": 1})).bind(GRAPH),
        "needs a variable with levels",
    ),
    "unknown level": (
        lambda: do(view=Categorical({"AP": 0.5, "PAA": 0.5})).bind(GRAPH),
        "level 'PAA'",
    ),
    "level twice": (
        lambda: do(sex=Categorical({"F": 0.5, "f": 0.5})).bind(GRAPH),
        "names a level twice",
    ),
    "resampled level": (lambda: do(sex=Resample(["F", "X"])).bind(GRAPH), "level 'X'"),
    "resampled range": (
        lambda: do(age=Resample([50, 200])).bind(GRAPH),
        r"value 200 \(1 of 2 records, the first at position 1\) is outside",
    ),
    "no random numbers": (
        lambda: do(age=Normal(50, 9)).bind(GRAPH).values({"Age": np.zeros(3)}),
        "needs random numbers of 3 records, not none; pass draws=",
    ),
    "those of others": (
        lambda: do(age=Normal(50, 9)).bind(GRAPH).values({"Age": np.zeros(3)}, DRAWS),
        "not those of 20000 records",
    ),
    "words": (lambda: parse(["age~uniform(1, 2)"]), r"write normal\(mean, sd\), normal"),
    "few numbers": (lambda: parse(["age~normal(1)"]), r"write normal\(mean, sd\)"),
    "not a number": (lambda: parse(["age~normal(a, b)"]), r"write normal\(mean, sd\)"),
    "no call": (lambda: parse(["age~60"]), r"distribution '60': write normal\(mean, sd\)"),
    "words twice": (lambda: parse(["sex~categorical(F=.5,F=.5)"]), r"write normal\(mean, sd\)"),
    "nothing": (lambda: parse(["age~"]), "write NAME=VALUE"),
    "nobody": (lambda: parse([" ~normal(1, 2)"]), "write NAME=VALUE"),
    "both": (lambda: parse(["age~normal(1, 2)", "Age=3"]), "'Age' is set twice"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_invalid_distribution_gives_one_line(case):
    make, words = REFUSED[case]
    with pytest.raises(InterventionError, match=words) as caught:
        make()
    assert "\n" not in str(caught.value)


def test_tilde_reads_a_distribution():
    action = parse(["age~normal(60, 10)", "sex ~ Categorical(M=.7, F=.3)", "weight=+1"])
    told = "do(Age~normal(60, 10, 0, 105), Sex~categorical(F=0.3, M=0.7), Weight+1)"
    assert action.bind(GRAPH).describe() == told
    assert parse(["age~normal(60,10,18,90)"]).settings["age"] == Normal(60, 10, 18, 90)


def test_distributions_are_recorded_as_json():
    action = do(age=Normal(60, 10), sex=Categorical({"M": 1}), weight=Resample([3.0, 1.0]))
    record = json.loads(json.dumps(action.bind(GRAPH).to_json()))["do"]
    assert record["Age"] == {"normal": {"mean": 60, "sd": 10, "bounds": [0, 105]}}
    assert record["Sex"] == {"categorical": {"M": 1}}
    assert record["Weight"]["resample"]["records"] == 2
    assert record["Weight"] == Resample([1.0, 3.0]).to_json()
    assert record["Weight"] != Resample([1.0, 4.0]).to_json()
    assert do(weight=Normal(0, 1)).to_json()["do"]["weight"]["normal"]["bounds"] == [None, None]


# In a model: a chain of five, learned


@pytest.fixture(scope="module")
def chain() -> tuple[SCM, Cohort]:
    """A -> M -> B -> K -> Y and A -> Y, B -> Y; A, K and Y are numbers."""
    quick = {"epochs": 6, "hidden": 16}
    number = {"kind": "flow", **quick, "bins": 8}
    levels = {"kind": "discrete", **quick}
    ordered = {"parents": ("A",), "levels": ("x", "y", "z"), "mechanism": levels}
    parents = ("A", "B", "K")
    graph = Graph(
        [
            Variable("A", "continuous", resolution=0.5, mechanism=number),
            Variable("M", "ordinal", **ordered),
            Variable("B", "binary", parents=("M",), mechanism=levels),
            Variable("K", "continuous", parents=("B", "M"), mechanism=number),
            Variable("Y", "continuous", parents=parents, mechanism=number),
        ]
    )
    random, n = np.random.default_rng(0), 2000
    a = np.round(random.normal(size=n) * 2) / 2
    m = np.digitize(a + random.normal(size=n), [-0.5, 0.7])
    b = random.random(n) < 0.2 + 0.3 * m
    k = b + 0.5 * m + random.normal(size=n)
    y = 2 * a + 3 * b + k + random.normal(size=n)
    words = {"M": np.array(["x", "y", "z"])[m], "B": np.array(["N", "P"])[b * 1]}
    cohort = Cohort(pd.DataFrame({"A": a, **words, "K": k, "Y": y}))
    return SCM(graph).fit(cohort), cohort


def composed(model: SCM, cohort: Cohort, fixed: dict[str, np.ndarray], seed: int) -> dict:
    """Return the twins by hand: every equation's noise from the facts, then forwards."""
    old = {name: torch.from_numpy(c) for name, c in cohort.columns(model.graph).items()}
    draws = Draws(record_keys(cohort.records), seed, draw=cohort.draws)
    new = {name: torch.from_numpy(np.asarray(column)) for name, column in fixed.items()}
    for name in model.graph.order:
        if name not in new:
            equation, parents = model.fitted[name].mechanism, model.graph.parents(name)
            u = equation({p: old[p] for p in parents}).abduct(old[name], draws.on(name))
            new[name] = equation({p: new[p] for p in parents}).predict(u)
    return {name: column.detach().numpy() for name, column in new.items()}


SEVERAL = {
    "two, a mediator between": lambda t: (do(a=1.5, b="P"), {"A": 1.5, "B": 1.0}),
    "two, two mediators between": lambda t: (do(a=Shift(1), k=0.0), {"A": t["A"] + 1, "K": 0.0}),
    "three, mediators between each": lambda t: (
        do(a=Shift(-0.5), b=["P", "N"] * (len(t) // 2), k=lambda k: k / 2),
        {"A": t["A"] - 0.5, "B": np.tile([1.0, 0.0], len(t) // 2), "K": t["K"] / 2},
    ),
    "three, in a row": lambda t: (
        do(a=0.5, m="z", b="N"),
        {"A": 0.5, "M": 2.0, "B": 0.0},
    ),
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("case", SEVERAL)
def test_twins_of_several_interventions_compose_the_equations(chain, case, recompute):
    model, cohort = chain
    action, set_to = SEVERAL[case](cohort.table)
    fixed = {name: np.broadcast_to(v, len(cohort)).astype(float) for name, v in set_to.items()}
    expected = composed(model, cohort, fixed, seed=2)
    twins = model.counterfactual(cohort, action, seed=2, recompute=recompute)
    facts, found = cohort.columns(model.graph), twins.columns(model.graph)
    for name in model.graph.tabular:
        assert np.abs(found[name] - expected[name]).max() < 1e-5, name
    free = [name for name in model.graph.tabular if name not in fixed]
    assert all((found[name] != facts[name]).mean() > 0.05 for name in free)


def test_descendants_of_a_held_mediator_use_its_fact(chain):
    model, cohort = chain
    facts = cohort.columns(model.graph)
    fixed = {"A": facts["A"] + 1, "B": np.ones(len(cohort)), "M": facts["M"]}
    expected = composed(model, cohort, fixed, seed=2)
    twins = model.counterfactual(cohort, do(a=Shift(1), b="P"), hold=["m"], seed=2)
    found = twins.columns(model.graph)
    assert all(np.abs(found[name] - expected[name]).max() < 1e-5 for name in expected)
    assert (twins.table["M"] == cohort.table["M"]).all()


def test_twins_of_drawn_values_compose_the_equations(chain):
    model, cohort = chain
    few = cohort.head(300).repeat(2)
    action = do(a=Normal(0, 1, -1, 1), b=Categorical({"N": 0.25, "P": 0.75}), k=Shift(1))
    result = effect(model, few, action, seed=2)
    facts, found = few.columns(model.graph), result.active.columns(model.graph)
    draws = Draws(record_keys(few.records), 2, draw=few.draws)
    set_to = action.bind(model.graph).values(facts, draws)
    assert set(np.unique(set_to["A"])) == {-1, -0.5, 0, 0.5, 1}
    assert set_to["B"].mean() == pytest.approx(0.75, abs=0.07)
    expected = composed(model, few, set_to, seed=2)
    for name in model.graph.tabular:
        assert np.abs(found[name] - expected[name]).max() < 1e-5, name
    note = "do(A~normal(0, 1, -1, 1), B~categorical(N=0.25, P=0.75), K+1)"
    assert note in result.active.notes[-1]


def test_values_by_record_apply_to_every_draw(chain):
    model, cohort = chain
    few, levels = cohort.head(4), ["P", "N", "N", "P"]
    result = effect(model, few, do(b=levels), do(b=levels[::-1]), draws=3)
    assert result.active.table["B"].tolist() == np.repeat(levels, 3).tolist()
    assert result.baseline.table["B"].tolist() == np.repeat(levels[::-1], 3).tolist()
    assert result.about["action"]["do"]["B"]["records"] == 4


def test_twins_samples_and_effects_use_the_same_draws(chain):
    model, cohort = chain
    action = do(a=Normal(0, 1), b=Categorical({"N": 0.5, "P": 0.5}))
    twins = model.counterfactual(cohort.head(50), action, draws=4, seed=3)
    result = model.effect(cohort.head(50), action, draws=4, seed=3)
    pd.testing.assert_frame_equal(twins.table, result.active.table, check_exact=True)
    assert twins.notes == ["do(A~normal(0, 1), B~categorical(N=0.5, P=0.5))"]
    samples = model.do(action).sample(4000, seed=3)
    assert (
        stats.kstest(
            samples.table["A"] + np.random.default_rng(0).uniform(-0.25, 0.25, 4000),
            "norm",
            (0, np.sqrt(1 + 1 / 48)),
        ).pvalue
        > 1e-3
    )
    assert (samples.table["B"] == "P").mean() == pytest.approx(0.5, abs=0.03)
    rows = ["P", "N"] * 25
    assert model.counterfactual(cohort.head(50), b=rows, draws=2).table["B"].tolist() == [
        level for level in rows for _ in range(2)
    ]


def test_model_and_truth_use_the_same_draws():
    cohort = Cohort.load("phantom", n=60, seed=0, size=32)
    graph = Graph.load("mini").without_variable("Image")
    model = SCM(graph).fit(cohort.with_images(None))
    action = do(age=Normal(60, 10), sex=Categorical({"F": 0.5, "M": 0.5}))
    for asked in ({}, {"draws": 3}):
        true = truth(cohort, action, seed=5, **asked).table[["Age", "Sex"]]
        draws = asked.get("draws")
        made = model.counterfactual(cohort.with_images(None), action, seed=5, draws=draws)
        pd.testing.assert_frame_equal(true, made.table[["Age", "Sex"]], check_dtype=False)


def test_distribution_with_unseen_levels_is_refused(chain):
    model, cohort = chain
    table = cohort.table
    table["M"] = table["M"].replace("z", "y")
    without = SCM(model.graph).fit(Cohort(table).head(200))
    action = do(m=Categorical({"x": 0.5, "z": 0.5}))
    with pytest.raises(InterventionError, match="0 training records have M=z"):
        effect(without, Cohort(table), action)
    assert len(effect(without, Cohort(table), do(dict(action.settings), beyond_range=True)).active)
