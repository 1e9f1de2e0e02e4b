"""Cross-fitted readers: what they read, on whom they are scored, and what they cannot check."""

import json

import numpy as np
import pandas as pd
import pytest
from audit_worlds import GRAPH, as_men, features, people
from sklearn.metrics import roc_auc_score

from causalcxr import do
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.audit.pairs import Pairs
from causalcxr.audit.quality_checks import Gates
from causalcxr.audit.reader_quality import level_quality, number_quality, unreadable
from causalcxr.cohort.splits import draw_folds
from causalcxr.common.errors import AuditError

MEN = do(sex="M")


@pytest.fixture(scope="module")
def cohort():
    return people(600, seed=9, patients=300)


@pytest.fixture(scope="module")
def reader(cohort):
    return CrossFittedReader.fit(cohort, GRAPH, features=features)


def test_records_of_a_patient_are_in_one_fold_in_any_cohort(cohort):
    fold = pd.Series(draw_folds(cohort.patients, 4, seed=2))
    assert (fold.groupby(cohort.patients.to_numpy()).nunique() == 1).all()
    assert sorted(fold.unique()) == [0, 1, 2, 3]
    part = cohort.head(50)
    assert (draw_folds(part.patients, 4, seed=2) == fold[:50]).all()


def test_a_patient_is_read_by_a_model_that_has_not_seen_them():
    """Features that identify the record let a model recall labels, but not of unseen patients."""
    cohort = people(300, seed=4)
    rng = np.random.default_rng(0)
    random = pd.DataFrame(rng.normal(size=(300, 400)), index=cohort.index)
    reader = CrossFittedReader.fit(
        cohort, GRAPH, ["Sex"], features=lambda part: random.loc[part.index].to_numpy()
    )
    male = (cohort.table["Sex"] == "M").to_numpy()
    read = reader.read(cohort)["Sex", "M"].to_numpy()
    assert roc_auc_score(male, read) < 0.56
    assert reader.table.loc["Sex", "low"] < 0.5
    assert unreadable(reader, 0.6) == ["Sex"]


def test_quality_is_that_of_its_own_answers(cohort, reader):
    read, edema = reader.read(cohort), (cohort.table["Edema"] == "P").to_numpy()
    row = reader.table.loc["Edema"]
    assert row["value"] == pytest.approx(roc_auc_score(edema, read["Edema", "P"]), abs=1e-9)
    assert (row["n"], row["positives"], row["patients"]) == (
        600,
        edema.sum(),
        cohort.patients.nunique(),
    )
    assert row["low"] < row["value"] < row["high"]
    assert 0.5 < row["slope"] < 2
    assert np.allclose(read["View"].sum(axis=1), 1)


def test_interval_of_an_area_covers_as_often_as_it_says():
    """Simulated patients with three records each, whose scores are correlated."""
    rng, covered = np.random.default_rng(1), 0
    truth = 0.76025  # of two normal distributions one standard deviation apart
    for _ in range(80):
        sick = rng.random(80) < 0.4
        scores = np.repeat(rng.normal(size=80) * 0.8 + sick, 3) + rng.normal(size=240) * 0.6
        shares = 1 / (1 + np.exp(-np.stack([-scores, scores], 1)))
        row = level_quality(shares, np.repeat(sick, 3).astype(int), np.repeat(np.arange(80), 3))
        covered += row["low"] < truth < row["high"]
    assert 0.88 <= covered / 80 < 1


def test_quality_of_several_levels_is_the_one_of_scikit_learn():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 3, 200)
    shares = rng.dirichlet(np.ones(3), 200) + np.eye(3)[y] / 2
    shares /= shares.sum(1, keepdims=True)
    row = level_quality(shares, y, np.arange(200))
    assert row["value"] == pytest.approx(roc_auc_score(y, shares, multi_class="ovo"))
    assert row["low"] < row["value"] < row["high"]


def test_quality_of_numbers_has_the_interval_of_fisher():
    rng = np.random.default_rng(0)
    y = rng.normal(size=103)
    row = number_quality(y + rng.normal(size=103), y, np.arange(103))
    middle = np.arctanh(row["value"])
    assert np.arctanh([row["low"], row["high"]]) == pytest.approx(
        [middle - 1.95996 / 10, middle + 1.95996 / 10], abs=1e-4
    )


def test_what_a_reader_cannot_read_is_not_checked(reader):
    """Of the reader's attributes one is made a guess: no pair is rejected for it, or passes."""
    cohort = people(200, seed=1)
    women = (cohort.table["Sex"] == "F").to_numpy()
    table = reader.table.copy()
    table.loc["Sex", ["value", "low", "high"]] = 0.55, 0.48, 0.62
    poor = CrossFittedReader(reader.folds, reader.levels, table, reader.seed)
    still = cohort.with_columns(GRAPH, as_men(cohort).columns(GRAPH))  # images do not change
    good, unchecked = (
        Pairs.from_cohorts(GRAPH, cohort, still, MEN, reader=each) for each in (reader, poor)
    )
    assert good.about["not_checked"] == []
    assert (good.gates["why"][women] == "effectiveness").mean() > 0.5
    assert unchecked.about["not_checked"] == ["Sex"]
    assert unchecked.gates["effectiveness"].isna().all()
    assert (unchecked.gates["why"][women] == "").all()
    # Without a limit, all of the reader's answers are used.
    every = Pairs.from_cohorts(GRAPH, cohort, still, MEN, reader=poor, gates=Gates(reader=None))
    assert every.gates["effectiveness"].notna().any()


def test_manifest_has_the_quality_in_words(tmp_path, reader):
    cohort = people(30, seed=2)
    pairs = Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), MEN, reader=reader)
    pairs.save(tmp_path / "p")
    about = json.loads((tmp_path / "p" / "manifest.json").read_text())
    assert about["reader_details"]["folds"] == 5
    assert about["reader_details"]["features"] == "bundled"
    assert about["reader_details"]["quality"]["Edema"].startswith("AUROC 0.9")
    assert Pairs.load(tmp_path / "p").about == pairs.about


def test_too_few_records_are_refused():
    with pytest.raises(AuditError, match="varies in each of the 5 folds; give more records"):
        CrossFittedReader.fit(people(10, seed=1), GRAPH, features=features)
