"""Rows in blocks, on threads, computed once where alike: none of it changes a single bit."""

import numpy as np
import pandas as pd
import pytest
import torch

from causalcxr import SCM, Cohort, Graph, do
from causalcxr.common import threads
from causalcxr.common.threads import over_rows
from causalcxr.graph import Variable
from causalcxr.mechanisms import build
from causalcxr.mechanisms.distinct_rows import per_distinct_row
from causalcxr.mechanisms.lookup import count_up_to
from causalcxr.mechanisms.spline import PlainSplineMap, SplineKernel, SplineMap

GRAPH = """
defaults:
  continuous: {mechanism: flow, epochs: 2}
  binary: {mechanism: discrete, epochs: 2}
variables:
  Age: {type: continuous, range: [0, 100], resolution: 1}
  Sex: {type: binary, levels: [F, M]}
  Race: {type: categorical, levels: [Asian, Black, White]}
  Weight: {type: continuous, parents: [Age, Sex]}
  Height: {type: continuous, parents: [Weight, Sex, Age]}
  Edema: {type: binary, levels: [N, P], parents: [Age, Sex, Race]}
  Grade: {type: ordinal, levels: [a, b, c], parents: [Edema, Height]}
"""


def records(n, seed):
    """Patients of whom some values are missing."""
    rng = np.random.default_rng(seed)
    age, male = rng.integers(20, 90, n).astype(float), rng.random(n) < 0.5
    weight = 60 + age / 10 + 12 * male + rng.normal(0, 8, n)
    table = {
        "Age": age,
        "Sex": np.where(male, "M", "F"),
        "Race": rng.choice(["Asian", "Black", "White"], n).astype(object),
        "Weight": weight,
        "Height": 120 + weight / 2 + rng.normal(0, 5, n),
        "Edema": np.where(rng.random(n) < age / 150, "P", "N"),
        "Grade": rng.choice(["a", "b", "c"], n),
    }
    table["Race"][::3] = None
    table["Weight"][5::20] = np.nan
    return Cohort(pd.DataFrame(table))


@pytest.fixture(scope="module")
def model():
    return SCM(Graph.parse(GRAPH)).fit(records(600, seed=0), progress=False)


@pytest.fixture(scope="module")
def patients():
    return records(1000, seed=1)


def same_bits(a, b):
    return a.shape == b.shape and bool(((a == b) | (np.isnan(a) & np.isnan(b))).all())


def answers(model, cohort):
    """Twins, noise and log-densities, each a dictionary of arrays."""
    action = do(sex="M", age=lambda age: age.where(age < 50, 40))
    twins = model.counterfactual(cohort, action).columns(model.graph)
    noise = {name: u.numpy() for name, u in model.abduct(cohort).values.items()}
    logp = {name: column.to_numpy() for name, column in model.log_prob(cohort).items()}
    return twins, noise, logp


def all_same(one, other, rows=slice(None)):
    return all(
        same_bits(a[name][rows], b[name])
        for a, b in zip(one, other, strict=True)
        for name in a.keys() | b.keys()
    )


@pytest.mark.parametrize("block", [48, 96, 480])
def test_blocks_and_threads_do_not_change_a_bit(model, patients, monkeypatch, block):
    whole = answers(model, patients)
    monkeypatch.setattr(threads, "_BLOCK", block)
    one = answers(model, patients)
    torch.set_num_threads(3)
    try:
        three = answers(model, patients)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(1)
    assert all_same(whole, one)
    assert all_same(whole, three)


@pytest.mark.parametrize("size", [1, 7, 49, 613])
def test_selection_and_order_of_patients_do_not_change_a_bit(model, patients, size):
    rows = np.random.default_rng(size).permutation(len(patients))[:size]
    assert all_same(answers(model, patients), answers(model, patients.at(rows)), rows)


@pytest.mark.parametrize(
    ("action", "hold", "recompute"),
    [
        (do(sex="M"), (), False),
        (do(sex="M"), ["Weight"], False),
        (do(age=50, race="White"), (), False),
        (do(edema="P"), (), True),
        (do(), (), True),
    ],
)
def test_twins_equal_those_from_all_abducted_noise(model, patients, action, hold, recompute):
    twins = model.counterfactual(patients, action, hold=hold, recompute=recompute)
    other = model.do(action, hold=hold).predict(model.abduct(patients), recompute=recompute)
    pd.testing.assert_frame_equal(twins.table, other.table, check_exact=True)


