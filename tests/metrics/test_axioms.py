"""Axioms, truth, minimality and identity, against closed forms; intervals against simulation."""

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import cdist

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics import (
    amplification,
    composition_errors,
    effectiveness,
    identity_kept,
    latent_divergence,
    mean_interval,
    output_change,
    reversibility_errors,
    rmse,
    summary,
    target_errors,
    truth_errors,
    truth_table,
)

RNG = np.random.default_rng(0)
X = RNG.random((6, 1, 8, 8))


# Composition and reversibility


def test_composition_errors_grow_with_cycles():
    result = composition_errors(X * 0.5, lambda x: x + 0.01, cycles=(10, 1, 3))
    assert list(result) == [10, 1, 3]
    for k, errors in result.items():
        assert errors == pytest.approx(np.full(6, 0.01 * k))
    assert composition_errors(X, lambda x: x)[10].tolist() == [0] * 6


def test_composition_uses_the_given_distance():
    result = composition_errors(X, lambda x: x / 2, cycles=(2,), distance=rmse)[2]
    assert result == pytest.approx(0.75 * np.sqrt(np.square(X).mean((1, 2, 3))))


def test_reversibility_errors():
    assert reversibility_errors(X, lambda x: x / 2 + 0.1, lambda x: 2 * x - 0.2) == pytest.approx(
        np.zeros(6), abs=1e-12
    )
    clipped = reversibility_errors(X, lambda x: np.clip(x + 0.3, 0, 1), lambda x: x - 0.3)
    assert clipped == pytest.approx(np.clip(X - 0.7, 0, None).mean((1, 2, 3)))
    twice = reversibility_errors(X, lambda x: x, lambda x: x - 0.01, cycles=2)
    assert twice == pytest.approx(np.full(6, 0.02))


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: composition_errors(X, lambda x: x, cycles=()), "give numbers of at least 1"),
        (lambda: composition_errors(X, lambda x: x, cycles=(0, 1)), "numbers of at least 1"),
        (lambda: composition_errors(X, lambda x: x[:3]), r"null: shape \(3, 1, 8, 8\) beside"),
        (lambda: composition_errors(X, lambda x: x / 0 * 0), "null: image 0 is not finite"),
        (lambda: reversibility_errors(X, lambda x: x, lambda x: x[..., :4]), "back: shape"),
        (lambda: reversibility_errors(X, lambda x: x, lambda x: x, cycles=0), "cycles 0"),
        (lambda: composition_errors(X[:0], lambda x: x), "images: float64 of shape"),
    ],
)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value")
def test_edit_without_images_is_named(call, said):
    with pytest.raises(CausalCXRError, match=said):
        call()


# Effectiveness


def test_effectiveness_beside_copy_and_oracle():
    scores = np.array([[0.9, 0.1], [0.2, 0.8], [0.4, 0.6], [0.7, 0.3]])
    target = {"Sex": np.array([0, 1, 0, np.nan]), "Age": np.array([50.0, 60, 70, 80])}
    table = effectiveness(
        {"Sex": scores, "Age": np.array([51.0, 58, 73, 80])},
        target,
        copy={"Sex": scores[::-1], "Age": np.array([40.0, 40, 40, 40])},
        oracle={"Age": target["Age"]},
    ).set_index("variable")
    assert table.loc["Sex", ["measure", "value", "n"]].tolist() == ["hit rate", 2 / 3, 3]
    assert table.loc["Age", ["measure", "value", "n"]].tolist() == ["absolute error", 1.5, 4]
    assert table.loc["Sex", "copy"] == pytest.approx(2 / 3)  # levels 0, 1, 1 for 0, 1, 0
    assert table.loc["Age", ["copy", "oracle"]].tolist() == [25, 0]
    assert np.isnan(table.loc["Sex", "oracle"])
    assert target_errors(scores, target["Sex"])[:3].tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("outputs", "target", "said"),
    [
        (np.eye(2), [0, 2], "target 2 is none of the 2 levels"),
        (np.eye(2), [0, 0.5], "target 0.5 is none"),
        (np.eye(2), [0, -1], "target -1 is none"),
        (np.zeros(3), [0, 1], r"predicted: shape \(3,\) beside targets of \(2,\)"),
    ],
)
def test_effectiveness_refuses_unknown_levels(outputs, target, said):
    with pytest.raises(CausalCXRError, match=said):
        target_errors(outputs, target)
    with pytest.raises(CausalCXRError, match="'Sex' has no target"):
        effectiveness({"Sex": outputs}, {"sex": target})


