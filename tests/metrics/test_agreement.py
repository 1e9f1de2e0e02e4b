"""Agreement of raters, against scikit-learn and statsmodels."""

import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score
from statsmodels.stats.inter_rater import aggregate_raters
from statsmodels.stats.inter_rater import fleiss_kappa as plain_fleiss

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics import agreement_table, cohen_kappa, fleiss_kappa


def answers(n=200, k=4, same=0.5, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.integers(0, k, size=n)
    return first, np.where(rng.random(n) < same, first, rng.integers(0, k, size=n))


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
@pytest.mark.parametrize("same", [0.0, 0.5, 1.0])
def test_kappa_equals_scikit_learn(weights, same):
    for seed in range(5):
        first, second = answers(60, same=same, seed=seed)
        plain = cohen_kappa_score(first, second, weights=None if weights == "none" else weights)
        result = cohen_kappa(first, second, weights=weights, draws=200)
        assert result.kappa == pytest.approx(plain, abs=1e-12)
        assert cohen_kappa(second, first, weights=weights, draws=2).kappa == pytest.approx(plain)
    if same == 1:
        assert (result.kappa, result.low, result.high) == (1, 1, 1)
    elif weights == "none":
        assert result.observed == pytest.approx((first == second).mean())


def test_weights_follow_the_order_of_levels():
    levels = ["none", "mild", "severe", "critical"]
    first, second = (np.array(levels)[a] for a in answers(80, k=3))
    plain = cohen_kappa_score(first, second, labels=levels, weights="linear")
    result = cohen_kappa(first, second, weights="linear", levels=levels)
    assert result.kappa == pytest.approx(plain, abs=1e-12)
    by_alphabet = cohen_kappa(first, second, weights="linear").kappa
    assert abs(result.kappa - by_alphabet) > 0.005


@pytest.mark.parametrize(("raters", "k"), [(2, 2), (3, 2), (5, 4)])
def test_fleiss_equals_statsmodels(raters, k):
    rng = np.random.default_rng(raters)
    truth = rng.integers(0, k, size=100)
    ratings = np.stack(
        [np.where(rng.random(100) < 0.4, truth, rng.integers(0, k, 100)) for _ in range(raters)], 1
    )
    plain = plain_fleiss(aggregate_raters(ratings)[0])
    result = fleiss_kappa(ratings)
    assert result.kappa == pytest.approx(plain, abs=1e-12)
    assert result.low < plain < result.high
    words = pd.DataFrame(ratings).map(lambda v: f"answer {v}")
    assert fleiss_kappa(words).kappa == pytest.approx(plain, abs=1e-12)


def test_interval_covers_the_true_kappa():
    # P(same) = .5 + .5 / 4 and chance 1 / 4: kappa = .5
    result = [cohen_kappa(*answers(150, seed=s), draws=300, seed=s) for s in range(150)]
    assert np.mean([f.kappa for f in result]) == pytest.approx(0.5, abs=0.015)
    assert 0.89 <= np.mean([f.low <= 0.5 <= f.high for f in result]) <= 0.99
    spread = np.std([f.kappa for f in result])
    assert np.mean([f.high - f.low for f in result]) == pytest.approx(2 * 1.96 * spread, rel=0.15)
    again = cohen_kappa(*answers(150), draws=300, seed=0)
    assert (again, again != cohen_kappa(*answers(150), draws=300, seed=1)) == (result[0], True)


def test_interval_resamples_patients():
    first, second = answers(60)
    once = cohen_kappa(first, second)
    many = cohen_kappa(np.tile(first, 9), np.tile(second, 9), clusters=np.tile(np.arange(60), 9))
    assert (many.kappa, many.low, many.high) == pytest.approx((once.kappa, once.low, once.high))
    assert (many.n, many.clusters) == (540, 60)
    blind = cohen_kappa(np.tile(first, 9), np.tile(second, 9))
    assert (blind.high - blind.low) < 0.45 * (once.high - once.low)
    both = np.stack([first, second], axis=1)
    wide = fleiss_kappa(both)
    tiled = fleiss_kappa(np.tile(both, (9, 1)), clusters=np.tile(np.arange(60), 9))
    assert (tiled.low, tiled.high) == pytest.approx((wide.low, wide.high))


def test_missing_answers_do_not_count():
    first, second = (a.astype(float) for a in answers(50))
    first[:5], second[3:10] = np.nan, np.nan
    result = cohen_kappa(first, second, clusters=np.arange(50) // 2)
    whole = ~np.isnan(first + second)
    assert result.kappa == pytest.approx(cohen_kappa_score(first[whole], second[whole]))
    assert (result.n, result.clusters) == (40, 20)


def test_constant_raters_have_no_kappa():
    result = cohen_kappa(["real"] * 9, ["real"] * 9)
    assert np.isnan([result.kappa, result.low, result.high]).all()
    assert (result.observed, result.expected) == (1, 1)
    assert np.isnan(fleiss_kappa(np.ones((5, 3))).kappa)
    one = cohen_kappa(["real"] * 9 + ["made"], ["made"] + ["real"] * 9)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = cohen_kappa_score(["real"] * 9 + ["made"], ["made"] + ["real"] * 9)
    assert one.kappa == pytest.approx(plain)


def test_agreement_table_of_a_reader_study():
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, size=50)
    rows = [
        (rater, shown, trial, truth[trial] if rng.random() < sure else 1 - truth[trial])
        for rater, sure in (("A", 0.9), ("B", 0.8), ("C", 0.6))
        for shown in (1, 2)
        for trial in range(50)
    ]
    frame = pd.DataFrame(rows, columns=["rater", "presentation", "trial", "answer"])
    shuffled = frame.sample(frac=1, random_state=0).assign(patient=lambda f: f["trial"] // 2)
    table = agreement_table(shuffled, clusters="patient")
    assert table["kind"].value_counts().to_dict() == {"inter": 6, "intra": 3, "all": 2}
    assert (table["n"] == 50).all()
    assert (table["clusters"] == 25).all()
    wide = frame.pivot(index="trial", columns=["rater", "presentation"], values="answer")
    intra = table[table["kind"] == "intra"].set_index("first")["kappa"]
    assert intra["A"] == pytest.approx(cohen_kappa_score(wide["A", 1], wide["A", 2]))
    inter = table[table["kind"] == "inter"].set_index(["first", "second", "presentation"])
    expected = cohen_kappa_score(wide["A", 2], wide["C", 2])
    assert inter.loc[("A", "C", 2), "kappa"] == pytest.approx(expected)
    fleiss = table[table["kind"] == "all"].set_index("presentation")["kappa"]
    of_all = wide.xs(1, axis=1, level="presentation").to_numpy()
    assert fleiss[1] == pytest.approx(plain_fleiss(aggregate_raters(of_all)[0]))
    with pytest.raises(CausalCXRError, match="answered trial 3 twice in presentation 1"):
        agreement_table(pd.concat([frame, frame[frame["trial"] == 3]]))
    with pytest.raises(CausalCXRError, match="no column 'answer'"):
        agreement_table(frame.drop(columns="answer"))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: cohen_kappa([1, 2], [1]), "2 and 1 answers"),
        (lambda: cohen_kappa([], []), "no trial has both answers"),
        (lambda: cohen_kappa([np.nan, 1], [1, np.nan]), "no trial has both answers"),
        (lambda: cohen_kappa(["a"], ["b"], levels=["a", "c"]), "answer 'b' is none of"),
        (lambda: cohen_kappa([1, "a"], [1, "a"]), "answers of several types"),
        (lambda: cohen_kappa([1, 2], [1, 2], weights="cubic"), "weights: 'cubic' is unknown"),
        (lambda: cohen_kappa([1, 2], [1, 2], clusters=[1]), "patients: shape"),
        (lambda: fleiss_kappa(np.ones((3, 1))), "3 trials of 1 raters"),
        (lambda: fleiss_kappa(np.ones((0, 3))), "0 trials of 3 raters"),
        (lambda: fleiss_kappa([[1, 2], [1, np.nan]]), "trial 1 lacks the answer"),
    ],
)
def test_kappa_refuses_unusable_ratings(call, said):
    with pytest.raises(CausalCXRError, match=said) as error:
        call()
    assert "\n" not in str(error.value)
