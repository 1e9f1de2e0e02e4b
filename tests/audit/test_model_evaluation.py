"""Model evaluation on phantoms, beside copy and oracle."""

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.model_evaluation import evaluate
from causalcxr.common.errors import AuditError


@pytest.fixture(scope="module")
def asked():
    graph = Graph.load("cxr7")
    model = SCM(graph).fit(Cohort.load("phantom", n=400, seed=0))
    reader = AttributeReader.fit(Cohort.load("phantom", n=120, seed=3), graph, ["Sex", "View"])
    cohort = Cohort.load("phantom", n=24, seed=1)
    found = evaluate(
        model, cohort, [do(sex="M")], reader=reader, cycles=(1, 2), cycled=3, draws=100
    )
    return model, cohort, found


@pytest.mark.slow
def test_evaluation_has_copy_and_oracle_for_each_axiom(asked, tmp_path):
    _, cohort, found = asked
    table = found.table.set_index("measure")
    assert (found.table["n"] <= (cohort.table["Sex"] == "F").sum()).all()
    assert table.loc["L1 after 1", "value"] < 1e-6
    assert table.loc["L1 after 2", "value"] < 1e-6
    assert table.loc["L1 there and back", "value"] < 0.05
    sex = table.loc["hit rate, Sex"]
    assert sex["copy"] < 0.5 < sex["value"]
    assert sex["oracle"] > 0.8
    view = table.loc["change, View"]
    assert view["copy"] == pytest.approx(0, abs=1e-6)
    error = table.loc["error over copy's"]
    assert 0 < error["low"] < error["value"] < error["high"] < 1
    parts = table.loc[["of it inside", "of it outside"], "value"].sum()
    assert parts == pytest.approx(error["value"])
    assert table.loc["SSIM", "oracle"] < 1
    out = found.save(tmp_path / "e")
    names = {p.name for p in out.iterdir()}
    assert names == {"evaluation.csv", "evaluation.png", "evaluation.json", "pairs-1.png"}
    assert len(pd.read_csv(out / "evaluation.csv")) == len(found.table)


@pytest.mark.slow
def test_evaluation_is_reproducible(asked):
    model, cohort, _ = asked
    few = cohort.head(6)
    one, two = (
        evaluate(model, few, [do(view="PA")], cycles=(1,), cycled=2, draws=50).table for _ in "ab"
    )
    pd.testing.assert_frame_equal(one, two)


def test_evaluation_without_images_is_refused():
    graph = Graph.parse("variables: {Sex: {type: binary, levels: [F, M]}}")
    cohort = Cohort(pd.DataFrame({"Sex": ["F", "M"] * 20}), np.zeros((40, 1, 8, 8), np.float32))
    with pytest.raises(AuditError, match="the model and the cohort both need images"):
        evaluate(SCM(graph).fit(cohort), cohort, [do(sex="M")])