# Amplification


def test_amplification_excess_over_the_null():
    n = 400
    base, p = RNG.normal(size=n), RNG.dirichlet([1, 1, 1], n)
    noise = 0.1 * RNG.normal(size=n)
    moved = np.where(np.arange(n) % 2, 0.5, 0.1)
    table = amplification(
        {"Age": base, "View": p},
        {"Age": base - moved, "View": p[:, ::-1]},
        {"Age": base + noise, "View": p},
        np.arange(n) // 2,
    ).set_index("variable")
    floor = np.abs(noise).mean()
    assert table.loc["Age", "change"] == pytest.approx(0.3)
    assert table.loc["Age", "floor"] == pytest.approx(floor)
    assert table.loc["Age", "excess"] == pytest.approx(0.3 - floor)
    assert table.loc["View", "floor"] == 0
    assert table.loc["View", "change"] == pytest.approx(np.abs(p[:, 0] - p[:, 2]).mean())
    assert (table["low"] < table["excess"]).all()
    assert (table["excess"] < table["high"]).all()
    assert table["patients"].tolist() == [200, 200]
    assert output_change(p, p[:, [1, 2, 0]]).max() <= 1
    with pytest.raises(CausalCXRError, match="no outputs of 'Age' on null images"):
        amplification({"Age": base}, {"Age": base}, {})


# Identity and minimality


def test_identity_is_kept_up_to_half_the_way():
    x = np.stack([10.0 * np.arange(20), np.zeros(20)], axis=1)
    assert identity_kept(x, x + np.array([4.9, 3.0])).all()
    assert identity_kept(x, x + np.array([5.1, 3.0])).sum() == 1  # only the last has no next
    assert identity_kept(x, x + np.array([5.1, 3.0]), np.arange(20) // 2).sum() == 11
    twice = np.concatenate([x, x])
    assert identity_kept(twice, twice + 1).all()  # an equal image of another costs nothing


def test_latent_divergence_equals_its_definition():
    factual, twin, others = RNG.normal(size=(3, 700, 4))
    twin = factual + 0.5 * twin
    before, levels = RNG.integers(0, 3, size=(2, 700))
    after = (before + 1) % 3
    result = latent_divergence(factual, twin, others, before=before, after=after, levels=levels)
    apart, t = cdist(factual, others), np.sqrt(np.square(factual - twin).sum(1))
    for i in (0, 77, 699):
        near = (apart[i][levels == after[i]] <= t[i]).mean()
        far = (apart[i][levels == before[i]] >= t[i]).mean()
        assert result[i] == pytest.approx(np.log(np.exp(near) + np.exp(far)))
    none = latent_divergence(factual, factual, others, before=before, after=after, levels=levels)
    assert none == pytest.approx(np.full(700, np.log(1 + np.e)))
    unknown = latent_divergence(
        factual, twin, others, before=before, after=after + 7, levels=levels
    )
    assert np.isnan(unknown).all()
    with pytest.raises(CausalCXRError, match="levels: shapes"):
        latent_divergence(factual, twin, others, before=[0], after=after, levels=levels)


# Truth


def scene(leak=0.1, left=0.25, n=8):
    """Return twin, true, factual and mask: the twin leaves a part inside and leaks outside."""
    factual = RNG.uniform(0.3, 0.5, size=(n, 1, 10, 10))
    mask = np.zeros(factual.shape, bool)
    mask[:, :, 2:4, 2:7] = True
    true = factual + 0.4 * mask
    twin = np.where(mask, true - left * 0.4, true + leak * 0.1)
    return twin, true, factual, mask


def test_truth_errors_inside_and_outside():
    twin, true, factual, mask = scene()
    errors = truth_errors(twin, true, factual, mask=mask)
    table = truth_table(errors).set_index("region")
    assert table.loc["inside", ["error", "copy", "normalised"]].tolist() == pytest.approx(
        [0.1, 0.4, 0.25]
    )
    assert table.loc["outside", "error"] == pytest.approx(0.01)
    assert table.loc["outside", "copy"] == 0
    assert np.isnan(table.loc["outside", "normalised"])  # nothing should change there
    # 10 of 100 pixels change by .4: of that, 10 x .1 is left and 90 x .01 is leaked.
    parts = table["of_change"]
    assert parts.tolist() == pytest.approx([1.9 / 4, 1 / 4, 0.9 / 4])
    assert table.loc["whole", "normalised"] == pytest.approx(parts["inside"] + parts["outside"])
    assert table.loc["whole", "worse"] == 0
    assert table.loc["outside", "worse"] == 1


def test_truth_table_extremes():
    _, true, factual, mask = scene()
    copied = truth_table(truth_errors(factual, true, factual, mask=mask)).set_index("region")
    assert copied.loc[["whole", "inside"], ["normalised", "low", "high"]].to_numpy() == (
        pytest.approx(np.ones((2, 3)))
    )
    perfect = truth_table(truth_errors(true, true, factual))
    assert perfect[["error", "normalised", "worse"]].values.tolist() == [[0, 0, 0]]
    mixed = np.where(np.arange(8)[:, None, None, None] < 2, factual - 0.1, true)
    people = np.array(list("aabbccdd"))
    table = truth_table(truth_errors(mixed, true, factual, patients=people))
    assert table.loc[0, ["worse", "n", "patients"]].tolist() == [0.25, 8, 4]


def test_empty_masks_do_not_count():
    twin, true, factual, mask = scene()
    mask[3] = False
    errors = truth_errors(twin, true, factual, mask=mask)
    inside = errors[errors["region"] == "inside"].set_index("row")
    assert np.isnan(inside.loc[3, ["error", "copy", "normalised"]].astype(float)).all()
    assert inside.loc[3, "part"] == 0
    table = truth_table(errors).set_index("region")
    assert table["n"].tolist() == [8, 7, 8]
    assert table.loc["inside", "normalised"] == pytest.approx(0.25)
    same = truth_errors(twin, factual, factual)
    assert same["normalised"].isna().all()
    assert (same["error"] > 0).all()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"mask": np.ones((8, 10, 10))}, "mask: float64 of shape"),
        ({"mask": np.ones((8, 10, 9), bool)}, r"mask: bool of shape \(8, 10, 9\)"),
        ({"patients": ["a"]}, r"patients: shape \(1,\) beside 8 rows"),
        ({"factual": X}, r"factual: shape \(6, 1, 8, 8\)"),
        ({"twin": np.full((8, 10, 10), np.nan)}, "twin: image 0 is not finite"),
    ],
)
def test_truth_errors_refuse_unequal_shapes(change, said):
    twin, true, factual, mask = scene()
    with pytest.raises(CausalCXRError, match=said):
        truth_errors(**{"twin": twin, "true": true, "factual": factual, "mask": mask} | change)
    with pytest.raises(CausalCXRError, match="no column 'copy'"):
        truth_table(pd.DataFrame({"region": ["whole"], "patient": [1], "error": [0.1]}))


