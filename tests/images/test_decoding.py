"""Any image file: by its content, within its limits, in workers; bad ones are named."""

import gzip
import os
import shutil
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from dicom_files import RAMP, dataset, written
from PIL import Image

from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import (
    REASONS,
    Decoded,
    ImageError,
    Limits,
    decode,
    decode_many,
    file_format,
    fitted,
)  # fmt: skip
from causalcxr.images.file_images import FileImages
from causalcxr.images.pixels import resized
from causalcxr.images.png_and_jpeg import jpeg_frame

GREY = np.arange(256, dtype=np.uint8).reshape(16, 16)
SMOOTH = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)


def saved(path, array, kind="PNG", **options):
    Image.fromarray(array).save(path, format=kind, **options)
    return path


def refused(path, limits=None):
    with pytest.raises(ImageError) as caught:
        decode(path, limits or Limits())
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    assert caught.value.reason in REASONS
    return caught.value.reason


def chunk(name, body):
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_of(width, height, body=b"", depth=8, kind=0):
    """Return a PNG of any claims, with any content."""
    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", body), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# Depths and kinds


def test_8_and_16_bits_keep_every_grey_level(tmp_path):
    eight = decode(saved(tmp_path / "8.png", GREY))
    assert (eight.pixels == GREY.astype(int) * 257).all()
    assert (eight.bits, eight.about["format"], eight.about["notes"]) == (8, "PNG", [])
    deep = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    sixteen = decode(saved(tmp_path / "16.png", deep))
    assert (sixteen.pixels == deep).all()
    assert (sixteen.bits, sixteen.pixels.dtype) == (16, np.uint16)


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_fewer_than_8_bits_fill_the_range(tmp_path, bits):
    row = bytes([0b00011011 if bits == 2 else 0b00001111])
    (tmp_path / "a.png").write_bytes(png_of(8 // bits, 1, zlib.compress(b"\0" + row), bits))
    decoded = decode(tmp_path / "a.png")
    expected = {1: [0] * 4 + [65535] * 4, 2: [0, 21845, 43690, 65535], 4: [0, 65535]}[bits]
    assert decoded.pixels.tolist() == [expected]
    assert decoded.bits == bits


@pytest.mark.parametrize("kind", ["RGB", "RGBA", "P", "LA"])
def test_colour_and_alpha_become_luminance(tmp_path, kind):
    image = Image.merge("RGB", [Image.fromarray(band) for band in (GREY, GREY, GREY)])
    (image.quantize(256) if kind == "P" else image.convert(kind)).save(tmp_path / "a.png")
    decoded = decode(tmp_path / "a.png")
    assert (decoded.pixels == GREY.astype(int) * 257).all()
    assert bool(decoded.about["notes"]) == (kind != "LA")


def test_jpeg_becomes_luminance_in_its_orientation(tmp_path):
    grey = decode(saved(tmp_path / "a.jpg", SMOOTH, "JPEG", quality=95))
    assert np.abs(grey.pixels / 257 - SMOOTH).max() <= 4
    assert (grey.about["format"], grey.bits, grey.about["notes"]) == ("JPEG", 8, [])
    colour = decode(saved(tmp_path / "b.jpg", np.dstack([SMOOTH] * 3), "JPEG", quality=95))
    assert np.abs(colour.pixels / 257 - SMOOTH).max() <= 4
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned = decode(saved(tmp_path / "c.jpg", SMOOTH, "JPEG", quality=95, exif=exif))
    assert (turned.pixels == grey.pixels[::-1, ::-1]).all()
    assert turned.about["notes"] == ["rotated by its EXIF orientation"]


def test_pylibjpeg_reads_deep_and_lossless_jpeg(tmp_path):
    pytest.importorskip("libjpeg")
    made = dataset()
    made.compress("1.2.840.10008.1.2.4.80")  # JPEG-LS, which Pillow does not read
    from pydicom.encaps import get_frame

    (tmp_path / "a.jpg").write_bytes(get_frame(made.PixelData, 0, number_of_frames=1))
    decoded = decode(tmp_path / "a.jpg")
    top = 2**decoded.bits - 1
    assert (decoded.pixels == np.rint(RAMP * (65535 / top))).all()


# By content, not by name


def test_content_determines_the_format(tmp_path):
    assert decode(saved(tmp_path / "png.dcm", GREY)).about["format"] == "PNG"
    assert decode(saved(tmp_path / "jpeg.png", SMOOTH, "JPEG")).about["format"] == "JPEG"
    assert decode(written(tmp_path / "dicom.png")).about["format"] == "DICOM"


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (gzip.compress(b"x", mtime=0), "gzip"),
        (b"PK\x03\x04....", "zip"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"<html>404</html>", "HTML"),
        (b"Image Index,Finding\n", "of an unknown format"),
        (b"\x89PN", "of an unknown format"),
        (b"\x08\x00", "of an unknown format"),
    ],
)
def test_other_formats_are_named(tmp_path, content, word):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ImageError, match=word) as caught:
        decode(tmp_path / "a.png")
    assert caught.value.reason == "unknown"


