"""Tests of a graph on data: implied independences, calibration, power, edits, reasons."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest
from typer.testing import CliRunner

from causalcxr import Cohort, Graph
from causalcxr.apps.cli.main import app
from causalcxr.cohort.graph_test.statements import edge_statement, implied, is_same_class
from causalcxr.common.errors import CohortError

TRUE = """
variables:
  Age: {type: continuous}
  Sex: {type: binary, levels: [F, M]}
  Dose: {type: continuous, parents: [Age, Sex]}
  View: {type: categorical, levels: [a, b, c], parents: [Age]}
  Edema: {type: binary, parents: [Dose, Sex]}
"""


def world(n: int, seed: int = 0, patients: int | None = None) -> Cohort:
    """Records with nonlinear, skewed and heteroscedastic equations."""
    rng = np.random.default_rng(seed)
    who = np.arange(n) if patients is None else rng.integers(0, patients, n)
    m = n if patients is None else patients
    age, men = rng.normal(size=m)[who], rng.random(m)[who] < 0.4
    own = rng.normal(size=(3, m))[:, who] * (patients is not None)
    dose = np.sin(2 * age) + men * age + (1 + 0.5 * np.tanh(age)) * rng.gamma(2, 1, n) + own[0]
    scores = np.stack([0 * age, age, age**2 - 1], 1) + rng.gumbel(size=(n, 3))
    scores[:, 1] += own[1]
    edema = 0.5 * dose - 1 + men * 0.5 + rng.logistic(size=n) + own[2] > 0.5
    table = pd.DataFrame(
        {
            "Age": age,
            "Sex": np.where(men, "M", "F"),
            "Dose": dose,
            "View": np.array(list("abc"))[scores.argmax(1)],
            "Edema": np.where(edema, "P", "N"),
        }
    )
    return Cohort(table, patients=who)


@pytest.fixture(scope="module")
def graph() -> Graph:
    return Graph.parse(TRUE)


# Statements


def test_collider_implies_marginal_independence_only():
    collider = {"A": (), "B": (), "C": ("A", "B")}
    assert [str(each) for each in implied(collider, "ABC")] == ["A is independent of B"]


def test_pair_of_siblings_has_one_statement_per_conditioning_set():
    fork = {"A": (), "B": ("A",), "C": ("A",)}
    assert [each.given for each in implied(fork, "ABC")] == [("A",)]
    two = {"A": (), "D": (), "B": ("A",), "C": ("A", "D")}
    given = {each.given for each in implied(two, "ABCD") if {each.child, each.other} == {"B", "C"}}
    assert given == {("A",), ("A", "D")}


def test_unrecorded_parent_is_replaced_by_a_recorded_separator():
    # H, the parent of C, is not recorded.
    chain = {"A": (), "B": ("A",), "H": ("B",), "C": ("H",)}
    statements = {(each.child, each.other): each.given for each in implied(chain, "ABC")}
    assert statements["C", "A"] == ("B",)
    assert statements["C", "B"] is None


def test_variable_derived_by_a_rule_has_no_statement_as_a_child():
    assert implied({"A": (), "B": ("A",), "C": ()}, "ABC", derived={"B"}) == implied(
        {"A": (), "C": (), "B": ("A",)}, "ABC", derived={"B"}
    )
    assert all(each.child != "B" for each in implied({"A": (), "B": ("A",), "C": ()}, "ABC", "B"))


def test_edge_is_tested_given_the_other_parents():
    assert edge_statement({"A": (), "B": (), "C": ("A", "B")}, ("B", "C"), "ABC").given == ("A",)


def test_equivalent_graphs_have_the_same_edges_and_colliders():
    chain = {"A": (), "B": ("A",), "C": ("B",)}
    assert is_same_class(chain, {"C": (), "B": ("C",), "A": ("B",)})
    assert not is_same_class(chain, {"A": (), "B": ("A",), "C": ("A",)})


# Calibration and power


@pytest.mark.parametrize("patients", [None, 150])
def test_p_values_of_true_independences_are_uniform(graph, patients):
    p = []
    for seed in range(15):
        result = graph.test(world(600, seed, patients), permutations=0, edits=0)
        p += result.table["p"].dropna().tolist()
    # Tests of one world are dependent, so that the interval is wider than that of 0.05.
    assert np.mean(np.array(p) < 0.05) < 0.11
    assert kstest(p, "uniform", alternative="greater").statistic < 0.12


def test_missing_edge_is_the_first_addition(graph):
    result = graph.remove_edge("Dose", "Edema").test(world(3000), permutations=0)
    assert len(result.violated)
    assert result.additions.loc[0, ["parent", "child"]].tolist() == ["Dose", "Edema"]
    assert len(result.additions) == 1


def test_edge_too_many_is_not_needed(graph):
    result = graph.add_edge("Sex", "View").test(world(30_000), permutations=0, edits=0, least=0.05)
    assert result.removals[["parent", "child"]].values.tolist() == [["Sex", "View"]]
    assert (result.edges["verdict"] == "needed").sum() == 5


def test_true_graph_is_better_than_permuted_graphs(graph):
    result = graph.test(world(3000), permutations=10, edits=0)
    assert len(result.violated) == 0
    # Only permuted graphs that imply the same independences are as good.
    assert result.as_good == result.permuted["equivalent"].mean()
    assert result.permuted["violated"].median() > 2


def test_repeated_records_of_a_patient_add_no_evidence(graph):
    cohort = world(500)
    once = graph.test(cohort, permutations=0, edits=0).table
    four = pd.concat([cohort.table] * 4, ignore_index=True)
    repeated = Cohort(four, patients=np.tile(np.arange(500), 4))
    again = graph.test(repeated, permutations=0, edits=0).table
    key = ["variable", "other", "given"]
    both = once.merge(again, on=key)
    near = both["df_x"] == both["df_y"]
    assert near.all()
    # The knots of the splines depend on the number of records, so that only roots are exact.
    root = both["given"] == ""
    assert both.loc[root, "statistic_x"].to_numpy() == pytest.approx(
        both.loc[root, "statistic_y"].to_numpy(), rel=0.02
    )


def test_rare_levels_that_never_meet_are_no_violation():
    rng = np.random.default_rng(0)
    a, b = rng.random((2, 500)) < 0.02
    table = pd.DataFrame({"A": np.where(a, "P", "N"), "B": np.where(b & ~a, "P", "N")})
    two = Graph.parse("variables: {A: {type: binary}, B: {type: binary}}")
    row = two.test(table, permutations=0).untested.iloc[0]
    assert row["reason"].startswith("A P and B P: 0.")
    assert row["reason"].endswith("records expected, 5 are needed")


# What the data cannot answer


def test_values_missing_at_random_leave_the_test_calibrated(graph):
    table = world(3000).table
    table.loc[np.random.default_rng(1).random(3000) < 0.3, "Age"] = np.nan
    result = graph.test(table, permutations=0, edits=0)
    assert len(result.violated) == 0
    assert result.table["n"].between(1500, 3000).all()


def test_unrecorded_variables_are_named(graph):
    table = world(800).table.drop(columns=["Dose"])
    result = graph.test(table, permutations=3, edits=2)
    assert result.about["unrecorded"] == ["Dose"]
    row = result.untested.iloc[0]
    assert (row["variable"], row["other"]) == ("Edema", "Age")
    assert row["reason"] == "no set of recorded variables separates them; not recorded: Dose"
    edges = set(zip(result.edges["parent"], result.edges["child"], strict=True))
    assert edges == {("Age", "View"), ("Sex", "Edema")}
    assert result.edges.set_index("child").loc["Edema", "verdict"] == "untested"


def test_constant_column_is_named(graph):
    table = world(300).table.assign(Sex="F")
    reasons = graph.test(table, permutations=0, edits=0).untested["reason"].unique().tolist()
    assert reasons == ["Sex has one value only"]


def test_too_few_patients_are_named(graph):
    reasons = graph.test(world(40), permutations=0, edits=0).untested["reason"].unique().tolist()
    assert reasons == ["40 patients have all values; 50 are needed"]


# Interface


def test_same_seed_gives_the_same_answer(graph):
    first, second, other = (
        graph.test(world(300), permutations=4, edits=1, seed=seed) for seed in (0, 0, 1)
    )
    for name, table in first.tables.items():
        pd.testing.assert_frame_equal(table, second.tables[name])
    assert not first.permuted.equals(other.permuted)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"alpha": 0.0}, "alpha 0 must be between 0 and 1"),
        ({"least": 1.0}, "least 1 must be from 0 to below 1"),
        ({"edits": -1}, "must not be negative"),
    ],
)
def test_argument_out_of_range_is_refused(graph, options, words):
    with pytest.raises(CohortError, match=words):
        graph.test(world(60), **options)


def test_command_prints_and_writes_the_answer(graph, tmp_path):
    world(1500).table.to_csv(tmp_path / "t.csv")
    graph.remove_edge("Dose", "Edema").save(tmp_path / "g.yaml")
    out = tmp_path / "out"
    words = ["graph", "test", str(tmp_path / "g.yaml"), str(tmp_path / "t.csv")]
    result = CliRunner().invoke(app, [*words, "--permutations", "2", "--out", str(out)])
    assert result.exit_code == 0, result.output
    assert "implied independences are violated on 1,500 records" in result.output
    assert "Dose" in result.output
    names = {path.name for path in out.iterdir()}
    assert {"independences.csv", "edges.csv", "additions.csv", "permuted.csv"} <= names
    assert any(name.endswith(".png") for name in names)