# Intervals


def test_mean_interval_resamples_patients():
    rng = np.random.default_rng(1)
    people = np.repeat(np.arange(40), 10)
    covered = np.zeros(2)
    for seed in range(150):
        values = rng.normal(size=40)[people] + 0.3 * rng.normal(size=400)
        for k, groups in enumerate((people, None)):
            result = mean_interval(values, groups, draws=300, seed=seed)
            covered[k] += result.low <= 0 <= result.high
    assert 0.88 <= covered[0] / 150 <= 0.99
    assert covered[1] / 150 < 0.6


def test_mean_interval_is_near_normal():
    values = np.random.default_rng(2).normal(3, 2, size=2000)
    result = mean_interval(values, draws=4000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert (result.low, result.high) == pytest.approx(
        (result.value - half, result.value + half), abs=0.01
    )
    assert result == mean_interval(values, draws=4000)
    assert result != mean_interval(values, draws=4000, seed=1)
    narrow = mean_interval(values, draws=4000, level=0.5)
    assert (narrow.high - narrow.low) / (result.high - result.low) == pytest.approx(
        0.344, abs=0.03
    )


def test_one_patient_has_no_interval():
    table = summary(
        {"none": np.full(3, np.nan), "one": np.array([1.0, 2, np.nan])}, ["a", "a", "b"]
    )
    assert table[["n", "patients"]].values.tolist() == [[0, 0], [2, 1]]
    assert table["value"].tolist()[1] == 1.5
    assert table[["low", "high"]].isna().all(axis=None)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"level": 1.0}, "level 1.0"),
        ({"patients": ["a"]}, r"patients: shape \(1,\) beside 2 rows"),
        ({"over": np.ones(3)}, r"shapes \(2,\) and \(3,\)"),
    ],
)
def test_mean_interval_refuses_unusable_options(options, said):
    with pytest.raises(CausalCXRError, match=said):
        mean_interval(np.array([1.0, 2.0]), **options)