def test_dicom_with_a_tiff_preamble_is_dicom():
    assert file_format(b"II*\0" + bytes(124) + b"DICM") == "DICOM"


# What is no file, and paths that lead away


def test_missing_empty_or_unreadable_file_has_its_reason(tmp_path):
    (tmp_path / "empty.png").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "loop.png").symlink_to("loop.png")
    assert refused(tmp_path / "absent.png") == "missing"
    assert refused(tmp_path / "empty.png") == "empty"
    assert refused(tmp_path) == "unreadable"
    assert refused(tmp_path / "pipe.png") == "unreadable"
    assert refused(tmp_path / "loop.png") == "unreadable"
    assert refused("nul\0l.png") == "unreadable"


def test_paths_out_of_the_root_are_refused(tmp_path):
    root = tmp_path / "root"
    (root / "films").mkdir(parents=True)
    saved(tmp_path / "secret.png", GREY)
    saved(root / "films/a.png", GREY)
    (root / "link.png").symlink_to(tmp_path / "secret.png")
    (root / "inside.png").symlink_to(root / "films/a.png")
    limits = Limits(root=root)
    assert refused(root / "films/../../secret.png", limits) == "outside"
    assert refused(root / "link.png", limits) == "outside"
    assert decode(root / "inside.png", limits).bits == 8
    assert decode(root / "films/../films/a.png", limits).bits == 8
    [error] = decode_many([root / "link.png"], 1, limits)
    assert error.reason == "outside"


# Sizes and damage


@pytest.mark.parametrize(
    ("width", "height", "reason"),
    [(65535, 65535, "large"), (2**31 - 1, 1, "damaged"), (0, 5, "damaged"), (9000, 9000, "large")],
)
def test_absurd_header_is_refused_before_allocation(tmp_path, width, height, reason):
    (tmp_path / "a.png").write_bytes(png_of(width, height))
    found = refused(tmp_path / "a.png")
    assert found == ("large" if width * height > 64 * 2**20 else reason)


def test_png_bomb_is_inflated_only_to_its_header(tmp_path):
    # 128 MiB of zeros in 128 KiB, behind a header of 4 x 4, as pixels and as a text.
    packer = zlib.compressobj(9)
    bomb = b"".join(packer.compress(bytes(2**20)) for _ in range(128)) + packer.flush()
    good = png_of(4, 4, zlib.compress(bytes(20)))
    (tmp_path / "a.png").write_bytes(png_of(4, 4, bomb))
    (tmp_path / "b.png").write_bytes(good[:33] + chunk(b"zTXt", b"k\0\0" + bomb) + good[33:])
    paths = [tmp_path / "a.png", tmp_path / "b.png"]
    for result in decode_many(paths, 1, Limits(memory=48 * 2**20)):
        assert isinstance(result, Decoded) or result.reason in ("damaged", "truncated")


def test_animation_is_refused(tmp_path):
    frames = [Image.fromarray(GREY), Image.fromarray(GREY.T.copy())]
    frames[0].save(tmp_path / "a.png", save_all=True, append_images=frames[1:])
    assert refused(tmp_path / "a.png") == "frames"


