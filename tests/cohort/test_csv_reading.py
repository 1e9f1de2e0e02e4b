"""What a .csv and a DataFrame become: identifiers, words for missing values, dates, saving."""

from datetime import date, time, timedelta
from time import process_time

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph
from causalcxr.cohort.columns import encode, matches
from causalcxr.cohort.csv_table import read_cells
from causalcxr.cohort.ids import patient_numbers
from causalcxr.cohort.splits import draw_splits
from causalcxr.common.errors import CausalCXRError, CohortError, ModelError
from causalcxr.metrics.inputs import read_patients
from causalcxr.sources.csv_reader import read_columns

GRAPH = Graph.parse(
    "variables: {Age: {type: continuous}, Race: {type: categorical, levels: [Asian, NA, White]},"
    " Grade: {type: categorical, levels: ['0', '1', NA]}, Sex: {type: binary, levels: [F, M]}}"
)


def load(folder, *lines: str) -> Cohort:
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return Cohort.load(folder / "t.csv")


# Identifiers


@pytest.mark.parametrize(
    "texts",
    [
        ("12345678901234567", "12345678901234568"),  # 17 digits: one float, two patients
        ("9007199254740993", ""),
        ("007", "008"),
        ("12E5", "1200000"),
        ("1.10", "1.1"),
        ("+4912345", "4912345"),
        ("0.12345678901234567890", "0.5"),
    ],
)
def test_identifiers_stay_text_where_a_float_would_change_them(tmp_path, texts):
    cohort = load(tmp_path, "id,x", *(f"{text},1" for text in texts))
    found = cohort.table["id"]
    assert [text for text in found if isinstance(text, str)] == [text for text in texts if text]
    assert found.dropna().nunique() == len({text for text in texts if text})


@pytest.mark.parametrize(
    ("texts", "numbers"),
    [
        (("61", "47"), [61, 47]),
        (("61", "47.5"), [61, 47.5]),
        (("1.50", "2.25"), [1.5, 2.25]),
        (("1e-05", "2.5E+03"), [1e-5, 2500]),
        (("0.1", "-0.30000000000000004"), [0.1, -0.30000000000000004]),
        ((" 61", "NA"), [61, np.nan]),
        (("9007199254740991", "0"), [2**53 - 1, 0]),
    ],
)
def test_numbers_stay_numbers_where_no_digit_is_lost(tmp_path, texts, numbers):
    found = load(tmp_path, "x,y", *(f"{text},1" for text in texts)).table["x"]
    assert found.dtype.kind in "if"
    np.testing.assert_array_equal(found.to_numpy(float), numbers)


def test_two_patients_with_long_numbers_are_two(tmp_path):
    cohort = load(tmp_path, "who,Age", "12345678901234567,61", "12345678901234568,47")
    assert Cohort(cohort.table, patients="who").patients.nunique() == 2


# Words for missing values


def test_declared_level_precedes_words_for_missing(tmp_path):
    lines = ("record,Age,Race,Grade", "a,61,NA,0", "b,NA,,NA", "c,47,White,1", "d,52,nan,")
    right = {
        "Age": [61, np.nan, 47, 52],
        "Race": [1, np.nan, 2, np.nan],
        "Grade": [0, 2, 1, np.nan],
        "Sex": [np.nan] * 4,
    }
    cohort = load(tmp_path, *lines)
    table = pd.read_csv(tmp_path / "t.csv", keep_default_na=False, index_col="record")
    saved = Cohort.load(cohort.save(tmp_path / "saved"))
    for read in (cohort, Cohort(table), saved, saved.loc[["a", "b", "c", "d"]]):
        for name, column in read.columns(GRAPH).items():
            np.testing.assert_array_equal(column, right[name])
    assert saved.table.equals(cohort.table)
    assert cohort.table["Race"].isna().tolist() == [True, True, False, True]  # pandas' own habit
    declared = cohort.as_declared(GRAPH)
    assert declared.table["Race"].fillna("").tolist() == ["NA", "", "White", ""]
    assert declared.select("Grade == 'NA'").index.tolist() == ["b"]


