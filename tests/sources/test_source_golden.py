"""Each published format, with its traps, becomes the very rows that were worked out by hand."""

import numpy as np
import pandas as pd
import pytest
from published import MAKERS, PLUS, write

from causalcxr import sources
from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.sources.policy import CXR7, FINDINGS, Policy

WRITTEN = Policy(unlisted="U", implied="leave")

# View, Sex, Age, Race, then the findings in the order of `FINDINGS` (1 P, 0 N, ? uncertain, . not
# known) as they are written, and as the default policy has them; then the split.
GOLDEN = {
    "mimic": """
        PA      F 52 White ............10  00000000000010 train
        LATERAL F 52 White ............10  00000000000010 train
        AP      M 86 -     ...?.1..1.....  ...?.1..1...0. val
        AP      - -  -     ..............  .............. train
        -       F 96 -     1.........0...  1.........0.0. test
        -       F 96 -     ..............  .............. test""",
    "chexpert": """
        AP      F 68 White ............11  00000000000011 train
        PA      F 87 Asian .0...1.?......  .0...1.?....0. train
        LATERAL F 87 Asian .0...1.?......  .0...1.?....0. train
        -       M 90 -     ...1..........  ...1........0. train
        -       - -  -     ..........?...  ..........?... train
        AP      M 73 Black 00010000000000  00010000000000 val""",
    "chexpert_plus": """
        AP      M 54 White .?.1....0.....  .?.1....0...0. train
        LATERAL M 54 White .?.1....0.....  .?.1....0...0. train
        PA      F 90 Asian ............1.  0000000000001. train
        AP      - 61 -     .............1  .............1 val""",
    "padchest": """
        PA      F 84 -     .1......1.....  01000000100000 -
        LATERAL F 84 -     ........1.....  00000000100000 -
        AP      M 59 -     ............1.  00000000000010 -
        AP      M 59 -     ..............  00000000000000 -
        -       - -  -     .....1........  00000100000000 -
        PA      - 2  -     ..............  .............. -
        PA      M -  -     ..............  .............. -
        PA      F 34 -     .......1......  .......1....0. -""",
    "vindr": """
        PA      - -  -     .....1........  0000010000000. train
        PA      - -  -     ............1.  0000000000001. train
        PA      - -  -     ...........1..  0000000000010. train
        PA      - -  -     ........1.....  0000000010000. test""",
    "brax": """
        PA      M 42 -     ............1.  0000000000001. -
        LATERAL M 42 -     ............1.  0000000000001. -
        AP      F 85 -     ...0..?.......  ...0..?....... -
        LATERAL - 2  -     .....1........  .....1......0. -
        -       - -  -     ..............  .............. -""",
    "rexgradient": """
        PA      F 60 -     ..............  .............. train
        LATERAL F 60 -     ..............  .............. train
        AP      M 0  -     ..............  .............. train
        LATERAL - -  -     ..............  .............. val
        -       - -  -     ..............  .............. val
        PA      - -  -     ..............  .............. test""",
    "cxr7_table": """
        AP      M 64 White ...1..........  ...1........0. train
        LATERAL F 3  -     ............1.  0000000000001. test
        -       - -  -     .....0........  .....0........ val
        PA      F -  Asian .....0........  .....0........ val""",
}
PATIENTS = {"mimic": 4, "chexpert": 5, "chexpert_plus": 3, "padchest": 4, "vindr": 4, "brax": 4,
            "rexgradient": 4, "cxr7_table": 3}  # fmt: skip


@pytest.fixture
def made(tmp_path):
    def make(name, **options):
        folder = tmp_path / name
        return MAKERS[name](folder) if not folder.exists() else folder

    return make


def worded(harmonised):
    """Return every row as the golden ones are written, findings apart."""
    table = harmonised.table
    short = {"N": "0", "P": "1", "U": "?"}

    def cell(name, k):
        value = table[name].iloc[k] if name in table else np.nan
        return "-" if pd.isna(value) else f"{value:g}" if name == "Age" else str(value)

    rows = []
    for k in range(len(table)):
        said = "".join(short.get(table[n].iloc[k], ".") if n in table else "." for n in FINDINGS)
        split = "-" if harmonised.splits is None else harmonised.splits[k]
        rows.append(([cell(name, k) for name in ("View", "Sex", "Age", "Race")], said, split))
    return rows


