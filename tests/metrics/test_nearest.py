"""Memorisation and privacy figures, and the extraction of their features."""

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from causalcxr.cohort import Cohort
from causalcxr.common.errors import CausalCXRError, CohortError
from causalcxr.images.images import ArrayImages
from causalcxr.metrics import (
    chexgenbench,
    extract,
    feature_batches,
    frechet,
    membership_auroc,
    nearness,
)
from causalcxr.metrics.frechet import Moments, frechet_of
from causalcxr.radit.features import load_features


def sample(n, seed, d=6):
    return np.random.default_rng(seed).normal(size=(n, d))


TRAINING, HELD, FRESH = sample(400, 0), sample(300, 1), sample(200, 2)


def test_fresh_samples_are_not_near():
    result = nearness(FRESH, TRAINING, HELD, q=0.1)
    assert result.near.mean() == pytest.approx(0.1, abs=0.06)
    assert result.membership == pytest.approx(0.5, abs=0.06)
    assert np.median(result.ratio) == pytest.approx(np.median(result.held_ratio), abs=0.05)
    table = result.table.set_index("measure")
    assert table.loc["near", "held out"] == pytest.approx(0.1, abs=0.005)
    assert table.loc["copies"].tolist() == [0, 0]
    assert 0.2 < table.loc["authentic", "generated"] < 0.8


def test_copies_are_counted():
    copies = np.concatenate([TRAINING[:50] + 1e-4, FRESH[:150]])
    result, clean = nearness(copies, TRAINING, HELD), nearness(FRESH[:150], TRAINING, HELD)
    assert result.near[:50].all()
    assert not result.authentic[:50].any()
    assert (result.ratio[:50] < 0.01).all()
    assert np.array_equal(result.row[:50], np.arange(50))
    assert result.near.mean() == pytest.approx(0.25 + 0.75 * clean.near.mean())
    assert result.authentic.mean() == pytest.approx(0.75 * clean.authentic.mean())
    assert result.membership > clean.membership + 0.03


def test_nearness_equals_its_definitions():
    made = np.concatenate([FRESH, TRAINING[:20] + 0.05 * sample(20, 5)])
    result = nearness(made, TRAINING, HELD)

    def table(a, b):
        return np.sqrt(np.square(a[:, None] - b).sum(2))

    apart, held, within = table(made, TRAINING), table(HELD, TRAINING), table(TRAINING, TRAINING)
    np.fill_diagonal(within, np.inf)
    row = apart.argmin(1)
    assert np.array_equal(result.row, row)
    assert np.array_equal(result.authentic, apart.min(1) > within.min(1)[row])
    assert np.array_equal(result.near, apart.min(1) < np.quantile(held.min(1), 0.05))
    two = np.sort(apart, axis=1)[:, :2]
    assert np.array_equal(result.ratio, two[:, 0] / two[:, 1])
    scores = [-table(x, made).min(1) for x in (TRAINING, HELD)]
    truth = np.repeat([1, 0], [len(TRAINING), len(HELD)])
    assert result.membership == pytest.approx(roc_auc_score(truth, np.concatenate(scores)))
    # With few generated images the other way through the code must give the same.
    few = nearness(made[-30:], TRAINING, HELD)
    assert np.array_equal(few.authentic, result.authentic[-30:])


def test_nearness_of_ties():
    training = np.concatenate([TRAINING, TRAINING[:5]])
    result = nearness(TRAINING[:10], training, HELD)
    assert result.ratio.tolist() == [0] * 10
    assert not result.authentic.any()
    assert result.table.set_index("measure").loc["copies", "generated"] == 1
    assert membership_auroc(np.ones(3), np.ones(4)) == 0.5
    ours, theirs = np.array([0, 1, 1, 2.0]), np.array([1, 1, 3.0])
    truth = np.repeat([1, 0], [4, 3])
    expected = roc_auc_score(truth, -np.concatenate([ours, theirs]))
    assert membership_auroc(ours, theirs) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("sets", "q", "said"),
    [
        ((FRESH, TRAINING, HELD), 0.0, "q = 0.0"),
        ((FRESH, TRAINING[:1], HELD), 0.05, "training: 1 vectors"),
        ((FRESH, TRAINING, np.ones((5, 6))), 0.05, "held out: all 5 vectors are the same"),
        ((FRESH * np.nan, TRAINING, HELD), 0.05, "generated: vector 0 is not finite"),
        ((FRESH[:, :3], TRAINING, HELD), 0.05, "widths 3 and 6"),
    ],
)
def test_nearness_refuses_unusable_input(sets, q, said):
    with pytest.raises(CausalCXRError, match=said) as error:
        nearness(*sets, q=q)
    assert "\n" not in str(error.value)


