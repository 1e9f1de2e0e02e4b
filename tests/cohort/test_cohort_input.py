"""Every question takes a DataFrame as Cohort(table) would, and refuses anything else."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

import causalcxr as cx
from causalcxr import SCM, Cohort, Graph, do
from causalcxr.audit import AttributeReader, as_classifier, make_pairs
from causalcxr.audit.classifier import Classifier
from causalcxr.audit.model_evaluation import evaluate
from causalcxr.cohort.cohort_input import as_cohort
from causalcxr.common.errors import CohortError
from causalcxr.scm.posterior import abduct_observed, complete_observed
from causalcxr.sources.phantom import exogenous, truth

GRAPH = Graph.parse("variables: {A: {type: binary}, B: {type: binary, parents: [A]}}")
ACTION = do(a="P")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    random = np.random.default_rng(0)
    a = random.random(200) < 0.5
    b = np.where(random.random(200) < 0.8, a, ~a)
    return pd.DataFrame({"A": np.where(a, "P", "N"), "B": np.where(b, "P", "N")})


@pytest.fixture(scope="module")
def model(table) -> SCM:
    return SCM(GRAPH).fit(table, progress=False)


def scorer() -> Classifier:
    taught = pd.DataFrame({"A": ["N", "N", "P", "P"]})
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(taught, [0, 0, 0, 1])
    return as_classifier(estimator, target="B", features=["A"])


SCORER = scorer()
QUESTIONS: dict[str, Callable] = {
    "counterfactual": lambda m, t: m.counterfactual(t, ACTION).table,
    "abduct": lambda m, t: m.predict(m.abduct(t)).table,
    "log_prob": lambda m, t: m.log_prob(t),
    "effect": lambda m, t: m.effect(t, ACTION).table,
    "probabilities": lambda m, t: m.probabilities(t, ACTION).table,
    "sensitivity": lambda m, t: m.sensitivity(t, ACTION).table,
    "confounding": lambda m, t: m.confounding(t, ACTION, rho=0.5).table,
    "support_of": lambda m, t: m.support_of(t, ACTION).table,
    "check": lambda m, t: m.check(t, split="all").table,
    "compare": lambda m, t: m.compare(m, t, ACTION).table,
    "abduct_observed": lambda m, t: m.predict(abduct_observed(m, t)).table,
    "complete_observed": lambda m, t: complete_observed(m, t).cohort.table,
    "audit": lambda m, t: cx.audit(SCORER, m, t, ACTION, by="A", bootstrap=20).by_group,
    "audit, validation": lambda m, t: (
        cx.audit(SCORER, m, t, ACTION, by="A", validation=t, bootstrap=20).by_group
    ),
    "stress": lambda m, t: cx.stress(SCORER, m, t, dose=("A", ["N", "P"]), bootstrap=20).dose,
    "make_pairs": lambda m, t: make_pairs(m, t, ACTION).gates,
    "scores": lambda m, t: pd.DataFrame(SCORER.scores(t)),
}
REFUSED: dict[str, Callable] = QUESTIONS | {
    "fit": lambda m, t: m.fit(t),
    "evaluate": lambda m, t: evaluate(m, t, [ACTION]),
    "truth": lambda m, t: truth(t, ACTION),
    "exogenous": lambda m, t: exogenous(t),
    "reader": lambda m, t: AttributeReader.fit(t, GRAPH),
    "Cohort.compare": lambda m, t: Cohort(pd.DataFrame({"A": ["N"]})).compare(t),
}


@pytest.mark.parametrize("question", QUESTIONS)
def test_dataframe_gives_the_results_of_its_cohort(model, table, question):
    ask = QUESTIONS[question]
    pd.testing.assert_frame_equal(ask(model, table), ask(model, Cohort(table)))


@pytest.mark.parametrize("question", REFUSED)
def test_other_input_is_refused_in_one_line(model, question):
    message = r"a Cohort or a pandas DataFrame is needed, not a dict; write Cohort\(pd.DataFrame"
    with pytest.raises(CohortError, match=message):
        REFUSED[question](model, {"A": ["N"], "B": ["P"]})


def test_dataframe_can_be_compared_as_a_twin(model, table):
    twins = model.counterfactual(table, ACTION)
    expected = Cohort(table).compare(twins).summary()
    pd.testing.assert_frame_equal(Cohort(table).compare(twins.table).summary(), expected)


@pytest.mark.parametrize(
    ("records", "message"),
    [
        ("clinic.csv", r"the path 'clinic.csv'; write Cohort.load\('clinic.csv'\)"),
        (Path("clinic.csv"), r"write Cohort.load\('clinic.csv'\)"),
        (np.zeros((3, 2)), r"a ndarray; write Cohort\(pd.DataFrame"),
        (pd.Series([1], name="A"), r"a Series; write Cohort\(series.to_frame"),
        (None, "not None"),
        (pd.DataFrame({"A": ["N"], "patient": [1]}), r"Cohort\(table, patients='patient'\)"),
        (
            pd.DataFrame({"A": ["N"], "patient": [1], "split": ["val"]}),
            r"Cohort\(table, patients='patient', splits='split'\)",
        ),
    ],
)
def test_refusal_says_how_to_make_a_cohort(records, message):
    with pytest.raises(CohortError, match=message):
        as_cohort(records)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("clinic.csv", r"to read 'clinic.csv', write Cohort.load\(path\)"),
        (Path("clinic.csv"), r"write Cohort.load\(path\)"),
        (pd.Series([1]), "not Series; give one with a column for each variable"),
        (np.zeros((2, 2)), "not ndarray"),
        (Cohort(pd.DataFrame({"A": ["N"]})), "not Cohort"),
        (None, "not NoneType"),
        ({"A": 1}, "a Cohort is made of a pandas DataFrame"),
    ],
)
def test_cohort_needs_a_table(table, message):
    with pytest.raises(CohortError, match=message):
        Cohort(table)


def test_one_draw_equals_no_draws_but_for_the_index(model, table):
    table = table.copy()
    table.loc[::7, "B"] = None
    plain, one = model.counterfactual(table, ACTION), model.counterfactual(table, ACTION, draws=1)
    assert plain.index.names == ["record"]
    assert one.index.names == ["record", "draw"]
    assert (one.draws == 0).all()
    pd.testing.assert_frame_equal(one.table.droplevel("draw"), plain.table)
    noise = model.abduct(table), model.abduct(table, draws=1)
    assert [each.index.nlevels for each in noise] == [1, 2]
    for name in ("A", "B"):
        assert np.array_equal(noise[0].values[name], noise[1].values[name], equal_nan=True)
    effects = model.effect(table, ACTION), model.effect(table, ACTION, draws=1)
    assert [each.differences.index.nlevels for each in effects] == [1, 2]
    pd.testing.assert_frame_equal(effects[0].table, effects[1].table)
