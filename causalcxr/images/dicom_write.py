"""DICOM files of synthetic radiographs, marked as such, with 12 or 16 bits.

The files are Computed Radiography images (PS3.3 A.2). Digital X-Ray images would need the pixel
spacing of a detector, and there was no detector.
"""

import json
import re
import uuid
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pydicom import dcmread
from pydicom.uid import UID, ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from causalcxr.common.errors import CohortError
from causalcxr.common.files import atomic_write
from causalcxr.images.dicom_modules import (
    SOFTWARE,
    content_of,
    equipment_module,
    image_module,
    patient_module,
    pixel_module,
    study_module,
)
from causalcxr.images.file_images import FileImages
from causalcxr.images.images import ArrayImages
from causalcxr.images.pixels import resized

__all__ = ["DicomAbout", "DicomImages", "dicom_bytes", "read_dicom", "write_dicom"]

_DEPTHS = (12, 16)  # bits of a grey level
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, SOFTWARE)
# The first k of n records are those of a smaller cohort, so n does not affect an image.
_COUNT = "n"
_VIEWS = {"AP": "AP", "PA": "PA", "LATERAL": "LL"}


def _age(years: Any) -> str:
    """Return whole years as DICOM writes an age, or an empty text if they do not fit."""
    years = pd.to_numeric(years, errors="coerce")
    return f"{int(years):03d}Y" if 0 <= years < 1000 else ""


# Variables with a DICOM attribute: name in lower case -> attribute, and value -> text. Other
# variables, such as findings, are only in the table.
_ATTRIBUTES: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "sex": ("PatientSex", lambda level: level if level in ("F", "M") else ""),
    "age": ("PatientAge", _age),
    "view": ("ViewPosition", lambda level: _VIEWS.get(level, "")),
}


@dataclass(frozen=True)
class DicomAbout:
    """The description of a synthetic radiograph in its file.

    Args:
        record: The record's id. Only a hash of it is written.
        settings: The settings of the image, as JSON: a seed, an intervention. The derivation and
            the UIDs contain them, except `n`, the number of records.
        values: Variables in raw units, such as `{"Sex": "F", "Age": 61}`; missing values and
            those without a DICOM attribute are left out.
        maker: The source of the image, in a word: the given name of the synthetic patient.
        number: The number of the image in its series.
        drawn: Whether the image was generated from nothing, so that it cannot contain writing.
            Otherwise Burned In Annotation is left out.

    Example:
        >>> DicomAbout("7", {"source": "phantom", "seed": 0}).derivation
        'Computed by causalcxr: source phantom, seed 0'
    """

    record: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)
    maker: str = "phantom"
    number: int = 1
    drawn: bool = False

    def uid(self, what: str) -> UID:
        """Return the UID of the study, the series or the instance; it is reproducible."""
        return UID(f"2.25.{self._uuid(what).int}")

    @property
    def patient_id(self) -> str:
        """The id of the patient, a hash of the record's."""
        return f"SYN-{self._uuid('patient').hex[:16].upper()}"

    @property
    def derivation(self) -> str:
        """How the image was made."""
        settings = ", ".join(f"{name} {value}" for name, value in self._made_from().items())
        return f"Computed by {SOFTWARE}: {settings}"

    @property
    def word(self) -> str:
        """The maker as a DICOM name: capitals, digits and spaces."""
        return " ".join(re.findall(r"[A-Z0-9]+", self.maker.upper()))[:32]

    def _uuid(self, what: str) -> uuid.UUID:
        text = json.dumps([what, self._made_from(), self.record], sort_keys=True)
        return uuid.uuid5(_NAMESPACE, text)

    def _made_from(self) -> dict[str, Any]:
        return {name: value for name, value in self.settings.items() if name != _COUNT}


def write_dicom(path: str | Path, image: np.ndarray, about: DicomAbout, bits: int = 12) -> Path:
    """Write a synthetic radiograph as a DICOM file, completely or not at all.

    Args:
        path: The file.
        image: Shape (H, W), between 0 and 1, dense bright; stored as round((2^bits - 1) x).
        about: Its description.
        bits: Of a grey level, 12 or 16.

    Raises:
        CohortError: If the image is not such an array, its sides are too long, or the bits differ.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = write_dicom(f"{folder}/a.dcm", np.eye(2), DicomAbout("a"))
        ...     read_dicom(path).tolist()
        [[4095, 0], [0, 4095]]
    """
    return atomic_write(path, dicom_bytes(image, about, bits))


