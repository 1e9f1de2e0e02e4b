"""Conditions: every dtype gives the same records, missing is unknown, and no code is run."""

import contextlib

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalcxr import Cohort
from causalcxr.cohort.condition_syntax import parse_condition
from causalcxr.common.errors import CohortError

GAPS = [1, 0, None, 1]
NUMBERS = {
    "float64": pd.Series([1.0, 0.0, np.nan, 1.0]),
    "float32": pd.Series([1.0, 0.0, np.nan, 1.0], dtype="float32"),
    "Int64": pd.Series(GAPS, dtype="Int64"),
    "UInt8": pd.Series(GAPS, dtype="UInt8"),
    "Float32": pd.Series(GAPS, dtype="Float32"),
    "int64[pyarrow]": pd.Series(GAPS, dtype="int64[pyarrow]"),
    "double[pyarrow]": pd.Series(GAPS, dtype="double[pyarrow]"),
    "object": pd.Series(GAPS, dtype=object),
    "category": pd.Series(pd.Categorical(GAPS)),
    "boolean": pd.Series([True, False, None, True], dtype="boolean"),
    "bool[pyarrow]": pd.Series([True, False, None, True], dtype="bool[pyarrow]"),
    "object of bool": pd.Series([True, False, None, True], dtype=object),
}
WORDS = ["F", "M", None, "F"]
TEXTS = {
    "object": pd.Series(WORDS, dtype=object),
    "empty cell": pd.Series(["F", "M", "", "F"], dtype=object),
    "string": pd.Series(WORDS, dtype="string"),
    "string[pyarrow]": pd.Series(WORDS, dtype="string[pyarrow]"),
    "category": pd.Series(pd.Categorical(WORDS)),
    "default": pd.Series(WORDS),
}


def chosen(cohort: Cohort, query: str) -> list:
    return cohort.select(query).index.tolist()


@pytest.mark.parametrize("kind", NUMBERS)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("Z == 1", [0, 3]),
        ("Z != 1", [1]),
        ("not Z == 1", [1]),
        ("~(Z == 1)", [1]),
        ("Z > 0", [0, 3]),
        ("1 <= Z <= 1", [0, 3]),
        ("Z in [1, 7]", [0, 3]),
        ("Z not in (1, 7)", [1]),
        ("Z is missing", [2]),
        ("Z is not missing", [0, 1, 3]),
        ("Z == 1 or n == 2", [0, 2, 3]),
        ("Z == 1 and n == 2", []),
        ("not (Z == 1 and n == 0)", [1, 2, 3]),
        ("Z == Z", [0, 1, 3]),
    ],
)
def test_missing_numbers_are_unknown_for_any_dtype(kind, query, expected):
    cohort = Cohort(pd.DataFrame({"Z": NUMBERS[kind], "n": range(4)}))
    assert chosen(cohort, query) == expected


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sex == 'F'", [0, 3]),
        ('Sex != "F"', [1]),
        ("not Sex in ['F']", [1]),
        ("Sex is missing", [2]),
        ("'F' == Sex", [0, 3]),
    ],
)
def test_missing_texts_are_unknown_for_any_dtype(kind, query, expected):
    assert chosen(Cohort(pd.DataFrame({"Sex": TEXTS[kind]})), query) == expected


@pytest.mark.parametrize("kind", ["boolean", "bool[pyarrow]", "object of bool"])
def test_column_of_truth_values_is_a_condition(kind):
    cohort = Cohort(pd.DataFrame({"Z": NUMBERS[kind]}))
    assert chosen(cohort, "Z") == chosen(cohort, "Z == True") == [0, 3]
    assert chosen(cohort, "not Z") == chosen(cohort, "Z == False") == [1]


def test_condition_accepts_other_spellings():
    table = pd.DataFrame({"Pleural Effusion": ["P", "N"], "Age": [61, 47]}, index=["a", "b"])
    cohort = Cohort(table, patients=[7, 8], splits=["train", "val"])
    for query in (
        "pleural_effusion == 'P'",
        "`pleural effusion` == 'P'",
        "`Pleural Effusion` == 'P' and AGE > 60",
        "patient == 7 & split == 'train' | record == 'nobody'",
        "record in ['a']",
    ):
        assert chosen(cohort, query) == ["a"]
    assert chosen(cohort.repeat(2), "draw == 1 and Age < 60") == [("b", 1)]


def test_ambiguous_spelling_needs_the_exact_name():
    cohort = Cohort(pd.DataFrame({"Age": [61, 47], "age": [1, 2]}))
    assert chosen(cohort, "Age > 50") == [0]
    with pytest.raises(CohortError, match=r"'AGE' may be any of the columns `Age`, `age`"):
        cohort.select("AGE > 50")


