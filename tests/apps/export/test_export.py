"""`causalcxr export`: valid DICOM, visible marks, and no identifiers of the source."""

import json
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pydicom
import pytest
from changing_images import with_effects
from PIL import Image
from pydicom.uid import ComputedRadiographyImageStorage, SecondaryCaptureImageStorage

from causalcxr import SCM, Cohort, Graph, Shift, Variable, do
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.cli.twin_folder import write_twins
from causalcxr.apps.cli.twin_job import TwinJob
from causalcxr.apps.export.exporting import ExportSettings, export
from causalcxr.apps.export.provenance import Pseudonyms
from causalcxr.common.errors import CohortError
from causalcxr.images.decoding import decode
from causalcxr.images.marked_png import marked
from causalcxr.images.synthetic_mark import MARK

RADIT = {"kind": "radit", "resolution": 32, "steps": 3, "solver_steps": 2, "batch": 4}
GRAPH = Graph(
    [
        Variable("Age", "continuous", unit="year", range=(0, 120), resolution=1),
        Variable("Sex", "binary", levels=("F", "M")),
        Variable("Image", "image", parents=("Age", "Sex"), mechanism=RADIT),
    ],
    name="films",
)
RECORDS = [f"0000{k:04d}_{k % 7:03d}.png" for k in range(8731, 8739)]
PATIENTS = [f"PAT-77{k // 2:03d}" for k in range(8)]
# Attributes of a Secondary Capture by PS3.3: these must have a value ...
TYPE_1 = [
    "StudyInstanceUID", "Modality", "SeriesInstanceUID", "SOPClassUID", "SOPInstanceUID",
    "ConversionType", "SamplesPerPixel", "PhotometricInterpretation", "Rows", "Columns",
    "BitsAllocated", "BitsStored", "HighBit", "PixelRepresentation", "PixelData", "ImageType",
    "PatientName", "PatientID", "InstanceNumber", "SeriesNumber", "Manufacturer",
]  # fmt: skip
# ... and these must be present, and may be empty.
TYPE_2 = [
    "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "ReferringPhysicianName",
    "StudyID", "AccessionNumber", "PatientOrientation",
]  # fmt: skip


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def twins(tmp_path_factory) -> Path:
    """Twins of eight records with ids as NIH gives them, two a patient, the oldest of 97 years."""
    phantoms = Cohort.load("phantom", n=60, seed=0, size=32)
    model = with_effects(SCM(GRAPH).fit(phantoms))
    table = phantoms.table.head(8).set_axis(RECORDS)
    table["Age"] = [97.0, 61.0, 44.0, 23.0, 5.0, 70.0, 38.0, 52.0]
    table["StudyDate"] = "20190317"
    patients = Cohort(table, phantoms.images[:8], patients=PATIENTS, source="hospital")
    folder = tmp_path_factory.mktemp("twins") / "twins"
    write_twins(TwinJob(model, patients, do(sex="M", age=Shift(1)), draws=2, seed=3), folder)
    return folder


@pytest.fixture
def key(tmp_path) -> Path:
    (tmp_path / "key").write_bytes(b"k" * 32)
    return tmp_path / "key"


def dicoms(folder: Path) -> dict[str, pydicom.Dataset]:
    return {p.stem: pydicom.dcmread(p) for p in sorted((folder / "images").glob("*.dcm"))}


def test_only_twins_are_exported_each_with_a_sidecar(twins, tmp_path):
    index = export(twins, tmp_path / "out")
    found = contents(tmp_path / "out")
    images = {name for name in found if name.endswith(".dcm")}
    assert len(images) == len(index) == 16
    assert set(found) == images | {n.replace(".dcm", ".json") for n in images} | {
        "index.csv", "manifest.json", "SHA256SUMS",
    }  # fmt: skip
    assert index["patient"].nunique() == 4
    assert sorted(index.groupby("patient").size()) == [4] * 4
    assert index["Sex"].eq("M").all()
    manifest = json.loads(found["manifest.json"])
    assert (manifest["images"], manifest["patients"]) == (16, 4)
    assert manifest["provenance"]["intervention"] == {"Sex": "M", "Age": {"shift": 1.0}}


def test_dicom_modules_are_complete_and_marked_as_synthetic(twins, tmp_path):
    export(twins, tmp_path / "out")
    manifest = json.loads((twins / "manifest.json").read_text())
    for made in dicoms(tmp_path / "out").values():
        assert [name for name in TYPE_1 if made.get(name) in (None, "")] == []
        assert [name for name in TYPE_2 if name not in made] == []
        assert made.SOPClassUID == SecondaryCaptureImageStorage
        assert made.file_meta.MediaStorageSOPInstanceUID == made.SOPInstanceUID
        assert (made.SyntheticData, made.ConversionType) == ("YES", "SYN")
        assert list(made.ImageType) == ["DERIVED", "SECONDARY"]
        assert str(made.PatientName).startswith("SYNTHETIC^")
        assert (made.PatientIdentityRemoved, made.ImageComments) == ("YES", MARK)
        assert "BurnedInAnnotation" not in made  # nobody has looked
        assert "SourceImageSequence" not in made
        told = made.DerivationDescription
        assert "do(Sex = M, Age = {" in told
        assert f"graph films sha256 {manifest['graph_hash']}" in told
        assert "solver inversion, reversible Heun, 2 steps each way; seed 3; model sha256 " in told
        (maker,) = made.ContributingEquipmentSequence
        (purpose,) = maker.PurposeOfReferenceCodeSequence
        assert (purpose.CodeValue, purpose.CodingSchemeDesignator) == ("109100", "DCM")
        assert purpose.CodeMeaning == "Synthesizing Equipment"
        assert maker.SoftwareVersions.startswith("causalcxr ")
        assert re.fullmatch("Model sha256 [0-9a-f]{64}", maker.ContributionDescription)
        assert made.PatientSex == "M"


