"""The reader network of the benchmarks, and the cache of phantom images."""

import numpy as np
import pytest

from benchmarks._classifier import train_reader
from benchmarks._phantom_images import phantom_images

pytestmark = pytest.mark.slow  # trains networks


def squares(n, seed):
    """Return noise with a bright square (in half of the images) at one of three heights."""
    rng = np.random.default_rng(seed)
    images = rng.integers(60, 120, (n, 32, 32)).astype(np.uint8)
    has_square, position = rng.random(n) < 0.5, rng.integers(0, 3, n)
    for image, is_bright, place in zip(images, has_square, position, strict=True):
        image[2 + 10 * place : 10 + 10 * place, 8:24] = 220 if is_bright else 20
    return images, {
        "bright": has_square,
        "place": position,
        "row": 10.0 * position.astype(np.float32),
    }


@pytest.fixture(scope="module")
def reader():
    return train_reader(*squares(512, seed=0), epochs=4)


def test_reader_reads_all_three_kinds_of_answers(reader):
    images, true = squares(200, seed=1)
    read = reader.read(images)
    assert ((read["bright"] > 0) == true["bright"]).mean() > 0.95
    assert (read["place"].argmax(1) == true["place"]).mean() > 0.95
    assert np.abs(read["row"] - true["row"]).mean() < 3


def test_exposure_does_not_change_the_reading(reader):
    images, _ = squares(50, seed=2)
    floats = images[:, None].astype(np.float32) / 510 + 0.3
    np.testing.assert_allclose(
        reader.read(images)["bright"], reader.read(floats)["bright"], atol=1e-2
    )


def test_same_seed_gives_the_same_reader():
    images, answers = squares(128, seed=3)
    first, second = (train_reader(images, answers, epochs=1, seed=5) for _ in range(2))
    np.testing.assert_array_equal(first.read(images)["bright"], second.read(images)["bright"])


def test_cached_radiographs_are_reused_for_the_same_options(tmp_path):
    _, images = phantom_images(tmp_path, n=3, seed=1, size=32)
    (path,) = tmp_path.glob("*.npy")
    np.save(path, images[::-1])
    cohort, again = phantom_images(tmp_path, n=3, seed=1, size=32)
    np.testing.assert_array_equal(again, images[::-1])
    assert len(cohort) == 3
    _, others = phantom_images(tmp_path, n=3, seed=2, size=32)
    assert (others != images).any()
    assert len(list(tmp_path.glob("*.npy"))) == 2