@pytest.mark.parametrize("columns", [["A", "A"], [1, "1"]])
def test_duplicate_column_names_are_refused(columns):
    cohort = Cohort(pd.DataFrame([[1, 2], [2, 1]], columns=columns))
    with pytest.raises(CohortError, match=f"2 columns are called '{columns[1]}'; keep one"):
        cohort.select(f"`{columns[1]}` == 1")


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("Z == '1'", "column 'Z' holds numbers, and '1' is a text; write 1 without quotes"),
        ("Sex == 1", "column 'Sex' holds texts, and 1 is not a text; write '1'"),
        ("flag == 'True'", "'flag' holds truth values, .*; write True or False"),
        ("Sex == Z", "'Sex' holds texts, 'Z' numbers; they cannot be compared"),
        ("Sex != 'f'", "no value 'f' in column 'Sex'; write 'F'"),
        ("Sex < 'M'", "have no order"),
        ("Sex == ''", "an empty cell is missing; write `Sex` is missing"),
        ("Z == nan", "no column|nan compares with nothing; write Age is missing"),
        ("date > '2020-01-01'", "holds dates or times; add a column of numbers"),
        ("Z", "column 'Z' is not a condition; compare it"),
        ("lists == 1", "holds neither numbers nor texts"),
        ("zed == 1", "no column 'zed'; the columns are"),
        ("sax == 'F'", "no column 'sax'; did you mean 'Sex'"),
        ("split == 'val'", r"the cohort has no splits; use assign_splits\(\) first"),
        ("Z = 1", "write == to compare"),
        ("1 == 1", "has no column"),
        ("Z ==", "a value is expected, not 'the end'"),
        ("(Z == 1", r"a \( is not closed"),
        ("Sex == 'F", "close the '"),
        ("my column == 1", "put `backticks` around a name with spaces"),
        ("Z in Sex", "a list such as"),
        ("Z in [Sex]", "not 'Sex'"),
        ("(" * 200 + "Z == 1" + ")" * 200, "more than 100 nested conditions"),
    ],
)
def test_invalid_condition_gives_one_line_with_the_remedy(query, message):
    table = pd.DataFrame(
        {
            "Z": [1, 0],
            "Sex": ["F", "M"],
            "flag": [True, False],
            "date": pd.to_datetime(["2020-01-01", "2021-01-01"]),
            "lists": [[1], [2]],
        }
    )
    with pytest.raises(CohortError, match=message) as caught:
        Cohort(table).select(query)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize(
    "query",
    [
        "@pd.io.common.os.system('touch {file}')",
        "__import__('os').system('touch {file}')",
        "Z.map(print)",
        "Z[0] == 1",
        "Z == 1; import os",
        "(lambda: 1)() == Z",
        "Z + 1 == 2",
        "Z == 1 if Z else 2",
        "f'{{Z}}' == 1",
        "Z := 1",
        "[x for x in Z]",
        "Z == 9**9**9",
    ],
)
def test_condition_never_executes_code(query, tmp_path):
    file = tmp_path / "touched"
    with pytest.raises(CohortError, match="query "):
        Cohort(pd.DataFrame({"Z": [1, 0]})).select(query.format(file=file))
    assert not file.exists()


def test_mixed_columns_compare_as_texts():
    cohort = Cohort(pd.DataFrame({"Z": pd.Series([1, "1", 1.0, "unknown", None], dtype=object)}))
    assert chosen(cohort, "Z == 1") == chosen(cohort, "Z == '1'") == [0, 1, 2]
    assert chosen(cohort, "Z == 'unknown'") == [3]


def test_long_integers_compare_exactly():
    ids = pd.DataFrame({"id": pd.Series([20000000000000001, 20000000000000002])})
    assert chosen(Cohort(ids), "id == 20000000000000001") == [0]
    nullable = ids.astype("Int64").reindex([0, 1, 2])
    assert chosen(Cohort(nullable), "id == 20000000000000002") == [1]


@given(st.text(alphabet="Z az=<>!()[]',\"`&|~.10-@\\", max_size=30))
@settings(max_examples=300, deadline=None)
def test_any_text_is_a_condition_or_refused_in_one_line(text):
    with contextlib.suppress(CohortError):  # no other error may come
        parse_condition(text)


TERMS = st.one_of(
    st.builds(
        "Age {} {}".format,
        st.sampled_from(["==", "!=", "<", "<=", ">", ">="]),
        st.integers(0, 9),
    ),
    st.builds("Sex {} '{}'".format, st.sampled_from(["==", "!="]), st.sampled_from("FM")),
    st.builds("Age {} [{}, 3]".format, st.sampled_from(["in", "not in"]), st.integers(0, 9)),
    st.just("2 <= Age < 7"),
)
CONDITIONS = st.recursive(
    TERMS,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("({} or {})".format, inner, inner),
        st.builds("{} & {}".format, TERMS, TERMS),
        st.builds("{} | {}".format, TERMS, TERMS),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=6,
)


