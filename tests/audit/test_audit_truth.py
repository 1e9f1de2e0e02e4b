"""Short versions of `benchmarks/audit/truth.py`: bias is detected if and only if it is planted."""

import numpy as np
import pandas as pd
import pytest
from audit_worlds import as_men, people

from benchmarks.audit.truth import random_score, run_audit

AUDITS = 120


def scores_of(cohort, weight):
    """Return a score that reads edema, and sex with a weight, and the image's own noise."""
    grey = cohort.images[:][:, 0, 4:].mean((1, 2))
    ill, man = ((cohort.table[c] == v).to_numpy() for c, v in (("Edema", "P"), ("Sex", "M")))
    return np.clip(0.2 + 0.4 * ill + weight * man * grey, 0, 1)


@pytest.fixture(scope="module")
def pool():
    women = people(3000, seed=0).select("Sex == 'F'")
    return women, as_men(women)


@pytest.mark.parametrize("weight", [0.5, pytest.param(-0.3, marks=pytest.mark.slow)])
def test_planted_bias_is_detected_and_covered(pool, weight):
    before, after = (scores_of(c, weight) for c in pool)
    true, rng, held, told = (after - before).mean(), np.random.default_rng(1), 0, 0
    audits = AUDITS // 2
    for k in range(audits):
        rows = rng.choice(len(before), 60)
        found = run_audit(before[rows], after[rows], before[rows], 200, k)
        held += found.loc["total", "low"] <= true <= found.loc["total", "high"]
        told += found.loc["total", "p"] < 0.05
        assert found.loc["null", "low"] <= 0 <= found.loc["null", "high"]
    assert abs(true) > 0.05
    assert held / audits >= 0.9
    assert told == audits


def test_random_classifier_is_rejected_at_the_level(pool):
    images = [c.images[:200].reshape(200, -1) for c in pool]
    rng, p = np.random.default_rng(2), []
    for k in range(AUDITS):
        rows = rng.permutation(200)[:60]
        before, after = (random_score(k)(x[rows]) for x in images)
        p.append(run_audit(before, after, before, 50, k).loc["total", "p"])
    assert (
        np.mean(np.array(p) < 0.05) <= 0.125
    )  # the exact bound of .05 in 120, at one in a thousand
    assert np.median(p) == pytest.approx(0.5, abs=0.17)


def test_fair_classifier_has_zero_effect(pool):
    before, after = (scores_of(c, 0.0) for c in pool)
    found = run_audit(before[:80], after[:80], before[:80], 100, 0)
    assert isinstance(found, pd.DataFrame)
    assert (found.loc[["total", "excess"], ["low", "mean", "high"]] == 0).all().all()
    assert found.loc["total", "p"] == 1