def test_value_off_the_lattice_is_refused_once_its_noise_is_needed(model):
    patients = records(60, seed=2)
    off = patients.with_columns(model.graph, {"Age": np.full(60, 30.5)})
    with pytest.raises(ValueError, match="multiples of 1"):
        model.abduct(off)
    with pytest.raises(ValueError, match="multiples of 1"):
        model.counterfactual(off, sex="M", recompute=True)
    assert len(model.counterfactual(off, sex="M")) == 60


def test_blocks_return_rows_in_order(monkeypatch):
    monkeypatch.setattr(threads, "_BLOCK", 48)
    x = torch.arange(200)
    sizes = []

    def work(rows):
        sizes.append(len(x[rows]))
        return {"x": x[rows]}

    assert torch.equal(over_rows(200, work)["x"], x)
    assert sizes == [48, 48, 48, 48, 48]
    assert over_rows(0, lambda rows: {"x": x[rows]})["x"].shape == (0,)


def test_first_failing_block_raises_its_error(monkeypatch):
    monkeypatch.setattr(threads, "_BLOCK", 48)

    def work(rows):
        start = rows.start if isinstance(rows, slice) else rows[0]
        if start >= 96:
            raise ValueError(f"row {start}")
        return {}

    torch.set_num_threads(2)
    try:
        with pytest.raises(ValueError, match="row 96"):
            over_rows(480, work)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def plain_map(theta):
    return PlainSplineMap(theta[:, :1].T, theta[:, 1:].T.contiguous())


@pytest.mark.parametrize("bins", [2, 16])
@pytest.mark.parametrize("shared", [True, False])
def test_plain_spline_equals_differentiable_spline(bins, shared):
    generator = torch.Generator().manual_seed(bins)
    theta = torch.randn(4000, 3 * bins + 1, generator=generator, dtype=torch.float64)
    theta = theta[:1] if shared else theta
    z = 4 * torch.randn(2, 4000, generator=generator, dtype=torch.float64)
    plain, other = plain_map(theta), SplineMap(theta)
    for part in z:
        u, ladj = other.call_and_ladj(part.clone().requires_grad_())
        assert (plain.call_and_ladj(part)[0] - u).abs().max().item() < 1e-12
        assert (plain.call_and_ladj(part)[1] - ladj).abs().max().item() < 1e-11
        assert (plain.inverse(u) - part).abs().max().item() < 1e-11
        assert (plain.inverse(part) - other.inverse(part)).abs().max().item() < 1e-11
    assert torch.equal(plain(z), torch.stack([plain(part) for part in z]))
    assert (plain.inverse(plain(z[0])) - z[0]).abs().max().item() < 1e-11


def test_plain_spline_is_the_identity_outside_the_box():
    theta = torch.zeros(1, 49, dtype=torch.float64)
    z = torch.tensor([-1e6, -5.0, 0.0, 5.0, 7.25, 1e6], dtype=torch.float64)
    plain = plain_map(theta)
    assert (plain(z) - z).abs().max().item() < 1e-14
    assert (plain.inverse(z) - z).abs().max().item() < 1e-14
    assert plain.call_and_ladj(z)[1].abs().max().item() < 1e-14


@pytest.mark.parametrize("moved", ["all", "shift", "flag", "nothing"])
def test_parameters_shared_by_all_rows_are_computed_once(moved):
    generator = torch.Generator().manual_seed(0)
    kernel = SplineKernel(3, bins=4, hidden=8)
    context = torch.randn(480, 3, generator=generator, dtype=torch.float64)
    context[:, 1] = 0.0  # a missing flag that no row has
    with torch.no_grad():
        for weight in kernel.parameters():
            weight.normal_(generator=generator)
        if moved != "all":
            rest = slice(0 if moved == "nothing" else 1, None)
            kernel.conditioner.out.weight[rest] = 0.0
            kernel.conditioner.straight.weight[rest] = 0.0
            kernel.conditioner.straight.weight[rest, 1] = 1.0
        context[7, 1] = float(moved == "flag")
        z = torch.randn(480, generator=generator, dtype=torch.float64)
        plain = kernel.bind(context)
        assert plain.shift.shape == ((1,) if moved == "nothing" else (480,))
        assert plain.knots.shape[2] == (480 if moved in ("all", "flag") else 1)
        other = SplineMap(kernel.conditioner(context))
        assert (plain(z) - other(z)).abs().max().item() < 1e-11
        assert (plain.inverse(z) - other.inverse(z)).abs().max().item() < 1e-10


