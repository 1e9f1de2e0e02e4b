"""A cohort keeps what it is given, says what is wrong with it, and never changes."""

import json
import os

import numpy as np
import pandas as pd
import pytest

from causalcxr.cohort import Cohort
from causalcxr.cohort.splits import draw_splits
from causalcxr.common.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.images.images import ArrayImages

GRAPH = Graph.parse("""
variables:
  Age: {type: continuous, unit: year, range: [0, 105], resolution: 1}
  Sex: {type: binary, levels: [F, M]}
  View: {type: categorical, levels: [AP, PA, LATERAL]}
  Pleural Effusion: {type: binary}
  Race: {type: categorical, levels: [Asian, Black, White]}
  Image: {type: image, parents: [Age]}
""")
NAN = float("nan")


@pytest.fixture
def table():
    return pd.DataFrame(
        {
            "age": [61, 47, 80, 5],
            "Sex": ["F", None, "M", "U"],
            "VIEW": ["AP", "", "LATERAL", "PA"],
            "pleural_effusion": ["N", "P", pd.NA, NAN],
            "scanner": ["x", "y", "z", "x"],
        },
        index=["a", "b", "c", "d"],
    )


def images(n=4, side=8):
    rng = np.random.default_rng(0)
    return rng.integers(0, 2**16, (n, side, side), dtype=np.uint16)


def same(a, b):
    return np.array_equal(a, b, equal_nan=True)


def test_every_word_for_missing_is_nan(table):
    columns = Cohort(table).columns(GRAPH)
    assert list(columns) == ["Age", "Sex", "View", "Pleural Effusion", "Race"]
    assert all(c.dtype == np.float64 for c in columns.values())
    assert same(columns["Age"], [61, 47, 80, 5])
    assert same(columns["Sex"], [0, NAN, 1, NAN])
    assert same(columns["View"], [0, NAN, 2, 1])
    assert same(columns["Pleural Effusion"], [0, 1, NAN, NAN])
    assert same(columns["Race"], [NAN] * 4)


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        (
            "Sex",
            ["F", "O", "M", "O"],
            r"^x.csv: column 'Sex', record 'b': 'O' is not a level of 'Sex' \(2 records\); "
            r"allowed: F, M, or empty",
        ),
        ("Sex", ["Unknown", "F", "M", "F"], "'Unknown' is not a level"),
        ("VIEW", ["AP", "Lateral", "PA", "PA"], r"did you mean 'LATERAL'\?"),
        ("pleural_effusion", [0, 1, -1, 1], r"-1 is a code|0 is not a level"),
        ("pleural_effusion", [-1, "N", "P", "N"], r"'a': -1 is a code for uncertain"),
        ("age", [61, 155, 47, 200], r"'b': 155 is outside the range 0 to 105 .*\(2 records\)"),
        ("age", [61, np.inf, 47, 20], r"'b': inf is not finite \(1 record\)"),
        ("age", ["61", "85 or more", "", None], r"'85 or more' is not a number \(1 record\)"),
    ],
)
def test_invalid_value_gives_one_line(table, column, values, message):
    cohort = Cohort(table.assign(**{column: values}), origin="x.csv")
    with pytest.raises(CohortError, match=message) as caught:
        cohort.columns(GRAPH)
    assert "\n" not in str(caught.value)


def test_two_columns_for_one_variable_are_refused(table):
    with pytest.raises(CohortError, match="columns 'age' and 'Age' are both the variable 'Age'"):
        Cohort(table.assign(Age=1)).columns(GRAPH)


def test_digit_levels_are_read_from_floats():
    graph = Graph.parse('variables: {Grade: {type: ordinal, levels: ["0", "1", "2"]}}')
    cohort = Cohort(pd.DataFrame({"Grade": [2.0, NAN, 0.0]}))
    assert same(cohort.columns(graph)["Grade"], [2, NAN, 0])


def test_duplicate_records_are_refused():
    with pytest.raises(CohortError, match=r"record 'b' occurs more than once \(1 rows"):
        Cohort(pd.DataFrame({"Age": [1, 2, 3]}, index=["a", "b", "b"]))


