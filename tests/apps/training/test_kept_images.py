"""Images kept on disk: each computed once, whatever ends the process that computes them."""

import numpy as np
import pytest

from causalcxr.apps.training.kept_images import KeptImages
from causalcxr.cohort import Cohort
from causalcxr.images.images import ArrayImages
from causalcxr.images.shrunk_images import shrunk


@pytest.fixture(scope="module")
def phantoms():
    return Cohort.load("phantom", n=12, seed=1, size=32).images


class Unreadable(ArrayImages):
    """Images of the same fingerprint that cannot be read."""

    def __init__(self, images):
        super().__init__(np.zeros((len(images), *images.size)), synthetic=True)
        self.other = images

    def fingerprint(self):
        return self.other.fingerprint()

    def select(self, rows):
        raise AssertionError("computed again")


@pytest.mark.parametrize("bits", [8, 12])
def test_kept_images_equal_the_rendered_ones_and_are_rendered_once(tmp_path, bits):
    images = Cohort.load("phantom", n=6, seed=1, size=32, bits=bits).images
    kept = KeptImages(images, tmp_path, levels=2**bits - 1)
    rows = np.array([4, 1, 4])
    assert np.array_equal(kept[rows], images[rows])
    assert kept.missing.tolist() == [0, 2, 3, 5]
    # Another process, later.
    again = KeptImages(Unreadable(images), tmp_path, levels=2**bits - 1)
    assert np.array_equal(again[rows], images[rows])
    with pytest.raises(AssertionError, match="computed again"):
        again[np.array([0])]


def test_all_images_are_computed_ahead_in_parts(phantoms, tmp_path):
    kept = KeptImages(phantoms, tmp_path)
    kept.fill(part=(1, 2))
    assert kept.missing.tolist() == [0, 2, 4, 6, 8, 10]
    kept.fill()
    assert len(kept.missing) == 0
    kept.fill()
    assert np.array_equal(kept[np.arange(12)], phantoms[:])


@pytest.mark.slow  # starts processes
def test_several_processes_compute_the_same_images(phantoms, tmp_path):
    kept = KeptImages(phantoms, tmp_path)
    kept.fill(workers=2)
    again = KeptImages(Unreadable(phantoms), tmp_path)
    assert np.array_equal(again[np.arange(12)], phantoms[:])


def test_an_image_that_a_crash_has_cut_off_is_computed_again(phantoms, tmp_path):
    KeptImages(phantoms, tmp_path).fill()
    (file,) = tmp_path.glob("*.pixels")
    content = bytearray(file.read_bytes())
    content[3 * 32**2 + 500 : 4 * 32**2] = bytes(524)
    file.write_bytes(content)
    kept = KeptImages(phantoms, tmp_path)
    assert np.array_equal(kept[np.array([2, 3])], phantoms[[2, 3]])
    assert np.array_equal(KeptImages(Unreadable(phantoms), tmp_path)[np.array([3])], phantoms[3])


def test_other_images_have_other_files(phantoms, tmp_path):
    others = (phantoms, shrunk(phantoms, (16, 16)), Cohort.load("phantom", n=12, size=32).images)
    for images in others:
        assert len(KeptImages(images, tmp_path).missing) == 12
    assert len(list(tmp_path.iterdir())) == 6


def test_shrunk_images_are_kept_as_they_are(phantoms, tmp_path):
    images = shrunk(phantoms, (16, 16))
    assert np.array_equal(KeptImages(images, tmp_path, 65535)[np.arange(12)], images[:])