@pytest.mark.skipif(shutil.which("dciodvfy") is None, reason="dicom3tools is not here")
@pytest.mark.parametrize("checked", [False, True])
def test_dicom_passes_an_independent_validator(twins, tmp_path, checked):
    links = tmp_path / "links.csv"
    lines = [f"{r},{ComputedRadiographyImageStorage},1.2.3.{k}" for k, r in enumerate(RECORDS)]
    links.write_text("\n".join(["record,sop_class_uid,sop_instance_uid", *lines]) + "\n")
    export(twins, tmp_path / "out", ExportSettings(sources=links, checked=checked))
    for path in list((tmp_path / "out/images").glob("*.dcm"))[:4]:
        told = subprocess.run(["dciodvfy", path], capture_output=True, text=True).stderr
        assert "SCImage" in told
        errors = [line for line in told.splitlines() if line.startswith("Error")]
        # Synthetic Data (0008,001C) is younger than Debian's dicom3tools.
        assert all("(0x0008,0x001c)" in line for line in errors)


def test_all_16_bits_of_a_twin_come_back(twins, tmp_path, key):
    link = tmp_path / "link.csv"
    export(twins, tmp_path / "out", ExportSettings(key=key, link=link))
    table = pd.read_csv(twins / "twins.csv", dtype=str)
    linked = pd.read_csv(link, dtype=str)
    assert linked["record"].tolist() == table["record"].tolist()
    for name, twin in zip(linked["name"], table["twin image"], strict=True):
        path = tmp_path / f"out/images/{name}.dcm"
        assert (pydicom.dcmread(path).pixel_array == np.asarray(Image.open(twins / twin))).all()
        assert (decode(path).pixels == np.asarray(Image.open(twins / twin))).all()


def test_no_identifier_of_the_source_is_exported(twins, tmp_path):
    secret = [*RECORDS, *(r.removesuffix(".png") for r in RECORDS), *PATIENTS, "20190317"]
    for name in ("dicom", "png"):
        export(twins, tmp_path / name, ExportSettings(name))
        for file, content in contents(tmp_path / name).items():
            text = file.encode() + content
            assert not [word for word in secret if word.encode() in text]
    # Nor can they be found by hashing what everybody knows: the key is drawn, and gone.
    export(twins, tmp_path / "again")
    ids = [set(dicoms(tmp_path / name)) for name in ("dicom", "again")]
    assert not ids[0] & ids[1]
    assert not (tmp_path / ".dicom.unfinished").exists()
    # The order of the files is not that of the source.
    index = pd.read_csv(tmp_path / "dicom/index.csv")
    assert index["file"].is_monotonic_increasing


def test_ages_above_89_become_90(twins, tmp_path):
    index = export(twins, tmp_path / "out")
    assert index["Age"].max() == 90
    assert {made.PatientAge for made in dicoms(tmp_path / "out").values()} >= {"090Y", "062Y"}
    told = [json.loads(p.read_text()) for p in (tmp_path / "out/images").glob("*.json")]
    assert max(each["variables"]["Age"] for each in told) == 90
    assert all("Age" in each["changed"] for each in told)  # its name: what it was stays behind
    assert {len(each["changed"]) for each in told} == {1, 2}  # some were M before


def test_the_same_key_gives_the_same_files(twins, tmp_path, key):
    for name in ("a", "b"):
        export(twins, tmp_path / name, ExportSettings(key=key))
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    export(twins, tmp_path / "a", ExportSettings(key=key))  # replaced
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


def test_png_has_a_visible_mark_below_the_image(twins, tmp_path):
    export(twins, tmp_path / "out", ExportSettings("png"))
    path = next((tmp_path / "out/images").glob("*.png"))
    with Image.open(path) as image:
        assert image.text["Comment"] == MARK
        assert "do(Sex = M" in image.text["Description"]
        pixels = np.asarray(image)
    assert pixels.shape[1] == 256
    strip = pixels[256:]
    assert 0.03 < (strip > 32768).mean() < 0.5  # writing, neither empty nor all white
    told = json.loads(path.with_suffix(".json").read_text())
    assert told["mark"] == MARK
    assert (told["rows"], told["columns"], told["format"]) == (32, 32, "png")
    plain = np.arange(300 * 300, dtype=np.uint16).reshape(300, 300)
    assert (marked(plain)[:300] == plain).all()


