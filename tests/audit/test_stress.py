"""Stress tests: weights that meet given shares, unbiased searches, doses, flips."""

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, do, stress
from causalcxr.audit.classifiers import FeatureClassifier
from causalcxr.audit.shifts import (
    ReweightingShift,
    acquisition,
    demographics,
    prevalence,
    severity,
)
from causalcxr.audit.smallest_flips import smallest_flips
from causalcxr.audit.worst_groups import worst_groups
from causalcxr.common.errors import AuditError

GRAPH = Graph.parse(
    """
variables:
  Age: {type: continuous, range: [0, 100], resolution: 1}
  Sex: {type: binary, levels: [F, M]}
  Edema: {type: binary, levels: [N, P], parents: [Age]}
  Devices: {type: binary, levels: [N, P], parents: [Edema]}
"""
)


class Linear:
    """An estimator that reads age, edema and devices."""

    classes_ = (0, 1)

    def predict_proba(self, x: pd.DataFrame) -> np.ndarray:
        odds = -2 + (x["Age"] - 50) / 25 + 2.0 * (x["Devices"] == "P") + 0.2 * (x["Sex"] == "M")
        p = 1 / (1 + np.exp(-odds.to_numpy()))
        return np.stack([1 - p, p], 1)


SCORER = FeatureClassifier(Linear(), ["Age", "Devices", "Sex"], target="Edema")


@pytest.fixture(scope="module")
def cohort():
    rng = np.random.default_rng(0)
    age = rng.integers(20, 90, 1500).astype(float)
    sex = rng.random(1500) < 0.5
    edema = rng.random(1500) < 1 / (1 + np.exp(-(age - 70) / 15))
    devices = rng.random(1500) < np.where(edema, 0.6, 0.2)
    table = pd.DataFrame(
        {
            "Age": age,
            "Sex": np.where(sex, "M", "F"),
            "Edema": np.where(edema, "P", "N"),
            "Devices": np.where(devices, "P", "N"),
        },
        index=[f"r{k}" for k in range(1500)],
    )
    return Cohort(table)


@pytest.fixture(scope="module")
def model(cohort):
    return SCM(GRAPH).fit(cohort)


def labels_of(cohort):
    return (cohort.table["Edema"] == "P").to_numpy(float)


# Weights


def test_weights_meet_shares_of_two_columns(cohort):
    shift = demographics(Sex={"F": 0.8}, Devices={"P": 0.1})
    weights = shift.weights(cohort.table, labels_of(cohort), "P")
    share = lambda name, level: np.average(cohort.table[name] == level, weights=weights)  # noqa: E731
    assert share("Sex", "F") == pytest.approx(0.8, abs=1e-8)
    assert share("Devices", "P") == pytest.approx(0.1, abs=1e-8)
    assert weights.mean() == pytest.approx(1)
    # Raking keeps what it was not asked to change: the odds ratio of the two.
    cells = pd.crosstab(cohort.table["Sex"], cohort.table["Devices"])
    raked = pd.crosstab(cohort.table["Sex"], cohort.table["Devices"], weights, aggfunc="sum")
    ratio = lambda t: t.iloc[0, 0] * t.iloc[1, 1] / t.iloc[0, 1] / t.iloc[1, 0]  # noqa: E731
    assert ratio(raked) == pytest.approx(ratio(cells), rel=1e-6)


def test_prevalence_shift_follows_bayes(cohort, model):
    found = stress(
        SCORER, model, cohort, shifts=[prevalence("Edema", 0.1)], threshold=0.3, bootstrap=50
    )
    row = found.shifts.set_index("measure")
    tpr, fpr = row.loc["tpr", "estimate"], row.loc["fpr", "estimate"]
    assert row.loc["tpr", "change"] == pytest.approx(0, abs=1e-12)
    assert row.loc["auroc", "change"] == pytest.approx(0, abs=1e-12)
    expected = 0.1 * tpr / (0.1 * tpr + 0.9 * fpr)
    assert row.loc["ppv", "estimate"] == pytest.approx(expected, abs=1e-8)
    assert row.loc["ppv", "effective"] < 1500


