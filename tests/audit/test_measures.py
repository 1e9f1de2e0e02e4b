"""Measures and thresholds of the audit, against scikit-learn and fairlearn."""

import numpy as np
import pytest
import sklearn.metrics as sk
from fairlearn import metrics as fl
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve

from causalcxr.audit.measures import (
    MEASURES,
    measured,
    quantile_edges,
    reliability,
    roc_curve,
    underdiagnosis,
)
from causalcxr.audit.thresholds import ThresholdRule
from causalcxr.audit.weighted_sums import RankedScores
from causalcxr.common.errors import CausalCXRError

CLOSE = {"rel": 0, "abs": 1e-10}
AT = 0.4


def data(kind: str, seed: int = 0, n: int = 700) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return scores, labels and weights; scores are continuous or tie in 21 values."""
    rng = np.random.default_rng(seed)
    scores = rng.beta(2, 3, n)
    labels = (rng.random(n) < scores**1.3).astype(float)
    if kind == "tied":
        scores = scores.round(1) if seed % 2 else np.floor(scores * 20) / 20
    return scores, labels, rng.gamma(2, size=n)


def confusion(y, p, w) -> dict[str, float]:
    """Return the threshold measures, by scikit-learn's confusion matrix and scores."""
    called = p >= AT
    tn, fp, fn, tp = sk.confusion_matrix(y, called, sample_weight=w).ravel()
    return {
        "tpr": sk.recall_score(y, called, sample_weight=w),
        "fpr": fl.false_positive_rate(y, called, sample_weight=w),
        "tnr": fl.true_negative_rate(y, called, sample_weight=w),
        "fnr": fl.false_negative_rate(y, called, sample_weight=w),
        "ppv": sk.precision_score(y, called, sample_weight=w),
        "npv": tn / (tn + fn),
        "accuracy": sk.accuracy_score(y, called, sample_weight=w),
        "youden": sk.balanced_accuracy_score(y, called, sample_weight=w, adjusted=True),
        "selection_rate": fl.selection_rate(y, called, sample_weight=w),
        "prevalence": np.average(y, weights=w),
        "underdiagnosis": fn / (fn + tp),
        "underdiagnosis_no_finding": fp / (fp + tn),
        "auroc": sk.roc_auc_score(y, p, sample_weight=w),
        "average_precision": sk.average_precision_score(y, p, sample_weight=w),
        "brier": sk.brier_score_loss(y, p, sample_weight=w),
        "calibration_in_the_large": np.average(y - p, weights=w),
    }


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["continuous", "tied"])
@pytest.mark.parametrize("seed", range(3))
def test_measures_equal_scikit_learn_and_fairlearn(kind, seed, weighted):
    p, y, w = data(kind, seed)
    w = w if weighted else None
    found = measured(p, y, threshold=AT, weights=w)
    expected = confusion(y, p, w)
    assert {name: found[name] for name in expected} == pytest.approx(expected, **CLOSE)
    assert set(found) - set(expected) == {"ece", "calibration_error", "calibration_debiased"}


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_roc_curve_equals_scikit_learn(kind, weighted):
    p, y, w = data(kind, 1)
    w = w if weighted else None
    fpr, tpr, thresholds = sk.roc_curve(y, p, sample_weight=w, drop_intermediate=False)
    found = roc_curve(p, y, weights=w)
    assert np.abs(found["fpr"] - fpr).max() < 1e-10
    assert np.abs(found["tpr"] - tpr).max() < 1e-10
    assert (found["threshold"].to_numpy() == thresholds).all()
    assert sk.auc(found["fpr"], found["tpr"]) == pytest.approx(
        MEASURES["auroc"](p, y, weights=w), **CLOSE
    )


