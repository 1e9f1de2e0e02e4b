"""Cohorts of a few records, and columns without content: a fit works, or one line says why."""

import numpy as np
import pandas as pd
import pytest

import causalcxr as cx
from causalcxr import Cohort, Graph, Variable
from causalcxr.common.errors import ModelError

FLOW = {"kind": "flow", "bins": 4, "hidden": 4, "epochs": 6}
ODE = FLOW | {"transform": "cnf", "epochs": 3}
GRAPH = Graph(
    [
        Variable("Age", "continuous", range=(0, 105), resolution=1, mechanism=FLOW),
        Variable("Sex", "binary", levels=("F", "M"), mechanism={"kind": "discrete", "epochs": 4}),
        Variable("Dose", "continuous", mechanism="empirical"),
        Variable("Weight", "continuous", parents=["Age", "Sex", "Dose"], mechanism=FLOW),
        Variable("Pressure", "continuous", parents=["Weight"], mechanism=ODE),
        Variable("Grade", "ordinal", levels=("a", "b", "c"), parents=["Weight"], mechanism=FLOW),
        Variable(
            "Race", "categorical", levels=("x", "y", "z"), parents=["Sex"],
            mechanism={"kind": "discrete", "hidden": 4, "epochs": 4, "coupling": "ot"},
        ),
    ]
)  # fmt: skip


def table(n, seed=0):
    random = np.random.default_rng(seed)
    weight = random.normal(70, 10, n)
    return pd.DataFrame(
        {
            "Age": random.integers(20, 90, n).astype(float),
            "Sex": random.choice(["F", "M"], n),
            "Dose": random.exponential(size=n),
            "Weight": weight,
            "Pressure": weight + random.normal(size=n),
            "Grade": np.array(list("abc"))[np.digitize(weight, [65, 75])],
            "Race": random.choice(["x", "y", "z"], n),
        }
    )


def constant(rows):
    return rows.assign(Weight=70.0, Dose=3.0)


def one_level(rows):
    return rows.assign(Sex="F", Grade="a", Race="z")


def parents_missing(rows):
    return rows.assign(Age=np.nan, Dose=np.nan)


def child_missing(rows):
    return rows.assign(Weight=np.nan, Grade=None)


def one_observed(rows):
    return rows.assign(Weight=rows["Weight"].where(rows.index == 0))


def as_it_is(rows):
    return rows


KINDS = (as_it_is, constant, one_level, parents_missing, child_missing, one_observed)


@pytest.mark.parametrize("n", [2, 12])
@pytest.mark.parametrize("change", KINDS, ids=lambda change: change.__name__)
def test_small_or_constant_cohort_returns_the_facts(change, n):
    cohort = Cohort(change(table(n)))
    model = cx.SCM(GRAPH).fit(cohort)
    null = model.counterfactual(cohort, recompute=True)
    facts, again = cohort.columns(GRAPH), null.columns(GRAPH)
    for name in model.fitted:
        exact = GRAPH[name].is_discrete or GRAPH[name].resolution
        near = {"rtol": 0, "atol": 0} if exact else {"rtol": 1e-7, "atol": 1e-7}
        assert np.allclose(again[name], facts[name], equal_nan=True, **near), name
    level = "F" if change is one_level else "M"
    twins = model.counterfactual(cohort, sex=level, beyond_range=True).columns(GRAPH)
    assert not any(np.isinf(column).any() for column in twins.values())


def test_empty_validation_split_uses_training_rows():
    cohort = Cohort(table(12), splits=["train"] * 12)
    model = cx.SCM(GRAPH).fit(cohort)
    assert model.fitted["Weight"].rows == 6  # half of few records are set aside
    with pytest.raises(ModelError, match="none of 12 records is in the train split"):
        cx.SCM(GRAPH).fit(Cohort(table(12), splits=["val"] * 12))


def test_average_of_weights_stays_near_them_in_small_cohorts():
    rows = table(40).assign(Weight=lambda t: 50 + t["Age"] / 2)
    model = cx.SCM(GRAPH).fit(Cohort(rows))
    losses = model.fitted["Weight"].losses["validation"]
    assert max(losses) < min(losses) + 10  # 1e29 where the average moved beyond the weights
