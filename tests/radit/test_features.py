"""The bundled features, and the distances that stand on them."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm

from benchmarks._distances import feature_vectors, nearest
from causalcxr.cohort import Cohort
from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.metrics import frechet, kernel
from causalcxr.radit.features import Features, load_features, save_features


def test_bundled_features_separate_views_and_noise():
    cohort = Cohort.load("phantom", n=120, seed=5)
    x, view = cohort.images[:], cohort.table["View"].to_numpy()
    found = feature_vectors(load_features(), x)
    lateral = view == "LATERAL"
    middle = found[lateral].mean(0), found[~lateral].mean(0)
    nearer = ((found - middle[0]) ** 2).sum(1) < ((found - middle[1]) ** 2).sum(1)
    assert (nearer == lateral).mean() > 0.95
    noisy = np.clip(x + np.random.default_rng(0).normal(0, 0.1, x.shape), 0, 1)
    half = abs(kernel(found[:60], found[60:]))
    assert kernel(found, feature_vectors(load_features(), noisy)) > 5 * half


def test_features_ignore_exposure():
    x = torch.rand(3, 1, 64, 64, generator=torch.Generator().manual_seed(0))
    features = load_features()
    assert torch.allclose(features(x), features(0.5 * x + 0.2), atol=1e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({"version": "0"}, "features of version 0, not features of version 1"),
        ({"kind": "radit"}, "radit of version 1, not features"),
        ({"content": "0"}, "tensors were changed"),
    ],
)
def test_other_files_are_refused(tmp_path, words, said):
    path = tmp_path / "f.safetensors"
    save_features(path, Features())
    tensors, about = load_tensors(path)
    save_tensors(path, tensors, about | words)
    with pytest.raises(ModelError, match=said):
        load_features(path)
    with pytest.raises(ModelError, match="no such file and not bundled"):
        load_features("none")


def gaussians(n, shift, seed):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, 4)) @ np.diag([1, 2, 0.5, 1]) + shift


def test_frechet_distance_uses_the_square_root_of_the_product():
    a, b = gaussians(300, 0, 0), gaussians(200, 1, 1) @ np.array(np.eye(4) + 0.2)
    left, right = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    plain = ((a.mean(0) - b.mean(0)) ** 2).sum()
    plain += np.trace(left + right - 2 * sqrtm(left @ right).real)
    assert frechet(a, b) == pytest.approx(plain, rel=1e-9)
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)


def test_kernel_distance_is_the_plain_double_sum():
    a, b = gaussians(20, 0, 0), gaussians(15, 1, 1)

    def k(x, y):
        return (x @ y / 4 + 1) ** 3

    def mean(x, y, same):
        values = [k(p, q) for i, p in enumerate(x) for j, q in enumerate(y) if not same or i != j]
        return np.mean(values)

    plain = mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)
    assert kernel(a, b) == pytest.approx(plain, rel=1e-9)
    many = [kernel(gaussians(60, 0, s), gaussians(60, 0, 100 + s)) for s in range(200)]
    assert abs(np.mean(many)) < 4 * np.std(many) / 200**0.5


def test_nearest_point_is_found():
    a, b = gaussians(30, 0, 0), gaussians(40, 0, 1)
    distance, which = nearest(a, b)
    plain = np.linalg.norm(a[:, None] - b[None], axis=2)
    assert np.array_equal(which, plain.argmin(1))
    assert np.allclose(distance, plain.min(1))