@pytest.mark.parametrize("bins", [5, 10, "quantile"])
def test_reliability_equals_scikit_learn(bins):
    p, y, _ = data("continuous")
    strategy = "quantile" if bins == "quantile" else "uniform"
    many = 10 if bins == "quantile" else bins
    rate, score = calibration_curve(y, p, n_bins=many, strategy=strategy)
    edges = quantile_edges(p, 10) if bins == "quantile" else bins
    found = reliability(p, y, bins=edges)
    full = found[found["weight"] > 0]
    assert np.abs(full["rate"].to_numpy() - rate).max() < 1e-10
    assert np.abs(full["score"].to_numpy() - score).max() < 1e-10
    share = full["weight"] / len(y)
    noise = full["rate"] * (1 - full["rate"]) / (full["weight"] - 1)
    assert (full["weight"] > 1).all()
    squared = (share * ((full["rate"] - full["score"]) ** 2 - noise)).sum()
    expected = {
        "ece": (share * (full["rate"] - full["score"]).abs()).sum(),
        "calibration_error": np.sqrt((share * (full["rate"] - full["score"]) ** 2).sum()),
        "calibration_debiased": np.sqrt(max(squared, 0)),
    }
    assert measured(p, y, bins=edges, measures=list(expected)) == pytest.approx(expected, **CLOSE)


def test_debiasing_removes_the_error_of_small_bins():
    rng = np.random.default_rng(0)
    p = rng.random((300, 200))
    y = rng.random(p.shape) < p
    rows = [measured(a, b, measures=["calibration_error", "calibration_debiased"]) for a, b in
            zip(p, y, strict=True)]  # fmt: skip
    plain = np.mean([row["calibration_error"] ** 2 for row in rows])
    # Before the root and the cut at 0 it is unbiased for 0: about half of them are cut.
    cut = np.mean([row["calibration_debiased"] == 0 for row in rows])
    assert plain == pytest.approx(10 / 200 / 6, rel=0.1)  # bins x mean of p (1 - p) over rows
    assert 0.4 < cut < 0.75


def test_integer_weights_act_as_copies():
    p, y, _ = data("tied")
    copies = np.random.default_rng(3).integers(0, 4, len(p))
    whole = measured(np.repeat(p, copies), np.repeat(y, copies), threshold=AT)
    weighted = measured(p, y, threshold=AT, weights=copies)
    whole.pop("calibration_debiased")
    weighted.pop("calibration_debiased")  # copies are no new evidence
    assert weighted == pytest.approx(whole, **CLOSE)
    for factor in (1e-6, 1e6):
        scaled = measured(p, y, threshold=AT, weights=copies * factor)
        assert scaled == pytest.approx(measured(p, y, threshold=AT, weights=copies), abs=1e-9)


def test_weighted_sums_equal_those_of_the_drawn_rows():
    p, y, _ = data("tied")
    copies = np.random.default_rng(4).integers(0, 4, len(p))
    drawn = np.repeat(p, copies), np.repeat(y, copies)
    sums = RankedScores(p, y, edges=np.linspace(0, 1, 11)).sums(
        copies[None].astype(np.uint8), AT, {"threshold", "ranks", "precision", "bins"}
    )
    for name in ("auroc", "average_precision", "tpr", "calibration_debiased", "ece"):
        expected = MEASURES[name](*drawn, threshold=AT)
        assert MEASURES[name].from_sums(sums)[0] == pytest.approx(expected, **CLOSE)


UNDEFINED = {
    1: ["auroc", "fpr", "tnr", "youden", "underdiagnosis_no_finding"],
    0: ["auroc", "average_precision", "tpr", "fnr", "youden", "underdiagnosis"],
}


@pytest.mark.parametrize("label", [0, 1])
def test_measures_of_one_class_are_undefined(label):
    found = measured([0.21, 0.22, 0.71, 0.72], np.full(4, label), threshold=0.5)
    assert sorted(k for k, v in found.items() if np.isnan(v)) == sorted(UNDEFINED[label])
    assert found["selection_rate"] == 0.5


def test_rates_among_no_records_are_undefined():
    nobody = measured([0.2, 0.3], [0, 1], threshold=0.5)
    assert np.isnan(nobody["ppv"])
    assert nobody["npv"] == 0.5
    assert nobody["tpr"] == 0
    everybody = measured([0.2, 0.3], [0, 1], threshold=0.1, weights=[0.1, 0.2])
    assert np.isnan(everybody["npv"])
    for y in ([], [np.nan, np.nan]):
        assert np.isnan(list(measured([0.5] * len(y), y, threshold=0.5).values())).all()
    assert np.isnan(roc_curve([0.5, 0.6], [1, 1])["fpr"]).all()
    constant = measured(np.full(6, 0.5), [0, 1] * 3, threshold=0.5)
    assert constant["auroc"] == 0.5
    assert constant["fpr"] == 1


