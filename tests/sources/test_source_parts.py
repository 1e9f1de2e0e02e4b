"""The parts of a source: tables read strictly, maps with reasons, cohorts combined, an example."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from published import FINDINGS as PUBLISHED
from published import MAKERS, lines, write
from report_sentences import SEEN, UNSEEN

from causalcxr import sources
from causalcxr.cohort import Cohort
from causalcxr.cohort.csv_table import read_cells
from causalcxr.cohort.loading import source_module
from causalcxr.common.errors import CohortError
from causalcxr.sources.csv_reader import read_columns
from causalcxr.sources.datasets.vindr import read_headers
from causalcxr.sources.harmonised import combined
from causalcxr.sources.label_maps import LabelMap, bundled
from causalcxr.sources.policy import FINDINGS, UNCERTAIN, N, P
from causalcxr.sources.races import RACES
from causalcxr.sources.report_labels import label_report, label_reports

MAPS = {"nih_labels": 15, "vindr_labels": 29, "padchest_labels": 190}


# Reading


def test_column_reader_agrees_with_the_cell_reader(tmp_path):
    rows = [f'{k},"a, ""b""\n{k % 7}",{k % 3},é{k % 5}' for k in range(3_000)]
    file = write(tmp_path / "x.csv", lines("id,text,few,unicode", *rows))
    mine, theirs = read_columns(file, ["unicode", "text", "id"], ["absent"]), read_cells(file)
    assert list(mine) == ["unicode", "text", "id"]
    for name in mine:
        assert mine[name].tolist() == theirs[name].tolist()
    zipped = write(tmp_path / "x.csv.gz", file.read_bytes())
    assert read_columns(zipped, ["text"]).equals(mine[["text"]])


def test_blocks_of_rows_are_joined(tmp_path, monkeypatch):
    monkeypatch.setattr("causalcxr.sources.csv_reader._BLOCK", 10)
    file = write(tmp_path / "x.csv", lines("id,few", *(f"{k},{k // 9}" for k in range(35))))
    read = read_columns(file, ["id", "few"])
    assert read["few"].tolist() == [str(k // 9) for k in range(35)]
    assert read["few"].cat.categories.tolist() == ["0", "1", "2", "3"]


# Maps of labels


@pytest.mark.parametrize("name", MAPS)
def test_bundled_maps_give_reasons(name):
    known = bundled(name)
    assert len(known.meanings) >= MAPS[name]
    assert all(len(reason) > 8 for reason in known.reasons.values())
    assert "No Finding" in known.findings
    for word, targets in known.meanings.items():
        assert targets
        assert known.meaning(known.words[word].upper()) == targets


@pytest.mark.parametrize("name", ["mimic_races", "chexpert_races"])
def test_maps_of_races_have_no_default(name):
    known = bundled(name, RACES)
    met = {target for targets in known.meanings.values() for target in targets}
    assert met == {*RACES, "nothing"}
    for word in ("unknown", "other", ""):
        assert known.meaning(word) in (("nothing",), None)
    assert known.meaning("martian") is None


def test_words_become_marks():
    marks, unknown = bundled("padchest_labels").marks(
        [["pleural effusion", "kerley lines"], ["normal"], [], ["unchanged"], ["pacemaker"], ["x"]]
    )
    assert marks["Pleural Effusion"].tolist() == [1, 4, 3, 3, 4, 3]
    assert marks["Edema"].tolist() == [1, 4, 3, 3, 4, 3]
    assert marks["No Finding"].tolist() == [5, 1, 3, 3, 3, 3]
    assert marks["Support Devices"].tolist() == [4, 4, 3, 3, 1, 3]
    assert unknown == ["", "", "", "", "", "x"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "source: a\nlabels: {x: {is: Edemma, why: y}}",
            r"'x': 'Edemma' is not a finding; did you",
        ),
        ("source: a\nlabels: {x: {is: Edema}}", "'x': write .* every line has its reason"),
        ("source: a\nlabels: []", "`labels` holds no lines"),
        ("labels: {}", "has `source` and `labels`, nothing else"),
        ("source: [", r"map\.yaml:1: not valid YAML"),
        (
            "source: a\nlabels: {x: {is: Edema, why: y}, x: {is: Edema, why: z}}",
            "duplicate key 'x'",
        ),
    ],
)
def test_invalid_map_is_named(tmp_path, text, message):
    with pytest.raises(CohortError, match=message) as caught:
        LabelMap.read(write(tmp_path / "map.yaml", text))
    assert "\n" not in str(caught.value)


# Cohorts combined


def test_combined_sources_keep_their_rows(tmp_path):
    names = ("mimic", "padchest", "vindr", "brax", "rexgradient", "chexpert_plus")
    parts = [sources.harmonise(MAKERS[name](tmp_path / name)) for name in names]
    whole = combined(parts)
    assert len(whole) == sum(map(len, parts)) == whole.rows_in
    assert whole.table.index.is_unique
    assert len(set(whole.patients)) == sum(len(set(part.patients)) for part in parts)
    assert whole.splits[:6].tolist() == parts[0].splits.tolist()
    assert pd.Series(whole.splits).groupby(whole.patients).nunique().max() == 1
    assert set(whole.splits) <= {"train", "val", "test"}
    start = 0
    for part in parts:
        block = whole.table.iloc[start : start + len(part)]
        for name in part.table:
            mine, theirs = (t[name].astype(object) for t in (block, part.table))
            assert ((mine.to_numpy() == theirs.to_numpy()) | mine.isna().to_numpy()).all()
            assert mine.isna().sum() == theirs.isna().sum()
        start += len(part)
    assert whole.table["study"].map(type).isin([str, float]).all()
    again = combined(parts, seed=1)
    assert (again.splits[:6] == whole.splits[:6]).all()
    assert {rule.why.split(":")[0] for rule in whole.rules} >= {"MIMIC-CXR", "PadChest", "BRAX"}
    assert len(whole.cohort()) == len(whole)


def test_combined_sources_without_splits_have_none(tmp_path):
    parts = [sources.harmonise(MAKERS[name](tmp_path / name)) for name in ("brax", "padchest")]
    assert combined(parts).splits is None
    with pytest.raises(CohortError, match="no sources to combine"):
        combined([])


# Cohorts by name, and the example


def test_sources_are_found_by_folder_or_name(tmp_path, monkeypatch):
    for name, make in MAKERS.items():
        cohort = Cohort.load(make(tmp_path / name))
        assert cohort.source == name
    monkeypatch.setenv("CAUSALCXR_DATA", str(tmp_path))
    assert Cohort.load("brax", uncertain="u_ones").table["Lung Lesion"].iloc[2] == "P"
    monkeypatch.delenv("CAUSALCXR_DATA")
    with pytest.raises(CohortError, match=r"brax: no path; give path"):
        Cohort.load("brax")


def test_example_reads_the_real_hannover_repository(data):
    cohort = Cohort.load(data / "hannover", size=32)
    assert (len(cohort), cohort.patients.nunique()) == (243, 71)
    assert cohort.table["Age"].isna().sum() > 200  # redacted
    assert set(cohort.table["View"].dropna()) == {"AP", "PA"}
    assert set(cohort.table["Sex"].dropna()) == {"F", "M"}
    assert cohort.images.available.sum() == 243
    assert cohort.images[:2].shape == (2, 1, 32, 32)
    assert not set(FINDINGS) & set(cohort.table)


def test_data_set_is_one_file():
    text = (Path(sources.__file__).parent / "datasets/hannover.py").read_text()
    assert len(text.splitlines()) < 60
    assert "def " not in text
    for name in sources.DECLARED:
        module = source_module(name)
        assert module.SOURCE.name == name
        assert {"SOURCE", "harmonise", "load", "recognises"} <= set(module.__all__)


def test_vindr_reads_sex_and_age_from_dicom(tmp_path):
    from pydicom.data import get_testdata_file

    folder = MAKERS["vindr"](tmp_path / "vindr")
    image = folder / "train/a1.dicom"
    write(image, Path(get_testdata_file("CT_small.dcm")).read_bytes())
    found = read_headers(folder, ["train/a1.dicom", "train/b2.dicom", "../x/c3.dicom"])
    assert found.to_numpy().tolist()[0][:2] == ["a1", "O"]
    assert found["PatientSex"].tolist() == ["O", "", ""]
    write(
        folder / "dicom_headers.csv",
        lines("image_id,PatientSex,PatientAge", "a1,M,063Y", "d4,F,000Y", "zz,F,010Y"),
    )
    read = sources.harmonise(folder)
    assert read.table["Sex"].astype(object).where(read.table["Sex"].notna(), None).tolist() == [
        "M", None, None, "F",
    ]  # fmt: skip
    assert np.array_equal(read.table["Age"], [63, np.nan, np.nan, np.nan], equal_nan=True)


# Labels read off reports

_SIGN = {P: "+", N: "-", UNCERTAIN: "?"}


def said(text):
    found = label_report(text).items()
    return {name: _SIGN[m] for name, m in found if m in _SIGN and name != "No Finding"}


def test_known_sentences_are_labelled_correctly():
    assert [text for text, wanted in SEEN if said(text) != wanted] == []


def test_most_unseen_sentences_are_labelled_correctly():
    right = [said(text) == wanted for text, wanted in UNSEEN]
    assert np.mean(right) >= 0.9


def test_no_finding_follows_from_the_report():
    reports = np.array(["The lungs are clear.", "Edema.", "Possible edema.", ""], dtype=object)
    marks = label_reports([reports, np.array(["", "No edema.", "", ""], dtype=object)])
    assert marks["No Finding"].tolist() == [P, 3, 3, 3]
    assert marks["Edema"].tolist() == [3, P, UNCERTAIN, 3]


def test_equal_reports_are_read_once():
    text = "Small left pleural effusion. No pneumothorax. Possible pneumonia. " * 3
    start = time.process_time()
    label_reports([np.full(200_000, text, dtype=object)])
    assert time.process_time() - start < 2


def test_labelling_takes_linear_time():
    start = time.process_time()
    label_report("no possible likely " * 3_000 + "effusion")
    label_report("effusion " * 3_000)
    assert time.process_time() - start < 5


def test_fixtures_have_the_14_findings():
    assert sorted(PUBLISHED) == sorted(FINDINGS)


@given(text=st.text(max_size=120))
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@example(text="source: a\nlabels: " + "[" * 500)
@example(text="source: a\nlabels: {x: {is: {}, why: y}}")
@example(text="source: a\nlabels: {x: {is: [], why: y}}")
@example(text="source: &a [*a]\nlabels: {? [1] : 2}")
@example(text="source: !!python/object:os.system x\nlabels: {x: 1}")
def test_any_text_is_a_map_or_a_named_error(tmp_path, text):
    file = tmp_path / "map.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        LabelMap.read(file)
    except CohortError as error:
        assert "\n" not in str(error)  # noqa: PT017