@given(CONDITIONS)
@settings(max_examples=100, deadline=None)
def test_condition_selects_as_pandas_without_missing_values(query):
    random = np.random.default_rng(0)
    table = pd.DataFrame(
        {
            "Age": random.integers(0, 10, 50),
            "Sex": pd.Series(random.choice(["F", "M"], 50), dtype=object),
        }
    )
    expected = np.flatnonzero(table.eval(query, engine="python"))
    assert chosen(Cohort(table), query) == expected.tolist()


# Masks


KINDS = ["boolean", "bool[pyarrow]", object]


@pytest.mark.parametrize("kind", KINDS)
def test_nullable_mask_is_aligned(kind):
    cohort = Cohort(pd.DataFrame({"Age": [1, 2, 3, 4]}, index=[30, 20, 10, 40]))
    mask = pd.Series([True, None, True], index=[10, 20, 30], dtype=kind)
    assert cohort.select(mask).index.tolist() == [30, 10]
    assert cohort.select(mask[::-1]).index.tolist() == [30, 10]
    in_order = pd.Series([True, None, False, True], dtype=kind)
    assert cohort.select(in_order.array).index.tolist() == [30, 40]
    assert cohort.select(list(in_order)).index.tolist() == [30, 40]


def test_mask_is_aligned_by_its_index():
    table = pd.DataFrame({"Age": [61, 47, 70]}, index=["a", "b", "c"])
    cohort = Cohort(table)
    assert cohort.select((table["Age"] > 60)[::-1]).index.tolist() == ["a", "c"]
    assert cohort.select((table["Age"] > 60).iloc[[2]]).index.tolist() == ["c"]
    assert len(cohort.select(pd.Series([], dtype=bool))) == 0


def test_mask_by_record_applies_to_all_draws():
    cohort = Cohort(pd.DataFrame({"Age": [61, 47]}, index=["a", "b"])).repeat(2)
    mask = pd.Series([True], index=["b"])
    assert cohort.select(mask).index.tolist() == [("b", 0), ("b", 1)]
    assert cohort.select(cohort.table["Age"] > 60).index.tolist() == [("a", 0), ("a", 1)]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (pd.Series([True, False]), r"the mask has record 0, which is not in the cohort \(2 such"),
        (pd.Series([True, True], index=[10, 10]), "the mask has record 10 more than once"),
        ([True], "a mask of 1 values for 3 records"),
        (np.ones((3, 1), dtype=bool), "not ndarray"),
        ([10], r"not 10; use at\(\[...\]\) for positions, loc\[\[...\]\] for record ids"),
        (["a"], r"not 'a'; use at"),
        (10, "not int; use at"),
        (slice(1), r"use at\(slice"),
        (pd.Series([1, 0, 1], index=[10, 20, 30]), "not 1; use at"),
        (pd.DataFrame({"a": [True] * 3}), "not DataFrame"),
    ],
)
def test_select_refuses_positions_and_ids(rows, message):
    cohort = Cohort(pd.DataFrame({"Age": [1, 2, 3]}, index=[30, 20, 10]))
    with pytest.raises(CohortError, match=message):
        cohort.select(rows)


def test_at_takes_positions_and_loc_takes_ids():
    cohort = Cohort(pd.DataFrame({"Age": [1, 2, 3]}, index=[2, 1, 0]))
    assert cohort.at(0).index.tolist() == [2]
    assert cohort.loc[0].index.tolist() == [0]
    assert cohort.at([0, -1]).index.tolist() == [2, 0]
    assert cohort.loc[[0, 2]].index.tolist() == [0, 2]
    assert cohort.loc[cohort.index[::-1]].index.tolist() == [0, 1, 2]
    draws = cohort.repeat(2)
    assert draws.loc[0].index.tolist() == [(0, 0), (0, 1)]
    assert draws.loc[0, 1].index.tolist() == [(0, 1)]
    assert draws.loc[[(1, 0), (0, 1)]].index.tolist() == [(1, 0), (0, 1)]


@pytest.mark.parametrize(
    ("take", "message"),
    [
        (lambda c: c.at([True, False]), r"at takes positions, not a mask; use select\(mask\)"),
        (lambda c: c.at("10"), "at takes positions, not '10'; use loc for record ids"),
        (lambda c: c.at([1.5]), "at takes positions, not 1.5"),
        (lambda c: c.loc[[True, False]], r"loc takes record ids, not a mask; use select\(mask\)"),
        (lambda c: c.loc[0:1], r"loc takes record ids, not a slice; use at\(slice"),
        (lambda c: c.loc["10"], r"no record '10' \(1 not found\); did you mean 10 \(int\)"),
        (lambda c: c.loc[99], r"no record 99 \(1 not found\)"),
        (lambda c: c.repeat(2).loc[10, 7], r"no record \(10, 7\)"),
    ],
)
def test_wrong_selection_names_the_right_method(take, message):
    with pytest.raises(CohortError, match=message):
        take(Cohort(pd.DataFrame({"Age": [1, 2]}, index=[20, 10])))
