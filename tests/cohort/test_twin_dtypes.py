"""Twins come back in the dtype and the spelling of their facts."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.cohort.columns import encode, replace
from causalcxr.graph import Variable

NAN = np.nan
GRAPH = Graph.parse(
    "variables:\n"
    '  Z: {type: binary, levels: ["0", "1"]}\n'
    '  Y: {type: binary, levels: ["0", "1"], parents: [Z]}\n'
)
LEVELS = Variable("Z", "categorical", levels=["0", "1", "unknown"])
NUMBER = Variable("A", "continuous", range=[0, 200])
WHOLE = ["int64", "int8", "uint16", "Int64", "UInt8", "int64[pyarrow]"]
FLOATS = ["float64", "float32", "Float64", "Float32", "double[pyarrow]", "float[pyarrow]"]
TEXTS = ["object", "str", "string", "string[pyarrow]"]
DICTIONARY = pd.ArrowDtype(pa.dictionary(pa.int32(), pa.string()))


def columns_of(bits: np.ndarray) -> dict[str, pd.Series]:
    """Return 0 and 1 in every dtype that stands for two levels."""
    numbers, words = pd.Series(bits), pd.Series(bits.astype(str), dtype=object)
    made = {name: numbers.astype(name) for name in (*WHOLE, *FLOATS)}
    made |= {name: numbers.astype(bool).astype(name) for name in ("bool", "boolean")}
    made["bool[pyarrow]"] = numbers.astype(bool).astype("bool[pyarrow]")
    made |= {name: words.astype(name) for name in TEXTS}
    made["dictionary[pyarrow]"] = words.astype(DICTIONARY)
    made["category of int"] = numbers.astype("category")
    made["category of text"] = words.astype("category")
    made["object of int"] = pd.Series([int(bit) for bit in bits], dtype=object)
    made["object of bool"] = pd.Series([bool(bit) for bit in bits], dtype=object)
    return made


BITS = np.random.default_rng(0).integers(0, 2, 300)
COLUMNS = columns_of(BITS)


@pytest.fixture(scope="module")
def model() -> SCM:
    random = np.random.default_rng(1)
    y = np.where(random.random(300) < 0.8, BITS, 1 - BITS)
    return SCM(GRAPH).fit(Cohort(pd.DataFrame({"Z": BITS, "Y": y})), progress=False)


@pytest.mark.parametrize("kind", COLUMNS)
def test_facts_and_twins_of_any_dtype_are_read_alike(model, kind):
    z = COLUMNS[kind]
    facts = pd.DataFrame({"Z": z, "Y": z[::-1].to_numpy()})
    facts["Y"] = facts["Y"].astype(z.dtype)
    one = z[BITS == 1].iloc[0]
    twins = model.counterfactual(Cohort(facts), do(z="1"))
    table = twins.table
    assert table["Z"].dtype == z.dtype
    assert table["Y"].dtype == z.dtype
    assert (facts["Z"] == one).mean() == BITS.mean()
    assert (table["Z"] == one).all()
    assert len(table.groupby("Z", observed=True)) == 1
    assert set(table.groupby("Y", observed=True).size().index) <= set(facts["Y"])
    literal = f"'{one}'" if isinstance(one, str) else one
    assert len(twins.select(f"Z == {literal}")) == 300
    assert len(twins.select(f"Z != {literal}")) == 0
    assert {type(each) for each in table["Z"]} == {type(each) for each in facts["Z"]}


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("encoder", [OneHotEncoder(sparse_output=False), OrdinalEncoder()])
def test_encoder_of_facts_encodes_twins(model, kind, encoder):
    facts = pd.DataFrame({"Z": COLUMNS[kind], "Y": COLUMNS[kind]})
    twins = model.counterfactual(Cohort(facts), do(z="1")).table
    # Arrow and nullable columns reach scikit-learn as objects, whatever its version.
    before, after = (t[["Z"]].to_numpy(dtype=object) for t in (facts, twins))
    fitted = encoder.fit(before)
    expected = fitted.transform(before[BITS == 1])[:1]
    assert (fitted.transform(after) == expected).all()


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("int64", "float64"),
        ("int8", "float64"),
        ("bool", "object"),
        ("float32", "float32"),
        ("Int64", "Int64"),
        ("boolean", "boolean"),
        ("int64[pyarrow]", "int64[pyarrow]"),
        ("string", "string"),
        ("category of int", "category"),
    ],
)
def test_missing_twin_gets_the_nearest_dtype(kind, expected):
    values = COLUMNS[kind].iloc[:3]
    column = encode(values, LEVELS)
    column[0] = NAN
    written = replace(values, column, LEVELS)
    assert str(written.dtype) == expected
    assert written.isna().tolist() == [True, False, False]
    assert np.array_equal(encode(written, LEVELS), column, equal_nan=True)


@pytest.mark.parametrize("kind", COLUMNS)
def test_level_outside_the_dtype_is_text(kind):
    values = COLUMNS[kind].iloc[:40]
    column = encode(values, LEVELS)
    column[0] = 2
    written = replace(values, column, LEVELS)
    assert written.iloc[0] == "unknown"
    assert (written.iloc[1:].to_numpy(dtype=object) == values.iloc[1:].to_numpy(object)).all()
    texts = kind in TEXTS or kind.startswith(("category", "dictionary", "object"))
    assert written.dtype == object or texts
    assert np.array_equal(encode(written, LEVELS), column)


def test_new_category_comes_last():
    values = pd.Series(pd.Categorical(["1", "1"], categories=["2", "1"], ordered=True))
    written = replace(values, np.array([0.0, 1.0]), Variable("Z", "binary", levels=["0", "1"]))
    assert written.tolist() == ["0", "1"]
    assert written.cat.categories.tolist() == ["2", "1", "0"]
    assert written.cat.ordered


def test_truth_values_are_levels():
    flags = pd.Series([True, False])
    assert encode(flags, LEVELS).tolist() == [1, 0]
    assert encode(flags, Variable("Z", "binary", levels=["False", "True"])).tolist() == [1, 0]


@pytest.mark.parametrize("kind", [*TEXTS, "category of text", "dictionary[pyarrow]"])
def test_comparison_of_texts_counts_only_changes(kind):
    facts = COLUMNS[kind].iloc[:6].reset_index(drop=True)
    twins = replace(facts, np.where(np.arange(6) == 0, NAN, 1.0), LEVELS)
    compared = Cohort(pd.DataFrame({"Z": facts})).compare(Cohort(pd.DataFrame({"Z": twins})))
    told = dict(each.rsplit(": ", 1) for each in compared.summary().loc["Z", "what"].split(", "))
    zeros = int((BITS[1:6] == 0).sum())
    assert told == {f"{BITS[0]} -> missing": "1", "0 -> 1": str(zeros)}


def test_level_with_leading_zeros_stays_text():
    site = Variable("Site", "binary", levels=["1", "01"])
    written = replace(pd.Series([1, 1]), np.array([0.0, 1.0]), site)
    assert written.tolist() == [1, "01"]


@pytest.mark.parametrize("kind", COLUMNS)
@pytest.mark.parametrize("gaps", [False, True])
def test_levels_of_a_saved_cohort_compare_as_before(kind, gaps, tmp_path):
    values = COLUMNS[kind].iloc[:6].copy()
    if gaps:
        values = values.reindex([*range(6), 6])
    cohort = Cohort(pd.DataFrame({"Z": values}))
    loaded = Cohort.load(cohort.save(tmp_path / "cohort"))
    one = values.iloc[int(np.flatnonzero(BITS == 1)[0])]
    assert ((loaded.table["Z"] == one) == (cohort.table["Z"] == one).fillna(False)).all()
    assert not cohort.compare(loaded).changed.to_numpy().any()


@pytest.mark.parametrize("kind", ["Int64", "int64[pyarrow]", "object"])
def test_long_integers_with_gaps_are_saved_exactly(kind, tmp_path):
    long = pd.Series([2**53 + 1, None, 5], dtype=kind)
    loaded = Cohort.load(Cohort(pd.DataFrame({"Z": long})).save(tmp_path / "cohort"))
    assert loaded.table["Z"].dropna().astype(int).tolist() == [2**53 + 1, 5]


# Numbers


@pytest.mark.parametrize("kind", WHOLE)
def test_whole_twins_stay_integers(kind):
    ages = pd.Series([61, 47, 30], dtype=kind)
    older = replace(ages, np.array([71.0, 47, 40]), NUMBER)
    assert (older.dtype, older.tolist()) == (ages.dtype, [71, 47, 40])
    half = replace(ages, np.array([71.5, 47, 40]), NUMBER)
    assert half.dtype.kind == "f"
    assert half.tolist() == [71.5, 47, 40]
    assert isinstance(half.dtype, pd.ArrowDtype) == kind.endswith("[pyarrow]")


@pytest.mark.parametrize("kind", ["int8", "Int8", "int8[pyarrow]"])
def test_too_large_an_integer_widens_the_dtype(kind):
    written = replace(pd.Series([61, 47], dtype=kind), np.array([199.0, 47]), NUMBER)
    assert written.dtype.kind == "i"
    assert written.tolist() == [199, 47]


@pytest.mark.parametrize("kind", FLOATS)
def test_float_twins_keep_dtype_and_bits(kind):
    values = pd.Series([0.1, 47.3, 30], dtype=kind)
    column = encode(values, NUMBER)
    column[0] = 1 / 3
    written = replace(values, column, NUMBER)
    assert written.dtype == values.dtype
    assert written.iloc[0] == pytest.approx(1 / 3, rel=1e-7)
    assert written.iloc[1:].tolist() == values.iloc[1:].tolist()


@pytest.mark.parametrize("kind", ["float32", "Float32", "float[pyarrow]"])
def test_rounding_never_leaves_the_range(kind):
    tenth = Variable("A", "continuous", range=[0, 0.1])
    values = pd.Series([0.05, 0.06], dtype=kind)
    column = encode(values, tenth)
    column[0] = 0.1
    assert encode(replace(values, column, tenth), tenth).tolist() == column.tolist()


def test_other_long_integers_keep_every_digit():
    long = Variable("A", "continuous")
    values = pd.Series([2**53 + 1, 5])
    column = encode(values, long)
    column[1] = 6
    assert replace(values, column, long).tolist() == [2**53 + 1, 6]


@pytest.mark.parametrize("kind", TEXTS)
def test_numbers_as_texts_give_twins_as_texts(kind):
    values = pd.Series(["61", "47.5"]).astype(kind)
    written = replace(values, np.array([71.0, 47.25]), NUMBER)
    assert (written.dtype, written.tolist()) == (values.dtype, ["71", "47.25"])