# Features of images


@pytest.fixture(scope="module")
def image_model() -> np.ndarray:
    return Cohort.load("phantom", n=24, seed=3).images[:][:, :, ::2, ::2]


def test_features_do_not_depend_on_batches(image_model):
    with torch.no_grad():
        whole = load_features()(torch.from_numpy(image_model)).numpy()
    done = []
    result = extract(image_model, batch=7, progress=lambda k, n: done.append((k, n)))
    assert np.allclose(result, whole, atol=1e-5)
    assert (result.dtype, done) == (np.float32, [(7, 24), (14, 24), (21, 24), (24, 24)])
    grey = np.rint(image_model[:, 0] * 255).astype(np.uint8)
    levels = torch.from_numpy(grey[:, None] / np.float32(255))
    assert np.allclose(extract(ArrayImages(grey)), load_features()(levels).numpy(), atol=1e-5)


def test_moments_of_streamed_features(image_model):
    one, two = image_model[:12], image_model[12:]
    streamed = [Moments.from_batches(feature_batches(x, batch=5)) for x in (one, two)]
    whole = frechet(extract(one), extract(two))
    assert whole > 0.01
    assert frechet_of(*streamed) == pytest.approx(whole, rel=1e-4)


def test_one_batch_is_read_at_a_time():
    class Counting(ArrayImages):
        most = 0

        def __getitem__(self, rows):
            result = super().__getitem__(rows)
            Counting.most = max(Counting.most, len(result))
            return result

    images = Counting(np.random.default_rng(0).random((100, 8, 8)).astype(np.float32))
    result = extract(images, lambda x: x.mean((2, 3)), batch=9)
    assert Counting.most == 9
    assert np.allclose(result, images[:].mean((2, 3)))


def test_chexgenbench_preprocessing():
    class Seen(nn.Module):
        def forward(self, x):
            self.shape, self.levels = tuple(x.shape), x * 255
            self.trains = self.training
            return x.mean((2, 3))

    seen = Seen().train()
    ramp = np.tile(np.linspace(0, 1, 600), (2, 600, 1))
    result = extract(ramp, seen, preprocessing="chexgenbench")
    assert (seen.shape, seen.trains) == ((2, 1, 299, 299), False)
    assert torch.allclose(seen.levels, seen.levels.round(), atol=1e-4)
    assert len(seen.levels.round().unique()) == 256
    assert result == pytest.approx(0.5, abs=1e-3)
    checks = torch.zeros(1, 1, 299, 4 * 299)
    checks[..., ::4] = 1.0  # finer than 299 pixels can show: grey, not black
    assert chexgenbench(checks)[..., 5:-5].sub(0.25).abs().max() < 0.1


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda x: extract(x, preprocessing="chexgenbanch"), "did you mean 'chexgenbench'"),
        (lambda x: extract(x[:0]), "0 images"),
        (lambda x: extract(x, batch=0), "batches of 0"),
        (lambda x: extract(x, lambda y: y), r"returned \(24, 1, 32, 32\) for 24 images"),
        (lambda x: extract(x, lambda y: y.mean((2, 3))[:-1]), "one vector per image"),
        (lambda x: extract(x, lambda y: y.mean((2, 3)).log10().log()), "image 0 are not finite"),
    ],
)
def test_extract_refuses_unusable_input(image_model, call, said):
    with pytest.raises(CausalCXRError, match=said):
        call(image_model)


def test_record_without_an_image_is_named(image_model):
    images = ArrayImages(image_model, np.arange(24) != 17)
    with pytest.raises(CohortError, match="position 17 has no image"):
        extract(images, batch=10)
