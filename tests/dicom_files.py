"""DICOM files for tests: plain ones, and each with the trap that a test asks for."""

from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import (
    UID,
    ExplicitVRLittleEndian,
    SecondaryCaptureImageStorage,
    generate_uid,
)

from causalcxr.images.decoding import ImageError, Limits, decode

RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)  # every value of 12 bits
WINDOW = {"WindowCenter": 2048, "WindowWidth": 4096}
CUT = ("truncated", "damaged", "unknown", "photometric", "unsupported")
EXACT = np.rint(np.arange(4096) * 65535 / 4095)


def dataset(pixels: np.ndarray = RAMP, **attributes: object) -> Dataset:
    """Return a data set of 12 bits, MONOCHROME2; an attribute that is None is left out."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    bits = 8 * pixels.itemsize
    told = {
        "SOPClassUID": SecondaryCaptureImageStorage, "SOPInstanceUID": generate_uid(),
        "PatientName": "Doe^John", "PatientID": "SECRET-17", "Rows": pixels.shape[0],
        "Columns": pixels.shape[1], "SamplesPerPixel": 1, "BitsAllocated": bits,
        "PhotometricInterpretation": "MONOCHROME2", "BitsStored": 8 if bits == 8 else 12,
        "PixelRepresentation": 0, "PixelData": pixels.tobytes(),
    }  # fmt: skip
    told["HighBit"] = attributes.get("BitsStored", told["BitsStored"]) - 1
    for name, value in (told | attributes).items():
        if value is not None:
            setattr(made, name, value)
    made["PixelData"].VR = "OB" if bits == 8 else "OW"
    return made


def lut(levels: np.ndarray, first: int = 0, bits: int = 16, vr: str | None = None) -> Dataset:
    """Return an item of a modality or VOI LUT sequence; `vr` says how its first value is written.

    What does not fit that VR is written with the same 16 bits: the sign is lost.
    """
    item = Dataset()
    vr = vr or ("US" if first >= 0 else "SS")
    first = first % 2**16 if vr == "US" else (first % 2**16 ^ 2**15) - 2**15
    item.LUTDescriptor = [len(levels) % 2**16, first, bits]
    item["LUTDescriptor"].VR = vr
    item.LUTData = np.asarray(levels, dtype="<u2").tobytes()
    item["LUTData"].VR = "OW"
    return item


def written(path: Path, made: Dataset | None = None, **attributes: object) -> Path:
    """Write a data set, or that of attributes, as a file with preamble."""
    (dataset(**attributes) if made is None else made).save_as(path, enforce_file_format=True)
    return path


def compressed(path: Path, syntax: UID, made: Dataset | None = None, **options: object) -> Path:
    """Write a data set in a compressed transfer syntax."""
    made = dataset() if made is None else made
    made.compress(syntax, **options)
    return written(path, made)


def shades(path: Path) -> np.ndarray:
    """Return the grey values of a file in a row."""
    return decode(path).pixels.ravel()


def refused(path: Path, limits: Limits | None = None) -> tuple[str, str]:
    """Return the reason and the message of a file that must be refused."""
    with pytest.raises(ImageError) as caught:
        decode(path, limits or Limits())
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    assert "Doe" not in text
    assert "SECRET" not in text
    return caught.value.reason, text


def told_of(path: Path) -> str:
    """Return the message of a file that is refused, or nothing."""
    try:
        decode(path)
    except ImageError as error:
        return str(error)
    return ""
