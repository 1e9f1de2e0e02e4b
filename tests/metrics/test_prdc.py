"""Precision, recall, density, coverage and neighbours, equal to plain float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist

from causalcxr.common.errors import CausalCXRError
from causalcxr.metrics import centred as blocks
from causalcxr.metrics import neighbours, others, prdc
from causalcxr.metrics.centred import centred, products
from causalcxr.metrics.neighbours import squared_below


def plain_distances(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.stack([np.sqrt(np.square(x - b).sum(1)) for x in a])


def plain(real, fake, k):
    """The published definitions, with all distances at once."""
    inside = np.sort(plain_distances(real, real), axis=1)[:, k]
    fakes = np.sort(plain_distances(fake, fake), axis=1)[:, k]
    apart = plain_distances(real, fake)
    return (
        float((apart < inside[:, None]).any(0).mean()),
        float((apart < fakes[None]).any(1).mean()),
        float((apart < inside[:, None]).sum(0).mean() / k),
        float((apart.min(1) < inside).mean()),
    )


def figures(result):
    return result.precision, result.recall, result.density, result.coverage


def cloud(case, n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 8)) + 0.3 * seed
    if case == "lattice":  # distances tie by the hundred
        return np.round(x)
    if case == "duplicates":
        x[n // 2 : n // 2 + 40] = x[0]
        x[:30] = np.random.default_rng(9).normal(size=(30, 8))  # the same in both sets
        return x
    if case == "distant":
        return x + 1e6
    if case == "float32":
        return x.astype(np.float32)
    if case == "tight":  # apart by less than float32 can tell
        x[40:] = 5 + 1e-9 * x[40:]
        return x
    if case == "small":
        return x * 1e-180
    if case == "large":
        return x * 1e150
    if case == "outlier":
        x[0] *= 1e6
        return x
    return x


CASES = ["plain", "lattice", "duplicates", "distant", "float32", "tight", "outlier"]


@pytest.fixture(params=[64, 2048], ids=["many blocks", "one block"])
def block(request, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", request.param)


@pytest.mark.parametrize("case", [*CASES, "small", "large"])
def test_prdc_equals_plain_float64(block, case):
    real, fake = cloud(case, 233, 0), cloud(case, 171, 1)
    for k in (1, 5):
        assert figures(prdc(real, fake, k=k)) == plain(real, fake, k)


@settings(max_examples=60, deadline=None)
@given(
    arrays(np.float64, (17, 2), elements=st.integers(-3, 3).map(float)),
    arrays(np.float64, (12, 2), elements=st.integers(-3, 3).map(float)),
    st.integers(1, 11),
)
def test_prdc_of_ties_and_duplicates(real, fake, k):
    real[0], fake[0] = 7.0, -7.0  # never all the same
    assert figures(prdc(real, fake, k=k)) == plain(real, fake, k)


def test_closed_forms():
    line = np.arange(100.0)[:, None]
    same = prdc(line, line, k=2)  # open balls of radius 1 hold their centre; at the ends, of 2
    assert figures(same) == (1.0, 1.0, (100 + 2) / 200, 1.0)
    far = prdc(line, line + 1000)
    assert figures(far) == (0.0, 0.0, 0.0, 0.0)
    middle = prdc(line, line[40:60] + 0.5, k=1)  # each lies in the balls of its two neighbours
    assert (middle.precision, middle.density, middle.coverage) == (1.0, 2.0, 0.21)


def test_prdc_of_a_collapsed_generator():
    rng = np.random.default_rng(0)
    real = rng.normal(size=(400, 4))
    result = prdc(real, 0.1 * rng.normal(size=(400, 4)))
    assert (result.precision, result.density > 1) == (1.0, True)
    assert (result.recall < 0.05, result.coverage < 0.5) == (True, True)


def test_density_and_coverage_of_equal_distributions():
    rng = np.random.default_rng(0)
    result = prdc(*rng.normal(size=(2, 1500, 3)), k=5)
    assert result.density == pytest.approx(1, abs=0.06)
    # Naeem et al.: 1 - (m - 1)...(m - k) / ((n + m - 1)...(n + m - k)), which is near 1 - 2^-k
    assert result.coverage == pytest.approx(1 - 2**-5, abs=0.015)


def test_block_distances_are_lower_bounds():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 768)).astype(np.float32) * np.geomspace(1, 1e-3, 768) + 3
    y = (x[:200] + 1e-3 * rng.normal(size=(200, 768))).astype(np.float64)
    a, b = centred(x.astype(np.float64), y)
    [(rows, columns, block)] = products(a, b)
    result = squared_below(a, b, rows, columns, block) * a.scale**2
    true = cdist(a.source, b.source, "sqeuclidean")
    room = 2 * (a.slack[:, None] + b.slack) * a.scale**2
    assert (result <= true).all()
    assert (true - result <= room).all()
    assert np.median(room / true) < 1e-3


# Neighbours


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("k", [1, 4])
def test_neighbours_equal_all_distances(block, case, k):
    a, b = cloud(case, 150, 0), cloud(case, 201, 1)
    apart = plain_distances(a, b)
    result = neighbours(a, b, k=k)
    assert np.array_equal(result.distances, np.sort(apart, axis=1)[:, :k])
    if case != "tight":
        assert np.array_equal(result.rows, np.argsort(apart, axis=1, kind="stable")[:, :k])
    within = plain_distances(b, b)
    np.fill_diagonal(within, np.inf)
    assert np.array_equal(others(b, k=k).distances, np.sort(within, axis=1)[:, :k])


def test_more_neighbours_than_a_block(monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 4)
    x = cloud("plain", 21, 0)  # blocks of 4, the last of 1
    within = plain_distances(x, x)
    np.fill_diagonal(within, np.inf)
    assert np.array_equal(others(x, k=20).distances, np.sort(within, axis=1)[:, :20])
    assert np.array_equal(neighbours(x, x, k=21).distances, np.sort(plain_distances(x, x), axis=1))


def test_reduced_matmul_precision_changes_nothing():
    real, fake = cloud("plain", 120, 0), cloud("plain", 130, 1)
    torch.set_float32_matmul_precision("medium")
    try:
        result = prdc(real, fake)
    finally:
        torch.set_float32_matmul_precision("highest")
    assert figures(result) == plain(real, fake, 5)


def test_prdc_reads_tensors_and_integers():
    x = np.random.default_rng(0).integers(0, 9, size=(50, 3))
    y = x[::-1] + (np.arange(50)[:, None] % 2)
    assert figures(prdc(torch.from_numpy(x), y)) == plain(x, y, 5)


@pytest.mark.parametrize("k", [0, 11])
def test_too_many_neighbours_are_refused(k):
    x = cloud("plain", 10, 0)
    with pytest.raises(CausalCXRError, match=f"k = {k}: there are 10 candidates"):
        neighbours(x, x, k=k)
