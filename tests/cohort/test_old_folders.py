"""Folders that version 0.1.0 wrote are still read; `tests/fixtures/v0.1.0` holds one of each."""

from pathlib import Path

import numpy as np
import pytest

from causalcxr import SCM, Cohort, do
from causalcxr.apps.export.exporting import ExportSettings, export
from causalcxr.apps.study.analysis import analyse
from causalcxr.apps.study.answers import read_answers
from causalcxr.apps.study.plan import StudyPlan
from causalcxr.audit.pairs import Pairs
from causalcxr.sources.store.reading import check

OLD = Path(__file__).parents[1] / "fixtures" / "v0.1.0"


@pytest.fixture(scope="module")
def phantoms() -> Cohort:
    return Cohort.load("phantom", n=3, seed=0, size=32)


def test_old_cohort_is_read(phantoms):
    old = Cohort.load(OLD / "cohort")
    assert old.table.equals(phantoms.table)
    assert np.abs(old.images[:] - phantoms.images[:]).max() < 1e-4


def test_old_model_answers(phantoms):
    model = SCM.load(OLD / "model")
    twins = model.counterfactual(phantoms.with_images(None), do(sex="M"))
    assert twins.table["Sex"].tolist() == ["M"] * 3


def test_old_twins_are_exported(tmp_path):
    index = export(OLD / "twins", tmp_path / "out", ExportSettings("png"))
    assert len(index) == 2


def test_old_pairs_are_read():
    pairs = Pairs.load(OLD / "pairs")
    assert set(pairs.worlds) == {"factual", "twin", "null"}
    assert pairs.twin.images[:].shape == (2, 1, 32, 32)


def test_old_store_is_read_unchanged(phantoms):
    pytest.importorskip("pyarrow")
    old = Cohort.load(OLD / "store")
    assert old.table.astype(str).equals(phantoms.table.astype(str))
    assert np.abs(old.images[:] - phantoms.images[:]).max() < 1e-4
    assert list(check(OLD / "store")) == []


def test_old_study_is_read():
    plan = StudyPlan.load(OLD / "study")
    answers = read_answers(OLD / "study", plan, 0)
    assert [(a.step, a.choice, a.confidence) for a in answers] == [(0, 1, 3), (1, 0, 5)]
    assert len(analyse(OLD / "study").responses) == 2