def test_patient_in_two_splits_is_refused(table):
    with pytest.raises(CohortError, match="patient 7 is in two splits, train and test"):
        Cohort(table, patients=[7, 7, 8, 9], splits=["train", "test", "val", "val"])


@pytest.mark.parametrize("splits", [["train", "test", "val", "x"], ["train", None, "val", "val"]])
def test_unknown_split_is_refused(table, splits):
    with pytest.raises(CohortError, match=r"is not a split|has no split"):
        Cohort(table, splits=splits)


def test_unchanged_columns_keep_every_cell(table):
    cohort = Cohort(table, images())
    again = cohort.with_columns(GRAPH, cohort.columns(GRAPH))
    pd.testing.assert_frame_equal(again.table, cohort.table)
    assert not cohort.compare(again).changed.to_numpy().any()
    assert again.images is cohort.images


def test_only_changed_cells_differ(table):
    cohort = Cohort(table.assign(age=[61.1, 47.0, 80.0, 5.0]))
    columns = cohort.columns(GRAPH) | {"Sex": np.array([1.0, NAN, 1.0, NAN])}
    columns["Age"] = np.array([61.1, 57.5, 80.0, NAN])
    columns["Race"] = np.array([NAN, 2, NAN, NAN])
    twin = cohort.with_columns(GRAPH, columns)
    assert twin.table["Sex"].tolist()[0] == "M"
    assert twin.table["Sex"].tolist()[3] == "U"  # still missing, still spelled as it was
    assert same(twin.table["age"], [61.1, 57.5, 80.0, NAN])
    assert twin.table["Race"].tolist()[1] == "White"
    assert twin.table["scanner"].tolist() == ["x", "y", "z", "x"]
    for name, column in twin.columns(GRAPH).items():
        assert same(column, columns[name])
    assert table["Sex"].tolist()[0] == "F"


def test_cohort_from_columns_returns_them():
    columns = {"Age": np.array([61.25, NAN]), "sex": np.array([NAN, 1.0])}
    cohort = Cohort.from_columns(GRAPH, columns, ["p", "q"], source="model")
    assert cohort.table["Sex"].tolist()[1] == "M"
    back = cohort.columns(GRAPH)
    assert same(back["Age"], columns["Age"])
    assert same(back["Sex"], columns["sex"])
    with pytest.raises(CohortError, match="positions outside its 2 levels"):
        Cohort.from_columns(GRAPH, {"Sex": np.array([2.0, 0.0])}, ["p", "q"])


def test_changing_the_table_does_not_change_the_cohort(table):
    cohort = Cohort(table)
    copy = cohort.table
    copy.loc["a", "Sex"] = "M"
    table.loc["a", "Sex"] = "M"
    assert cohort.table.loc["a", "Sex"] == "F"
    with pytest.raises(AttributeError):
        cohort.table = table


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ("age > 50 and Sex == 'F'", ["a"]),
        ("patient == 2 and split == 'val'", ["c", "d"]),
        ("record in ['d', 'a']", ["a", "d"]),
        ([True, False, True, False], ["a", "c"]),
        (pd.Series([True], index=["d"]), ["d"]),
        (lambda cohort: cohort.at([-1, 0]), ["d", "a"]),
        (lambda cohort: cohort.at(np.array([], dtype=int)), []),
        (lambda cohort: cohort.at(slice(1, 3)), ["b", "c"]),
        (lambda cohort: cohort.loc[["c", "a"]], ["c", "a"]),
        (lambda cohort: cohort.head(2), ["a", "b"]),
    ],
)
def test_selected_rows_keep_images_patients_and_splits(table, rows, expected):
    cohort = Cohort(table, images(), patients=[1, 1, 2, 2], splits=["train"] * 2 + ["val"] * 2)
    chosen = rows(cohort) if callable(rows) else cohort.select(rows)
    assert chosen.index.tolist() == expected
    places = [table.index.get_loc(label) for label in expected]
    assert (chosen.images[:] == cohort.images[places]).all()
    assert chosen.patients.tolist() == [cohort.patients.iloc[k] for k in places]
    assert chosen.splits.tolist() == [cohort.splits.iloc[k] for k in places]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (lambda c: c.select("agee > 5"), r"query 'agee > 5': no column 'agee'.*mean 'age'\?"),
        (lambda c: c.select("age + 1"), "write it as in"),
        (lambda c: c.select([True]), "a mask of 1 values for 4"),
        (lambda c: c.at([9]), "no row at position 9; the cohort has 4"),
        (lambda c: c.at([0, 0]), "record 'a' occurs more than once"),
        (lambda c: c.loc[["aa"]], r"no record 'aa' \(1 not found\); did you mean 'a'"),
        (lambda c: c.head(-1), "head takes a number of records from 0, not -1"),
    ],
)
def test_absent_rows_are_refused(table, rows, message):
    with pytest.raises(CohortError, match=message):
        rows(Cohort(table))


