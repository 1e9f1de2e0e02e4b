"""One DICOM file: what it says, what it keeps, and what is refused."""

import shutil
import subprocess

import numpy as np
import pydicom
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.uid import ComputedRadiographyImageStorage, ExplicitVRLittleEndian

from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import decode
from causalcxr.images.dicom_write import DicomAbout, DicomImages, read_dicom, write_dicom
from causalcxr.images.synthetic_mark import MARK

ABOUT = DicomAbout(
    "7",
    {"source": "phantom", "n": 10, "seed": 3},
    {"Sex": "F", "Age": 61, "View": "LATERAL", "Edema": "P", "Race": "Black"},
    drawn=True,
)
# What PS3.3 asks of the modules of a Computed Radiography image: these have a value ...
TYPE_1 = [
    "StudyInstanceUID", "Modality", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID",
    "ImageType", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData",
    "PatientName", "PatientID", "SeriesNumber", "InstanceNumber", "Manufacturer",
    "BodyPartExamined", "DeidentificationMethod",
]  # fmt: skip
# ... and these are there, and may be empty.
TYPE_2 = [
    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "ViewPosition", "PatientOrientation",
]  # fmt: skip


def every_level() -> np.ndarray:
    """All grey levels of 12 bits, as the floats that a film gives."""
    return (np.arange(4096, dtype=np.float32) / np.float32(4095)).reshape(32, 128)


@pytest.fixture
def written(tmp_path):
    return pydicom.dcmread(write_dicom(tmp_path / "a.dcm", every_level(), ABOUT))


def test_modules_are_complete_and_valid(written):
    assert [name for name in TYPE_1 if written.get(name) in (None, "")] == []
    assert [name for name in TYPE_2 if name not in written] == []
    assert written.SOPClassUID == ComputedRadiographyImageStorage
    assert written.file_meta.MediaStorageSOPInstanceUID == written.SOPInstanceUID
    assert written.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    assert (written.BitsAllocated, written.BitsStored, written.HighBit) == (16, 12, 11)
    assert written.PhotometricInterpretation == "MONOCHROME2"
    uids = [written.StudyInstanceUID, written.SeriesInstanceUID, written.SOPInstanceUID]
    assert len(set(uids)) == 3
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in uids)
    for element in written.iterall():  # a value that does not fit its representation warns
        assert element.VR != "UN"


def test_file_declares_the_image_synthetic_and_its_derivation(written):
    assert written.SyntheticData == "YES"
    assert list(written.ImageType) == ["DERIVED", "SECONDARY"]
    assert (written.ConversionType, written.BurnedInAnnotation) == ("SYN", "NO")
    assert (written.ImageComments, written.StudyDescription) == (MARK, MARK)
    assert written.PatientIdentityRemoved == "YES"
    assert str(written.PatientName) == "SYNTHETIC^PHANTOM"
    assert written.DerivationDescription == "Computed by causalcxr: source phantom, seed 3"
    (maker,) = written.ContributingEquipmentSequence
    (purpose,) = maker.PurposeOfReferenceCodeSequence
    assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
    assert purpose.CodeMeaning == "Synthesizing Equipment"
    assert maker.SoftwareVersions == written.SoftwareVersions != ""


def test_only_variables_with_attributes_are_written(written):
    assert (written.PatientSex, written.PatientAge) == ("F", "061Y")
    assert (written.ViewPosition, written.BodyPartExamined) == ("LL", "CHEST")
    text = str(written)
    assert not any(word in text for word in ("Edema", "Black", "LATERAL"))
    assert "PixelSpacing" not in written
    assert "ImagerPixelSpacing" not in written


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"sex": "M", "age": 0.0, "VIEW": "PA"}, ("M", "000Y", "PA")),
        ({"Sex": None, "Age": float("nan"), "View": None}, ("", "", "")),
        ({"Sex": "?", "Age": -1, "View": "odd"}, ("", "", "")),
        ({"Sex": "F", "Age": "old", "View": "AP"}, ("F", "", "AP")),
        ({"Age": 105.9}, ("", "105Y", "")),
    ],
)
def test_missing_or_invalid_values_give_empty_attributes(tmp_path, values, said):
    path = write_dicom(tmp_path / "a.dcm", np.zeros((4, 4)), DicomAbout("7", values=values))
    found = pydicom.dcmread(path)
    assert (found.PatientSex, found.PatientAge, found.ViewPosition) == said