def test_twin_keeps_a_level_that_reads_as_missing(tmp_path):
    cohort = load(tmp_path, "record,Race", "a,NA", "b,Asian")
    twin = cohort.with_columns(GRAPH, {"Race": np.array([1.0, 2.0])})
    assert twin.columns(GRAPH)["Race"].tolist() == [1, 2]
    assert twin.at([1]).columns(GRAPH)["Race"].tolist() == [2]


# Patients


@pytest.mark.parametrize("blank", [None, np.nan, pd.NA, pd.NaT, "", " "])
def test_missing_patients_are_refused_and_counted_everywhere(blank):
    who = ["a", blank, "b", blank]
    table = pd.DataFrame({"Age": [1.0, 2, 3, 4]})
    calls = (
        lambda: Cohort(table, patients=who),
        lambda: Cohort(table.assign(who=pd.Series(who, dtype=object)), patients="who"),
    )
    for call in calls:
        with pytest.raises(CohortError, match=r"record 1 has no patient \(2 records\); fill it"):
            call()
    for call in (lambda: read_patients(who, 4), lambda: draw_splits(who)):
        with pytest.raises(CausalCXRError, match=r"row 1 has no patient \(2 of 4 rows\); fill it"):
            call()


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "<NA>", "None", "NaT"])
def test_a_word_for_missing_values_is_not_the_patient_of_several(word):
    table = pd.DataFrame({"Age": [1.0, 2, 3]})
    with pytest.raises(CohortError, match=f"patient '{word}' of 2 records is a word for a"):
        Cohort(table, patients=["a", word, word])
    named = Cohort(table, patients=["a", word, "b"])  # initials, perhaps: nobody is mixed up
    assert named.repeat(2).patients.tolist() == ["a", "a", word, word, "b", "b"]


def test_one_and_the_text_one_are_two_patients():
    assert read_patients([1, "1", 1], 3).tolist() == [0, 1, 0]
    assert patient_numbers([1, "1", 1], 3)[0].tolist() == [0, 1, 0]


def test_patients_are_numbered_by_name_whatever_the_order_of_rows():
    assert read_patients([10, 9, 10, 2], 4).tolist() == [2, 1, 2, 0]
    assert read_patients(["b", "a", "b"], 3).tolist() == [1, 0, 1]


# Saving


@pytest.mark.parametrize(
    "ids",
    [
        np.array([2**64 - 1, 2**63], dtype=np.uint64),
        np.array([3, 1], dtype=np.uint64),
        np.array([-5, 7]),
        np.array([1.5, 2.0]),
        np.array(["1", "a"], dtype=object),
        np.array(["12345678901234567", "12345678901234568"], dtype=object),
        np.array(["NA", "nan"], dtype=object),
    ],
)
def test_ids_are_saved_and_loaded_unchanged(tmp_path, ids):
    cohort = Cohort(pd.DataFrame({"Age": [61, 47]}, index=ids), patients=ids)
    loaded = Cohort.load(cohort.save(tmp_path / "c"))
    assert loaded.index.tolist() == cohort.index.tolist()
    assert loaded.patients.tolist() == cohort.patients.tolist()
    assert loaded.index.dtype.kind == cohort.index.dtype.kind or ids.dtype == np.uint64


@pytest.mark.parametrize("ids", [[1, "1"], [1, "a"], [pd.Timestamp("2020"), pd.Timestamp("2021")]])
@pytest.mark.parametrize("what", ["record", "patient"])
def test_ids_that_are_equal_in_a_file_are_not_saved(tmp_path, ids, what):
    mixed = pd.Series(ids, dtype=object)
    index = pd.Index(mixed, dtype=object) if what == "record" else None
    table = pd.DataFrame({"Age": [61, 47]}, index=index)
    cohort = Cohort(table, patients=mixed if what == "patient" else None)
    with pytest.raises(CohortError, match=f"{what} ids such as .* make them all texts or all"):
        cohort.save(tmp_path / "c")
    assert not (tmp_path / "c").exists()


# Dates