def test_splits_do_not_depend_on_order_or_subset():
    patients = pd.Series([f"p{k % 5000}" for k in range(10_000)])
    drawn = draw_splits(patients, seed=3)
    backwards = draw_splits(patients[::-1], seed=3)[::-1]
    assert (drawn == backwards).all()
    assert (draw_splits(patients[100:200], seed=3) == drawn[100:200]).all()
    assert (drawn[:5000] == drawn[5000:]).all()
    shares = pd.Series(drawn).value_counts(normalize=True)
    assert np.allclose(shares[["train", "val", "test"]], [0.8, 0.1, 0.1], atol=0.015)
    assert (draw_splits(patients, seed=4) != drawn).mean() > 0.2


def test_split_returns_its_records(table):
    cohort = Cohort(table, splits=["train", "train", "val", "test"])
    assert [len(cohort.split(name)) for name in ("train", "val", "test")] == [2, 1, 1]
    with pytest.raises(CohortError, match=r"did you mean 'train'\?"):
        cohort.split("trian")
    with pytest.raises(CohortError, match="no splits; use assign_splits"):
        Cohort(table).split("val")
    assert set(Cohort(table).assign_splits((0, 0, 1)).splits) == {"test"}
    with pytest.raises(CohortError, match="sum to 1"):
        cohort.assign_splits((0.5, 0.1, 0.1))


def test_repeat_indexes_rows_by_record_and_draw(table):
    cohort = Cohort(table, images(), patients=[1, 1, 2, 2])
    many = cohort.repeat(3)
    assert many.index.names == ["record", "draw"]
    assert many.records.tolist()[:4] == ["a", "a", "a", "b"]
    assert many.draws.tolist()[:4] == [0, 1, 2, 0]
    assert (many.images[[0, 2]] == cohort.images[[0, 0]]).all()
    assert not cohort.compare(many).changed.to_numpy().any()
    assert len(many.loc[["b", "d"]]) == 6
    with pytest.raises(CohortError, match="cannot repeat"):
        many.repeat(2)


def test_comparison_counts_changes(table):
    columns = Cohort(table).columns(GRAPH)
    columns["Age"] = columns["Age"] + 10
    columns["Pleural Effusion"] = np.array([1.0, 1.0, 1.0, NAN])
    cohort = Cohort(table)
    comparison = cohort.compare(cohort.with_columns(GRAPH, columns))
    summary = comparison.summary()
    assert summary.loc["age", ["changed", "of", "mean_shift", "what"]].tolist() == [
        4, 4, 10.0, "+10.0",
    ]  # fmt: skip
    assert summary.loc["Sex", "changed"] == 0
    assert summary.loc["pleural_effusion", "changed"] == 2
    assert set(summary.loc["pleural_effusion", "what"].split(", ")) == {
        "N -> P: 1", "missing -> P: 1",
    }  # fmt: skip
    assert comparison.changes(0) == "age 61→71, pleural_effusion N→P"
    assert comparison.table.columns.tolist() == [
        "record", "variable", "factual", "counterfactual",
    ]  # fmt: skip
    assert len(comparison.table) == 6
    assert "age 4" in repr(comparison)
    with pytest.raises(CohortError, match="record 'a' of the twin is not in the factual"):
        cohort.at([1]).compare(cohort)


