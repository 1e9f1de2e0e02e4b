"""Frechet and kernel distances, against torchmetrics, closed forms and plain double sums."""

import warnings

import numpy as np
import pytest
import torch
from torch import nn

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics import Moments, fidelity, frechet, frechet_of, kernel, kernel_subsets, prdc
from causalcxr.metrics.kernel import subsets

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from torchmetrics.image.fid import FrechetInceptionDistance
    from torchmetrics.image.kid import KernelInceptionDistance, poly_mmd

moments = Moments.from_vectors


def gaussians(n, d, shift=0.0, scale=1.0, seed=0):
    rng = np.random.default_rng(seed)
    return scale * rng.normal(size=(n, d)) @ np.diag(np.linspace(0.3, 1.5, d)) + shift


class Rows(nn.Module):
    """An extractor whose features are its input."""

    num_features = 24

    def forward(self, x):
        return x


def told(metric, a, b):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric.update(torch.from_numpy(a), real=True)
        metric.update(torch.from_numpy(b), real=False)
        return metric.compute()


# Frechet


@pytest.mark.parametrize("seed", range(3))
def test_frechet_equals_torchmetrics(seed):
    a, b = gaussians(300, 24, seed=seed), gaussians(200, 24, 0.4, 1.2, seed=10 + seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = FrechetInceptionDistance(feature=Rows()).set_dtype(torch.float64)
    plain = float(told(metric, a, b))
    assert frechet(a, b) == pytest.approx(plain, rel=1e-9)
    assert plain > 1


def test_frechet_of_diagonal_covariances():
    d = 6
    grid = np.concatenate([np.eye(d), -np.eye(d)]) * np.sqrt((2 * d - 1) / 2)  # covariance I
    s, t, m = np.arange(1.0, d + 1), np.linspace(0.1, 2, d), np.linspace(-3, 3, d)
    expected = (m**2).sum() + ((s - t) ** 2).sum()
    assert frechet(grid * s, grid * t + m) == pytest.approx(expected, rel=1e-12)
    assert frechet(grid * s, grid * s) == pytest.approx(0, abs=1e-12)


def test_frechet_of_fewer_vectors_than_features():
    a = gaussians(20, 300, seed=1)
    turn = np.linalg.qr(gaussians(300, 300, seed=2))[0]
    assert frechet(a, a) == pytest.approx(0, abs=1e-9)
    assert frechet(a @ turn, a @ turn + 2) == pytest.approx(4 * 300, rel=1e-11)
    # Sets in orthogonal subspaces: nothing is shared, so that the traces add up.
    b = np.hstack([np.zeros((20, 300)), a])
    a = np.hstack([a, np.zeros((20, 300))])
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    expected = apart + np.trace(np.cov(a, rowvar=False)) + np.trace(np.cov(b, rowvar=False))
    turn = np.linalg.qr(gaussians(600, 600, seed=3))[0]
    assert frechet(a @ turn, b @ turn) == pytest.approx(expected, rel=1e-11)


@pytest.mark.parametrize("sizes", [(1,) * 30, (7, 23), (1, 28, 1), (30,)])
def test_moments_of_batches_add_up(sizes):
    x = gaussians(30, 5, shift=1e7)  # a distant mean: sums of squares would lose all digits
    parts = np.split(x, np.cumsum(sizes)[:-1])
    for order in (parts, parts[::-1]):
        result = Moments.from_batches(part.astype(np.float64) for part in order)
        assert result.count == 30
        assert np.allclose(result.mean, x.mean(0), rtol=1e-15)
        assert np.allclose(result.covariance, np.cov(x, rowvar=False), rtol=1e-6, atol=1e-9)
    added = sum((moments(p) for p in parts[1:]), moments(parts[0]))
    assert frechet_of(added, moments(x)) == pytest.approx(0, abs=1e-6)


# Kernel


@pytest.mark.parametrize("n", [150, 2300])  # all at once, and in blocks with float32 inside
def test_kernel_equals_torchmetrics(n):
    a, b = gaussians(n, 24, 0.5, seed=1), gaussians(n, 24, 0.7, seed=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        metric = KernelInceptionDistance(feature=Rows(), subsets=1, subset_size=n)
    mean, std = told(metric, a, b)
    assert kernel(a, b) == pytest.approx(float(mean), abs=1e-9)
    assert (float(mean) > 0.1, float(std)) == (True, 0)


def test_kernel_subsets_equal_torchmetrics():
    a, b = gaussians(90, 24, seed=1), gaussians(70, 24, 0.2, seed=2)
    result = kernel_subsets(a, b, size=40, number=7, seed=3)
    rows = zip(subsets(90, 40, 7, (3, 0)), subsets(70, 40, 7, (3, 1)), strict=True)
    pairs = [[torch.from_numpy(x[i]) for x, i in zip((a, b), ij, strict=True)] for ij in rows]
    plain = np.array([float(poly_mmd(x, y)) for x, y in pairs])
    assert result.values == pytest.approx(plain, abs=1e-10)
    assert (result.mean, result.std) == (
        pytest.approx(plain.mean(), abs=1e-10),
        pytest.approx(plain.std(), abs=1e-10),
    )
    assert len(np.unique(result.values)) == 7
    again = kernel_subsets(a, b, size=40, number=7, seed=3).values
    assert np.array_equal(result.values, again)
    assert len({tuple(sorted(s)) for s in subsets(90, 40, 7, 0)}) == 7


@pytest.mark.parametrize("shift", [0.0, 2.0, 30.0])
@pytest.mark.parametrize("kind", ["float64", "float32"])
def test_kernel_equals_the_double_sum(shift, kind):
    a = gaussians(2150, 16, shift, seed=1).astype(kind)
    b = gaussians(2050, 16, shift + 0.1, 1.1, seed=2).astype(kind)

    def table(x, y):
        return (x.astype(np.float64) @ y.astype(np.float64).T / 16 + 1) ** 3

    xx, yy, xy = table(a, a), table(b, b), table(a, b)
    n, m = len(a), len(b)
    plain = (xx.sum() - np.trace(xx)) / (n * (n - 1)) + (yy.sum() - np.trace(yy)) / (m * (m - 1))
    plain -= 2 * xy.mean()
    assert kernel(a, b) == pytest.approx(plain, abs=1e-9 + 1e-12 * xy.mean())


def test_kernel_is_unbiased():
    many = [kernel(gaussians(60, 4, seed=s), gaussians(60, 4, seed=100 + s)) for s in range(100)]
    assert abs(np.mean(many)) < 4 * np.std(many) / 10
    assert min(many) < 0 < max(many)


# All in one


def test_fidelity_equals_its_parts():
    a = gaussians(2300, 12, seed=1).astype(np.float32)
    b = gaussians(2100, 12, 0.2, seed=2).astype(np.float32)
    result, balls = fidelity(a, b, k=3), prdc(a, b, k=3)
    assert result.frechet == frechet(a, b)
    assert result.kernel == pytest.approx(kernel(a, b), rel=1e-12)
    assert (result.precision, result.recall) == (balls.precision, balls.recall)
    assert (result.density, result.coverage) == (balls.density, balls.coverage)
    assert result.table.loc[0, ["real", "generated", "k"]].tolist() == [2300, 2100, 3]


# What cannot be told


GOOD = gaussians(10, 3)


@pytest.mark.parametrize("distance", [frechet, kernel, prdc, fidelity])
@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (GOOD[:1], "generated: 1 vectors, at least 2"),
        (np.where(np.arange(10)[:, None] == 4, np.nan, GOOD), "generated: vector 4 is not finite"),
        (np.where(np.arange(10)[:, None] == 4, np.inf, GOOD), "generated: vector 4 is not finite"),
        (np.ones((10, 3)), "generated: all 10 vectors are the same"),
        (GOOD[:, :2], "widths 3 and 2"),
        (GOOD[:, 0], r"of shape \(10,\)"),
        (GOOD.astype(str), "not numbers"),
    ],
)
def test_degenerate_sets_are_refused(distance, bad, said):
    with pytest.raises(CausalCXRError, match=said) as error:
        distance(GOOD, bad)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: kernel_subsets(GOOD, GOOD, size=11), "subsets of 11 from 10 real"),
        (lambda: kernel_subsets(GOOD, GOOD, size=5, number=0), "0 subsets of 5"),
        (lambda: prdc(GOOD, GOOD, k=10), "10 vectors and k = 10"),
        (lambda: prdc(GOOD, GOOD, k=0), "k = 0"),
        (lambda: Moments.from_batches([]), "no batch"),
        (lambda: Moments.from_batches([GOOD * np.nan]), "not finite"),
        (lambda: moments(GOOD) + moments(GOOD[:, :1]), "widths 3 and 1"),
        (
            lambda: frechet_of(moments(GOOD[:1]), moments(GOOD)),
            "no covariance",
        ),
        (
            lambda: frechet_of(moments(GOOD * 0), moments(GOOD)),
            "real: all vectors are",
        ),
    ],
)
def test_unusable_numbers_are_refused(call, said):
    with pytest.raises(CausalCXRError, match=said):
        call()