def test_severity_shift_keeps_prevalence(cohort):
    labels = labels_of(cohort)
    weights = severity(1.0, ["Devices"]).weights(cohort.table, labels, "P")
    devices = (cohort.table["Devices"] == "P").to_numpy()
    assert np.average(labels, weights=weights) == pytest.approx(labels.mean(), abs=1e-12)
    for label in (0, 1):
        rows = labels == label
        odds = np.average(devices[rows], weights=weights[rows])
        before = devices[rows].mean()
        expected = before * np.e / (before * np.e + 1 - before)
        assert odds == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (demographics(Sx={"F": 0.5}), "there is no column 'Sx'; did you mean 'Sex'"),
        (demographics(Sex={"X": 0.5}), "no record has Sex=X; levels are F, M"),
        (demographics(Sex={"F": 0.9, "M": 0.9}), "the shares of Sex sum to 1.8, not to 1"),
        (demographics(Sex={"F": 0.2, "M": 0.2}), "the shares of Sex sum to 0.4, not to 1"),
        (
            ReweightingShift(
                "both", {"Edema": {"P": 1.0}, "Devices": {"P": 1.0}, "Sex": {"F": -0.1}}
            ),
            "sum to -0.1",
        ),
    ],
)
def test_impossible_shares_are_refused(cohort, shift, message):
    with pytest.raises(AuditError, match=message):
        shift.weights(cohort.table, labels_of(cohort), "P")


# Interventions


def test_intervention_shift_scores_twins(cohort, model):
    action = do(age=80)
    found = stress(
        SCORER,
        model,
        cohort,
        shifts=[acquisition(age=80)],
        threshold=0.5,
        bootstrap=50,
        measures=["selection_rate", "prevalence"],
    )
    twins = model.counterfactual(cohort, action)
    row = found.shifts.set_index("measure")["estimate"]
    assert row["selection_rate"] == pytest.approx((SCORER.scores(twins) >= 0.5).mean(), abs=1e-12)
    assert row["prevalence"] == pytest.approx((twins.table["Edema"] == "P").mean(), abs=1e-12)
    change = found.shifts.set_index("measure")["change"]
    assert change["prevalence"] > 0.2


def test_score_rises_with_the_dose(cohort, model):
    found = stress(SCORER, model, cohort, dose=("age", [30, 50, 70]), threshold=0.5, bootstrap=100)
    assert (np.diff(found.dose["mean"]) > 0.1).all()
    assert (np.diff(found.dose["label_share"]) > 0.05).all()
    assert (
        (found.dose["low"] < found.dose["mean"]) & (found.dose["mean"] < found.dose["high"])
    ).all()
    assert found.about["dose"] == "Age"


# Searches


def test_search_finds_a_planted_worst_group(
    cohort,
):
    labels, rng = labels_of(cohort), np.random.default_rng(1)
    bad = ((cohort.table["Sex"] == "F") & (cohort.table["Devices"] == "P")).to_numpy()
    scores = np.where(bad, rng.random(1500), np.clip(labels * 0.5 + rng.random(1500) * 0.5, 0, 1))
    found = worst_groups(
        scores,
        labels,
        cohort.table,
        ["Sex", "Devices"],
        patients=np.arange(1500),
        threshold=0.5,
        draws=200,
    )
    assert found["group"].iloc[0] == "Sex=F & Devices=P"
    assert found["low"].iloc[0] < 0.5 < found["high"].iloc[0]
    assert found["rest"].iloc[0] > 0.7
    assert found["candidates"].iloc[0] == 8


