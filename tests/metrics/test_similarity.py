"""Similarity of pairs of images, against torchmetrics and closed forms."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from causalcxr.cohort import Cohort
from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics import SIMILARITIES, feature_distance, l1, psnr, rmse, ssim
from causalcxr.radit.features import Features
from causalcxr.radit.perceptual import FeatureDistance

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.image import PeakSignalNoiseRatio, StructuralSimilarityIndexMeasure


def pairs(n=7, size=(23, 31), noise=0.1, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.random((n, 1, *size))
    return x, np.clip(x + noise * rng.normal(size=x.shape), 0, 1)


@pytest.fixture(scope="module")
def image_model() -> np.ndarray:
    return Cohort.load("phantom", n=12, seed=0).images[:]


@pytest.mark.parametrize("noise", [0.02, 0.5])
@pytest.mark.parametrize("size", [(6, 9), (23, 31)])
def test_ssim_and_psnr_equal_torchmetrics(size, noise):
    x, y = pairs(size=size, noise=noise)
    ours = torch.from_numpy(x), torch.from_numpy(y)
    structure = StructuralSimilarityIndexMeasure(data_range=1.0, reduction="none")
    ratio = PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3), reduction="none")
    assert ssim(x, y) == pytest.approx(structure(*ours).numpy(), abs=1e-9)
    assert psnr(x, y) == pytest.approx(ratio(*ours).numpy(), abs=1e-4)  # its state is float32
    assert np.ptp(ssim(x, y)) > 1e-4


def test_ssim_of_radiographs(image_model):
    noisy = [
        np.clip(image_model + s * pairs(12, image_model.shape[2:])[0] - s / 2, 0, 1)
        for s in (0.1, 0.3)
    ]
    structure = StructuralSimilarityIndexMeasure(data_range=1.0, reduction="none")
    plain = structure(torch.from_numpy(image_model).double(), torch.from_numpy(noisy[0]).double())
    result = ssim(image_model, noisy[0])
    assert result == pytest.approx(plain.numpy(), abs=1e-9)
    assert (result > ssim(image_model, noisy[1]) + 0.1).all()


def test_closed_forms():
    x = np.full((2, 1, 16, 16), 0.25)
    y = x + np.array([0.1, -0.25])[:, None, None, None]
    assert l1(x, y) == pytest.approx([0.1, 0.25])
    assert rmse(x, y) == pytest.approx([0.1, 0.25])
    assert psnr(x, y) == pytest.approx([20, -20 * np.log10(0.25)])
    c = 0.01**2
    levels = [(2 * a * b + c) / (a * a + b * b + c) for a, b in ((0.25, 0.35), (0.25, 0.0))]
    assert ssim(x, y) == pytest.approx(levels)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_similarities_are_symmetric(name):
    of, perfect = SIMILARITIES[name], {"PSNR": np.inf, "SSIM": 1.0}.get(name, 0.0)
    x, y = pairs(size=(32, 32))
    result = of(x, y)
    assert of(x[3:4], y[3:4]) == pytest.approx(result[3:4], rel=1e-5)
    assert of(y, x) == pytest.approx(result, rel=1e-6)
    assert of(x, x) == pytest.approx(np.full(7, perfect))
    assert of(x[:, 0], y[:, 0]) == pytest.approx(result)
    assert of(torch.from_numpy(x), y) == pytest.approx(result)
    worse = of(x, pairs(size=(32, 32), noise=0.5)[1])
    assert ((worse < result) if name in ("PSNR", "SSIM") else (worse > result)).all()


def test_more_pairs_than_a_batch():
    x, y = pairs(300, (12, 12))
    assert l1(x, y) == pytest.approx(np.abs(x - y).mean((1, 2, 3)))
    assert ssim(x, y)[[0, 299]] == pytest.approx(ssim(x[[0, 299]], y[[0, 299]]))


def test_feature_distance_equals_the_loss(image_model):
    net = Features().eval()
    other = np.roll(image_model, 3, axis=3)
    loss = FeatureDistance(net)
    x, y = (2 * torch.from_numpy(z).float() - 1 for z in (image_model, other))
    plain = [float(loss(x[i : i + 1], y[i : i + 1])) for i in range(12)]
    assert feature_distance(image_model, other, net) == pytest.approx(plain, rel=1e-4)


def test_feature_distance_of_vectors():
    class Ends(nn.Module):
        def forward(self, x):
            return x[:, 0, 0, :2]

    x = np.zeros((3, 1, 4, 4))
    y = x.copy()
    x[:, 0, 0, :2] = [[1, 0], [1, 0], [0.5, 0.5]]
    y[:, 0, 0, :2] = [[0.3, 0], [0, 1], [0, 1]]
    expected = [0, 2, 2 - 2 / np.sqrt(2)]
    assert feature_distance(x, y, Ends()) == pytest.approx(expected, abs=1e-6)


def test_exposure_counts_less_than_content(image_model):
    darker = image_model * 0.9 + 0.02
    assert (
        feature_distance(image_model, darker)
        < 0.1 * feature_distance(image_model, image_model[::-1])
    ).all()
    assert (l1(image_model, darker) > 0.01).all()


@pytest.mark.parametrize("name", SIMILARITIES)
@pytest.mark.parametrize(
    ("x", "y", "said"),
    [
        (np.zeros((2, 16, 16)), np.zeros((2, 16, 15)), r"others: shape \(2, 1, 16, 15\) beside"),
        (np.zeros((2, 16, 16)), np.zeros((3, 16, 16)), r"others: shape \(3, 1, 16, 16\)"),
        (np.full((2, 16, 16), np.nan), np.zeros((2, 16, 16)), "images: image 0 is not finite"),
        (np.zeros((2, 3, 16, 16)), np.zeros((2, 3, 16, 16)), "give grey images"),
        (np.zeros((2, 16, 16), dtype=np.uint8), np.zeros((2, 16, 16)), "uint8"),
        (np.zeros((0, 16, 16)), np.zeros((0, 16, 16)), r"of shape \(0, 1, 16, 16\)"),
    ],
)
def test_similarities_refuse_unequal_pairs(name, x, y, said):
    with pytest.raises(CausalCXRError, match=said):
        SIMILARITIES[name](x, y)


def test_ssim_refuses_small_images():
    with pytest.raises(CausalCXRError, match="5 x 40 pixels are smaller than 6 x 6"):
        ssim(np.zeros((1, 5, 40)), np.zeros((1, 5, 40)))
