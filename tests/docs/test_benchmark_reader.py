"""The network that judges films in benchmarks, and the folder that keeps them."""

import numpy as np
import pytest

from benchmarks._classifier import train_reader
from benchmarks._films import filmed

pytestmark = pytest.mark.slow  # it trains networks


def squares(n, seed):
    """Return noise with a bright square in half of the films, high, in the middle or low."""
    rng = np.random.default_rng(seed)
    films = rng.integers(60, 120, (n, 32, 32)).astype(np.uint8)
    there, where = rng.random(n) < 0.5, rng.integers(0, 3, n)
    for film, is_there, place in zip(films, there, where, strict=True):
        film[2 + 10 * place : 10 + 10 * place, 8:24] = 220 if is_there else 20
    return films, {"bright": there, "place": where, "row": 10.0 * where.astype(np.float32)}


@pytest.fixture(scope="module")
def reader():
    return train_reader(*squares(512, seed=0), epochs=4)


def test_reader_reads_all_three_kinds_of_answers(reader):
    films, true = squares(200, seed=1)
    read = reader.read(films)
    assert ((read["bright"] > 0) == true["bright"]).mean() > 0.95
    assert (read["place"].argmax(1) == true["place"]).mean() > 0.95
    assert np.abs(read["row"] - true["row"]).mean() < 3


def test_exposure_does_not_change_the_reading(reader):
    films, _ = squares(50, seed=2)
    floats = films[:, None].astype(np.float32) / 510 + 0.3
    np.testing.assert_allclose(
        reader.read(films)["bright"], reader.read(floats)["bright"], atol=1e-2
    )


def test_same_seed_gives_the_same_reader():
    films, answers = squares(128, seed=3)
    first, second = (train_reader(films, answers, epochs=1, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.read(films)["bright"], second.read(films)["bright"])


def test_cached_radiographs_are_reused_for_the_same_options(tmp_path):
    _, films = filmed(tmp_path, n=3, seed=1, size=32)
    (kept,) = tmp_path.glob("*.npy")
    np.save(kept, films[::-1])
    cohort, again = filmed(tmp_path, n=3, seed=1, size=32)
    np.testing.assert_array_equal(again, films[::-1])
    assert len(cohort) == 3
    _, others = filmed(tmp_path, n=3, seed=2, size=32)
    assert (others != films).any()
    assert len(list(tmp_path.glob("*.npy"))) == 2
