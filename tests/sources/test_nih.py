"""ChestX-ray14 as published, its traps included."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.sources.datasets.nih import harmonise

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
ROWS = """00000001_000.png,Cardiomegaly|Emphysema,0,1,58,M,PA,2682,2749,0.143,0.143
00000001_001.png,Effusion|Infiltration|Nodule,1,1,59,M,AP,2894,2729,0.143,0.143
00000002_000.png,No Finding,0,2,081Y,F,PA,2500,2048,0.171,0.171
00000003_000.png,Mass|Pleural_Thickening,0,3,003M,F,PA,2582,2991,0.143,0.143
00000004_000.png,Hernia,0,4,414,O,LL,2582,2991,0.143,0.143
00000005_000.png,Atelectasis|Consolidation|Edema|Pneumonia|Pneumothorax|Fibrosis,0,5,0,,AP,1,1,1,1
"""
DATA = Path(os.environ.get("CAUSALCXR_DATA", Path(__file__).parents[3] / "shared/data"))


@pytest.fixture
def published(tmp_path):
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(f"{HEADER}\n{ROWS}")
    return tmp_path


def add_images(folder, names, side):
    folder.mkdir(parents=True)
    for k, name in enumerate(names):
        Image.fromarray(np.full((side, side), 10 * (k + 1), np.uint8)).save(folder / name)


def column(cohort, name):
    return [None if value != value else value for value in cohort.table[name].tolist()]


def test_published_rows_become_the_golden_table(published):
    cohort = Cohort.load(published)
    assert cohort.records.tolist()[0] == "00000001_000.png"
    assert cohort.patients.tolist() == ["1", "1", "2", "3", "4", "5"]
    assert column(cohort, "Age") == [58, 59, 81, 0, None, 0]
    assert column(cohort, "Sex") == ["M", "M", "F", "F", None, None]
    assert column(cohort, "View") == ["PA", "AP", "PA", "PA", None, "AP"]
    golden = {
        "Cardiomegaly": "PNNNNN",
        "Pleural Effusion": "NPNNNN",
        "Lung Opacity": "NPNNNN",
        "Lung Lesion": "NPNPNN",
        "Pleural Other": "NNNPNN",
        "Atelectasis": "NNNNNP",
        "Consolidation": "NNNNNP",
        "Edema": "NNNNNP",
        "Pneumonia": "NNNNNP",
        "Pneumothorax": "NNNNNP",
        "Emphysema": "PNNNNN",
        "Fibrosis": "NNNNNP",
        "Hernia": "NNNNPN",
        "No Finding": "NNPNNN",
    }
    assert {name: "".join(column(cohort, name)) for name in golden} == golden
    assert column(cohort, "Follow-up") == [0, 1, 0, 0, 0, 0]
    assert set(column(cohort, "Dataset")) == {"ChestX-ray14"}
    for absent in ("Race", "Fracture", "Support Devices", "Enlarged Cardiomediastinum"):
        assert absent not in cohort.table
    assert cohort.splits is None
    assert cohort.images is None


def test_every_decision_is_noted(published):
    notes = Cohort.load(published).notes
    assert "ages above 105 years are missing: 1 records" in notes
    assert "ages written as 060Y, 003M or 012D are completed years: 2 records" in notes
    assert "sex other than F, M is missing: 2 records" in notes
    assert "view other than AP, PA, LATERAL is missing: 1 records" in notes
    assert any(
        n.startswith("No Finding is N although") and n.endswith(" 1 records") for n in notes
    )


def test_unlisted_findings_can_be_missing(published):
    cohort = Cohort.load(published, unlisted="U")
    assert column(cohort, "Cardiomegaly") == ["P", None, "N", None, None, None]
    assert column(cohort, "No Finding") == ["N", "N", "P", "N", "N", "N"]
    with pytest.raises(CohortError, match="allowed: 'N', 'U'"):
        Cohort.load(published, unlisted="X")


def test_cohort_matches_the_expert_graph(published):
    columns = Cohort.load(published).columns(Graph.load("cxr7"))
    assert np.isnan(columns["Race"]).all()
    assert np.isnan(columns["Fracture"]).all()
    assert columns["Pleural Effusion"].tolist() == [0, 1, 0, 0, 0, 0]


def test_originals_of_every_folder_are_read(published):
    add_images(published / "images_001/images", ["00000001_000.png"], 128)
    add_images(published / "images_012/images", ["00000003_000.png"], 128)
    images = Cohort.load(published, size=None).images
    assert images.available.sum() == 2
    assert images.size == (128, 128)


def test_images_of_the_given_size_come_first(published):
    add_images(published / "images_16", ["00000001_000.png"], 16)
    add_images(published / "images_64", ["00000001_000.png", "00000002_000.png"], 64)
    add_images(published / "images_001/images", ["00000003_000.png", "stranger.png"], 128)
    cohort = Cohort.load(published, size=64)
    assert cohort.images.available.tolist() == [True, False, True, True, False, False]
    seen = cohort.with_images_only()
    assert seen.images[:].shape == (3, 1, 64, 64)
    assert np.allclose(seen.images[:].mean((1, 2, 3)) * 255, [10, 20, 10], atol=0.01)
    assert Cohort.load(published, size=16).images.available.sum() == 3
    assert Cohort.load(published, size=None).images.size == (128, 128)


def test_companion_file_gives_splits_by_patient(published):
    (published / "images_64.csv").write_text(
        "image_id,patient_id,source_size,split\n00000001_000.png,1,1024,val\n"
        "00000002_000.png,2,224,test\n"
    )
    cohort = Cohort.load(published)
    assert cohort.splits.tolist()[:3] == ["val", "val", "test"]
    assert column(cohort, "source_size") == [1024, None, 224, None, None, None]
    assert cohort.splits.equals(Cohort.load(published).splits)


def test_official_lists_take_precedence(published):
    (published / "train_val_list.txt").write_text("00000001_000.png\n00000001_001.png\n")
    (published / "test_list.txt").write_text("00000002_000.png\n00000003_000.png\n")
    (published / "images_64.csv").write_text(
        "image_id,patient_id,source_size,split\n00000001_000.png,1,1024,val\n"
        "00000002_000.png,2,224,train\n"
    )
    assert Cohort.load(published).splits.tolist()[:4] == ["val", "val", "test", "test"]
    (published / "test_list.txt").write_text("00000001_001.png\n")
    with pytest.raises(
        CohortError, match=r"patient '1' is in train_val_list.txt and in test_list"
    ):
        Cohort.load(published)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("Effusion|", "Efusion|", r"v2020\.csv:3: .*'Efusion', not a label of.*'Effusion'\?"),
        ("Patient Age", "PatientAge", r"no column 'Patient Age'; did you mean 'PatientAge'\?"),
        (
            "00000001_001.png",
            "00000001_000.png",
            r"v2020\.csv:3: .*'00000001_000.png' occurs more than once",
        ),
        (",2500,", ",", r"v2020\.csv:4: 10 cells, the header has 11"),
    ],
)
def test_damaged_row_is_named_with_its_line(published, old, new, message):
    file = published / "Data_Entry_2017_v2020.csv"
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(CohortError, match=message):
        Cohort.load(published)


def test_older_release_with_trailing_commas_is_read(tmp_path):
    text = "\r\n".join(f"{line}," for line in [HEADER, *ROWS.splitlines()]) + "\r\n"
    (tmp_path / "Data_Entry_2017.csv").write_bytes(b"\xef\xbb\xbf" + text.encode())
    assert len(Cohort.load(tmp_path / "Data_Entry_2017.csv")) == 6


@pytest.mark.skipif(not (DATA / "nih").is_dir(), reason="ChestX-ray14 is not at hand")
class TestRealTable:
    @pytest.fixture(scope="class")
    def cohort(self):
        return Cohort.load("nih", path=DATA / "nih")

    def test_real_table_has_the_published_marginals(self, cohort):
        assert (len(cohort), cohort.patients.nunique()) == (97_723, 27_022)
        counts = {name: int((cohort.table[name] == "P").sum()) for name in cohort.table}
        expected = {
            "No Finding": 52_581,
            "Lung Opacity": 17_342,
            "Pleural Effusion": 11_716,
            "Atelectasis": 10_139,
            "Pneumothorax": 4_589,
            "Consolidation": 4_013,
            "Pleural Other": 2_946,
            "Cardiomegaly": 2_399,
            "Edema": 2_014,
            "Pneumonia": 1_211,
            "Hernia": 202,
        }
        assert {name: counts[name] for name in expected} == expected
        assert 5_582 < counts["Lung Lesion"] < 5_582 + 5_141  # Nodule or Mass, or both
        assert cohort.table["Sex"].value_counts().to_dict() == {"M": 55_155, "F": 42_568}
        assert cohort.table["View"].value_counts().to_dict() == {"PA": 58_795, "AP": 38_928}
        assert cohort.table["Age"].mean() == pytest.approx(46.7779, abs=1e-4)

    def test_real_images_have_splits(self, cohort):
        seen = cohort.with_images_only()
        assert len(seen) == 2_389
        assert seen.splits.value_counts().to_dict() == {"train": 1_959, "val": 430}
        assert seen.images[:8].shape == (8, 1, 64, 64)
        assert seen.table["source_size"].value_counts()[224] == 696

    def test_real_patients_have_one_split(self, cohort):
        assert cohort.splits.groupby(cohort.patients).nunique().max() == 1
        shares = cohort.splits.value_counts(normalize=True)
        assert shares["train"] == pytest.approx(0.8, abs=0.02)

    def test_real_table_is_harmonised_in_3_seconds(self):
        start = time.process_time()
        harmonised = harmonise(DATA / "nih")
        assert time.process_time() - start < 3
        assert (len(harmonised), harmonised.rows_in) == (97_723, 97_723)