def test_rows_without_label_do_not_count():
    p, y, w = data("continuous")
    some = np.arange(len(y)) % 3 == 0
    y2, p2 = np.where(some, np.nan, y), np.where(some, np.nan, p)
    kept = measured(p[~some], y[~some], threshold=AT, weights=w[~some])
    assert measured(p2, y2, threshold=AT, weights=w) == kept


def test_underdiagnosis_is_the_miss_rate():
    ill = np.array([1, 1, 1, 1, 0, 0])
    edema = np.array([0.9, 0.8, 0.2, 0.1, 0.7, 0.1])
    assert underdiagnosis("Edema")(edema, ill, threshold=0.5) == 0.5
    no_finding = 1 - ill  # the label of No Finding, and its score
    rate = underdiagnosis("No Finding")([0.9, 0.2, 0.2, 0.2, 0.1, 0.9], no_finding, threshold=0.5)
    assert rate == 0.25


def test_proportions_are_numerator_over_denominator():
    p, y, w = data("continuous")
    sums = RankedScores(p, y, weights=w).sums(np.ones((1, len(y)), np.int32), AT, {"threshold"})
    shares = [m for m in MEASURES.values() if m.is_proportion]
    assert len(shares) == 11
    for measure in shares:
        assert measure.from_sums(sums) == measure.numerator(sums) / measure.denominator(sums)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"labels": [0, 1, 2]}, "labels: row 2: 2 is not"),
        ({"labels": [0, 1, -1]}, "labels: row 2: -1 is not"),
        ({"scores": [0.1, np.nan, 0.3]}, "scores: row 1: nan is not"),
        ({"scores": [0.1, 0.2]}, "scores: shape"),
        ({"weights": [1, 1, -1]}, "weights: row 2: -1 is not"),
        ({"bins": [0, 0.5, 0.4, 1]}, "do not rise"),
        ({"bins": 0}, "less than 1"),
        ({"measures": ["aurok"]}, "did you mean 'auroc'"),
        ({"measures": ["tpr"]}, "needs a threshold"),
        ({"measures": ["brier"], "scores": [0.1, -2, 3]}, "sigmoid of logits"),
    ],
)
def test_wrong_arguments_are_refused(change, told):
    asked = {"scores": [0.1, 0.2, 0.3], "labels": [0, 1, 1]} | change
    with pytest.raises(CausalCXRError, match=told):
        measured(**asked)


def test_logits_have_no_calibration_measures():
    found = measured([-3.0, 0.5, 2.0], [0, 0, 1], threshold=0.0)
    assert found["auroc"] == 1
    assert not set(found) & {"brier", "ece", "calibration_in_the_large"}


columns = st.lists(
    st.tuples(st.integers(0, 12), st.booleans(), st.integers(0, 3)), min_size=1, max_size=40
)


@settings(max_examples=60, deadline=None)
@given(columns, st.randoms(use_true_random=False))
def test_measures_do_not_depend_on_row_order(rows, random):
    shuffled = random.sample(rows, len(rows))
    sums = []
    for each in (rows, shuffled):
        p, y, w = np.array(each, dtype=float).T
        sums.append(measured(p / 12, y, threshold=0.5, weights=w))
    assert sums[0] == pytest.approx(sums[1], abs=1e-12, nan_ok=True)


@settings(max_examples=60, deadline=None)
@given(columns)
def test_rank_measures_ignore_rising_transforms(rows):
    p, y, w = np.array(rows, dtype=float).T
    ranks = ["auroc", "average_precision"]
    plain = measured(p, y, weights=w, measures=ranks)
    assert measured(np.exp(p) - 7, y, weights=w, measures=ranks) == pytest.approx(
        plain, nan_ok=True
    )
    turned = MEASURES["auroc"](-p, y, weights=w)
    assert turned == pytest.approx(1 - plain["auroc"], abs=1e-12, nan_ok=True)


