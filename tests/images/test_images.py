"""Radiographs are read exactly, lazily, and what is damaged is named."""

import struct
import zlib

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from causalcxr.common.errors import CohortError
from causalcxr.images.file_images import FileImages
from causalcxr.images.images import ArrayImages, as_images


def png(path, array):
    Image.fromarray(array).save(path, format="PNG")
    return path


def header(width, height):
    """Return a PNG that claims a size and holds nothing."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_given_every_grey_level_when_read_from_an_array_or_a_png_then_it_is_exact(tmp_path, dtype):
    top = np.iinfo(dtype).max
    levels = np.arange(top + 1, dtype=dtype).reshape(-1, 256 if top > 255 else 16)
    exact = (levels.astype(np.float64) / top).astype(np.float32)
    from_file = FileImages([png(tmp_path / "x.png", levels)])
    assert (ArrayImages(levels[None])[0][0, 0] == exact).all()
    assert (from_file[0][0, 0] == exact).all()
    assert (from_file.in_memory()[0][0, 0] == exact).all()


def test_given_8_and_16_bit_files_when_held_in_memory_then_no_value_changes(tmp_path):
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    deep = (np.arange(256, dtype=np.uint16) * 251).reshape(16, 16)
    images = FileImages([png(tmp_path / "a.png", grey), None, png(tmp_path / "b.png", deep)])
    held = images.in_memory()
    assert (held[[0, 2]] == images[[0, 2]]).all()
    assert held.available.tolist() == [True, False, True]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (2, [2]),
        (-1, [3]),
        (slice(1, 3), [1, 2]),
        ([3, 0, 0], [3, 0, 0]),
        (np.array([True, False, False, True]), [0, 3]),
        ([], []),
    ],
)
def test_given_rows_of_any_kind_when_read_then_k_1_h_w_float32_comes_back(rows, expected):
    array = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 3, 5), dtype=np.uint8)
    read = ArrayImages(array)[rows]
    assert read.shape == (len(expected), 1, 3, 5)
    assert read.dtype == np.float32
    assert np.rint(read[:, 0, 0, 0] * 255).tolist() == expected


def test_given_a_selection_of_a_selection_when_read_then_rows_are_the_right_ones():
    images = ArrayImages(np.arange(10, dtype=np.uint8)[:, None, None])
    chosen = images.select([9, 5, 5, 1]).select(slice(1, None))
    assert np.rint(chosen[:][:, 0, 0, 0] * 255).tolist() == [5, 5, 1]


def test_given_a_record_without_an_image_when_read_then_its_position_is_named(tmp_path):
    images = FileImages([None, png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))])
    with pytest.raises(CohortError, match="position 0 has no image"):
        images[:]


def test_given_rgb_and_rgba_when_read_then_luminance_comes_back(tmp_path):
    colour = np.zeros((2, 2, 3), dtype=np.uint8)
    colour[..., 0] = 200
    path = png(tmp_path / "rgb.png", colour)
    alpha = png(tmp_path / "rgba.png", np.dstack([colour, np.full((2, 2), 9, np.uint8)]))
    read = FileImages([path, alpha])[:]
    assert np.allclose(read * 255, round(0.299 * 200), atol=0.5)


def test_given_stripes_when_reduced_then_they_are_averaged_not_aliased(tmp_path):
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    images = FileImages([png(tmp_path / "s.png", stripes)], size=(16, 16))
    assert images.size == (16, 16)
    assert np.abs(images[0][..., 1:-1] - 0.5).max() < 1e-4
    assert np.abs(images[0] - 0.5).max() < 0.05
    assert (images.in_memory()[0] == images[0]).all()


def test_given_a_constant_image_when_read_then_it_is_allowed(tmp_path):
    images = FileImages([png(tmp_path / "c.png", np.full((8, 8), 7, np.uint8))], size=(4, 4))
    assert np.allclose(images[0], 7 / 255, atol=1e-5)


def test_given_files_of_two_sizes_and_none_asked_when_read_then_the_remedy_is_told(tmp_path):
    paths = [png(tmp_path / f"{k}.png", np.zeros((k, k), np.uint8)) for k in (4, 8)]
    with pytest.raises(CohortError, match=r"8\.png: the image is 8x8, others are 4x4; give the"):
        FileImages(paths)[:]


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (2**31 - 1, 1), (0, 5)])
def test_given_a_header_of_an_absurd_size_when_read_then_it_is_refused(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(header(width, height) + b"\0" * 64)
    with pytest.raises(CohortError, match=r"bomb\.png"):
        FileImages([tmp_path / "bomb.png"], size=(64, 64))[0]


def test_given_damage_when_read_then_the_path_is_named(tmp_path):
    rng = np.random.default_rng(0)
    whole = png(tmp_path / "x.png", rng.integers(0, 255, (64, 64), dtype=np.uint8)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[:2000])
    (tmp_path / "flipped.png").write_bytes(whole[:60] + b"\xff" * 40 + whole[100:])
    (tmp_path / "text.png").write_text("not an image")
    (tmp_path / "empty.png").write_bytes(b"")
    for name in ("cut", "flipped", "text", "empty", "absent"):
        with pytest.raises(CohortError, match=rf"{name}\.png: "):
            FileImages([tmp_path / f"{name}.png"])[0]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((1, 2, 2), np.nan), "nan"),
        (np.full((1, 2, 2), 1.5), "from 1.5 to 1.5"),
        (np.zeros((1, 2, 2), dtype=np.int64), "images are int64"),
        (np.zeros((2, 2)), r"shape \(2, 2\)"),
        (np.zeros((1, 3, 2, 2)), r"shape \(1, 3, 2, 2\)"),
    ],
)
def test_given_an_array_that_is_no_radiograph_then_it_is_refused(array, message):
    with pytest.raises(CohortError, match=message):
        ArrayImages(array)


def test_given_images_for_other_records_then_they_are_refused():
    with pytest.raises(CohortError, match="3 images for 2 records"):
        as_images(np.zeros((3, 4, 4), np.uint8), 2)


def test_given_an_array_when_the_images_are_read_then_it_cannot_be_written_through_them():
    images = ArrayImages(np.zeros((1, 2, 2), dtype=np.uint8))
    images[0][:] = 1
    assert images[0].max() == 0
    with pytest.raises(ValueError, match="read-only"):
        images.available[0] = False


def test_given_a_series_as_a_mask_of_images_then_it_is_refused_as_they_have_no_ids():
    images = ArrayImages(np.zeros((2, 4, 4), dtype=np.uint8))
    with pytest.raises(CohortError, match=r"write cohort.select\(mask\).images"):
        images.select(pd.Series([True, False], index=["b", "a"]))
