"""Values beyond a range that were allowed: every question about the twins is answered."""

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import LogisticRegression

import causalcxr as cx
from causalcxr.audit.auditing import audit_pairs
from causalcxr.audit.classifiers import as_classifier
from causalcxr.audit.making_pairs import make_pairs
from causalcxr.audit.pairs import Pairs
from causalcxr.audit.quality_checks import Gates
from causalcxr.common.errors import CohortError
from causalcxr.scm.questions.model_comparison import compare

GRAPH = cx.Graph.parse(
    "variables: {Age: {type: continuous, range: [0, 105], mechanism: empirical}, Edema: {type: "
    "binary, levels: [N, P], parents: [Age]}}"
)


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    age = rng.uniform(20, 90, 200).round()
    return cx.Cohort(pd.DataFrame({"Age": age, "Edema": np.where(age > 55, "P", "N")}))


@pytest.fixture(scope="module")
def model(cohort):
    return cx.SCM(GRAPH).fit(cohort, progress=False)


def test_questions_answer_for_an_age_beyond_the_range(model, cohort):
    action = cx.do(age=150, beyond_range=True)
    pairs = make_pairs(model, cohort, action)
    assert pairs.twin.table["Age"].eq(150).all()
    assert len(pairs) == 200
    assert model.support_of(cohort, action)["Edema"]["flag"].all()
    assert compare(model, model, cohort, action).table["differ"].max() == 0


def test_pairs_beyond_the_range_are_saved_and_audited(model, cohort, tmp_path):
    action = cx.do(age=150, beyond_range=True)
    gates = Gates(support=False)
    make_pairs(model, cohort, action, gates=gates).save(tmp_path / "pairs")
    pairs = Pairs.load(tmp_path / "pairs")
    table = cohort.table
    reading = LogisticRegression().fit(table[["Age"]], table["Edema"])
    scorer = as_classifier(reading, target="Edema", features=["Age"])
    audited = audit_pairs(scorer, pairs, bootstrap=50)
    assert len(audited.records) == 200


def test_value_beyond_the_range_is_refused_by_default(model):
    with pytest.raises(CohortError, match="outside the range 0 to 105"):
        model.counterfactual(cx.Cohort(pd.DataFrame({"Age": [150.0], "Edema": ["N"]})), age=60)
