"""Features trained on a cohort's labels: what they learn, resuming, and what is refused."""

import numpy as np
import pandas as pd
import pytest
import torch

from causalcxr import Cohort, Graph
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.common.errors import ModelError
from causalcxr.radit.features import load_cross_fitted, load_features, save_cross_fitted
from causalcxr.radit.features_train import FeaturesConfig, feature_targets, train_features

GRAPH = Graph.parse(
    """
variables:
  Age: {type: continuous, range: [0, 100]}
  Side: {type: binary, levels: [L, R]}
  Rare: {type: binary, levels: [N, P]}
  Image: {type: image, parents: [Age, Side], mechanism: {kind: radit, resolution: 16}}
"""
)
SMALL = FeaturesConfig(epochs=1, folds=2, batch=20)


def sided(n: int, seed: int = 0) -> Cohort:
    """Return images with a bright square on one side; records of a patient share a patient id."""
    rng = np.random.default_rng(seed)
    right, age = rng.random(n) < 0.5, rng.uniform(20, 80, n)
    x = rng.random((n, 1, 16, 16)).astype(np.float32) * 0.4
    x[~right, :, 4:8, 2:6] += 0.6
    x[right, :, 4:8, 10:14] += 0.6
    table = pd.DataFrame({"Age": age, "Side": np.where(right, "R", "L"), "Rare": "N"})
    return Cohort(table, x, patients=np.arange(n) // 2)


def same(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


def test_targets_are_levels_and_numbers_that_vary():
    targets = feature_targets([sided(60)], GRAPH)
    assert targets.names == (("Age", ""), ("Side", "R"))
    assert targets.is_number.tolist() == [True, False]
    assert targets.values.mean(0)[0].abs() < 1e-5


def test_a_killed_training_resumes_bit_exact(tmp_path):
    cohort = sided(60)
    whole = train_features(cohort, GRAPH, SMALL)
    parts = 0
    while (rest := train_features(cohort, GRAPH, SMALL, folder=tmp_path, budget=0)) is None:
        parts += 1
    assert parts > 1
    assert same(rest.everyone, whole.everyone)
    assert all(same(a, b) for a, b in zip(rest.folds, whole.folds, strict=True))
    # The folder has a finished training: other records are refused.
    with pytest.raises(ModelError, match="the checkpoint is of another run"):
        train_features(sided(60, seed=1), GRAPH, SMALL, folder=tmp_path)


def test_files_return_what_was_trained(tmp_path):
    trained = train_features(sided(60), GRAPH, SMALL)
    save_cross_fitted(tmp_path / "f.safetensors", trained)
    again = load_cross_fitted(tmp_path / "f.safetensors")
    assert (again.seed, len(again.folds)) == (0, 2)
    assert len(again.content) == 64
    assert same(again.folds[1], trained.folds[1])
    # Larger images are shrunk to those that it was trained on.
    x = torch.rand(2, 1, 16, 16).repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert again.everyone.size == (16, 16)
    assert torch.equal(again.everyone.maps(x)[-1], trained.everyone.maps(x)[-1])
    assert again.everyone.maps(x)[0].shape == (2, 16, 8, 8)
    assert same(load_features(tmp_path / "f.safetensors"), trained.everyone)
    assert not same(trained.folds[0], trained.folds[1])
    with pytest.raises(ModelError, match="no such file; write it with `causalcxr radit features`"):
        load_cross_fitted(tmp_path / "g.safetensors")


@pytest.mark.slow  # trains until it has learned
def test_trained_features_read_what_the_bundled_ones_do_not():
    cohort = sided(400)
    config = FeaturesConfig(epochs=12, folds=2, shift=0.02, turn=2.0)
    trained = CrossFittedReader.fit(
        cohort, GRAPH, ["Side"], features=train_features(cohort, GRAPH, config)
    )
    bundled = CrossFittedReader.fit(cohort, GRAPH, ["Side"])
    assert trained.quality["Side"] > 0.95
    assert trained.quality["Side"] > bundled.quality["Side"] + 0.1


def test_unusable_cohorts_are_refused():
    with pytest.raises(ModelError, match="the cohort has no images"):
        train_features(sided(60).with_images(None), GRAPH, SMALL)
    with pytest.raises(ModelError, match="no variable has 20 records"):
        train_features(sided(12).with_columns(GRAPH, {"Age": np.full(12, np.nan)}), GRAPH, SMALL)
    with pytest.raises(ModelError, match="a fold of the 40 has no patient"):
        train_features(sided(60), GRAPH, FeaturesConfig(folds=40))
