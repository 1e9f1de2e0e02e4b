"""Support, record by record: counts against the training table, tails against sorted values."""

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, Shift, do
from causalcxr.common.errors import InterventionError
from causalcxr.scm.questions.support_report import support_of

YAML = """
name: cells
schema: 1
variables:
  Age: {type: continuous, unit: year, range: [0, 110], resolution: 1, mechanism: empirical}
  A: {type: binary, levels: [n, p]}
  B: {type: categorical, levels: [x, y, z]}
  C: {type: binary, levels: [n, p], parents: [A, B]}
  D: {type: binary, levels: [n, p], parents: [Age, A, B, C]}
  F: {type: binary, levels: [n, p], parents: [Age]}
"""


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    n = 900
    table = pd.DataFrame(
        {
            "Age": np.round(rng.normal(55, 12, n).clip(18, 92)),
            "A": np.where(rng.uniform(size=n) < 0.3, "p", "n"),
            "B": rng.choice(["x", "y", "z"], n, p=[0.6, 0.37, 0.03]),
            "C": rng.choice(["n", "p"], n),
            "D": rng.choice(["n", "p"], n),
            "F": rng.choice(["n", "p"], n),
        }
    )
    table.loc[7::40, "B"] = None
    return Cohort(table, splits=["train"] * 800 + ["val"] * 50 + ["test"] * 50)


@pytest.fixture(scope="module")
def model(cohort):
    return SCM(Graph.parse(YAML)).fit(cohort)


def test_support_of_two_parents_is_the_count(model, cohort):
    result = support_of(model, cohort, do(a="p"))
    train = cohort.split("train").table
    count = train.groupby(["A", "B"]).size()
    table = cohort.table
    full = table["B"].notna()
    want = [count[a, b] for a, b in zip(table["A"][full], table["B"][full], strict=True)]
    twin = [count["p", b] for b in table["B"][full]]
    assert result["C", "records"][full].tolist() == want
    assert result["C", "records_twin"][full].tolist() == twin
    assert (result["C", "records_twin"][~full] == (train["A"] == "p").sum()).all()
    assert result["C", "beyond"].isna().all()
    assert result.exact == {"C": True, "D": False}


def test_support_of_three_parents_is_an_upper_bound(model, cohort):
    result = support_of(model, cohort, do(c="p"))["D"]
    train, table = cohort.split("train").table, cohort.table
    count = train.groupby(["A", "B", "C"]).size()
    pairs = {
        pair: train.groupby(list(pair)).size() for pair in (("A", "B"), ("A", "C"), ("B", "C"))
    }
    for r in range(0, 5):
        a, b = table["A"].iloc[r], table["B"].iloc[r]
        least = min(pairs["A", "B"][a, b], pairs["A", "C"][a, "p"], pairs["B", "C"][b, "p"])
        assert result["records_twin"].iloc[r] == least >= count.get((a, b, "p"), 0)


def test_only_records_moved_into_a_rare_cell_are_flagged(model, cohort):
    train, table = cohort.split("train").table, cohort.table
    cell = ((train["A"] == "p") & (train["B"] == "z")).sum()
    assert 0 < cell < 15
    result = support_of(model, cohort, do(a="p"), few=15)["C"]
    moved_there = (table["A"] == "n") & (table["B"] == "z")
    assert (result["flag"] == moved_there).all()
    assert moved_there.sum() > 5


def test_extreme_ages_are_flagged(model, cohort):
    result = support_of(model, cohort, do(age=Shift(15)), beyond_range=True)["F"]
    train, table = cohort.split("train").table, cohort.table
    for measure, ages in (("beyond", table["Age"]), ("beyond_twin", table["Age"] + 15)):
        below, above = (
            np.array(
                [(side(train["Age"], age)).sum() + (train["Age"] == age).sum() / 2 for age in ages]
            )
            for side in (np.less, np.greater)
        )
        want = np.minimum(below, above)
        assert np.abs(result[measure] - want).max() < 12
        assert np.corrcoef(result[measure], want)[0, 1] > 0.999
    oldest = table["Age"] + 15 > train["Age"].max() + 8
    assert oldest.sum() >= 3
    assert result["flag"][oldest].all()
    assert not result["flag"][table["Age"] + 15 < 80].any()
    assert result["records"].isna().all()


def test_saved_model_has_the_same_support(model, cohort, tmp_path):
    loaded = SCM.load(model.save(tmp_path / "model"))
    few = cohort.head(40)
    action = do(a="p", age=Shift(5))
    same = support_of(model, few, action).table
    pd.testing.assert_frame_equal(support_of(loaded, few, action).table, same)


def test_no_change_has_an_empty_table(model, cohort):
    assert support_of(model, cohort, do(a=lambda a: a)).table.shape == (900, 0)
    assert list(support_of(model, cohort, do(a="p"), hold=["C", "D"]).table.columns) == []
    with pytest.raises(InterventionError, match="'Z'"):
        support_of(model, cohort, {"Z": 1})
