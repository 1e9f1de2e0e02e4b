"""Noise that belongs to a record: uniform, independent, and the same in any company."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from causalcxr.common.random_numbers import Draws, record_keys, stable_hash

N = 20_000
KEYS = record_keys(pd.RangeIndex(N))


def correlation(a, b):
    """Return the rank correlation in standard errors."""
    return stats.spearmanr(a, b).statistic * np.sqrt(len(a) - 1)


@pytest.mark.parametrize("stream", ["Sex", "Age", "phantom Pleural Effusion", ""])
def test_numbers_of_consecutive_records_are_uniform(stream):
    u = Draws(KEYS, seed=3, stream=stream).uniform(4)
    assert u.shape == (N, 4)
    assert u.min() > 0
    assert u.max() < 1
    for column in u.T:
        assert stats.kstest(column, "uniform").pvalue > 1e-4
        bins = np.bincount((column * 64).astype(int), minlength=64)
        assert stats.chisquare(bins).pvalue > 1e-4


def test_numbers_of_one_record_are_uniform():
    u = Draws(KEYS[:1], seed=0, stream="detector").uniform(65_536)[0]
    assert stats.kstest(u, "uniform").pvalue > 1e-4
    assert abs(correlation(u[:-1], u[1:])) < 4


@pytest.mark.parametrize(
    "other",
    [
        Draws(KEYS, seed=1, stream="Sex"),
        Draws(KEYS, seed=0, stream="Age"),
        Draws(KEYS, seed=0, stream="Sex", draw=1),
        Draws(KEYS[::-1].copy(), seed=0, stream="Sex"),
        Draws(np.roll(KEYS, 1), seed=0, stream="Sex"),
    ],
    ids=["seed", "stream", "draw", "record", "neighbour"],
)
def test_numbers_of_other_seeds_streams_draws_are_independent(other):
    here, there = Draws(KEYS, seed=0, stream="Sex").uniform(2), other.uniform(2)
    assert not (here == there).any()
    for a in here.T:
        for b in there.T:
            assert abs(correlation(a, b)) < 4
    cells = np.histogram2d(here[:, 0], there[:, 0], bins=8, range=[[0, 1], [0, 1]])[0]
    assert stats.chisquare(cells.ravel()).pvalue > 1e-4


def test_similar_seeds_and_streams_do_not_collide():
    one, two = Draws(KEYS, seed=1, stream="2"), Draws(KEYS, seed=12, stream="")
    assert not (one.uniform() == two.uniform()).any()


def test_numbers_do_not_depend_on_batch_or_order():
    draws = Draws(KEYS, seed=5, stream="Race", draw=np.arange(N) % 7)
    whole = draws.normal(3)
    order = np.random.default_rng(0).permutation(N)
    assert np.array_equal(draws.rows(order).normal(3), whole[order])
    assert np.array_equal(draws.rows(slice(17, 18)).normal(3), whole[17:18])
    assert np.array_equal(draws.normal(8)[:, :3], whole)


def test_integer_and_text_ids_have_equal_keys():
    numbers, texts = pd.Index([7, 11, 40_000]), pd.Index(["7", "11", "40000"])
    assert np.array_equal(record_keys(numbers), record_keys(texts))
    assert len(np.unique(KEYS)) == N


def test_draw_for_all_or_by_record_gives_the_same_numbers():
    one = Draws(KEYS[:9], stream="x", draw=2).uniform()
    each = Draws(KEYS[:9], stream="x", draw=np.full(9, 2)).uniform()
    assert np.array_equal(one, each)


def test_normal_and_gumbel_numbers_follow_their_distributions():
    draws = Draws(KEYS, seed=2, stream="law")
    assert stats.kstest(draws.normal()[:, 0], "norm").pvalue > 1e-4
    assert stats.kstest(draws.gumbel()[:, 0], "gumbel_r").pvalue > 1e-4
    assert np.isfinite(draws.gumbel(50)).all()


def test_hash_is_the_same_on_every_machine():
    assert stable_hash("Sex") == 10753987823127319002
    first = Draws(record_keys(pd.Index(["a"])), seed=0, stream="Sex").uniform()[0, 0]
    assert first == 0.7295178432946859
