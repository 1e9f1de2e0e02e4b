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
def test_every_grey_level_is_exact(tmp_path, dtype):
    top = np.iinfo(dtype).max
    levels = np.arange(top + 1, dtype=dtype).reshape(-1, 256 if top > 255 else 16)
    exact = (levels.astype(np.float64) / top).astype(np.float32)
    from_file = FileImages([png(tmp_path / "x.png", levels)])
    assert (ArrayImages(levels[None])[0][0, 0] == exact).all()
    assert (from_file[0][0, 0] == exact).all()
    assert (from_file.in_memory()[0][0, 0] == exact).all()


def test_in_memory_changes_no_value(tmp_path):
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
def test_any_selection_returns_k_1_h_w_float32(rows, expected):
    array = np.arange(4, dtype=np.uint8)[:, None, None] * np.ones((1, 3, 5), dtype=np.uint8)
    read = ArrayImages(array)[rows]
    assert read.shape == (len(expected), 1, 3, 5)
    assert read.dtype == np.float32
    assert np.rint(read[:, 0, 0, 0] * 255).tolist() == expected


def test_nested_selection_has_the_right_rows():
    images = ArrayImages(np.arange(10, dtype=np.uint8)[:, None, None])
    chosen = images.select([9, 5, 5, 1]).select(slice(1, None))
    assert np.rint(chosen[:][:, 0, 0, 0] * 255).tolist() == [5, 5, 1]


def test_record_without_image_is_named(tmp_path):
    images = FileImages([None, png(tmp_path / "a.png", np.zeros((4, 4), np.uint8))])
    with pytest.raises(CohortError, match="position 0 has no image"):
        images[:]


def test_rgb_and_rgba_become_luminance(tmp_path):
    colour = np.zeros((2, 2, 3), dtype=np.uint8)
    colour[..., 0] = 200
    path = png(tmp_path / "rgb.png", colour)
    alpha = png(tmp_path / "rgba.png", np.dstack([colour, np.full((2, 2), 9, np.uint8)]))
    read = FileImages([path, alpha])[:]
    assert np.allclose(read * 255, round(0.299 * 200), atol=0.5)


def test_resizing_averages_stripes(tmp_path):
    stripes = np.tile(np.array([0, 255], dtype=np.uint8), (64, 32))
    images = FileImages([png(tmp_path / "s.png", stripes)], size=(16, 16))
    assert images.size == (16, 16)
    assert np.abs(images[0][..., 1:-1] - 0.5).max() < 1e-4
    assert np.abs(images[0] - 0.5).max() < 0.05
    assert (images.in_memory()[0] == images[0]).all()


def test_constant_image_is_allowed(tmp_path):
    images = FileImages([png(tmp_path / "c.png", np.full((8, 8), 7, np.uint8))], size=(4, 4))
    assert np.allclose(images[0], 7 / 255, atol=1e-5)


def test_files_of_two_sizes_need_a_size(tmp_path):
    paths = [png(tmp_path / f"{k}.png", np.zeros((k, k), np.uint8)) for k in (4, 8)]
    with pytest.raises(CohortError, match=r"8\.png: the image is 8x8, others are 4x4; resize"):
        FileImages(paths)[:]


@pytest.mark.parametrize(("width", "height"), [(65535, 65535), (2**31 - 1, 1), (0, 5)])
def test_absurd_size_is_refused(tmp_path, width, height):
    (tmp_path / "bomb.png").write_bytes(header(width, height) + b"\0" * 64)
    with pytest.raises(CohortError, match=r"bomb\.png"):
        FileImages([tmp_path / "bomb.png"], size=(64, 64))[0]


def test_damage_names_the_path(tmp_path):
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
def test_invalid_array_is_refused(array, message):
    with pytest.raises(CohortError, match=message):
        ArrayImages(array)


def test_wrong_number_of_images_is_refused():
    with pytest.raises(CohortError, match="3 images for 2 records"):
        as_images(np.zeros((3, 4, 4), np.uint8), 2)


def test_images_do_not_expose_the_array():
    images = ArrayImages(np.zeros((1, 2, 2), dtype=np.uint8))
    images[0][:] = 1
    assert images[0].max() == 0
    with pytest.raises(ValueError, match="read-only"):
        images.available[0] = False


def test_series_as_a_mask_of_images_is_refused():
    images = ArrayImages(np.zeros((2, 4, 4), dtype=np.uint8))
    with pytest.raises(CohortError, match=r"write cohort.select\(mask\).images"):
        images.select(pd.Series([True, False], index=["b", "a"]))
