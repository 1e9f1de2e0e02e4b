"""A Series belongs to its records by their ids: values, patients, splits, scores, labels."""

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.audit import as_classifier
from causalcxr.audit.bootstrap import Validation, bootstrap
from causalcxr.audit.classifiers import FeatureClassifier, ScoreTable
from causalcxr.audit.groups import find_groups
from causalcxr.audit.intervals import compare_paired
from causalcxr.audit.measures import MEASURES, measured
from causalcxr.audit.paired_tests import mcnemar, patient_means
from causalcxr.common.errors import CausalCXRError, ClassifierError, CohortError, InterventionError
from causalcxr.metrics.agreement import cohen_kappa
from causalcxr.metrics.axioms import effectiveness
from causalcxr.metrics.bootstrap import mean_interval
from causalcxr.sources.phantom import load, truth

GRAPH = Graph.parse(
    """
variables:
  Sex: {type: binary, levels: [F, M], mechanism: empirical}
  Age: {type: continuous, unit: year, range: [0, 105], resolution: 1, mechanism: empirical}
"""
)
N = 40
INDEX = pd.Index([f"r{k:02d}" for k in range(N)])
SHUFFLED = INDEX[np.random.default_rng(3).permutation(N)]
AGES = pd.Series(np.arange(N) + 30.0, index=INDEX)


@pytest.fixture(scope="module")
def cohort() -> Cohort:
    sex = np.where(np.arange(N) % 3, "F", "M")
    return Cohort(pd.DataFrame({"Sex": sex, "Age": np.arange(N) + 20.0}, index=INDEX))


@pytest.fixture(scope="module")
def model(cohort) -> SCM:
    return SCM(GRAPH).fit(cohort)


def test_series_is_aligned_by_record(model, cohort):
    twins = model.counterfactual(cohort, age=AGES[SHUFFLED])
    pd.testing.assert_series_equal(twins.table["Age"], AGES, check_names=False)
    levels = pd.Series(np.where(np.arange(N) < 7, "M", "F"), index=INDEX)
    twins = model.counterfactual(cohort, sex=levels[SHUFFLED])
    assert twins.table["Sex"].tolist() == levels.tolist()


@pytest.mark.parametrize("dtype", ["Int64", "float32", "object", "category"])
def test_series_of_any_dtype_is_aligned(model, cohort, dtype):
    twins = model.counterfactual(cohort, age=AGES.astype(int).astype(dtype)[SHUFFLED])
    assert twins.table["Age"].tolist() == AGES.tolist()


def test_array_is_in_the_order_of_the_records(model, cohort):
    values = AGES[SHUFFLED].to_numpy()
    assert model.counterfactual(cohort, age=values).table["Age"].tolist() == values.tolist()


def test_series_by_record_applies_to_all_draws(model, cohort):
    twins = model.counterfactual(cohort, age=AGES[SHUFFLED], draws=3).table["Age"]
    assert (twins.unstack("draw").sub(AGES, axis=0) == 0).all(axis=None)
    own = pd.Series(np.arange(3.0 * N), index=twins.index)
    own = own.where(own < 90, 40.0)
    some = own.sample(frac=1, random_state=1)
    again = model.counterfactual(cohort, age=some, draws=3).table["Age"]
    assert again.tolist() == own.tolist()


def test_missing_ids_are_counted_and_the_first_named(model, cohort):
    with pytest.raises(InterventionError, match=r"no value for record 'r01' \(2 of 40 records\)"):
        model.counterfactual(cohort, age=AGES.drop(["r05", "r01"])[::-1])
    positional = pd.Series(np.arange(N) + 30.0)
    with pytest.raises(InterventionError, match=r"'r00' \(40 of 40 records\).*\.to_numpy\(\)"):
        model.counterfactual(cohort, age=positional)


