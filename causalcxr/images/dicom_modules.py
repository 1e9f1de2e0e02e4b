"""Modules that all DICOM files of synthetic images share (PS3.3), as keywords and values.

Attributes of type 2 that are unknown, dates among them, are present and empty: the same image
gives the same file on any day.
"""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from causalcxr.images.synthetic_mark import MARK

__all__ = [
    "SOFTWARE",
    "coded",
    "content_of",
    "equipment_module",
    "image_module",
    "patient_module",
    "pixel_module",
    "study_module",
]

SOFTWARE = "causalcxr"
Module = Mapping[str, Any]


def patient_module(name: str, patient_id: str, *, sex: str = "", age: str = "") -> Module:
    """Return the attributes of a patient; the name follows `SYNTHETIC^`."""
    return {
        "PatientName": f"SYNTHETIC^{name}",
        "PatientID": patient_id,
        "PatientBirthDate": "",
        "PatientSex": sex,
        "PatientAge": age,
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "New identifiers; nothing of any patient's header is used",
    }


def study_module(study: UID | str, series: UID | str, modality: str) -> Module:
    """Return the attributes of a study and of its only series."""
    return {
        "StudyInstanceUID": study,
        "StudyDate": "",
        "StudyTime": "",
        "ReferringPhysicianName": "",
        "StudyID": "",
        "AccessionNumber": "",
        "StudyDescription": MARK,
        "Modality": modality,
        "SeriesInstanceUID": series,
        "SeriesNumber": "1",
        "SeriesDescription": MARK,
        "BodyPartExamined": "CHEST",
    }


def equipment_module(model: str, software: str, contribution: str = "") -> Module:
    """Return the attributes of the equipment: the software that synthesised the image.

    Args:
        model: The name of the equipment's model.
        software: The version.
        contribution: Further information, such as the hash of a model.
    """
    equipment = Dataset()
    equipment.PurposeOfReferenceCodeSequence = [coded("109100", "Synthesizing Equipment")]
    equipment.Manufacturer = SOFTWARE
    equipment.ManufacturerModelName = model
    equipment.SoftwareVersions = software
    if contribution:
        equipment.ContributionDescription = contribution
    return {
        "Manufacturer": SOFTWARE,
        "ManufacturerModelName": model,
        "SoftwareVersions": software,
        "ConversionType": "SYN",
        "ContributingEquipmentSequence": [equipment],
    }


def pixel_module(levels: np.ndarray, bits: int) -> Module:
    """Return the attributes of grey levels (H, W) of some bits, 0 black.

    The window shows 0 black and the largest level white (PS3.3 C.11.2.1.2.1).
    """
    return {
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": levels.shape[0],
        "Columns": levels.shape[1],
        "BitsAllocated": 16,
        "BitsStored": bits,
        "HighBit": bits - 1,
        "PixelRepresentation": 0,
        # A window over all levels.
        "WindowCenter": str(2 ** (bits - 1)),
        "WindowWidth": str(2**bits),
        "PixelData": levels.astype("<u2").tobytes(),
    }


def image_module(sop_class: UID, instance: UID | str, number: int, derivation: str) -> Module:
    """Return the attributes that identify an image and call it synthetic."""
    return {
        "SpecificCharacterSet": "ISO_IR 192",
        "SOPClassUID": sop_class,
        "SOPInstanceUID": instance,
        "SyntheticData": "YES",
        "ImageType": ["DERIVED", "SECONDARY"],
        "InstanceNumber": str(number),
        "PatientOrientation": "",
        "LossyImageCompression": "00",
        # DICOM allows 1024 characters in this attribute.
        "DerivationDescription": derivation[:1024],
        "ImageComments": MARK,
    }


def content_of(*modules: Module) -> bytes:
    """Return a DICOM file with the attributes of some modules, explicit VR little endian."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    for module in modules:
        for keyword, value in module.items():
            setattr(dataset, keyword, value)
    content = io.BytesIO()
    dataset.save_as(content, enforce_file_format=True)
    return content.getvalue()


def coded(value: str, meaning: str) -> Dataset:
    """Return a code of the DICOM terminology (PS3.16) with its meaning."""
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "DCM", meaning
    return code
