"""Damaged images: grey values or a reason, and nothing else. `make fuzz` tries for ten minutes."""

import io

import numpy as np
import pytest
from dicom_files import RAMP, dataset, lut
from fuzzing import EXAMPLES, damaged, edits, few
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from causalcxr.images.decoding import REASONS, Decoded, ImageError, Limits, decode, decode_many

SMALL = Limits(pixels=2**18, bytes=2**22)  # so that damage cannot ask for much in this process
NOISE = np.random.default_rng(0).integers(0, 256, (24, 24), dtype=np.uint8)


def encoded(array, kind, **options):
    content = io.BytesIO()
    Image.fromarray(array).save(content, format=kind, **options)
    return content.getvalue()


def dicom(made, syntax=None, compress=None):
    if compress:
        made.compress(compress)
    if syntax:
        made.file_meta.TransferSyntaxUID = syntax
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    return content.getvalue()


def rich():
    """A data set with all that the chain reads."""
    made = dataset(RAMP[:16], WindowCenter=["2048", "1"], WindowWidth=["4096", "2"])
    made.ModalityLUTSequence = [lut(np.arange(300))]
    made.VOILUTSequence = [lut(np.arange(300), first=5)]
    made.PixelPaddingValue = 0
    made.PixelAspectRatio = ["1", "1"]
    return made


EXIF = Image.Exif()
EXIF[0x0112], EXIF[0x010F], EXIF[0x8769] = 6, "maker", {0x9003: "2026:11:24 00:00:00"}
RASTER = {
    "exif": encoded(NOISE, "JPEG", exif=EXIF),
    "png8": encoded(NOISE, "PNG"),
    "png16": encoded(NOISE.astype(np.uint16) * 257, "PNG"),
    "palette": encoded(NOISE // 16, "PNG", bits=4),
    "jpeg": encoded(NOISE, "JPEG"),
    "progressive": encoded(np.dstack([NOISE] * 3), "JPEG", progressive=True),
}
PLAIN = {
    "explicit": dicom(rich()),
    "implicit": dicom(rich(), ImplicitVRLittleEndian),
    "big": dicom(dataset(RAMP[:16].astype(">u2")), ExplicitVRBigEndian),
    "deflated": dicom(rich(), DeflatedExplicitVRLittleEndian),
    "signed": dicom(dataset(RAMP[:16].astype(np.int16), PixelRepresentation=1)),
}
PACKED = {
    "rle": dicom(dataset(RAMP[:16]), compress=RLELossless),
    "jpegls": dicom(dataset(RAMP[:16]), compress=JPEGLSLossless),
    "j2k": dicom(dataset(RAMP), compress=JPEG2000Lossless),
}


def check(result):
    """Any result is a whole image within the limits, or a named reason in one line."""
    if isinstance(result, ImageError):
        assert result.reason in REASONS
        assert "\n" not in str(result)
        assert "Doe" not in str(result)
        return
    assert isinstance(result, Decoded)
    assert result.pixels.dtype == np.uint16
    assert result.pixels.shape == (result.about["rows"], result.about["columns"])
    assert 0 < result.pixels.size <= SMALL.pixels


def attempt(path):
    try:
        return decode(path, SMALL)
    except ImageError as error:
        return error


@pytest.mark.parametrize("name", [*RASTER, *PLAIN])
@given(changes=edits)
@few()
def test_damaged_image_gives_values_or_a_reason(tmp_path, name, changes):
    path = tmp_path / "a"
    path.write_bytes(damaged((RASTER | PLAIN)[name], changes))
    check(attempt(path))


@given(content=st.binary(max_size=400), begin=st.sampled_from(
    [b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", bytes(128) + b"DICM", b"\x08\0\x08\0CS\x04\0"]
))  # fmt: skip
@few()
def test_any_bytes_give_values_or_a_reason(tmp_path, content, begin):
    path = tmp_path / "a"
    path.write_bytes(begin + content)
    check(attempt(path))


# Attributes of a picture with values that their kind allows, though nobody means them.
_NUMBERS = st.one_of(
    st.integers(-(2**15), 2**16 - 1), st.sampled_from([0, 1, 8, 12, 16, 32, 65535]), st.none()
)
_TEXTS = st.sampled_from(["", "0", "-1", "1e400", "nan", "1\\2", "LINEAR", "MONOCHROME1", "\xff"])
_WHOLE = ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated", "BitsStored", "HighBit",
          "PixelRepresentation", "PixelPaddingValue")  # fmt: skip
_WORDS = ("WindowCenter", "WindowWidth", "RescaleSlope", "RescaleIntercept", "NumberOfFrames",
          "PhotometricInterpretation", "VOILUTFunction", "PixelAspectRatio")  # fmt: skip


@given(
    whole=st.dictionaries(st.sampled_from(_WHOLE), _NUMBERS, max_size=3),
    words=st.dictionaries(st.sampled_from(_WORDS), _TEXTS, max_size=3),
)
@few()
def test_odd_attributes_give_values_or_a_reason(tmp_path, whole, words):
    made = rich()
    content = dicom(made)
    for name, value in whole.items():
        content = replaced(content, made[name].tag, value)
    for name, value in words.items():
        content = replaced(content, pydicom_tag(name), value)
    path = tmp_path / "a"
    path.write_bytes(content)
    check(attempt(path))


def pydicom_tag(name):
    from pydicom.datadict import tag_for_keyword
    from pydicom.tag import Tag

    return Tag(tag_for_keyword(name))


def replaced(content, tag, value):
    """Return a file with the value of one element put in place of what it had, if it has it."""
    head = tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little")
    place = content.find(head, 132)
    if place < 0:
        return content
    length = int.from_bytes(content[place + 6 : place + 8], "little")
    if isinstance(value, int):
        raw = (value % 2**16).to_bytes(2, "little")
    else:
        raw = b"" if value is None else value.encode("latin-1")
        raw += b" " * (len(raw) % 2)
    new = content[place : place + 6] + len(raw).to_bytes(2, "little") + raw
    return content[:place] + new + content[place + 8 + length :]


@pytest.mark.parametrize("name", PACKED)
def test_damaged_compressed_pixels_affect_only_the_worker(tmp_path, name):
    """C decoders read these: in a worker, so that a crash is a reason like any other."""
    seed = np.random.SeedSequence().entropy if EXAMPLES > 100 else 0
    rng = np.random.default_rng(seed)
    paths = []
    for k in range(EXAMPLES // 2):
        content = bytearray(PACKED[name])
        begin = content.index(b"\xe0\x7f\x10\0")
        for place in rng.integers(begin + 12, len(content), rng.integers(1, 8)):
            content[place] = rng.integers(256)
        paths.append(tmp_path / f"{k}.dcm")
        paths[-1].write_bytes(content if k % 4 else content[: rng.integers(begin, len(content))])
    results = list(decode_many(paths, 1, Limits(pixels=2**18, seconds=20, memory=2**28)))
    assert len(results) == len(paths)
    for result in results:
        check(result)
