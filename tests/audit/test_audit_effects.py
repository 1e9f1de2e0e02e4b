"""Individual effects and the audit as a whole, on scores whose effects are known."""

import importlib
import inspect
import json
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from audit_worlds import GRAPH, as_men, people
from scipy.stats import binomtest
from scipy.stats import t as student

import causalcxr as cx
from causalcxr import do
from causalcxr.audit.auditing import audit_pairs
from causalcxr.audit.individual_effects import EffectFrame, effect_table, flip_matrix, flip_table
from causalcxr.audit.pairs import Pairs
from causalcxr.common.errors import AuditError, ClassifierError

MEN = do(sex="M")


def frame(scores, *, patients=None, draws=None, masks=None, stays=None) -> EffectFrame:
    scores = pd.DataFrame(scores)
    n = len(scores)
    return EffectFrame(
        scores,
        np.arange(n) if patients is None else np.asarray(patients),
        np.zeros(n, int) if draws is None else np.asarray(draws),
        masks or {"all": np.ones(n, bool)},
        stays,
    )


def pairs_of(n: int, seed: int = 0, **options) -> Pairs:
    cohort = people(n, seed, **options)
    return Pairs.from_cohorts(
        GRAPH, cohort, as_men(cohort), MEN, null=cohort, direct=as_men(cohort)
    )


def grey(x):
    return x[:, 0, 4:].mean((1, 2))


# Effects


def test_effects_follow_their_definitions():
    table = effect_table(
        frame(
            {
                "factual": [0.2, 0.4, 0.5],
                "twin": [0.5, 0.3, 0.5],
                "null": [0.2, 0.5, 0.5],
                "direct": [0.4, 0.4, 0.5],
            },
            stays=np.array([True, False, True]),
        ),
        draws=50,
    ).set_index("kind")
    assert table.loc["total", "mean"] == pytest.approx((0.3 - 0.1 + 0) / 3)
    assert table.loc["absolute", "mean"] == pytest.approx(0.4 / 3)
    assert table.loc["direct", "mean"] == pytest.approx(0.2 / 3)
    assert table.loc["indirect", "mean"] == pytest.approx((0.1 - 0.1 + 0) / 3)
    assert table.loc["null absolute", "mean"] == pytest.approx(0.1 / 3)
    assert table.loc["excess", "mean"] == pytest.approx(0.3 / 3)
    assert table.loc["label stays", "mean"] == pytest.approx(0.15)
    assert table.loc["label stays", "pairs"] == 2
    logits = [np.log(p / (1 - p)) for p in (0.2, 0.5, 0.4, 0.3)]
    expected = (logits[1] - logits[0] + logits[3] - logits[2]) / 3
    assert table.loc["log odds", "mean"] == pytest.approx(expected)
    assert table.loc["total", "q95"] == pytest.approx(np.quantile([0.3, 0.1, 0], 0.95))
    assert np.isnan(table.loc["total", "generator_se"])


def test_effect_weighs_patients_equally():
    table = effect_table(
        frame({"factual": [0.0] * 5, "twin": [0.4, 0.4, 0.4, 0.4, 0.0]}, patients=[1, 1, 1, 1, 2]),
        draws=400,
    )
    total = table[table["kind"] == "total"].iloc[0]
    assert total["mean"] == pytest.approx(0.2)
    assert total["patients"] == 2
    half = student.ppf(0.975, 1) * 0.2  # of two patients little is known
    assert (total["low"], total["high"]) == pytest.approx((0.2 - half, 0.2 + half))


def test_interval_covers_percentiles_and_student():
    x = np.random.default_rng(1).exponential(0.1, 40) ** 2
    found = effect_table(frame({"factual": np.zeros(40), "twin": x}), draws=2000).iloc[0]
    se = x.std(ddof=1) / np.sqrt(40)
    assert found["low"] == pytest.approx(x.mean() - student.ppf(0.975, 39) * se)
    means = np.random.default_rng(2).choice(x, (4000, 40)).mean(1)
    assert found["high"] == pytest.approx(
        max(np.quantile(means, 0.975), x.mean() + 2.02 * se), rel=0.02
    )