@pytest.mark.parametrize("name", GOLDEN)
def test_published_format_becomes_the_golden_rows(made, name):
    golden = [line.split() for line in GOLDEN[name].strip().splitlines()]
    for policy, column in ((WRITTEN, 4), (Policy(), 5)):
        result = sources.harmonise(made(name), policy)
        assert result.source == name
        assert worded(result) == [(row[:4], row[column], row[6]) for row in golden]
        assert len(set(result.patients)) == PATIENTS[name]
        assert result.rows_in == len(golden)
        assert result.policy == policy.as_dict()


@pytest.mark.parametrize("name", GOLDEN)
def test_expert_graph_reads_every_data_set(made, name):
    cohort = Cohort.load(made(name))
    columns = cohort.columns(Graph.load("cxr7"))
    assert not np.isnan(columns["Dataset"]).any()
    assert cohort.notes
    assert set(np.unique(columns["Edema"][~np.isnan(columns["Edema"])])) <= {0.0, 1.0}


# Where the first record of each data set has its image, as it is published.
IMAGES = {
    "mimic": "files/p10/p10000032/s50414267/0aaaaaaa-bbbbbbbb-cccccccc-dddddddd-eeeeeeee.jpg",
    "chexpert": "train/patient00001/study1/view1_frontal.jpg",
    "chexpert_plus": "PNG/train/patient42142/study5/view1_frontal.png",
    "padchest": "0/200_x.png",
    "vindr": "train/a1.dicom",
    "brax": "Anonymized_DICOMs/id_aa/Study_1/Series_1/image-1.dcm",
    "rexgradient": "deid_png/GRDN1/pA/studies/1.2.826.pA/series/0.png",
    "cxr7_table": "images/mimic/1.png",
}


@pytest.mark.parametrize("name", IMAGES)
def test_images_are_found_where_published(made, name):
    folder = made(name)
    file = write(folder / IMAGES[name], b"not looked into yet")
    result = sources.harmonise(folder)
    assert result.images[0] == file
    assert result.images.available.tolist() == [True] + [False] * (len(result) - 1)
    assert rule(result, "images").why == f"images: 1 of {len(result)} records have one"


def test_saved_cohort_records_the_policy(made, tmp_path):
    cohort = Cohort.load(made("brax"), uncertain="u_ones")
    saved = Cohort.load(cohort.save(tmp_path / "saved"))
    assert saved.notes == cohort.notes
    assert "uncertain=u_ones, blank=raw, unlisted=N" in saved.notes[-1]


def rule(harmonised, name):
    return next(each for each in harmonised.rules if each.name == name)


def column(harmonised, name):
    return [None if pd.isna(v) else v for v in harmonised.table[name]]


def test_mimic_labels_can_be_chosen(made):
    folder = made("mimic")
    first = sources.harmonise(folder, WRITTEN)
    assert column(first, "Fracture")[2] == "P"
    assert rule(first, "labels-file").why.endswith("mimic-cxr-2.0.0-chexpert.csv.gz")
    assert column(sources.harmonise(folder, WRITTEN.with_(labels="negbio")), "Fracture")[2] == "U"
    with pytest.raises(CohortError, match=r"labels='chexpart'.*did you mean 'chexpert'\?"):
        sources.harmonise(folder, WRITTEN.with_(labels="chexpart"))


def test_mimic_race_conflicts_follow_the_policy(made):
    folder = made("mimic")
    result = sources.harmonise(folder)
    assert column(result, "Race") == ["White", "White", None, None, None, None]
    assert rule(result, "race-conflict").rows == 1
    majority = sources.harmonise(folder, Policy(race_conflict="majority"))
    assert column(majority, "Race")[2] == "Asian"  # two rows against one
    assert rule(majority, "race-conflict").rows == 1


def test_mimic_without_hospital_tables_lacks_demographics(made):
    folder = made("mimic")
    for name in ("patients", "admissions"):
        (folder / f"mimic-iv/hosp/{name}.csv.gz").unlink()
    result = sources.harmonise(folder)
    assert result.table[["Age", "Sex", "Race"]].isna().all().all()


def test_mimic_reads_race_from_ethnicity(made):
    folder = made("mimic")
    write(
        folder / "mimic-iv/hosp/admissions.csv.gz",
        "subject_id,hadm_id,ethnicity\n10000032,1,BLACK/AFRICAN AMERICAN\n",
    )
    assert column(sources.harmonise(folder), "Race")[0] == "Black"


def test_guessed_views_follow_the_policy(made):
    kept, left = (
        sources.harmonise(made("mimic"), Policy(views_guessed=choice))
        for choice in ("keep", "missing")
    )
    assert (column(kept, "View")[2], column(left, "View")[2]) == ("AP", None)
    kept, left = (
        sources.harmonise(made("padchest"), Policy(views_guessed=choice))
        for choice in ("keep", "missing")
    )
    assert (column(kept, "View")[3], column(left, "View")[3]) == ("AP", None)
    assert rule(kept, "view-guessed").effect == "noted"


