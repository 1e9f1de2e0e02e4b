"""Codes: tables that write 0 and 1 where the graph says N and P."""

import numpy as np
import pandas as pd
import pytest

from causalcxr import SCM, Cohort, Graph, Variable, do
from causalcxr.common.errors import CohortError, GraphError

TEXT = """name: clinic
variables:
  # how old
  Age: {type: continuous}
  Edema: {type: binary, codes: {0: N, 1: P}, parents: [Age]}
  Grade: {type: ordinal, levels: [none, mild, severe], codes: {0: none, 1: mild, 9: severe}}
"""
GRAPH = Graph.parse(TEXT)
PLAIN = Graph.parse(TEXT.replace("codes: {0: N, 1: P}, ", ""))


@pytest.mark.parametrize(
    ("cells", "dtype"),
    [
        ([0, 1, 0], "int64"),
        ([0, 1, 0], "int8"),
        ([0.0, 1.0, 0.0], "float32"),
        ([False, True, False], "bool"),
        (["0", "1", "0"], object),
        ([0, 1, 0], "Int64"),
        ([False, True, False], "boolean"),
        ([0, 1, 0], "category"),
        (["N", "P", "N"], object),
    ],
)
def test_a_coded_column_is_read_and_its_twins_are_written_alike(cells, dtype):
    facts = pd.Series(cells, dtype=dtype)
    cohort = Cohort(pd.DataFrame({"Edema": facts}))
    assert cohort.columns(GRAPH)["Edema"].tolist() == [0, 1, 0]
    twin = cohort.with_columns(GRAPH, {"Edema": np.array([1.0, 1, 0])}).table["Edema"]
    assert twin.dtype == facts.dtype
    assert twin.tolist() == [cells[1], cells[1], cells[0]]


def test_new_level_is_written_as_its_code():
    cohort = Cohort(pd.DataFrame({"Edema": [0, 0], "Grade": [0, 1]}))
    twin = cohort.with_columns(GRAPH, {"Edema": np.ones(2), "Grade": np.array([2.0, 1])}).table
    assert twin["Edema"].tolist() == [1, 1]
    assert twin["Grade"].tolist() == [9, 1]
    assert [kind.kind for kind in twin.dtypes] == ["i", "i"]


def test_codes_are_read_from_a_file_and_a_saved_cohort(tmp_path):
    (tmp_path / "t.csv").write_text("record,Edema,Grade\na,0,9\nb,,0\nc,1,NA\n")
    cohort = Cohort.load(tmp_path / "t.csv")
    for read in (cohort, Cohort.load(cohort.save(tmp_path / "saved"))):
        columns = read.columns(GRAPH)
        np.testing.assert_array_equal(columns["Edema"], [0, np.nan, 1])
        np.testing.assert_array_equal(columns["Grade"], [2, 0, np.nan])


@pytest.mark.parametrize("cells", [[0, 1], [False, True], [0.0, 1.0]])
def test_message_says_how_to_declare_codes(cells):
    cohort = Cohort(pd.DataFrame({"Edema": cells}))
    told = r"not a level of 'Edema' .*; if these are codes, declare .*: codes: \{0: N, 1: P\}$"
    with pytest.raises(CohortError, match=told):
        cohort.columns(PLAIN)


def test_codes_survive_the_yaml_its_comments_and_edits():
    assert GRAPH.to_yaml() == TEXT
    assert GRAPH["Edema"].codes == {"0": "N", "1": "P"}
    rewritten = Graph(GRAPH.variables, "clinic")
    assert Graph.parse(rewritten.to_yaml()).variables == GRAPH.variables
    edited = PLAIN.with_variable(PLAIN["Edema"].replace(codes={0: "N", 1: "P"}))
    assert "# how old" in edited.to_yaml()
    assert Graph.parse(edited.to_yaml()) == GRAPH
    assert GRAPH.remove_edge("Age", "Edema")["Edema"].codes == {"0": "N", "1": "P"}


def test_codes_are_a_difference_that_makes_nothing_stale():
    found = PLAIN.diff(GRAPH)
    assert str(found) == "~ Edema: codes none -> {0: N, 1: P}\nto retrain: nothing"
    assert PLAIN != GRAPH
    assert PLAIN.equation_hash("Edema") == GRAPH.equation_hash("Edema")
    # Graphs without codes keep the hash that they had before there were codes.
    assert Graph.load("mini").equation_hash("View").startswith(MINI_VIEW)


MINI_VIEW = "fdeb84b9e1d1fa86"


@pytest.mark.parametrize(
    ("codes", "message"),
    [
        ("{0: N, 1: X}", r"code '1': 'X' is not a level \(levels: N, P\)"),
        ("{0: N, 0: P}", "duplicate key '0'"),
        ("{P: N}", "code 'P' is a level itself"),
        ("[N, P]", "codes are a map from cells of tables to levels"),
        ("{yes: P}", "quote it"),
        ("{0.5: P}", "key 0.5 is not text; quote it"),
    ],
)
def test_invalid_codes_are_refused_with_their_place(codes, message):
    with pytest.raises(GraphError, match=rf"<text>:1: variable 'E': .*{message}"):
        Graph.parse(f"variables: {{E: {{type: binary, codes: {codes}}}}}")
    with pytest.raises(GraphError, match="levels: none, as it is continuous"):
        Variable("E", "continuous", codes={"0": "N"})


def test_a_model_fits_codes_and_its_twins_have_them():
    rng = np.random.default_rng(0)
    table = pd.DataFrame({"Age": rng.normal(60, 9, 60), "Edema": rng.integers(0, 2, 60)})
    graph = Graph.parse(
        "variables: {Age: {type: continuous, mechanism: empirical},"
        " Edema: {type: binary, codes: {0: N, 1: P}, mechanism: empirical}}"
    )
    cohort = Cohort(table)
    twin = SCM(graph).fit(cohort).counterfactual(cohort, do(edema="P"))
    assert twin.table["Edema"].dtype == table["Edema"].dtype
    assert (twin.table["Edema"] == 1).all()
    assert cohort.compare(twin).summary().loc["Edema", "changed"] == (table["Edema"] == 0).sum()


def test_values_of_do_may_be_codes():
    cohort = Cohort(pd.DataFrame({"Age": [61.0, 47.0], "Edema": [0, 0]}))
    facts = cohort.columns(GRAPH)
    for value in (1, "1", "P", pd.Series([1, 1]), np.array(["P", "1"])):
        coded = do(edema=value).bind(GRAPH).values(facts, index=cohort.index)
        assert coded["Edema"].tolist() == [1, 1]