# Thresholds


def brute(rule: ThresholdRule, p, y, w) -> float:
    """Return the threshold by trying every observed score and one above them all."""
    seen = [*np.unique(p[w > 0]), np.nextafter(p[w > 0].max(), np.inf)]
    rates = [[np.average(p[y == k] >= t, weights=w[y == k]) for t in seen] for k in (1, 0)]
    tpr, fpr = np.array(rates).round(12)
    if rule.kind == "youden":
        return seen[np.flatnonzero((tpr - fpr).round(12) == (tpr - fpr).round(12).max())[-1]]
    if rule.kind == "sensitivity":
        return seen[np.flatnonzero(tpr >= rule.value)[-1]]
    limit = rule.value if rule.kind == "fpr" else round(1 - rule.value, 12)
    return seen[np.flatnonzero(fpr <= limit)[0]]


RULES = ["youden", "sensitivity=0.9", "sensitivity=1", "specificity=0.8", "fpr=0.1", "fpr=0"]


@pytest.mark.parametrize("words", RULES)
@pytest.mark.parametrize("kind", ["continuous", "tied"])
def test_threshold_rules_equal_exhaustive_search(words, kind):
    p, y, w = data(kind, 2, 120)
    rule = ThresholdRule.read(words)
    assert rule.choose(p, y) == brute(rule, p, y, np.ones(len(y)))
    assert rule.choose(p, y, w) == brute(rule, p, y, w)
    counts = np.random.default_rng(1).poisson(1, (30, len(y)))
    found = rule.choose_each(RankedScores(p, y), counts)
    assert found.tolist() == [brute(rule, p, y, count) for count in counts]


def test_youden_equals_scikit_learns_curve():
    p, y, _ = data("continuous", 5)
    fpr, tpr, thresholds = sk.roc_curve(y, p, drop_intermediate=False)
    assert ThresholdRule("youden").choose(p, y) == thresholds[np.argmax(tpr - fpr)]


def test_target_rates_are_just_met():
    p, y, _ = data("continuous", 6)
    for target in (0.5, 0.9, 0.99):
        at = ThresholdRule("sensitivity", target).choose(p, y)
        above = np.nextafter(at, np.inf)
        assert MEASURES["tpr"](p, y, threshold=at) >= target
        assert MEASURES["tpr"](p, y, threshold=above) < target
        at = ThresholdRule("specificity", target).choose(p, y)
        lower = p[p < at].max()
        assert MEASURES["tnr"](p, y, threshold=at) >= target - 1e-12
        assert MEASURES["tnr"](p, y, threshold=lower) < target


def test_threshold_without_a_fitting_score():
    p, y = np.array([0.2, 0.9]), np.array([1.0, 0.0])
    for rule in ("fpr=0", "youden"):
        at = ThresholdRule.read(rule).choose(p, y)
        assert 0.9 < at < 0.9 + 1e-9
    assert np.isnan(ThresholdRule("youden").choose(p, [1, 1]))
    assert np.isnan(ThresholdRule("sensitivity", 0.9).choose(p, [0, 0]))
    assert np.isnan(ThresholdRule("fpr", 0.1).choose(p, [1, np.nan]))
    assert np.isnan(measured(p, y, threshold=np.nan, measures=["tpr"])["tpr"])
    assert ThresholdRule.read("0.3").choose(p, y) == ThresholdRule.read(0.3).choose(p, y) == 0.3


@pytest.mark.parametrize(
    ("rule", "told"),
    [
        ("yuden", "did you mean 'youden'"),
        ("sensitivity", "needs a number"),
        ("fpr=1.5", "is not a rate"),
        ("youden=0.4", "has no value"),
        ("fpr=low", "'low' in 'fpr=low' is not a number"),
        (np.nan, "needs a number"),
    ],
)
def test_wrong_threshold_rules_are_refused(rule, told):
    with pytest.raises(CausalCXRError, match=told):
        ThresholdRule.read(rule)
