"""Groups of the audit: columns, intersections, what is missing, and balance."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalcxr.audit.groups import balance, find_groups, levels_of
from causalcxr.audit.measures import MEASURES
from causalcxr.common.errors import CausalCXRError


@pytest.fixture
def table() -> pd.DataFrame:
    rng = np.random.default_rng(0)
    n, views = 600, ["PA", "AP", "LATERAL"]
    return pd.DataFrame(
        {
            "Sex": rng.choice(["F", "M", None], n, p=[0.4, 0.5, 0.1]),
            "View": pd.Categorical(rng.choice(views[:2], n), categories=views),
            "Age": np.where(rng.random(n) < 0.05, np.nan, rng.uniform(0, 95, n)),
            "Device": rng.choice([True, False], n),
            "Patient": rng.integers(0, 200, n),
        }
    )


def test_groups_are_levels_and_intersections(table):
    labels = (np.arange(600) % 5 == 0) * 1.0
    labels[::7] = np.nan
    found = find_groups(table, ["Sex", "View"], labels=labels, patients=table["Patient"])
    assert found.names == [
        "all",
        "Sex=F",
        "Sex=M",
        "Sex=unknown",
        "View=PA",
        "View=AP",
        "Sex=F & View=PA",
        "Sex=F & View=AP",
        "Sex=M & View=PA",
        "Sex=M & View=AP",
        "Sex=unknown & View=PA",
        "Sex=unknown & View=AP",
    ]
    row = found.table.loc["Sex=F & View=AP"]
    mask = ((table["Sex"] == "F") & (table["View"] == "AP")).to_numpy()
    assert (found.masks["Sex=F & View=AP"] == mask).all()
    assert row[["columns", "Sex", "View", "n"]].tolist() == [2, "F", "AP", mask.sum()]
    assert row["positives"] == (labels[mask] == 1).sum()
    assert row["negatives"] == (labels[mask] == 0).sum()
    assert row["patients"] == table["Patient"][mask].nunique()
    assert (found.table["few"] == (found.table["positives"] < 10)).all()
    assert found.table["few"].tolist()[-2:] == [True, True]
    assert not found.table["few"].iloc[:3].any()
    assert found.table.loc["View=PA", "Sex"] == ""
    assert found.table["columns"].value_counts().to_dict() == {2: 6, 1: 5, 0: 1}


def test_groups_of_each_depth_form_a_partition(table):
    found = find_groups(table, ["Sex", "Age", "Device"])
    of = found.table.groupby(["columns"] + [found.table[c] != "" for c in found.by])["n"].sum()
    assert len(of) == 8
    assert (of == 600).all()
    assert not found.table["few"].any()  # without labels nothing is said
    shallow = find_groups(table, ["Sex", "Age", "Device"], depth=2)
    assert shallow.names == [n for n in found.names if n.count("&") < 2]


def test_age_bins_include_their_lower_edge():
    ages = pd.Series([0, 17.9, 18, 59, 60, 80, 105, np.nan], name="Age")
    assert list(levels_of(ages)) == [
        "0-18",
        "0-18",
        "18-40",
        "40-60",
        "60-80",
        "80+",
        "80+",
        "unknown",
    ]
    assert list(levels_of(ages, [0, 50, 120]).categories) == ["0-50", "50-120", "unknown"]
    whole = pd.Series([5, None], dtype="Int64", name="Age")
    assert list(levels_of(whole)) == ["0-18", "unknown"]
    assert list(levels_of(pd.Series([10, 9, 9], name="Grade")).categories) == ["9", "10"]
    assert list(levels_of(pd.Series([True, None], dtype="boolean"))) == ["True", "unknown"]


@pytest.mark.parametrize(
    ("by", "edges", "told"),
    [
        ("Sexx", None, "no column 'Sexx'; did you mean 'Sex'"),
        ("Patient", None, "'Patient' has 19[0-9] different numbers"),
        ("Age", {"Age": [0, 50]}, "lies outside the edges 0 to 50"),
        ("Age", {"Age": [50, 0]}, "do not rise"),
    ],
)
def test_wrong_columns_and_edges_are_refused(table, by, edges, told):
    with pytest.raises(CausalCXRError, match=told):
        find_groups(table, by, edges=edges)


def test_arrays_of_another_length_are_refused(table):
    with pytest.raises(CausalCXRError, match="3 labels"):
        find_groups(table, "Sex", labels=[0, 1, 1])
    with pytest.raises(CausalCXRError, match=r"shape \(2,\) beside 600 rows"):
        find_groups(table, "Sex", patients=[0, 1])


# Balance


def shares(weights, *columns) -> dict:
    """Return the weighted share of each combination of values."""
    frame = pd.DataFrame(dict(enumerate(columns))).assign(w=weights)
    return (frame.groupby(list(range(len(columns))))["w"].sum() / weights.sum()).to_dict()


def test_balanced_groups_have_one_distribution(table):
    rng = np.random.default_rng(1)
    known = table.dropna().reset_index(drop=True)
    male = (known["Sex"] == "M").to_numpy()
    labels = (rng.random(len(known)) < np.where(male, 0.5, 0.2)).astype(float)
    labels[:20] = np.nan
    found = balance(known, "Sex", "Age", labels=labels)
    ages = np.asarray(levels_of(known["Age"]), dtype=str)
    per = [
        shares(found.weights[rows], ages[rows], labels[rows])
        for rows in (male & (found.weights > 0), ~male & (found.weights > 0))
    ]
    assert per[0] == pytest.approx(per[1], abs=1e-12)
    assert per[0] == pytest.approx(
        found.cells.set_index(["Age", "label"])["share"].dropna().to_dict(), abs=1e-12
    )
    assert (found.weights[:20] == 0).all()
    assert found.left_out == 20
    assert found.table.loc["M", "kept"] == (found.weights[male] > 0).sum()
    assert found.weights[male].sum() == pytest.approx(found.table.loc["M", "kept"])
    w = found.weights[male]
    assert found.table.loc["M", "effective"] == pytest.approx(w.sum() ** 2 / (w**2).sum())
    assert (found.table["effective"] <= found.table["kept"]).all()


def test_cells_that_a_group_lacks_are_dropped():
    table = pd.DataFrame(
        {"Sex": list("FFFFMMM"), "Age": [5, 20, 20, 50, 5, 20, 70], "Other": range(7)}
    )
    found = balance(table, "Sex", "Age")
    assert found.weights.tolist() == pytest.approx(
        [3 * 2 / 5, 3 * 3 / 5 / 2, 3 * 3 / 5 / 2, 0, 2 * 2 / 5, 2 * 3 / 5, 0]
    )
    assert (found.dropped_cells, found.dropped_rows, found.left_out) == (2, 2, 0)
    assert found.cells.set_index("Age")["dropped"].to_dict() == {
        "0-18": "",
        "18-40": "",
        "40-60": "M",
        "60-80": "F",
    }
    with pytest.raises(CausalCXRError, match="no cell of Age is in every group"):
        balance(table.iloc[[0, 6]], "Sex", "Age")
    with pytest.raises(CausalCXRError, match="no level 'Q'"):
        balance(table, "Sex", "Age", among=["F", "Q"])


def test_unknown_group_is_left_out_unless_named(table):
    found = balance(table, "Sex", "View")
    unknown = table["Sex"].isna().to_numpy()
    assert (found.weights[unknown] == 0).all()
    assert found.left_out == unknown.sum()
    named = balance(table, "Sex", "View", among=["F", "unknown"])
    assert (named.weights[unknown] > 0).all()
    assert (named.weights[(table["Sex"] == "M").to_numpy()] == 0).all()


def test_balancing_removes_gaps_due_to_age_only():
    rng = np.random.default_rng(2)
    n = 40_000
    male = rng.random(n) < 0.5
    old = rng.random(n) < np.where(male, 0.8, 0.3)
    table = pd.DataFrame({"Sex": np.where(male, "M", "F"), "Age": np.where(old, 70, 30)})
    labels = rng.integers(0, 2, n)
    for by_sex in (0.0, 0.1):  # sensitivity .9 in the young, .6 in the old, less in men by this
        hit = rng.random(n) < np.where(old, 0.6, 0.9) - by_sex * male
        scores = np.where(labels == 1, hit, rng.random(n) < 0.1) * 1.0
        weights = balance(table, "Sex", "Age", labels=labels).weights
        raw, alike = (
            MEASURES["tpr"](scores[~male], labels[~male], threshold=0.5, weights=w0)
            - MEASURES["tpr"](scores[male], labels[male], threshold=0.5, weights=w1)
            for w0, w1 in ((None, None), (weights[~male], weights[male]))
        )
        assert raw == pytest.approx(0.15 + by_sex, abs=0.02)
        assert alike == pytest.approx(by_sex, abs=0.02)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("FMX"), st.sampled_from("ab"), st.sampled_from([0, 1])),
        min_size=12,
        max_size=60,
    )
)
def test_balanced_groups_agree_in_every_cell(rows):
    table = pd.DataFrame(rows, columns=["g", "c", "y"])
    try:
        found = balance(table, "g", "c", labels=table["y"])
    except CausalCXRError:
        assert not table.groupby(["c", "y"])["g"].nunique().eq(table["g"].nunique()).any()
        return
    kept = table.assign(w=found.weights)[found.weights > 0]
    cells = kept.pivot_table(index="g", columns=["c", "y"], values="w", aggfunc="sum")
    cells = cells.div(cells.sum(axis=1), axis=0)
    assert np.ptp(cells.to_numpy(), axis=0).max() < 1e-12
    assert found.dropped_rows + len(kept) + found.left_out == len(table)