def test_row_with_its_own_shape_leaves_others_bit_exact():
    generator = torch.Generator().manual_seed(0)
    kernel = SplineKernel(2, bins=3, hidden=8)
    context = torch.randn(480, 2, generator=generator, dtype=torch.float64)
    z = 3 * torch.randn(480, generator=generator, dtype=torch.float64)
    with torch.no_grad():
        for weight in kernel.parameters():
            weight.normal_(generator=generator)
        kernel.conditioner.out.weight[1:] = 0.0
        kernel.conditioner.straight.weight[1:, 0] = 0.0
        context[:, 1] = 0.0
        alone = kernel.bind(context)
        context[9, 1] = 1.0
        beside = kernel.bind(context)
    others = torch.arange(480) != 9
    for one, other in zip(alone.call_and_ladj(z), beside.call_and_ladj(z), strict=True):
        assert torch.equal(one[others], other[others])
        assert one[9] != other[9]
    assert torch.equal(alone.inverse(z)[others], beside.inverse(z)[others])


PARENTS = [
    Variable("Age", "continuous", range=(0, 100), resolution=0.5),
    Variable("Race", "categorical", levels=("Asian", "Black", "White")),
]


def parents(n):
    rng = np.random.default_rng(0)
    age, race = rng.integers(0, 21, n) / 2 + 40, rng.integers(0, 3, n).astype(float)
    age[::7], race[::5] = np.nan, np.nan
    return {"Age": torch.from_numpy(age), "Race": torch.from_numpy(race)}


def test_equation_is_computed_once_per_distinct_parents():
    columns, seen = parents(8000), []

    def compute(few):
        seen.append(len(few["Age"]))
        return few["Age"].nan_to_num(nan=-1.0) * 10 + few["Race"].nan_to_num(nan=7.0)

    assert torch.equal(per_distinct_row(PARENTS, columns, compute), compute(columns))
    assert seen == [96, 8000]  # 22 ages and 4 races, missing among them, make 88


@pytest.mark.parametrize(("age", "race"), [(40.25, 1.0), (130.0, 1.0), (40.0, 1.5), (40.0, 9.0)])
def test_value_off_the_lattice_is_not_mistaken_for_another(age, race):
    columns = parents(8000)
    columns["Age"][11], columns["Race"][11] = age, race
    found = per_distinct_row(PARENTS, columns, lambda few: few["Age"] * 10 + few["Race"])
    assert found[11].item() == age * 10 + race


def test_equation_refuses_an_unknown_level():
    edema = build(Variable("Edema", "binary", parents=["Age", "Race"]), PARENTS)
    columns = parents(8000)
    assert edema(columns).log_probs.shape == (8000, 2)
    columns["Race"][3] = 3.0
    with pytest.raises(ValueError, match="'Race': 3 is not a level"):
        edema(columns)
    with pytest.raises(ValueError, match="no column for parent 'Race'"):
        edema({"Age": columns["Age"]})


def test_replaced_columns_give_the_same_cohort(patients):
    graph = Graph.parse(GRAPH)
    old = patients.columns(graph)
    new = {name: column.copy() for name, column in old.items()}
    new["Sex"][::2], new["Weight"][::3], new["Race"][4] = 1.0, 70.25, np.nan
    known, unknown = patients.with_columns(graph, new, old), patients.with_columns(graph, new)
    pd.testing.assert_frame_equal(known.table, unknown.table, check_exact=True)
    assert known.table["Weight"].iloc[3] == 70.25
    assert patients.table["Weight"].iloc[3] != 70.25
    with pytest.raises(ValueError, match=r"shape \(3,\); expected \(1000,\)"):
        patients.with_columns(graph, {"Sex": np.zeros(3)})


@pytest.mark.parametrize("shape", ["even", "crowded", "one"])
def test_count_up_to_equals_searchsorted(shape):
    even = torch.linspace(-3, 3, 64, dtype=torch.float64)
    knots = {"even": even, "crowded": torch.exp(2 * even), "one": even[:2]}[shape]
    generator = torch.Generator().manual_seed(0)
    x = torch.rand(9000, generator=generator, dtype=torch.float64)
    x = knots[0] - 0.1 + x * (knots[-1] - knots[0] + 0.2)
    x[: len(knots)], x[100], x[101] = knots, -torch.inf, torch.inf
    assert count_up_to(knots, torch.where(x > 0, x, torch.nan)).min() >= 0
    assert torch.equal(count_up_to(knots, x), torch.searchsorted(knots, x, right=True))
    below = torch.nextafter(knots, torch.tensor(-torch.inf, dtype=torch.float64))
    x[: len(knots)] = below
    assert torch.equal(count_up_to(knots, x), torch.searchsorted(knots, x, right=True))
