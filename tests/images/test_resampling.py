"""Images are shrunk without aliasing, and changes enlarged without a shift or a frame."""

import numpy as np
import pytest

from causalcxr.common.errors import CohortError
from causalcxr.images.images import ArrayImages
from causalcxr.images.resampling import Resampling
from causalcxr.images.shrunk_images import ShrunkImages, shrunk


@pytest.mark.parametrize("native", [(64, 64), (100, 100), (128, 128), (333, 333)])
def test_shrinking_keeps_the_mean_and_a_constant_stays_constant(native):
    pixels = np.random.default_rng(0).random((2, *native))
    resampling = Resampling(native, (64, 64))
    small = resampling.shrink(pixels)
    np.testing.assert_allclose(small.mean((1, 2)), pixels.mean((1, 2)), rtol=1e-12)
    np.testing.assert_allclose(resampling.shrink(np.ones((1, *native))), 1, rtol=1e-12)
    np.testing.assert_allclose(resampling.enlarge(np.ones((1, 64, 64))), 1, rtol=1e-12)


def test_a_whole_ratio_averages_blocks():
    pixels = np.random.default_rng(0).random((1, 128, 128))
    blocks = pixels.reshape(1, 32, 4, 32, 4).mean((2, 4))
    np.testing.assert_allclose(Resampling((128, 128), (32, 32)).shrink(pixels), blocks, atol=1e-14)


def test_a_ramp_is_enlarged_to_the_same_ramp_inside():
    ramp = (np.arange(256) + 0.5) / 256
    resampling = Resampling((256, 256), (32, 32))
    small = resampling.shrink(np.tile(ramp, (1, 256, 1)))
    large = resampling.enlarge(small)
    np.testing.assert_allclose(large[0, :, 16:-16], np.tile(ramp, (256, 1))[:, 16:-16], atol=1e-12)


def test_a_radiograph_that_is_not_square_is_centred_on_black_and_cropped_back():
    resampling = Resampling((128, 96), (64, 64))
    small = resampling.shrink(np.ones((1, 128, 96)))
    assert small.shape == (1, 64, 64)
    assert (small[0, :, :8] == 0).all()
    assert (small[0, :, 56:] == 0).all()
    np.testing.assert_allclose(small[0, :, 8:56], 1, rtol=1e-12)
    # A change in one corner of the radiograph arrives in that corner.
    change = np.zeros((1, 64, 64))
    change[0, 0, 8] = 1
    large = resampling.enlarge(change)
    assert large.shape == (1, 128, 96)
    assert np.unravel_index(large[0].argmax(), large[0].shape) == (0, 0)
    assert not large[0, 8:, 8:].any()


def test_an_image_does_not_depend_on_its_batch():
    pixels = np.random.default_rng(0).random((5, 100, 77))
    resampling = Resampling((100, 77), (64, 64))
    alone = np.concatenate([resampling.shrink(pixels[[k]]) for k in range(5)])
    assert (resampling.shrink(pixels) == alone).all()
    changes = np.random.default_rng(0).normal(size=(5, 64, 64))
    alone = np.concatenate([resampling.enlarge(changes[[k]]) for k in range(5)])
    assert (resampling.enlarge(changes) == alone).all()


def test_images_that_are_smaller_than_the_model_are_refused_in_one_line():
    with pytest.raises(CohortError, match="48 x 40 pixels, smaller than the model's 64 x 64; l"):
        Resampling((48, 40), (64, 64))
    with pytest.raises(CohortError, match="smaller"):
        shrunk(ArrayImages(np.zeros((1, 48, 48))), (64, 64))


def test_shrunk_images_are_the_same_in_memory_and_keep_their_marks():
    pixels = np.random.default_rng(0).random((4, 96, 96)).astype(np.float32)
    available, synthetic = np.array([True, True, False, True]), [True, False, False, True]
    images = ArrayImages(pixels, available, synthetic)
    small = shrunk(images, (32, 32))
    assert isinstance(small, ShrunkImages)
    kept = small.in_memory()
    assert (kept[[0, 1, 3]] == small[[0, 1, 3]]).all()
    assert (small.select([3, 0])[:] == small[[3, 0]]).all()
    for each in (small, kept, small.select([0, 1, 2, 3])):
        assert each.synthetic.tolist() == synthetic
        assert each.available.tolist() == available.tolist()
    expected = Resampling((96, 96), (32, 32)).shrink(pixels[[0]])
    np.testing.assert_allclose(small[0][0], expected, atol=1e-5)
    assert shrunk(images, (96, 96)) is images
