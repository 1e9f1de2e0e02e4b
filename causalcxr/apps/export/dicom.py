"""A synthetic image as a Secondary Capture (PS3.3 A.8) that says what it is and how it was made.

It is no acquisition, so it is none of the radiography classes: a detector, a distance or a
spacing of pixels would have to be made up. Attributes of type 2 that nobody knows, dates among
them, are present and empty, so that the same image is the same file on any day.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from pydicom import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from causalcxr.apps.export.provenance import OLDEST, Provenance, SyntheticImage
from causalcxr.common.errors import CohortError
from causalcxr.images.dicom_modules import (
    SOFTWARE,
    coded,
    content_of,
    equipment_module,
    image_module,
    patient_module,
    pixel_module,
    study_module,
)

__all__ = ["secondary_capture"]

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
    # Module by module, as the standard groups the attributes of a secondary capture.
    return content_of(
        _patient(image),
        study_module(image.study, image.series, "OT"),  # other: no modality has acquired it
        equipment_module(
            SOFTWARE, about.software, f"Model sha256 {about.model}" if about.model else ""
        ),
        pixel_module(pixels, _BITS),
        image_module(SecondaryCaptureImageStorage, image.instance, image.number, about.derivation),
        _checked(image),
    )


def _patient(image: SyntheticImage) -> Mapping[str, Any]:
    values = {name.lower(): value for name, value in image.values.items()}
    sex, age = values.get("sex"), pd.to_numeric(values.get("age"), errors="coerce")
    is_known = age is not None and age >= 0  # NaN is neither
    return patient_module(
        image.patient.removeprefix("SYN-"),
        image.patient,
        sex=sex if sex in ("F", "M") else "",
        age=f"{int(min(age, OLDEST)):03d}Y" if is_known else "",
    )


def _checked(image: SyntheticImage) -> dict[str, Any]:
    """Return the attributes that only some images have: checked for writing, made from another."""
    attributes: dict[str, Any] = {}
    if image.checked:  # an image that nobody has checked does not say NO
        attributes["BurnedInAnnotation"] = "NO"
    if image.source is not None:
        attributes["SourceImageSequence"] = [_source(*image.source)]
    return attributes


def _source(sop_class: str, instance: str) -> Dataset:
    """Return the reference to the image that this one was made from."""
    reference = Dataset()
    reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = sop_class, instance
    meaning = "Source image for image processing operation"
    reference.PurposeOfReferenceCodeSequence = [coded("121322", meaning)]
    return reference