def test_every_12_bit_level_is_restored(tmp_path):
    image = every_level()
    path = write_dicom(tmp_path / "a.dcm", image, ABOUT)
    assert (read_dicom(path).ravel() == np.arange(4096)).all()
    assert (pydicom.dcmread(path).pixel_array.ravel() == np.arange(4096)).all()
    images = DicomImages([None, path], image.shape)
    assert (images[1][0, 0] == image).all()
    assert (images.in_memory()[1] == images.select([1])[0]).all()
    assert images.in_memory().available.tolist() == [False, True]
    assert DicomImages([path], (16, 64))[0].shape == (1, 1, 16, 64)


def test_other_readers_show_every_level(tmp_path):
    decoded = decode(write_dicom(tmp_path / "a.dcm", every_level(), ABOUT))
    assert (np.rint(decoded.pixels.ravel() * (4095 / 65535)) == np.arange(4096)).all()
    assert (decoded.bits, decoded.about["notes"]) == (12, [])


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not here")
def test_independent_validator_finds_no_error(tmp_path):
    path = write_dicom(tmp_path / "a.dcm", every_level(), ABOUT)
    told = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
    assert "CRImage" in told
    errors = [line for line in told.splitlines() if line.startswith("Error")]
    # Synthetic Data (0008,001C) is younger than Debian's dicom3tools.
    assert all("(0x0008,0x001c)" in line for line in errors)


def test_uids_depend_on_record_seed_and_number(tmp_path):
    def content(record="7", **settings):
        about = DicomAbout(record, {"source": "phantom", "n": 10, "seed": 3} | settings)
        return write_dicom(tmp_path / "a.dcm", np.eye(4), about).read_bytes()

    first = content()
    assert content() == first
    assert content(n=20) == first  # the first ten of twenty are the ten of ten
    assert first not in (content("8"), content(seed=4))
    ids = {(a.uid("instance"), a.patient_id) for a in (ABOUT, DicomAbout("7"), DicomAbout("8"))}
    assert len({uid for uid, _ in ids}) == len({patient for _, patient in ids}) == 3


def test_any_maker_gives_a_valid_file(tmp_path):
    about = DicomAbout("é\\^", {"do": {"Sex": "M"}, "é": "\\"}, maker="nih, x^y\\z" * 20)
    found = pydicom.dcmread(write_dicom(tmp_path / "a.dcm", np.eye(4), about))
    assert str(found.PatientName).startswith("SYNTHETIC^NIH X Y Z")
    assert found.PatientName.family_name == "SYNTHETIC"
    assert "é \\" in found.DerivationDescription


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros(4), r"record 7: an image of shape \(4,\)"),
        (np.zeros((0, 4)), r"shape \(0, 4\)"),
        (np.full((2, 2), 1.5), "values from 1.5 to 1.5"),
        (np.full((2, 2), np.nan), "values from nan to nan"),
    ],
)
def test_invalid_image_is_not_written(tmp_path, image, message):
    with pytest.raises(CohortError, match=message):
        write_dicom(tmp_path / "a.dcm", image, ABOUT)
    assert not list(tmp_path.iterdir())


def test_foreign_dicom_file_is_refused(tmp_path, written):
    with pytest.raises(CohortError, match="No such file"):
        read_dicom(tmp_path / "none.dcm")
    (tmp_path / "text.dcm").write_text("not DICOM")
    with pytest.raises(CohortError, match=r"text\.dcm: damaged, or not a DICOM image: .*DICOM"):
        read_dicom(tmp_path / "text.dcm")
    for keyword, value in (("Manufacturer", "Acme"), ("SyntheticData", "NO"), ("BitsStored", 14)):
        other = pydicom.dcmread(tmp_path / "a.dcm")
        setattr(other, keyword, value)
        other.save_as(tmp_path / "other.dcm")
        with pytest.raises(CohortError, match="not a DICOM image that causalcxr wrote"):
            read_dicom(tmp_path / "other.dcm")


@given(cut=st.integers(0, 1500), at=st.integers(0, 1500), byte=st.integers(0, 255))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_damage_gives_one_line_with_the_file(tmp_path, cut, at, byte):
    path = write_dicom(tmp_path / "a.dcm", np.eye(4), ABOUT)
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[at % len(whole)] = byte
    path.write_bytes(bytes(changed))
    told = None
    try:
        levels = read_dicom(path)  # a byte of a pixel, or of text, may be another one
        assert levels.dtype == np.uint16
        assert levels.max() < 4096
    except CohortError as error:
        told = str(error)
    assert told is None or (str(path) in told and "\n" not in told)
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(CohortError, match=r"a\.dcm"):
        read_dicom(path)
