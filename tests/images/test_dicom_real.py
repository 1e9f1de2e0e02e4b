"""Real DICOM files beside DCMTK, an independent reader: no more than one grey level of 8 bits.

DCMTK's programs come with Debian's package `dcmtk`; without them, or without the shared data, the
tests are skipped.
"""

import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.uid import JPEG2000Lossless, JPEGLSLossless, RLELossless

from causalcxr.images.decoding import decode

# File -> the options of dcmj2pnm that ask for what the file's header asks for.
WINDOW = ("+Wi", "1")
FILES = {
    "CR-MONO1-10-chest": WINDOW, "WG04_RG1_J2KI": WINDOW, "WG04_RG1_JLSN": WINDOW,
    "WG04_RG3_J2KR": WINDOW, "WG04_RG3_JLSL": WINDOW, "WG04_RG3_JPLL": WINDOW,
    "WG04_RG3_RLE": WINDOW, "mlut_18": ("+Wm",), "vlut_04": ("+Wl", "1"), "nih_google_dx": (),
}  # fmt: skip
# Copies that pydicom writes, and those that DCMTK does: program and options.
BY_PYDICOM = {"RLE": RLELossless, "JPEG-LS": JPEGLSLossless, "JPEG 2000": JPEG2000Lossless}
BY_DCMTK = {
    "JPEG lossless": ("dcmcjpeg", "+e1"), "deflated": ("dcmconv", "+td"),
    "big endian": ("dcmconv", "+tb"), "implicit": ("dcmconv", "+ti"), "RLE": ("dcmcrle",),
    "JPEG-LS": ("dcmcjpls", "+el"),
}  # fmt: skip
needs_dcmtk = pytest.mark.skipif(shutil.which("dcmj2pnm") is None, reason="dcmtk is not here")


def plain(path: Path, folder: Path) -> Path:
    """Return a copy without compression, which pydicom makes: DCMTK does not read JPEG 2000."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = pydicom.dcmread(path, force=True)
        if "TransferSyntaxUID" not in found.file_meta:
            found.file_meta.TransferSyntaxUID = pydicom.uid.ImplicitVRLittleEndian
            found.preamble = bytes(128)
        elif found.file_meta.TransferSyntaxUID.is_encapsulated:
            found.decompress()
        found.save_as(folder / "plain.dcm")
    return folder / "plain.dcm"


@needs_dcmtk
@pytest.mark.parametrize("name", FILES)
def test_dcmtk_agrees_within_a_grey_level(data, tmp_path, name):
    path = data / f"dicom/{name}.dcm"
    program = "dcml2pnm" if "_JLS" in name else "dcmj2pnm"
    source = plain(path, tmp_path) if "_J2K" in name else path
    subprocess.run([program, "+op", *FILES[name], source, tmp_path / "a.pgm"], check=True)
    theirs = np.asarray(Image.open(tmp_path / "a.pgm")).astype(int)
    ours = np.rint(decode(path).pixels / 257).astype(int)
    assert ours.shape == theirs.shape
    assert np.abs(ours - theirs).max() <= 1
    assert np.ptp(ours) > 100


@pytest.mark.parametrize("name", ["CR-MONO1-10-chest", "WG04_RG1_JLSN", "nih_google_dx"])
def test_bone_and_heart_are_bright_and_lungs_dark(data, name):
    film = decode(data / f"dicom/{name}.dcm").pixels / 65535
    height, width = film.shape
    lung = film[height // 4 : height // 2, width // 5 : 2 * width // 5]
    middle = film[height // 2 : 3 * height // 4, 9 * width // 20 : 11 * width // 20]
    assert middle.mean() > lung.mean() + 0.1


def test_four_lossless_codings_have_the_same_pixels(data):
    names = ("J2KR", "JLSL", "JPLL", "RLE")
    films = [decode(data / f"dicom/WG04_RG3_{name}.dcm").pixels for name in names]
    assert all((film == films[0]).all() for film in films[1:])
    # The other film was coded with loss, twice: few levels apart.
    lossy = [decode(data / f"dicom/WG04_RG1_{n}.dcm").pixels.astype(int) for n in ("J2KI", "JLSN")]
    assert np.abs(lossy[0] - lossy[1]).max() < 0.02 * 65535


@pytest.mark.parametrize("coding", BY_PYDICOM)
@pytest.mark.parametrize("name", ["CR-MONO1-10-chest", "mlut_18", "vlut_04"])
def test_pydicom_copy_has_the_same_pixels(data, tmp_path, name, coding):
    path = data / f"dicom/{name}.dcm"
    found = pydicom.dcmread(plain(path, tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found.compress(BY_PYDICOM[coding])
        found.save_as(tmp_path / "b.dcm")
    assert (decode(tmp_path / "b.dcm").pixels == decode(path).pixels).all()


@needs_dcmtk
@pytest.mark.parametrize("coding", BY_DCMTK)
@pytest.mark.parametrize("name", ["CR-MONO1-10-chest", "mlut_18", "vlut_04"])
def test_dcmtk_copy_has_the_same_pixels(data, tmp_path, name, coding):
    path, program = data / f"dicom/{name}.dcm", BY_DCMTK[coding]
    source = plain(path, tmp_path)
    subprocess.run([*program, source, tmp_path / "b.dcm"], check=True, capture_output=True)
    assert (decode(tmp_path / "b.dcm").pixels == decode(path).pixels).all()