def test_plot_of_a_twin_is_marked_and_captioned(table, tmp_path):
    cohort = Cohort(table, images(), patients=[1, 1, 2, 2])
    columns = cohort.columns(GRAPH) | {"Sex": np.array([1.0, NAN, 1.0, NAN])}
    computed = ArrayImages(images()[::-1].copy(), synthetic=True)
    twin = cohort.with_columns(GRAPH, columns).with_images(computed)
    figure = cohort.compare(twin).plot(2, tmp_path / "pairs.png")
    said = [text.get_text() for text in figure.texts]
    assert "Sex F→M" in said
    assert "SYNTHETIC - NOT FOR CLINICAL USE" in said
    marks = [t.get_text() for axes in figure.axes for t in axes.texts]
    assert marks == ["SYNTHETIC - NOT FOR CLINICAL USE"] * 2
    low, high = figure.axes[2].images[0].get_clim()
    assert low == -high < 0
    assert (tmp_path / "pairs.png").read_bytes()[:4] == b"\x89PNG"
    beside = cohort.compare(twin).plot(2, true=twin)
    assert "true twin" in [text.get_text() for text in beside.texts]
    panels = [axes.images[0].get_array() for axes in beside.axes[:4]]
    assert np.array_equal(panels[1], panels[2])
    assert [len(axes.texts) for axes in beside.axes[:4]] == [0, 1, 1, 0]
    bare = cohort.compare(twin.with_images(None)).plot()
    assert bare.axes[0].get_xlabel() == "share of records in which it changed"


@pytest.mark.parametrize("draws", [None, 2])
def test_saved_cohort_loads_unchanged(table, tmp_path, draws):
    table["Weight"] = [0.1 + 0.2, 1e-300, NAN, 1 / 3]
    table["code"] = ["007", "=1+1", 'a,"b"\nc', "é"]
    table["flag"] = [True, False, True, True]
    table.index = ["../a", "A", "a", "x" * 300]
    cohort = Cohort(table, images(), patients=[1, 1, 2, 2], splits=["train"] * 2 + ["val"] * 2)
    cohort = cohort if draws is None else cohort.repeat(draws)
    cohort = cohort.described("test", "a note")
    loaded = Cohort.load(cohort.save(tmp_path / "saved"))
    assert loaded.index.equals(cohort.index)
    assert (loaded.images[:] == cohort.images[:]).all()
    assert loaded.patients.equals(cohort.patients)
    assert loaded.splits.tolist() == cohort.splits.tolist()
    assert (loaded.source, loaded.notes) == ("test", ["a note"])
    assert not cohort.compare(loaded).changed.to_numpy().any()
    for name in ("age", "Weight", "flag"):
        assert loaded.table[name].equals(cohort.table[name])
    assert sorted(p.name for p in (tmp_path / "saved").iterdir()) == [
        "SHA256SUMS", "cohort.csv", "images", "manifest.json",
    ]  # fmt: skip
    assert [p.name for p in tmp_path.iterdir()] == ["saved"]


def test_records_without_images_are_saved(table, tmp_path):
    from causalcxr.images.images import ArrayImages

    held = ArrayImages(images(), np.array([True, False, True, False]))
    Cohort(table, held).save(tmp_path / "c")
    loaded = Cohort.load(tmp_path / "c", size=4)
    assert loaded.images.available.tolist() == [True, False, True, False]
    assert loaded.with_images_only().images[:].shape == (2, 1, 4, 4)
    assert json.loads((tmp_path / "c/manifest.json").read_text())["images"] == 2
    Cohort(table).head(0).save(tmp_path / "c", overwrite=True)
    assert len(Cohort.load(tmp_path / "c")) == 0
    assert not Cohort.load(tmp_path / "c").has_images


def test_save_does_not_touch_another_folder(table, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CohortError, match="holds something else than a cohort"):
        Cohort(table).save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_failed_save_keeps_the_old_cohort(table, tmp_path, monkeypatch):
    Cohort(table).save(tmp_path / "c")

    def full(_handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(CohortError, match=r"cannot be written \(No space left on device\)"):
        Cohort(table, images()).save(tmp_path / "c", overwrite=True)
    monkeypatch.undo()
    assert not Cohort.load(tmp_path / "c").has_images
    assert [p.name for p in tmp_path.iterdir()] == ["c"]