def test_foreign_ids_are_counted_and_the_first_named(model, cohort):
    more = pd.concat([AGES, pd.Series([50.0, 51.0], index=["x2", "x1"])])
    with pytest.raises(InterventionError, match=r"record 'x2' is not one of the 40 records \(2"):
        model.counterfactual(cohort, age=more)
    with pytest.raises(InterventionError, match="record 'r07' has more than one value"):
        model.counterfactual(cohort, age=pd.concat([AGES, AGES[["r07"]]]))


def test_series_of_a_function_is_aligned(model, cohort):
    seen = []

    def older(age: pd.Series) -> pd.Series:
        seen.append(age.index)
        return (age + 1).sort_values(ascending=False)

    twins = model.counterfactual(cohort, age=older)
    assert seen[0].equals(cohort.index)
    assert (twins.table["Age"] - cohort.table["Age"]).tolist() == [1.0] * N
    looked_up = model.counterfactual(cohort, age=lambda age: AGES[SHUFFLED])
    assert looked_up.table["Age"].tolist() == AGES.tolist()
    array = model.counterfactual(cohort, age=lambda age: AGES.to_numpy()[::-1])
    assert array.table["Age"].tolist() == AGES.tolist()[::-1]
    many = model.counterfactual(cohort, age=lambda age: AGES[SHUFFLED], draws=2)
    assert many.table["Age"].tolist() == np.repeat(AGES.to_numpy(), 2).tolist()


def test_function_returning_other_ids_is_refused(model, cohort):
    with pytest.raises(InterventionError, match="intervention on 'Age': Series: no value for"):
        model.counterfactual(cohort, age=lambda age: (age + 1).reset_index(drop=True))


def test_effects_and_probabilities_align_a_series(model, cohort):
    change = model.effect(cohort, age=AGES[SHUFFLED]).differences["Age", ""]
    assert change.tolist() == (AGES - cohort.table["Age"]).tolist()
    women = pd.Series("F", index=SHUFFLED)
    women["r00"] = "M"
    found = model.probabilities(cohort, sex=women, variables="Sex")
    assert found["Sex", "M"].tolist() == [1.0] + [0.0] * (N - 1)


def test_manifest_distinguishes_values_and_ids():
    asked = do(age=AGES).to_json()["do"]["age"]
    assert asked["records"] == N
    renamed = AGES.set_axis([f"q{k}" for k in range(N)])
    assert do(age=renamed).to_json()["do"]["age"]["sha256"] != asked["sha256"]
    assert do(age=AGES.copy()).to_json()["do"]["age"] == asked


def test_true_twins_align_a_series():
    phantoms = load(n=5, size=32)
    ages = pd.Series([40.0, 50, 60, 70, 80], index=phantoms.index)
    true = truth(phantoms, do(age=ages[::-1]))
    assert true.table["Age"].tolist() == ages.tolist()
    many = truth(load(n=5, size=32), do(age=ages[::-1]), draws=2)
    assert many.table["Age"].tolist() == np.repeat(ages.to_numpy(), 2).tolist()