def test_posterior_draws_widen_the_interval():
    rng = np.random.default_rng(0)
    effect, shift = rng.normal(0.1, 0.05, 60), np.repeat([-0.03, 0.0, 0.03], 60)
    same = {"factual": np.full(180, 0.4), "twin": 0.4 + np.tile(effect, 3)}
    other = same | {"twin": same["twin"] + shift}
    draws, who = np.repeat([0, 1, 2], 60), np.tile(np.arange(60), 3)
    narrow, wide = (
        effect_table(frame(s, patients=who, draws=draws), draws=400).iloc[0] for s in (same, other)
    )
    assert narrow["generator_se"] == pytest.approx(0, abs=1e-12)
    assert wide["generator_se"] == pytest.approx(0.03 / np.sqrt(3))
    assert wide["se"] == pytest.approx(np.hypot(narrow["se"], 0.03 / np.sqrt(3)))
    assert wide["high"] - wide["low"] > 1.5 * (narrow["high"] - narrow["low"])


def test_constant_effect_has_only_generator_uncertainty():
    scores = {"factual": np.zeros(20), "twin": np.repeat([0.1, 0.3], 10)}
    found = effect_table(
        frame(scores, patients=np.tile(np.arange(10), 2), draws=np.repeat([0, 1], 10)), draws=50
    ).iloc[0]
    assert found["mean"] == pytest.approx(0.2)
    half = 1.959964 * 0.1  # sd .1414 over two draws; patients are all alike
    assert (found["low"], found["high"]) == pytest.approx((0.2 - half, 0.2 + half), rel=1e-5)


def test_rejected_pairs_count_nowhere():
    scores = {
        "factual": [0.2, np.nan, 0.4],
        "twin": [0.6, np.nan, 0.6],
        "null": [0.2, np.nan, 0.4],
    }
    masks = {"all": np.ones(3, bool), "a": np.array([0, 1, 0], bool)}
    table = effect_table(frame(scores, masks=masks), draws=20)
    assert set(table["group"]) == {"all"}
    assert (table["pairs"] == 2).all()
    assert set(flip_table(frame(scores, masks=masks), 0.5)["group"]) == {"all"}


def test_flips_are_counted_both_ways_and_for_null_twins():
    scores = {
        "factual": [0.4, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.1, 0.9, 0.2],
        "twin": [0.6, 0.6, 0.6, 0.6, 0.4, 0.6, 0.6, 0.1, 0.9, 0.2],
        "null": [0.6, 0.4, 0.4, 0.4, 0.6, 0.6, 0.6, 0.1, 0.9, 0.2],
    }
    found = flip_table(frame(scores), 0.5).iloc[0]
    assert (found["up"], found["down"]) == (0.4, 0.1)
    assert (found["up_null"], found["down_null"]) == (0.1, 0)
    assert found["excess"] == pytest.approx(0.4)
    assert found["p"] == pytest.approx(binomtest(4, 5).pvalue)
    assert flip_matrix(frame(scores), 0.5).to_numpy().tolist() == [[2, 4], [1, 3]]


# The whole


@pytest.fixture(scope="module")
def found():
    return audit_pairs(grey, pairs_of(300), label="edema", by=["sex", "view"], bootstrap=200)


def test_audit_measures_a_planted_effect(found):
    assert found.overall["total"] == pytest.approx(0.2, abs=1e-6)
    assert found.overall["direct"] == pytest.approx(0.2, abs=1e-6)
    assert found.overall["null"] == 0
    assert found.overall["excess"] == pytest.approx(0.2, abs=1e-6)
    primary = found.tests.loc["effect: all"]
    assert (primary["family"], primary["size"]) == ("declared", 1)
    assert primary["p"] < 0.001
    assert list(found.by_group.index) == [
        "all",
        "Sex=F",
        "View=AP",
        "View=PA",
        "Sex=F & View=AP",
        "Sex=F & View=PA",
    ]
    assert repr(found).startswith("Audit(grey under do(Sex=M): +0.200 [+0.200, +0.200]")


def test_group_measures_equal_scikit_learn(found):
    from sklearn.metrics import roc_auc_score

    once = found.records
    expected = roc_auc_score(once["label"], once["factual"])
    table = found.observed.table.set_index(["group", "measure"])
    assert table.loc[("all", "auroc"), "estimate"] == pytest.approx(expected, abs=1e-12)
    women = once[once["Sex"] == "F"]
    called = women["factual"] >= found.about["threshold"]
    tpr = called[women["label"] == 1].mean()
    assert table.loc[("Sex=F", "tpr"), "estimate"] == pytest.approx(tpr, abs=1e-12)
    assert table.loc[("Sex=F", "tpr"), "of"] == (women["label"] == 1).sum()
    gap = found.difference("tpr")
    assert set(gap["by"]) == {"Sex", "View"}
    with pytest.raises(AuditError, match="the audit has no measure 'tprr'; did you mean 'tpr'"):
        found.difference("tprr")