def test_the_source_is_named_only_with_a_link(twins, tmp_path):
    links = tmp_path / "links.csv"
    links.write_text(
        f"record,sop_class_uid,sop_instance_uid\n{RECORDS[0]},"
        f"{ComputedRadiographyImageStorage},1.2.840.99.1\n"
    )
    export(twins, tmp_path / "out", ExportSettings(sources=links))
    named = [made for made in dicoms(tmp_path / "out").values() if "SourceImageSequence" in made]
    assert len(named) == 2  # its two draws
    (source,) = named[0].SourceImageSequence
    assert source.ReferencedSOPInstanceUID == "1.2.840.99.1"
    links.write_text("record,sop_class_uid,sop_instance_uid\na,1.2,x\n")
    with pytest.raises(CohortError, match=r"links\.csv:2: 'x' is no UID"):
        export(twins, tmp_path / "b", ExportSettings(sources=links))
    links.write_text("record,sop_class_uid\na,1.2\n")
    with pytest.raises(CohortError, match="no column 'sop_instance_uid'"):
        export(twins, tmp_path / "b", ExportSettings(sources=links))


def test_checked_images_and_phantoms_have_no_burned_in_text(twins, tmp_path):
    Cohort.load("phantom", n=3, seed=1, size=32).save(tmp_path / "phantoms")
    export(tmp_path / "phantoms", tmp_path / "a")
    export(twins, tmp_path / "b", ExportSettings(checked=True))
    for name, count in (("a", 3), ("b", 16)):
        found = dicoms(tmp_path / name).values()
        assert [made.BurnedInAnnotation for made in found] == ["NO"] * count


def test_real_or_changed_images_are_refused(twins, tmp_path):
    real = Cohort(pd.DataFrame({"Age": [61]}), np.zeros((1, 4, 4), np.uint8), source="nih")
    real.save(tmp_path / "real")
    with pytest.raises(CohortError, match="only synthetic ones are exported"):
        export(tmp_path / "real", tmp_path / "out")
    with pytest.raises(CohortError, match="no twins and no saved cohort"):
        export(tmp_path, tmp_path / "out")
    shutil.copytree(twins, tmp_path / "twins")
    (tmp_path / "twins/twins.csv").write_text((twins / "twins.csv").read_text() + "\n")
    with pytest.raises(CohortError, match=r"twins\.csv: changed since it was written"):
        export(tmp_path / "twins", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_invalid_options_give_one_line_and_no_files(twins, tmp_path, capsys):
    (tmp_path / "short").write_bytes(b"abc")
    out = str(tmp_path / "out")
    for words, told in (
        (["--format", "tiff"], "format 'tiff' is not known"),
        (["--key", str(tmp_path / "short")], "3 bytes; a key has 16"),
        (["--key", str(tmp_path / "none")], "cannot be read"),
        (["--link", f"{out}/link.csv"], "write it elsewhere"),
    ):
        assert guarded(app, ["export", str(twins), "--out", out, *words]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert guarded(app, ["export", str(twins), "--out", out]) == 0
    assert "16 synthetic images of 4 patients" in capsys.readouterr().out


def test_a_folder_of_something_else_is_left_unchanged(twins, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/thesis.txt").write_text("precious")
    with pytest.raises(CohortError, match="holds something else"):
        export(twins, tmp_path / "out")
    assert contents(tmp_path / "out") == {"thesis.txt": b"precious"}


@pytest.mark.slow
def test_a_killed_export_is_resumed_with_the_same_identifiers(tmp_path):
    Cohort.load("phantom", n=160, seed=1, size=32).save(tmp_path / "phantoms")
    out, images = tmp_path / "out", tmp_path / ".out.unfinished/result/images"
    code = "from causalcxr.apps.cli.main import main; main()"
    words = ["export", str(tmp_path / "phantoms"), "--out", str(out)]
    with subprocess.Popen([sys.executable, "-c", code, *words], stderr=subprocess.PIPE) as job:
        while job.poll() is None and not list(images.glob("synthetic-*.json")):
            time.sleep(0.005)
        job.send_signal(signal.SIGKILL)
        assert job.wait() == -signal.SIGKILL
    assert not out.exists()
    before = {file.name for file in images.glob("*.json")}
    assert 0 < len(before) < 160
    index = export(tmp_path / "phantoms", out)
    assert len(index) == 160
    assert before <= {file.name for file in (out / "images").glob("*.json")}
    assert not [name for name in contents(out) if "key" in name or "tmp" in name]


def test_pseudonyms_are_valid_and_differ_by_key_and_part():
    ids, others = Pseudonyms(b"a" * 16), Pseudonyms(b"b" * 16)
    found = [x.uid(what, "r") for x in (ids, others) for what in ("study", "series", "instance")]
    assert len(set(found)) == 6
    assert all(uid.is_valid and uid.startswith("2.25.") for uid in found)
    assert ids.patient("p") == ids.patient("p") != others.patient("p")
