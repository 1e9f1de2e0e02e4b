"""DICOM files of every coding, and those that are cut, too large or not what they say."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from dicom_files import (
    EXACT,
    RAMP,
    WINDOW,
    compressed,
    dataset,
    lut,
    refused,
    shades,
    told_of,
    written,
)
from pydicom.encaps import encapsulate
from pydicom.uid import (
    MPEG2MPML,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from causalcxr.images.decoding import Decoded, Limits, decode, decode_many
from causalcxr.images.file_images import FileImages

# Frames, sizes, damage


def test_several_frames_are_refused(tmp_path):
    twice = np.concatenate([RAMP, RAMP])
    told = {"NumberOfFrames": 2, "Rows": 64, "PixelData": twice.tobytes()}
    assert refused(written(tmp_path / "a.dcm", **told))[0] == "frames"


def test_unannounced_frames_are_refused(tmp_path):
    twice = np.concatenate([RAMP, RAMP])
    reason, text = refused(written(tmp_path / "a.dcm", pixels=twice, Rows=64))
    assert (reason, "2 frames of pixels; the header announces one" in text) == ("frames", True)
    made = dataset()
    made.compress(RLELossless)
    frame = pydicom.encaps.get_frame(made.PixelData, 0, number_of_frames=1)
    made.PixelData = encapsulate([frame, frame])
    assert refused(written(tmp_path / "b.dcm", made))[0] == "frames"


@pytest.mark.parametrize("frames", ["0", "-3", "1000000"])
def test_absurd_number_of_frames_is_refused(tmp_path, frames):
    assert refused(written(tmp_path / "a.dcm", NumberOfFrames=frames))[0] == "frames"


def test_huge_header_is_refused_before_allocation(tmp_path):
    path = written(tmp_path / "a.dcm", Rows=65535, Columns=65535)
    reason, text = refused(path)
    assert (reason, "claims 65535x65535 pixels" in text) == ("large", True)
    assert refused(written(tmp_path / "b.dcm"), Limits(pixels=4095))[0] == "large"
    assert refused(written(tmp_path / "c.dcm", Rows=0))[0] == "damaged"


def test_stream_of_another_size_is_refused(tmp_path):
    made = dataset()
    made.compress(JPEG2000Lossless)
    made.Rows = 32
    reason, text = refused(written(tmp_path / "a.dcm", made))
    assert (reason, "pixels are 64x64x1, the file says 32x64x1" in text) == ("damaged", True)


def test_cut_file_has_a_reason(tmp_path):
    whole = written(tmp_path / "a.dcm", **WINDOW).read_bytes()
    path = tmp_path / "cut.dcm"
    for length in (*range(1, 700, 37), len(whole) // 2, len(whole) - 2):
        path.write_bytes(whole[:length])
        assert refused(path)[0] in (
            "truncated",
            "damaged",
            "unknown",
            "photometric",
            "unsupported",
        )


def test_cut_compressed_file_is_refused(tmp_path):
    for name, syntax in (("r", RLELossless), ("j", JPEG2000Lossless), ("l", JPEGLSLossless)):
        path = compressed(tmp_path / f"{name}.dcm", syntax)
        path.write_bytes(path.read_bytes()[:-20])
        assert refused(path)[0] in ("truncated", "damaged")


@pytest.mark.parametrize(
    "about",
    [
        {"BitsAllocated": 12},
        {"BitsStored": 17},
        {"HighBit": 20},
        {"Rows": None},
        {"BitsAllocated": None},
        {"PixelData": b""},
        {"PixelRepresentation": 7},
    ],
)
def test_contradictory_layout_is_refused(tmp_path, about):
    path = written(tmp_path / "a.dcm", **about)
    assert refused(path)[0] in ("damaged", "unsupported", "truncated")


def test_movie_is_refused(tmp_path):
    made = dataset()
    made.PixelData = encapsulate([b"\xff\xd8\xff\xc0\0\x0b\x08\0\x40\0\x40\x01\x01\x11\0"])
    made.file_meta.TransferSyntaxUID = MPEG2MPML
    assert refused(written(tmp_path / "a.dcm", made))[0] in ("unsupported", "damaged")


def test_deep_sequences_give_one_line(tmp_path):
    made = dataset(**WINDOW)
    whole = written(tmp_path / "a.dcm", made).read_bytes()
    # (0008,1140) in (0008,1140) in ..., 5,000 deep, of undefined length, before everything else.
    begin = b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    end = b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    place = whole.index(b"\x08\0\x16\0UI")
    path = tmp_path / "deep.dcm"
    path.write_bytes(whole[:place] + begin * 5000 + end * 5000 + whole[place:])
    [result] = decode_many([path], 1)
    assert isinstance(result, Decoded) or result.reason == "damaged"


# Transfer syntaxes and headers


@pytest.mark.parametrize("syntax", [JPEG2000Lossless, JPEGLSLossless, RLELossless])
@pytest.mark.parametrize("signed", [False, True])
def test_lossless_copy_has_the_same_pixels(tmp_path, syntax, signed):
    pixels = RAMP.astype(np.int16) - 2048 if signed else RAMP
    about = {"PixelRepresentation": int(signed), "WindowCenter": 0 if signed else 2048}
    made = dataset(pixels, WindowWidth=4096, **about)
    decoded = decode(compressed(tmp_path / "a.dcm", syntax, made))
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["transfer_syntax"] == syntax.name


@pytest.mark.parametrize(
    "syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]
)
def test_every_uncompressed_syntax_has_the_same_pixels(tmp_path, syntax):
    big = syntax == ExplicitVRBigEndian
    made = dataset(RAMP.astype(">u2") if big else RAMP, **WINDOW)
    made.VOILUTSequence = [lut(np.arange(4096) * 16)]
    if big:
        made.VOILUTSequence[0].LUTData = (np.arange(4096) * 16).astype(">u2").tobytes()
    made.file_meta.TransferSyntaxUID = syntax
    found = shades(written(tmp_path / "a.dcm", made))
    assert (found == np.arange(4096) * 16).all()


def test_deflated_bomb_is_refused(tmp_path):
    made = dataset(np.zeros((4000, 4000), np.uint16))
    made.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    path = written(tmp_path / "a.dcm", made)
    assert path.stat().st_size < 2**16
    reason, text = refused(path, Limits(bytes=2**20))
    assert (reason, "inflates to more than" in text) == ("large", True)


def test_file_without_preamble_is_read_with_a_note(tmp_path):
    whole = written(tmp_path / "a.dcm", **WINDOW).read_bytes()
    path = tmp_path / "bare"
    path.write_bytes(whole[whole.index(b"\x08\0\x16\0UI") :])
    decoded = decode(path)
    assert (decoded.pixels.ravel() == EXACT).all()
    assert decoded.about["notes"][0].startswith("no preamble")
    assert "no transfer syntax" in decoded.about["notes"][1]


def test_compressed_pixels_need_a_transfer_syntax(tmp_path):
    whole = compressed(tmp_path / "a.dcm", RLELossless).read_bytes()
    path = tmp_path / "bare"
    path.write_bytes(whole[whole.index(b"\x08\0\x16\0UI") :])
    assert refused(path)[0] in ("unsupported", "damaged")


def test_messages_contain_no_names(tmp_path):
    whole = bytearray(written(tmp_path / "a.dcm").read_bytes())
    place = whole.index(b"Doe^John")
    for k in range(place - 8, place + 30):
        changed = whole.copy()
        changed[k] = 0xFF
        path = tmp_path / "b.dcm"
        path.write_bytes(changed)
        told = told_of(path)
        assert "Doe" not in told
        assert "SECRET" not in told


def test_logs_contain_no_names_or_dates(tmp_path, caplog):
    whole = written(tmp_path / "a.dcm", PatientBirthDate="19010101", **WINDOW).read_bytes()
    path = tmp_path / "b.dcm"
    path.write_bytes(whole.replace(b"19010101", b"Doe/1901").replace(b"Doe^John", b"Doe=^=^="))
    with caplog.at_level("DEBUG"):
        assert (shades(path) == EXACT).all()
    assert "Doe" not in caplog.text


def test_non_square_pixels_are_noted(tmp_path):
    odd = decode(written(tmp_path / "a.dcm", PixelAspectRatio=["2", "1"], **WINDOW))
    assert odd.about["notes"] == ["pixels are not square, and shown as they are stored"]
    even = decode(written(tmp_path / "b.dcm", PixelAspectRatio=["1", "1"], **WINDOW))
    assert even.about["notes"] == []


def test_pixel_spacing_of_zero_is_ignored(tmp_path):
    assert (shades(written(tmp_path / "a.dcm", PixelSpacing=[0, 0], **WINDOW)) == EXACT).all()


def test_cohort_reads_dicom_files(tmp_path):
    paths = [written(tmp_path / "a", **WINDOW), None, written(tmp_path / "b", **WINDOW)]
    images = FileImages(paths)
    assert images.size == (64, 64)
    assert np.abs(images[0][0, 0].ravel() - np.arange(4096) / 4095).max() < 1e-5
    assert (images.in_memory()[[0, 2]] == images[[0, 2]]).all()
    eight = written(tmp_path / "c", pixels=RAMP.astype(np.uint8), WindowCenter=9, WindowWidth=7)
    assert (FileImages([eight])[0][0, 0] == decode(eight).pixels / np.float32(65535)).all()


def test_lossless_jpeg_of_another_encoder_has_the_same_pixels(tmp_path):
    if shutil.which("dcmcjpeg") is None:
        pytest.skip("dcmtk is not here")
    plain = written(tmp_path / "a.dcm", **WINDOW)
    subprocess.run(["dcmcjpeg", "+e1", plain, tmp_path / "b.dcm"], check=True)
    decoded = decode(tmp_path / "b.dcm")
    assert decoded.about["transfer_syntax"] == JPEGLosslessSV1.name
    assert (decoded.pixels.ravel() == EXACT).all()