def test_second_half_is_unbiased_among_equal_groups():
    rng, gaps = np.random.default_rng(0), []
    for seed in range(20):
        table = pd.DataFrame({c: rng.choice(list("uvwx"), 600) for c in ("a", "b")})
        labels = rng.integers(0, 2, 600).astype(float)
        scores = rng.random(600)
        found = worst_groups(
            scores,
            labels,
            table,
            ["a", "b"],
            patients=np.arange(600),
            threshold=0.5,
            most=1,
            min_count=5,
            draws=2,
            seed=seed,
        ).iloc[0]
        gaps.append((found["searched"], found["estimate"]))
    searched, honest = np.mean(gaps, axis=0)
    assert searched < 0.4
    assert honest == pytest.approx(0.5, abs=0.06)


def test_impossible_searches_are_refused(cohort):
    options = {"patients": np.arange(1500), "threshold": 0.5}
    scores = np.linspace(0, 1, 1500)
    with pytest.raises(AuditError, match="'selection_rate' has no better side"):
        worst_groups(
            scores, labels_of(cohort), cohort.table, ["Sex"], measure="selection_rate", **options
        )
    with pytest.raises(AuditError, match="no subgroup of Sex has 9999 positives"):
        worst_groups(scores, labels_of(cohort), cohort.table, ["Sex"], min_count=9999, **options)


# Flips


def test_most_plausible_flip_is_named(cohort, model):
    scores = SCORER.scores(cohort)
    found = smallest_flips(
        SCORER, model, cohort, [do(sex="M"), do(devices="P"), do(age=90)], scores, 0.5, by=["Sex"]
    ).set_index(["group", "intervention"])
    changed = (cohort.table["Devices"] == "N").to_numpy()
    twins = SCORER.scores(model.counterfactual(cohort, do(devices="P")))
    share = ((twins >= 0.5) != (scores >= 0.5))[changed].mean()
    assert found.loc[("all", "do(devices=P)"), "flipped"] == pytest.approx(share)
    assert found.loc[("all", "do(devices=P)"), "records"] == changed.sum()
    assert found.loc[("Sex=M", "do(sex=M)"), "records"] == 0
    each = found.loc["all"].drop("any")
    assert each["smallest"].sum() == pytest.approx(1)
    # The other sex is as likely as one's own; devices without edema are not.
    assert (
        found.loc[("Sex=F", "do(sex=M)"), "plausibility"]
        > found.loc[("Sex=F", "do(devices=P)"), "plausibility"]
    )


def test_stress_test_is_saved(cohort, model, tmp_path):
    found = stress(
        SCORER,
        model,
        cohort.head(400),
        shifts=[prevalence("Edema", 0.5)],
        dose=("age", [40, 60]),
        search=["sex"],
        interventions=[do(devices="P")],
        by=["sex"],
        bootstrap=50,
    )
    found.save(tmp_path / "s")
    assert sorted(p.name for p in (tmp_path / "s").iterdir()) == [
        "SHA256SUMS",
        "dose.csv",
        "flips.csv",
        "manifest.json",
        "shifts.csv",
        "stress.json",
        "stress.png",
        "worst.csv",
    ]
    assert len(pd.read_csv(tmp_path / "s" / "shifts.csv")) == len(found.shifts)


def test_stress_test_needs_a_label_of_two_classes(cohort, model):
    with pytest.raises(AuditError, match="a label is needed"):
        stress(FeatureClassifier(Linear(), ["Age", "Devices", "Sex"]), model, cohort)
    with pytest.raises(AuditError, match="are of one class"):
        stress(SCORER, model, cohort.select("Edema == 'P'"))


def test_score_table_does_not_score_new_twins(cohort, model):
    table = pd.Series(SCORER.scores(cohort), cohort.index)
    found = stress(
        table, model, cohort, label="edema", shifts=[prevalence("Edema", 0.3)], bootstrap=20
    )
    assert len(found.shifts)
    for asked in (
        {"shifts": [acquisition(age=80)]},
        {"dose": ("age", [40])},
        {"interventions": [do(sex="M")]},
    ):
        with pytest.raises(AuditError, match="is a table of scores and has none for new twins"):
            stress(table, model, cohort, label="edema", bootstrap=20, **asked)