def dicom_bytes(image: np.ndarray, about: DicomAbout, bits: int = 12) -> bytes:
    """Return the content of a file; see `write_dicom`.

    Example:
        >>> dicom_bytes(np.eye(2), DicomAbout("a"))[128:132]
        b'DICM'
    """
    image = np.asarray(image, dtype=np.float64)
    if bits not in _DEPTHS:
        raise CohortError(f"record {about.record}: {bits} bits; our DICOM files have 12 or 16")
    if image.ndim != 2 or not 0 < min(image.shape) <= max(image.shape) < 2**16:
        raise CohortError(
            f"record {about.record}: an image of shape {image.shape}; DICOM takes (H, W) with "
            f"sides below {2**16:,}"
        )
    # In this form NaN is refused, too.
    if not (image.min() >= 0 and image.max() <= 1):
        raise CohortError(
            f"record {about.record}: values from {image.min():g} to {image.max():g}; they must be "
            "finite and between 0 and 1; scale the image"
        )
    return content_of(*_modules(image, about, bits))


def read_dicom(path: str | Path) -> np.ndarray:
    """Read the grey levels of a file that `write_dicom` wrote.

    Returns:
        Shape (H, W), uint16, from 0 to 4095, or to 65535 where the file has 16 bits.

    Raises:
        CohortError: If it cannot be read, is damaged, or was not written by `write_dicom`.
    """
    return _read(path)[0]


def _read(path: str | Path) -> tuple[np.ndarray, int]:
    """Return the grey levels of a file that `write_dicom` wrote, and their bits."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "ignore"
            )  # pydicom warns of damage; the error below has one line
            dataset = dcmread(path)
            ours = dataset.Manufacturer == SOFTWARE and dataset.SyntheticData == "YES"
            bits = int(dataset.BitsStored)
            shape = (dataset.BitsAllocated, dataset.SamplesPerPixel)
            plain = dataset.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
            levels = np.frombuffer(dataset.PixelData, dtype="<u2")
            levels = levels.reshape(dataset.Rows, dataset.Columns).astype(np.uint16)
    except OSError as error:
        raise CohortError(f"{path}: cannot be read: {error.strerror or error}") from None
    # A parser of damaged bytes may raise anything.
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise CohortError(f"{path}: damaged, or not a DICOM image: {detail}") from None
    if not (ours and plain and bits in _DEPTHS and shape == (16, 1)):
        raise CohortError(
            f"{path}: not a DICOM image that {SOFTWARE} wrote; only its own are read here"
        )
    if levels.max() > 2**bits - 1:
        raise CohortError(
            f"{path}: damaged: a grey level of {levels.max()}, the most is {2**bits - 1}"
        )
    return levels, bits


class DicomImages(FileImages):
    """Images in DICOM files that `write_dicom` wrote, read on use.

    Args:
        paths: One file a record; None for a record without an image.
        size: Height and width to resize to (antialiased).
        digests: As in `FileImages`.

    Example:
        >>> DicomImages([None, None], size=(64, 64)).size
        (64, 64)
    """

    def __init__(
        self,
        paths: Sequence[Path | str | None],
        size: tuple[int, int] | None = None,
        digests: Sequence[str | None] | None = None,
    ) -> None:
        super().__init__(paths, size, digests, synthetic=True)  # `read_dicom` refuses others

    def in_memory(self) -> ArrayImages:
        """Read every file once and keep its grey values as floats: the same numbers."""
        array = np.zeros((len(self), *self.size), dtype=np.float32)
        for row in np.flatnonzero(self.available):
            array[row] = self[row][0, 0]
        return ArrayImages(array, self.available, self.synthetic)

    def _pixels(self, row: int) -> np.ndarray:
        levels, bits = _read(self._checked(row))
        pixels = levels.astype(np.float32) / np.float32(2**bits - 1)
        return pixels if pixels.shape == self.size else resized(pixels, self.size)


def _modules(image: np.ndarray, about: DicomAbout, bits: int) -> list[Mapping[str, Any]]:
    """Return every attribute of type 1 and 2 of the modules of a Computed Radiography image."""
    levels = np.rint(image * (2**bits - 1))
    model = f"{SOFTWARE} {about.word.lower()}"
    return [
        patient_module(about.word, about.patient_id),
        study_module(about.uid("study"), about.uid("series"), "CR"),
        equipment_module(model, version(SOFTWARE)),
        pixel_module(levels, bits),
        image_module(
            ComputedRadiographyImageStorage, about.uid("instance"), about.number, about.derivation
        ),
        {"ViewPosition": "", **({"BurnedInAnnotation": "NO"} if about.drawn else {})},
        _variables(about),
    ]


def _variables(about: DicomAbout) -> dict[str, str]:
    """Return the attributes of the variables that DICOM has a place for."""
    attributes = {}
    for name, value in about.values.items():
        if name.lower() in _ATTRIBUTES and not pd.isna(value):
            keyword, written = _ATTRIBUTES[name.lower()]
            attributes[keyword] = written(value)
    return attributes