@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_damaged_or_cut_file_has_a_reason(tmp_path, kind):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    whole = saved(tmp_path / "whole", noise, kind).read_bytes()
    (tmp_path / "a").write_bytes(whole[: len(whole) // 2])
    assert refused(tmp_path / "a") in ("truncated", "damaged")
    (tmp_path / "b").write_bytes(whole[:15])
    assert refused(tmp_path / "b") in ("truncated", "damaged")
    if kind == "PNG":
        (tmp_path / "c").write_bytes(whole[:60] + b"\xff" * 40 + whole[100:])
        assert refused(tmp_path / "c") == "damaged"


def test_too_large_a_jpeg_is_refused_before_allocation(tmp_path):
    whole = bytearray(saved(tmp_path / "a.jpg", SMOOTH, "JPEG").read_bytes())
    place = whole.index(b"\xff\xc0")
    whole[place + 5 : place + 9] = b"\xff\xff\xff\xff"
    (tmp_path / "a.jpg").write_bytes(whole)
    assert jpeg_frame(whole).rows == 65535
    assert refused(tmp_path / "a.jpg") == "large"
    assert refused(saved(tmp_path / "b.png", GREY), Limits(bytes=20)) == "large"


# Workers


def test_many_files_are_decoded_in_order(tmp_path):
    (tmp_path / "bad.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    paths = [saved(tmp_path / f"{k}.png", GREY + np.uint8(k)) for k in range(9)]
    paths[4:4] = [tmp_path / "bad.png", tmp_path / "absent.png"]
    results = list(decode_many(iter(map(str, paths)), workers=2))
    reasons = [getattr(result, "reason", None) for result in results]
    assert reasons == [None] * 4 + ["truncated", "missing"] + [None] * 5
    for path, result in zip(paths, results, strict=True):
        if isinstance(result, Decoded):
            alone = decode(path)
            assert (result.pixels == alone.pixels).all()
            assert (result.bits, result.about) == (alone.bits, alone.about)
    small = next(decode_many(paths[:1], 1, size=(4, 6)))
    assert (small.pixels == fitted(decode(paths[0]).pixels, (4, 6))).all()


def test_limits_of_memory_and_time_affect_one_file(tmp_path):
    big = saved(tmp_path / "big.png", np.zeros((6000, 6000), np.uint8))
    small = saved(tmp_path / "small.png", GREY)
    results = list(decode_many([small, big, small], 1, Limits(memory=48 * 2**20)))
    assert [getattr(r, "reason", "") for r in results] == ["", "memory", ""]
    results = list(decode_many([big], 1, Limits(seconds=0.0)))
    assert results[0].reason == "slow"


def workers():
    """Return the ids of this process's workers."""
    listed = subprocess.run(
        ["ps", "-ww", "--ppid", str(os.getpid()), "-o", "pid=,args="],
        capture_output=True,
        text=True,
    )
    lines = listed.stdout.splitlines()
    return [int(line.split()[0]) for line in lines if "decoding_worker" in line]


@pytest.mark.skipif(shutil.which("ps") is None, reason="no ps here")
def test_dead_worker_is_replaced(tmp_path):
    path = saved(tmp_path / "a.png", GREY)
    results = decode_many([path] * 50, 1)
    next(results)
    [first] = workers()
    os.kill(first, 9)
    assert all(isinstance(next(results), Decoded) for _ in range(20))
    assert first not in workers()
    begun = time.monotonic()
    results.close()  # nobody asks for the rest
    assert time.monotonic() - begun < 10
    assert workers() == []


def test_worker_cannot_write_or_import_data(tmp_path):
    (tmp_path / "numpy.py").write_text("raise SystemExit('imported from the data')")
    path = saved(tmp_path / "a.png", GREY)
    code = (
        "from causalcxr.images.decoding import decode_many; "
        f"print(next(decode_many([{str(path)!r}], 1)).bits)"
    )
    found = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert found.stdout.strip() == "8"
    limited = (
        "import os; from causalcxr.images.decoding_worker import _limit; _limit(2**30); "
        f"os.write(os.open({str(tmp_path / 'x')!r}, os.O_WRONLY | os.O_CREAT), b'x')"
    )
    found = subprocess.run([sys.executable, "-P", "-c", limited], capture_output=True, text=True)
    assert "File too large" in found.stderr
    assert (tmp_path / "x").stat().st_size == 0


def test_zero_workers_are_refused():
    with pytest.raises(CohortError, match="workers=0"):
        decode_many([], 0)
    assert list(decode_many([], 1)) == []


# Sizes


def test_fitted_keeps_proportions_on_black():
    tall = np.full((80, 40), 65535, np.uint16)
    out = fitted(tall, (20, 20))
    assert (out[:, 5:15] == 65535).all()
    assert (out[:, :5] == 0).all()
    assert (out[:, 15:] == 0).all()
    assert fitted(tall, (80, 40)) is tall
    assert fitted(tall, (1, 1)).shape == (1, 1)
    assert fitted(np.full((1, 4000), 65535, np.uint16), (8, 8)).max() == 65535


def test_fitted_averages_stripes():
    stripes = np.tile(np.array([0, 65535], np.uint16), (64, 32))
    out = fitted(stripes, (16, 16))
    assert np.abs(out[:, 1:-1] / 65535 - 0.5).max() < 1e-3
    grey = np.random.default_rng(0).integers(0, 65536, (64, 64)).astype(np.uint16)
    assert np.abs(fitted(grey, (16, 16)).astype(int) - resized(grey, (16, 16))).max() <= 1


@pytest.mark.parametrize("pixels", [np.zeros((2, 2)), np.zeros((2, 2, 1), np.uint16)])
def test_fitted_refuses_other_arrays(pixels):
    with pytest.raises(CohortError, match="give"):
        fitted(pixels, (4, 4))
    with pytest.raises(CohortError, match="size 0x4"):
        fitted(np.zeros((2, 2), np.uint16), (0, 4))


def test_cohort_reads_images_of_any_name(tmp_path):
    paths = [saved(tmp_path / "a", SMOOTH), saved(tmp_path / "b.png", SMOOTH, "JPEG", quality=95)]
    images = FileImages(paths)
    assert images.size == (64, 64)
    assert np.abs(images[0] - images[1]).max() * 255 <= 4
