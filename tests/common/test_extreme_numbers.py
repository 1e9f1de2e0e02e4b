"""Numbers at the ends of what a double holds: facts come back, or one line says why not."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import causalcxr as cx
from causalcxr import Cohort, Graph, Shift, Variable
from causalcxr.common.errors import CausalCXRError, GraphError, InterventionError, MechanismError
from causalcxr.graph.variables import LARGEST
from causalcxr.mechanisms.rounding import Rounding

FLOW = {"kind": "flow", "epochs": 2, "bins": 4, "hidden": 4}
N = 24
SPREAD = np.random.default_rng(7).permutation(np.linspace(-1, 1, N))
COLUMNS = {
    "huge": 1e99 * SPREAD,
    "tiny": 1e-98 * SPREAD,
    "tiny and huge": 10.0 ** (100 * SPREAD),
    "p-values": 10.0 ** (-150 * (1 + SPREAD)),
    "beside an offset": 1e15 + np.arange(N) % 2,
    "one far away": np.where(np.arange(N) == 3, 1e99, SPREAD),
    "one denormal": np.where(np.arange(N) == 3, 5e-324, SPREAD),
    "one value": np.full(N, 1e99),
    "one denormal value": np.full(N, 5e-324),
    "zero": np.zeros(N),
}


def graph(transform="spline"):
    flow = FLOW | {"transform": transform}
    return Graph(
        [
            Variable("A", "continuous", mechanism=flow),
            Variable("B", "continuous", parents=["A"], mechanism=flow),
            Variable("C", "ordinal", levels=("a", "b", "c"), parents=["B"], mechanism=FLOW),
        ]
    )


def cohort(a, b):
    return Cohort(pd.DataFrame({"A": a, "B": b, "C": np.resize(["a", "b", "c"], len(a))}))


def one_line(ask):
    """Return what is asked for, or None where it is refused in one line."""
    try:
        return ask()
    except CausalCXRError as error:
        text = str(error)
    assert "\n" not in text
    return None


def check_facts(records, model):
    """Check the null intervention bit for bit, and twins that are finite or refused."""
    for null in (model.counterfactual(records), model.counterfactual(records, a=Shift(0))):
        pd.testing.assert_frame_equal(null.table, records.table, check_exact=True)
    first, a = float(records.table["A"].iloc[0]), records.table["A"]
    twins = one_line(lambda: model.counterfactual(records, a=first))
    if twins is not None:
        assert np.isfinite(twins.table[["A", "B"]].to_numpy()).all()
    again = one_line(lambda: model.counterfactual(records, recompute=True))
    if again is not None:  # nine digits of the scale; one of what hardly varies is 1
        assert (again.table["A"] - a).abs().max() <= 1e-8 * max(a.abs().max(), 1.0)


@pytest.mark.parametrize("name", COLUMNS)
def test_null_intervention_returns_extreme_facts(name):
    for a, b in ((COLUMNS[name], SPREAD), (SPREAD, COLUMNS[name])):
        records = cohort(a, b)
        check_facts(records, cx.SCM(graph()).fit(records))


@st.composite
def columns(draw):
    """Draw a column: numbers of any size, or a narrow range beside an offset of any size."""
    if draw(st.booleans()):
        values = st.floats(allow_nan=False, allow_infinity=False)
        return np.array(draw(st.lists(values, min_size=N, max_size=N)))
    offset = draw(st.sampled_from([0.0, 1.0, -1e15, 1e15, 1e99, 1e300]))
    width = 10.0 ** draw(st.integers(-308, 308))
    return offset + width * np.array(draw(st.lists(st.floats(0, 1), min_size=N, max_size=N)))


@settings(max_examples=12, deadline=None, derandomize=True)
@given(a=columns(), b=columns(), transform=st.sampled_from(["spline", "spline", "cnf"]))
def test_any_numbers_are_returned_or_refused_in_one_line(a, b, transform):
    with np.errstate(all="ignore"):
        records = cohort(a, b)
    model = one_line(lambda: cx.SCM(graph(transform)).fit(records))
    if model is not None:
        check_facts(records, model)


def test_too_large_a_number_is_refused_with_record_and_remedy():
    records = cohort(np.where(SPREAD.max() == SPREAD, -1e300, SPREAD), SPREAD)
    rule = r"column 'A', record \d+: -1e\+300 is too large: at most 1e\+100"
    with pytest.raises(CausalCXRError, match=rf"{rule} \(1 record\); correct it, or use another"):
        cx.SCM(graph()).fit(records)


@pytest.mark.parametrize("width", [1e-300, 5e-324])
def test_values_that_hardly_differ_need_another_unit(width):
    records = cohort(width * (np.arange(N) % 7), SPREAD)
    with pytest.raises(MechanismError, match="'A': all training values are within"):
        cx.SCM(graph()).fit(records)


@pytest.mark.parametrize(
    "setting",
    [1e308, -1e101, Shift(1e308), lambda a: a * 0 + 1e200, [1e150] * N, cx.Normal(1e120, 1.0)],
    ids=["number", "negative", "shift", "function", "column", "distribution"],
)
def test_intervention_beyond_all_numbers_is_refused(setting):
    records = cohort(SPREAD, SPREAD[::-1])
    model = cx.SCM(graph()).fit(records)
    with pytest.raises(InterventionError, match=r"is too large: at most 1e\+100"):
        model.counterfactual(records, a=setting, beyond_range=True)


def test_twins_of_the_largest_number_are_finite_or_refused():
    records = cohort(SPREAD, SPREAD[::-1])
    for transform in ("spline", "cnf"):
        model = cx.SCM(graph(transform)).fit(records)
        do = cx.do(a=LARGEST, beyond_range=True)
        twins = one_line(lambda model=model, do=do: model.counterfactual(records, do))
        assert twins is None or np.isfinite(twins.table["B"]).all()


def test_rounding_keeps_a_value_near_overflow():
    rounding = Rounding(Variable("A", "continuous"))
    rounding.digits.fill_(300)
    values = torch.tensor([1e99, -3.5e20, 0.25], dtype=torch.float64)
    assert rounding(values).tolist() == [1e99, -3.5e20, 0.25]


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"range": (0.0, 1e300)}, r"range 1e\+300: numbers are from 1e-100 to 1e\+100 in size"),
        ({"resolution": 1e-300}, "resolution 1e-300: numbers are from"),
        ({"resolution": 1e200}, r"resolution 1e\+200: numbers are from"),
    ],
)
def test_graph_refuses_a_range_beyond_all_numbers(fields, message):
    with pytest.raises(GraphError, match=message):
        Variable("A", "continuous", **fields)