DATES = pd.to_datetime(["2020-01-01", None])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(DATES),
        pd.Series(DATES).astype("datetime64[s]"),
        pd.Series(DATES.tz_localize("UTC")),
        pd.Series(DATES.to_period("M")),
        pd.Series(pd.Categorical(DATES)),
        pd.Series([date(2020, 1, 1), None]),
        pd.Series([pd.Timestamp("2020"), 61.0], dtype=object),
        pd.Series([np.datetime64("2020"), 61.0], dtype=object),
        pd.Series([time(1), None]),
        pd.Series([pd.NaT, pd.NaT]),
    ],
    ids=lambda values: str(values.dtype),
)
def test_dates_are_refused_as_numbers(values):
    with pytest.raises(CohortError, match=r"is a date or time, not a number \(. records?\); conv"):
        encode(values.rename("Age"), GRAPH["Age"])


@pytest.mark.parametrize(
    "values",
    [
        pd.Series(pd.to_timedelta([5, None], unit="D")),
        pd.Series([timedelta(5), 61], dtype=object),
        pd.Series([np.timedelta64(5, "D"), None], dtype=object),
    ],
    ids=str,
)
def test_durations_are_refused_as_numbers(values):
    with pytest.raises(CohortError, match=r"is a duration, not a number .* column.dt.days / 365"):
        encode(values.rename("Age"), GRAPH["Age"])


def test_arrow_dates_and_durations_are_refused_as_numbers():
    arrow = pytest.importorskip("pyarrow")
    durations = pd.Series(pd.to_timedelta([5, None], unit="D"))
    for values, kind in (
        (pd.Series(DATES), arrow.timestamp("ns")),
        (pd.Series([date(2020, 1, 1)]), arrow.date32()),
        (durations, arrow.duration("ns")),
    ):
        with pytest.raises(CohortError, match=r"is a (date or time|duration), not a number"):
            encode(values.astype(pd.ArrowDtype(kind)), GRAPH["Age"])


def test_complex_numbers_and_decimal_commas_are_refused_with_the_remedy():
    with pytest.raises(CohortError, match="is not a real number"):
        encode(pd.Series([1 + 2j, 3]), GRAPH["Age"])
    with pytest.raises(CohortError, match=r"'61,5' is not a number .*decimal point: 61.5"):
        encode(pd.Series(["61,5"]), GRAPH["Age"])


# Files of another kind


@pytest.mark.parametrize(
    ("lines", "named"),
    [
        (("record;Age;Race", "a;61;White"), "semicolons"),
        (("record;Age;Race", "a;61,5;White"), "semicolons"),
        (("record\tAge\tRace", "a\t61\tWhite"), "tabs"),
        (("record|Age|Race", "a|61|White"), "vertical bars"),
    ],
)
def test_another_separator_is_named_with_the_remedy(tmp_path, lines, named):
    with pytest.raises(CohortError, match=rf"t\.csv:1: cells are separated by {named}; save it"):
        load(tmp_path, *lines)
    with pytest.raises(CohortError, match=f"cells are separated by {named}"):
        read_columns(tmp_path / "t.csv", ["record"])


def test_table_without_a_column_of_the_graph_is_refused(tmp_path):
    cohort = load(tmp_path, "record,Agge,Place", "a,61,x", "b,47,y")
    told = (
        r"no column is a variable of graph 'graph'; the table has Agge, Place; the graph has Age"
    )
    for ask in (lambda: SCM(GRAPH).fit(cohort), lambda: cohort.columns(GRAPH)):
        with pytest.raises(CohortError, match=told + ", .*did you mean 'Age'"):
            ask()
    blank = load(tmp_path, "record,Age,Race", "a,,", "b,,")
    with pytest.raises(ModelError, match=r"fit: nothing to learn: .*t.csv has no value of any"):
        SCM(GRAPH).fit(blank)


def test_thirty_thousand_columns_take_linear_time(tmp_path):
    names = [f"c{k}" for k in range(30_000)]
    (tmp_path / "t.csv").write_text(f"Age,{','.join(names)}\n61{',1' * len(names)}\n")
    start = process_time()
    cells = read_cells(tmp_path / "t.csv")
    read_columns(tmp_path / "t.csv", ["Age"])
    assert matches(GRAPH, cells) == {"Age": "Age"}
    assert process_time() - start < 5  # linear, under a second; quadratic, half a minute