def test_labels_of_empty_sections_come_with_a_caution(made):
    result = sources.harmonise(made("chexpert_plus"), WRITTEN.with_(labels="findings"))
    assert column(result, "No Finding") == ["P", "P", "P", None]
    assert "often empty" in rule(result, "labels-caution").why
    header = "path_to_image," + ",".join(FINDINGS)
    mine = write(made("chexpert_plus") / "mine.csv", f"{header}\n{PLUS[2]}" + ",0" * 14 + "\n")
    own = sources.harmonise(made("chexpert_plus"), WRITTEN.with_(labels=str(mine)))
    assert column(own, "Edema") == [None, None, "N", None]
    plain = sources.harmonise(made("chexpert_plus"), WRITTEN)
    assert column(plain, "No Finding") == [None, None, "P", None]
    assert "labels-caution" not in [each.name for each in plain.rules]
    assert plain.table.index.tolist() == PLUS


@pytest.mark.parametrize(
    ("readers", "ill", "lung"),
    [("majority", "P", "N"), ("any", "P", "P"), ("unanimous", "U", "U")],
)
def test_disagreeing_readers_follow_the_policy(made, readers, ill, lung):
    result = sources.harmonise(made("vindr"), Policy(readers=readers))
    assert column(result, "Pneumothorax")[2] == ill  # two of three
    assert column(result, "Lung Opacity")[0] == lung  # one of three, as ILD
    assert column(result, "Fracture")[0] == "P"  # all of them
    assert rule(result, "readers-disagree").rows == 2


def test_age_bins_follow_the_policy(made):
    ages = {
        choice: column(sources.harmonise(made("brax"), Policy(age_bins=choice)), "Age")
        for choice in ("middle", "lower", "missing")
    }
    assert ages["middle"] == [42, 42, 85, 2, None]
    assert ages["lower"] == [40, 40, 85, 0, None]
    assert ages["missing"] == [None, None, 85, None, None]
    opened = sources.harmonise(made("brax"), Policy(age_open="missing"))
    assert column(opened, "Age")[2] is None


def test_labels_come_from_reports_or_a_file(made):
    folder = made("rexgradient")
    silent = sources.harmonise(folder)
    assert not set(FINDINGS) & set(silent.table)
    read = sources.harmonise(folder, WRITTEN.with_(labels="reports"))
    assert column(read, "Pleural Effusion")[2] == "P"
    assert column(read, "Pneumonia")[2] == "U"
    assert column(read, "Pneumothorax")[3] == "N"
    assert column(read, "Support Devices")[5] == "P"
    assert column(read, "No Finding")[0] == "P"
    header = "study," + ",".join(FINDINGS)
    write(folder / "mine.csv", f"{header}\npB_1" + ",1" * 14 + "\n")
    given = sources.harmonise(folder, WRITTEN.with_(labels=str(folder / "mine.csv")))
    assert column(given, "Edema") == [None, None, "P", None, None, None]


@pytest.mark.parametrize(
    ("choice", "uncertain", "blank"),
    [("raw", "U", None), ("u_zeros", "N", "N"), ("u_ones", "P", "P"), ("u_ignore", None, None)],
)
def test_uncertain_and_blank_labels_follow_the_policy(made, choice, uncertain, blank):
    result = sources.harmonise(made("chexpert"), WRITTEN.with_(uncertain=choice, blank=choice))
    assert column(result, "Lung Opacity")[1] == uncertain
    assert column(result, "Edema")[0] == blank
    assert column(result, "Edema")[5] == "P"
    assert column(result, "Cardiomegaly")[1] == "N"
    assert rule(result, "labels-uncertain").rows == 3


def test_dropped_laterals_are_counted(made):
    result = sources.harmonise(made("brax"), Policy(laterals="drop"))
    assert (result.rows_in, len(result)) == (5, 3)
    assert rule(result, "lateral-dropped").rows == 2
    assert len(result.patients) == len(result.images) == 3


def test_zero_is_unknown_in_the_cxr7_table(made):
    result = sources.harmonise(made("cxr7_table"), CXR7)
    assert column(result, "Edema") == ["P", None, None, None]
    assert column(result, "Fracture") == [None, None, "N", "N"]
    assert result.table["Dataset"].tolist() == ["MIMIC-CXR", "PadChest", "BRAX", "BRAX"]
