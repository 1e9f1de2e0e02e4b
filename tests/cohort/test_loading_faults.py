"""Whatever happens to a file on its way, one line says what and where."""

import gzip
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError

GOOD = "record,patient,split,Age,Sex,code\na,1,train,61,F,007\nb,1,train,,M,1\nc,2,val,47.5,NA,2\n"


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def test_table_columns_are_recognised(tmp_path):
    cohort = Cohort.load(write(tmp_path / "x.csv", "\ufeff" + GOOD.replace("\n", "\r\n")))
    assert cohort.index.tolist() == ["a", "b", "c"]
    assert cohort.patients.tolist() == ["1", "1", "2"]
    assert cohort.splits.tolist() == ["train", "train", "val"]
    assert list(cohort.table) == ["Age", "Sex", "code"]
    assert np.array_equal(cohort.table["Age"], [61, np.nan, 47.5], equal_nan=True)
    assert cohort.table["Sex"].isna().tolist() == [False, False, True]
    assert cohort.table["code"].tolist() == ["007", "1", "2"]


def test_rows_without_ids_are_numbered(tmp_path):
    cohort = Cohort.load(write(tmp_path / "x.csv", "Age\n61\n62\n"))
    assert cohort.index.tolist() == [0, 1]
    assert cohort.table["Age"].dtype == np.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"x\.csv: the file is empty"),
        (b"\n\n", r"x\.csv: the file is empty"),
        ("record,Age\n", "a header but no records"),
        (gzip.compress(GOOD.encode(), mtime=0), "compressed by gzip; decompress it first"),
        (GOOD.encode("utf-16"), "UTF-16; save it as UTF-8"),
        (GOOD.replace("M", "m\xe4nnlich").encode("latin-1"), r"x\.csv:3: byte 0xe4 is not UTF-8"),
        (GOOD.encode() + b"d,3\0,val,1,F,2\n", r"x\.csv:5: a null byte"),
        (GOOD[:-6], r"x\.csv:4: 4 cells, the header has 6; the file may be cut short"),
        (GOOD + 'd,3,val,1,"F', r"x\.csv:5: a quote is not closed; the file may be cut short"),
        (GOOD.replace("47.5", "47,5"), r"x\.csv:4: 7 cells, the header has 6; quote cells"),
        (GOOD.replace("Sex", "Age"), r"x\.csv:1: column 'Age' occurs twice"),
        (GOOD.replace("Sex", ""), r"x\.csv:1: column 5 has no name"),
        (GOOD.replace("b,1", "a,1"), r"x\.csv: record 'a' occurs more than once"),
        (GOOD.replace("b,1", ",1"), r"x\.csv: row 2 has no record id"),
        (GOOD.replace("c,2", "c,"), r"x\.csv: record 'c' has no patient \(1 records\)"),
        (GOOD.replace("c,2", "c,1"), r"x\.csv: patient '1' is in two splits, train and val"),
        (GOOD.replace("val", "valid"), r"x\.csv: record 'c': 'valid' is not a split"),
    ],
)
def test_damaged_table_is_named(tmp_path, content, message):
    with pytest.raises(CohortError, match=message) as caught:
        Cohort.load(write(tmp_path / "x.csv", content))
    assert "\n" not in str(caught.value)


def test_only_listed_images_are_opened(tmp_path):
    table = write(tmp_path / "x.csv", "record,Age\na,1\n../secret,2\nb.png,3\n")
    (tmp_path / "films").mkdir()
    for path in ("films/a.png", "films/b.png", "secret.png"):
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(tmp_path / path)
    cohort = Cohort.load(table, images=tmp_path / "films", size=2)
    assert cohort.images.available.tolist() == [True, False, True]
    assert cohort.images[0].shape == (1, 1, 2, 2)
    with pytest.raises(CohortError, match="no such folder of images"):
        Cohort.load(table, images=tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("phantm", r"no source or path 'phantm'; did you mean 'phantom'\?"),
        ("nowhere/at/all", r"give a source \(phantom, brax, .*\), a folder written by Cohort\.s"),
        ("x" * 5000, "no source or path"),
        ("nul\0l", "no source or path"),
    ],
)
def test_unknown_source_lists_the_sources(spec, message):
    with pytest.raises(CohortError, match=message):
        Cohort.load(spec)


def test_unreadable_path_lists_the_sources(tmp_path):
    with pytest.raises(CohortError, match="no source can read this; give a source"):
        Cohort.load(tmp_path)


def test_data_set_without_a_folder_names_the_remedy(monkeypatch):
    monkeypatch.delenv("CAUSALCXR_DATA", raising=False)
    with pytest.raises(CohortError, match="set CAUSALCXR_DATA"):
        Cohort.load("nih")


@pytest.fixture
def saved(tmp_path):
    table = pd.DataFrame({"Age": [61.5, 47.0], "Sex": ["F", None]}, index=["a", "b"])
    return Cohort(table, np.zeros((2, 4, 4), np.uint8)).save(tmp_path / "saved")


@pytest.mark.parametrize("change", [{"schema": 2}, {"types": None}, {"records": "x", "types": {}}])
def test_other_manifest_is_named(saved, change):
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps(manifest | change))
    with pytest.raises(CohortError, match=r"manifest\.json: (schema 2|damaged)"):
        Cohort.load(saved)


def test_changed_table_and_lost_image_are_detected(saved):
    file = saved / "cohort.csv"
    whole = file.read_bytes()
    file.write_bytes(whole.replace(b"61.5", b"16.5"))
    with pytest.raises(CohortError, match=r"cohort\.csv: changed since it was saved"):
        Cohort.load(saved)
    file.write_bytes(whole)
    (saved / "images/b.png").unlink()
    with pytest.raises(CohortError, match="1 images, the manifest has 2"):
        Cohort.load(saved)


def test_saving_refuses_reserved_names_and_unknown_formats(tmp_path):
    cohort = Cohort(pd.DataFrame({"patient": [1]}))
    with pytest.raises(CohortError, match="column 'patient' has a reserved name"):
        cohort.save(tmp_path / "c")
    with pytest.raises(CohortError, match="images='jpg' is not known"):
        cohort.save(tmp_path / "c", images="jpg")
    for text in ("a\0b", "\ud800"):
        with pytest.raises(CohortError, match="a text of the table"):
            Cohort(pd.DataFrame({"x": pd.Series([text], dtype=object)})).save(tmp_path / "c")
    assert not list(tmp_path.iterdir())


_CELLS = st.lists(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=6),
    min_size=2,
    max_size=2,
)


@given(rows=st.lists(_CELLS, min_size=1, max_size=5))
@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_text_survives_saving(tmp_path, rows):
    ids = [f"{k}{row[0]}" for k, row in enumerate(rows)]
    table = pd.DataFrame({"x": [row[1] for row in rows]}, index=ids)
    cohort = Cohort(table, np.arange(len(ids), dtype=np.uint8)[:, None, None])
    loaded = Cohort.load(cohort.save(tmp_path / "any", overwrite=True))
    assert loaded.index.tolist() == ids
    assert not cohort.compare(loaded).changed.to_numpy().any()
    assert (loaded.images[:] == cohort.images[:]).all()


@given(content=st.binary(max_size=300))
@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
def test_any_bytes_give_a_cohort_or_a_named_error(tmp_path, content):
    file = write(tmp_path / "any.csv", content)
    try:
        Cohort.load(file)
    except CohortError as error:
        assert str(file) in str(error)  # noqa: PT017