def test_json_has_tables_without_patients(found):
    told = json.loads(found.to_json())
    assert told["about"]["label"] == "Edema"
    assert len(told["effects"]) == len(found.effects)
    assert "records" not in told
    assert "prove" in told["summary"][-1]


def test_figures_do_not_depend_on_row_order():
    pairs = pairs_of(80, patients=40)
    rows = np.random.default_rng(3).permutation(80)
    other = Pairs.from_cohorts(
        GRAPH,
        pairs.factual.at(rows),
        pairs.twin.at(rows),
        MEN,
        null=pairs.factual.at(rows),
        direct=pairs.twin.at(rows),
    )
    one, two = (
        audit_pairs(grey, p, label="edema", threshold=0.5, bootstrap=50).effects
        for p in (pairs, other)
    )
    again = audit_pairs(grey, pairs, label="edema", threshold=0.5, bootstrap=50).effects
    pd.testing.assert_frame_equal(one, again)
    assert np.allclose(one["mean"], two["mean"], equal_nan=True)


def test_threshold_is_chosen_on_validation_patients():
    other = people(200, seed=5)
    found = audit_pairs(
        grey,
        pairs_of(60),
        label="edema",
        validation=other,
        threshold="sensitivity=0.8",
        bootstrap=50,
    )
    scores, labels = grey(other.images[:]), (other.table["Edema"] == "P").to_numpy()
    t = found.about["threshold"]
    assert (scores[labels] >= t).mean() >= 0.8
    assert (scores[labels] >= np.nextafter(t, 2)).mean() < 0.8
    assert found.about["threshold_from"] == "validation patients"


def test_audit_without_label_has_effects_only():
    found = audit_pairs(grey, pairs_of(40), bootstrap=50)
    assert found.observed is None
    assert found.about["threshold"] == 0.5
    assert found.overall["total"] == pytest.approx(0.2, abs=1e-6)
    with pytest.raises(AuditError, match="the audit has no label"):
        found.difference()


def test_summary_names_constant_scores_and_one_class_groups():
    pairs = pairs_of(60)
    ill = (pairs.factual.table["Edema"] == "P").to_numpy()
    table = pairs.factual.table.assign(Ward=np.where(ill, "north", "south"))
    cohort = cx.Cohort(table, pairs.factual.images[:])
    pairs = Pairs.from_cohorts(GRAPH, cohort, as_men(cohort), MEN)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = audit_pairs(
            lambda x: np.full(len(x), 0.3),
            pairs,
            label="edema",
            by="Ward",
            threshold=0.5,
            bootstrap=50,
        )
    said = " ".join(found.sentences)
    assert "gives every record the same score, 0.3" in said
    assert "Group Ward=north is all positive" in said
    auroc = found.observed.table.set_index(["group", "measure"])["estimate"]
    assert np.isnan(auroc[("Ward=north", "auroc")])
    assert auroc[("all", "auroc")] == 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"label": "edemaa"}, "label 'edemaa': there is no such variable; did you mean 'Edema'"),
        (
            {"label": "edema", "by": ["sx"]},
            "groups by 'sx': there is no such column; did you mean 'Sex'",
        ),
        ({"primaries": ["efect: all"]}, "declared hypothesis 'efect: all' is unknown"),
        ({"threshold": "youden"}, "it needs a label; give label= or a number"),
    ],
)
def test_unknown_names_are_reported(options, message):
    with pytest.raises(AuditError, match=message):
        audit_pairs(grey, pairs_of(20), bootstrap=20, **options)


def test_audit_without_accepted_pairs_fails_with_the_reason():
    men = people(40).select("Sex == 'M'")
    with pytest.raises(AuditError, match=r"no pair is accepted: unchanged \(\d+ of \d+\)"):
        audit_pairs(grey, Pairs.from_cohorts(GRAPH, men, men, MEN), bootstrap=20)


def test_logits_are_refused_with_the_remedy():
    with pytest.raises(ClassifierError, match="outputs='logit'"):
        audit_pairs(lambda x: 9 * grey(x) - 4, pairs_of(20), bootstrap=20)


def test_cx_audit_stays_a_function():
    assert "causalcxr.audit" in sys.modules
    assert inspect.isfunction(cx.audit)
    assert inspect.isfunction(cx.stress)
    assert importlib.import_module("causalcxr.audit").Pairs is Pairs
