"""A synthetic image as a Secondary Capture (PS3.3 A.8) that says what it is and how it was made.

It is no acquisition, so it is none of the radiography classes: a detector, a distance or a
spacing of pixels would have to be made up. Attributes of type 2 that nobody knows, dates among
them, are present and empty, so that the same image is the same file on any day.
"""

import io
from typing import Any

import numpy as np
import pandas as pd
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

from causalcxr.apps.export.provenance import OLDEST, Provenance, SyntheticImage
from causalcxr.common.errors import CohortError
from causalcxr.images.synthetic_mark import MARK

__all__ = ["secondary_capture"]

_MAKER = "causalcxr"
_BITS = 16


def secondary_capture(pixels: np.ndarray, image: SyntheticImage, about: Provenance) -> bytes:
    """Return the content of a DICOM file, 16 bits, explicit VR little endian.

    Args:
        pixels: Shape (H, W), uint16, 0 black and 65535 white.
        image: Its identifiers and values.
        about: How it was made.

    Raises:
        CohortError: If the pixels are no such array, or their sides do not fit.

    Example:
        >>> from causalcxr.apps.export.provenance import Pseudonyms
        >>> ids = Pseudonyms(b"not a secret, but of a length")
        >>> uids = [ids.uid(what, "a") for what in ("study", "series", "instance")]
        >>> image = SyntheticImage("a", ids.patient("p"), *uids, number=1)
        >>> secondary_capture(np.zeros((2, 2), np.uint16), image, Provenance("sample"))[128:132]
        b'DICM'
    """
    good = pixels.ndim == 2 and pixels.dtype == np.uint16
    if not (good and 0 < min(pixels.shape) <= max(pixels.shape) < 2**16):
        raise CohortError(
            f"{image.name}: an image of shape {pixels.shape}, {pixels.dtype}; DICOM takes (H, W), "
            f"uint16, with sides below {2**16:,}"
        )
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    parts = (
        _identity(image),
        _series(image),
        _maker(about),
        _layout(pixels),
        _image(image, about),
    )
    for part in parts:
        for keyword, value in part.items():
            setattr(made, keyword, value)
    if image.checked:  # nobody may say NO who has not looked
        made.BurnedInAnnotation = "NO"
    if image.source is not None:
        made.SourceImageSequence = [_source(*image.source)]
    content = io.BytesIO()
    made.save_as(content, enforce_file_format=True)
    return content.getvalue()


def _identity(image: SyntheticImage) -> dict[str, Any]:
    values = {name.lower(): value for name, value in image.values.items()}
    sex, age = values.get("sex"), pd.to_numeric(values.get("age"), errors="coerce")
    known = age is not None and age >= 0  # NaN is neither
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "PatientName": f"SYNTHETIC^{image.patient.removeprefix('SYN-')}",
        "PatientID": image.patient,
        "PatientBirthDate": "",
        "PatientSex": sex if sex in ("F", "M") else "",
        "PatientAge": f"{int(min(age, OLDEST)):03d}Y" if known else "",
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "New identifiers; nothing of any patient's header is used",
    }


def _series(image: SyntheticImage) -> dict[str, Any]:
    return {
        "StudyInstanceUID": image.study,
        "StudyDate": "",
        "StudyTime": "",
        "ReferringPhysicianName": "",
        "StudyID": "",
        "AccessionNumber": "",
        "StudyDescription": MARK,
        "Modality": "OT",  # other: no modality has acquired it
        "SeriesInstanceUID": image.series,
        "SeriesNumber": "1",
        "SeriesDescription": MARK,
        "BodyPartExamined": "CHEST",
    }


def _maker(about: Provenance) -> dict[str, Any]:
    software = Dataset()
    software.PurposeOfReferenceCodeSequence = [_code("109100", "Synthesizing Equipment")]
    software.Manufacturer = _MAKER
    software.ManufacturerModelName = _MAKER
    software.SoftwareVersions = about.software
    if about.model:
        software.ContributionDescription = f"Model sha256 {about.model}"
    return {
        "Manufacturer": _MAKER,
        "ManufacturerModelName": _MAKER,
        "SoftwareVersions": about.software,
        "ConversionType": "SYN",
        "ContributingEquipmentSequence": [software],
    }


def _layout(pixels: np.ndarray) -> dict[str, Any]:
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": pixels.shape[0],
        "Columns": pixels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": _BITS,
        "HighBit": _BITS - 1,
        "PixelRepresentation": 0,
        # The window that shows 0 black and 65535 white (PS3.3 C.11.2.1.2.1).
        "WindowCenter": str(2 ** (_BITS - 1)),
        "WindowWidth": str(2**_BITS),
        "PixelData": pixels.astype("<u2").tobytes(),
    }


def _image(image: SyntheticImage, about: Provenance) -> dict[str, Any]:
    return {
        "SOPClassUID": SecondaryCaptureImageStorage,
        "SOPInstanceUID": image.instance,
        "SyntheticData": "YES",
        "ImageType": ["DERIVED", "SECONDARY"],
        "InstanceNumber": str(image.number),
        "PatientOrientation": "",
        "LossyImageCompression": "00",
        "DerivationDescription": about.derivation[:1024],
        "ImageComments": MARK,
    }


def _source(sop_class: str, instance: str) -> Dataset:
    """Return the reference to the image that this one was made from."""
    made = Dataset()
    made.ReferencedSOPClassUID, made.ReferencedSOPInstanceUID = sop_class, instance
    meaning = "Source image for image processing operation"
    made.PurposeOfReferenceCodeSequence = [_code("121322", meaning)]
    return made


def _code(value: str, meaning: str) -> Dataset:
    made = Dataset()
    made.CodeValue, made.CodingSchemeDesignator, made.CodeMeaning = value, "DCM", meaning
    return made