@pytest.mark.parametrize("what", ["patients", "splits"])
def test_patients_and_splits_are_aligned(cohort, what):
    words = ["train", "val"] * (N // 2)
    values = pd.Series(words if what == "splits" else [f"p{k}" for k in range(N)], index=INDEX)
    made = Cohort(cohort.table, **{what: values[SHUFFLED]})
    assert getattr(made, what).tolist() == values.tolist()
    with pytest.raises(CohortError, match=rf"{what}: no value for record 'r03' \(1 of 40"):
        Cohort(cohort.table, **{what: values.drop("r03")})
    with pytest.raises(CohortError, match=rf"{what}: record 'r39' is not one of the 39 records"):
        Cohort(cohort.table.drop("r39"), **{what: values})


def test_scores_are_aligned_by_record(cohort):
    scores = pd.Series(np.linspace(0, 1, N), index=INDEX)
    told = as_classifier(scores[SHUFFLED]).scores(cohort)
    assert told.tolist() == scores.tolist()
    assert as_classifier(scores).scores(cohort.head(3)).tolist() == scores.tolist()[:3]
    with pytest.raises(ClassifierError, match=r"factual scores: no value for record 'r02' \(1 of"):
        ScoreTable(scores.drop("r02")).scores(cohort)


def test_features_in_a_table_are_aligned(cohort):
    class Half:
        classes_ = (0, 1)

        def predict_proba(self, x):
            return np.column_stack([1 - x[:, 0], x[:, 0]])

    features = pd.DataFrame({"x": np.linspace(0, 1, N)}, index=INDEX).loc[SHUFFLED]
    told = FeatureClassifier(Half(), lambda cohort: features).scores(cohort)
    assert told.tolist() == np.linspace(0, 1, N).tolist()


def test_measures_align_scores_and_labels():
    rng = np.random.default_rng(0)
    labels = pd.Series(rng.integers(0, 2, N).astype(float), index=INDEX)
    scores = pd.Series(rng.uniform(size=N), index=INDEX)
    right = measured(scores.to_numpy(), labels.to_numpy(), threshold=0.5)
    assert measured(scores[SHUFFLED], labels, threshold=0.5) == pytest.approx(right)
    assert MEASURES["auroc"](scores, labels[SHUFFLED]) == pytest.approx(right["auroc"])
    first = compare_paired(scores, scores[SHUFFLED], labels[SHUFFLED[::-1]])
    assert first.difference == 0
    with pytest.raises(CausalCXRError, match=r"labels: no value for record 'r00' \(1 of 40"):
        measured(scores, labels.drop("r00"), threshold=0.5)


def test_measures_align_patients():
    effects = pd.Series([1.0, 2.0, 3.0], index=["a", "b", "c"])
    patients = pd.Series(["x", "y", "y"], index=["a", "c", "b"])
    assert patient_means(effects, patients).tolist() == [1.0, 2.5]
    assert mean_interval(effects, patients[::-1]).patients == 2
    before = pd.Series([0, 0, 1], index=["a", "b", "c"])
    assert mcnemar(before, before[::-1], patients).p == 1.0
    kappa = cohen_kappa(before, before[::-1])
    assert kappa.kappa == 1.0
    table = pd.DataFrame({"Sex": ["F", "M", "M"]}, index=["a", "b", "c"])
    groups = find_groups(table, "Sex", labels=pd.Series([1, 0, 1], index=["c", "b", "a"]))
    assert groups.table["positives"].to_dict() == {"all": 2, "Sex=F": 1, "Sex=M": 1}


def test_bootstrap_of_series_equals_that_of_arrays():
    rng = np.random.default_rng(2)
    labels = pd.Series(np.arange(N) % 2, index=INDEX)
    scores = pd.Series(rng.uniform(size=N), index=INDEX)
    patients = pd.Series(np.arange(N) // 2, index=INDEX)
    groups = {"first": pd.Series(np.arange(N) < 20, index=INDEX)}
    options = {"measures": ["tpr"], "draws": 5, "threshold": "youden"}
    plain = bootstrap(
        scores.to_numpy(),
        labels.to_numpy(),
        {"first": groups["first"].to_numpy()},
        patients=patients.to_numpy(),
        validation=Validation(scores.to_numpy(), labels.to_numpy()),
        **options,
    )
    found = bootstrap(
        scores,
        labels[SHUFFLED],
        {"first": groups["first"][SHUFFLED[::-1]]},
        patients=patients[SHUFFLED],
        validation=Validation(scores, labels[SHUFFLED]),
        **options,
    )
    assert (found.draws == plain.draws).all()
    assert found.threshold == plain.threshold


def test_effectiveness_aligns_outputs_by_name():
    asked = pd.Series(np.arange(N) * 1.0, index=INDEX)
    table = effectiveness({"Age": asked[SHUFFLED]}, {"Age": asked})
    assert table["value"].tolist() == [0.0]
