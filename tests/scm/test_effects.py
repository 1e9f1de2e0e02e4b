"""Effects: total, direct, indirect and along paths, against closed forms of known equations."""

import numpy as np
import pytest
import torch
from known_equations import binaries, kite_world, known_model, linear_world

import causalcxr as cx
from causalcxr import Cohort, Graph, Shift, Variable, do
from causalcxr.graph.edge_paths import recanting_witnesses
from causalcxr.graph.interventions import Normal
from causalcxr.scm.questions.effects import effect


def changes(result) -> dict[str, float]:
    """Return the change of each continuous variable, the same in every row."""
    table = result.differences.droplevel("level", axis=1)
    assert (np.ptp(table.to_numpy(), axis=0) < 1e-9).all()
    return table.mean().round(9).to_dict()


# Linear equations: every effect is a sum of products of coefficients along paths


@pytest.fixture(scope="module")
def linear() -> tuple[cx.SCM, Cohort]:
    return linear_world()


EXPECTED = {
    "total": ({}, {"A": 1, "M": 2, "K": 4, "Y": 71}),
    "direct": ({"kind": "direct"}, {"A": 1, "M": 2, "K": 3, "Y": 13}),
    "direct, M": ({"kind": "direct", "mediators": ["m"]}, {"A": 1, "M": 0, "K": 3, "Y": 46}),
    "direct, K": ({"kind": "direct", "mediators": ["K"]}, {"A": 1, "M": 2, "K": 0, "Y": 27}),
    "direct, both": (
        {"kind": "direct", "mediators": ["K", "M"]},
        {"A": 1, "M": 0, "K": 0, "Y": 13},
    ),
    "indirect": ({"kind": "indirect"}, {"A": 0, "M": 0, "K": 1, "Y": 58}),
    "indirect, M": ({"kind": "indirect", "mediators": ["M"]}, {"A": 0, "M": 2, "K": 1, "Y": 25}),
    "indirect, K": ({"kind": "indirect", "mediators": "K"}, {"A": 0, "M": 0, "K": 4, "Y": 44}),
    "A -> Y": ({"through": [("A", "Y")]}, {"A": 1, "M": 0, "K": 0, "Y": 13}),
    "A -> M": ({"through": [("a", "m")]}, {"A": 1, "M": 2, "K": 0, "Y": 0}),
    "A -> M -> Y": ({"through": [("A", "M", "Y")]}, {"A": 1, "M": 2, "K": 0, "Y": 14}),
    "A -> K -> Y": (
        {"through": [("A", "K"), ("K", "Y")]},
        {"A": 1, "M": 0, "K": 3, "Y": 33},
    ),
    "A -> M -> K -> Y": ({"through": [("A", "M", "K", "Y")]}, {"A": 1, "M": 2, "K": 1, "Y": 11}),
    "A -> M -> ...": ({"through": [("A", "M", ...)]}, {"A": 1, "M": 2, "K": 1, "Y": 25}),
}


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("case", EXPECTED)
def test_linear_effects_are_products_of_coefficients(linear, case, recompute):
    asked, expected = EXPECTED[case]
    model, cohort = linear
    result = effect(model, cohort, do(a=Shift(1)), **asked, recompute=recompute)
    assert changes(result) == pytest.approx(expected, abs=1e-9)
    scaled = effect(model, cohort, do(a=3), do(a=-1), **asked)
    assert changes(scaled) == pytest.approx({k: 4 * v for k, v in expected.items()}, abs=1e-9)


def test_effect_of_two_variables(linear):
    model, cohort = linear
    moved = effect(model, cohort, do(a=Shift(1), k=Shift(10)))
    assert changes(moved) == pytest.approx({"A": 1, "M": 2, "K": 10, "Y": 137})
    direct = effect(model, cohort, do(a=Shift(1), k=Shift(10)), kind="direct", mediators=["M"])
    assert changes(direct)["Y"] == pytest.approx(123)
    through = effect(model, cohort, do(a=Shift(1), k=Shift(10)), through=[("K", "Y")])
    assert changes(through) == pytest.approx({"A": 1, "M": 0, "K": 10, "Y": 110})
    for mediators in (None, ["M"]):  # K is set: it stays as it was, though M is not
        indirect = effect(
            model,
            cohort,
            do(a=Shift(1), k=Shift(10)),
            kind="indirect",
            mediators=mediators,
        )
        expected = {"A": 0, "M": 2 if mediators else 0, "K": 0, "Y": 14}
        assert changes(indirect) == pytest.approx(expected, abs=1e-9)
    # Under do(A + 1), K follows: it is 4 higher than observed, and the action lifts it to 10.
    one = effect(model, cohort, do(a=Shift(1), k=Shift(10)), do(a=Shift(1)))
    assert changes(one) == pytest.approx({"A": 0, "M": 0, "K": 6, "Y": 66})
    back = effect(model, cohort, do(a=Shift(1), k=Shift(10)), do(a=Shift(1)), kind="indirect")
    assert changes(back) == pytest.approx(dict.fromkeys("AMKY", 0), abs=1e-9)


def test_both_sides_share_earlier_interventions(linear):
    model, cohort = linear
    held = effect(model.do(k=2.0, hold=["M"]), cohort, do(a=Shift(1)))
    assert changes(held) == pytest.approx({"A": 1, "M": 0, "K": 0, "Y": 13})
    assert (held.baseline.table["K"] == 2).all()
    assert (held.baseline.table["M"] == cohort.table["M"]).all()


def test_sampled_action_and_baseline_share_random_numbers(
    linear,
):
    model, cohort = linear
    drawn = effect(model, cohort, do(a=Normal(2, 0.5)), do(a=0), draws=3, seed=1)
    moves = drawn.differences.droplevel("level", axis=1)
    assert np.abs(moves["Y"] - 71 * moves["A"]).max() < 1e-9
    assert moves["A"].nunique() == 150
    pair = effect(model, cohort, do(a=Normal(2, 0.5)), do(a=Normal(1, 0.5)))
    assert changes(pair)["Y"] == pytest.approx(71)


# Interaction: direct and indirect effects do not sum to the total, the reversed one does


@pytest.fixture(scope="module")
def interacting() -> tuple[cx.SCM, Cohort]:
    """M = A^2 + u, B a finding of M, Y = A M + B exp(A / 4) + u."""
    graph = Graph(
        [
            Variable("A", "continuous"),
            Variable("M", "continuous", parents=["A"]),
            Variable("B", "binary", parents=["A", "M"]),
            Variable("Y", "continuous", parents=["A", "M", "B"]),
        ]
    )
    equations = {
        "A": 0.0,
        "M": lambda A: A**2,
        "B": lambda A, M: torch.sigmoid(M - 1 + A / 2),
        "Y": lambda A, M, B: A * M + B * torch.exp(A / 4),
    }
    return known_model(graph, equations, 400)


def test_natural_effects_with_interaction(interacting):
    model, cohort = interacting
    m1, m3 = (effect(model, cohort, do(a=a)).active.table["M"] for a in (1, 3))
    still = model.do(b="N")  # without the finding, Y = A M + u
    for kind, expected in (("direct", (3 - 1) * m1), ("indirect", 1 * (m3 - m1))):
        result = effect(still, cohort, do(a=3), do(a=1), kind=kind, mediators=["M"])
        assert np.abs(result.differences["Y", ""] - expected).max() < 1e-9
    total = effect(still, cohort, do(a=3), do(a=1)).differences["Y", ""]
    parts = (3 - 1) * m1 + (m3 - m1)
    assert np.abs(total - parts).min() > 1


@pytest.mark.parametrize("mediators", [None, ["M"], ["B"], ["M", "B"]])
def test_total_is_direct_less_reversed_indirect(interacting, mediators):
    model, cohort = interacting
    a, b = do(a=1.5), do(a=-0.5)
    total = effect(model, cohort, a, b).differences
    direct = effect(model, cohort, a, b, kind="direct", mediators=mediators).differences
    back = effect(model, cohort, b, a, kind="indirect", mediators=mediators).differences
    outcomes = [name for name in "MBY" if name not in (mediators or ())]
    assert np.abs((direct - back - total)[outcomes]).max().max() < 1e-9
    forward = effect(model, cohort, a, b, kind="indirect", mediators=mediators).differences
    assert np.abs((direct + forward - total)["Y"]).max().max() > 0.1


def test_path_effects_agree_with_natural_effects(interacting):
    model, cohort = interacting
    for through, kind in (
        ([("A", "Y")], "direct"),
        ([("A", "M", "Y"), ("A", "B", "Y"), ("M", "B")], "indirect"),
    ):
        along = effect(model, cohort, do(a=2), through=through).differences["Y", ""]
        natural = effect(model, cohort, do(a=2), kind=kind).differences["Y", ""]
        assert np.abs(along - natural).max() < 1e-9
        assert np.abs(along).max() > 0.1


# Binary equations: means by enumeration


@pytest.fixture(scope="module")
def kite() -> tuple[cx.SCM, Cohort]:
    return kite_world()


def y_mean(a: int, a_w: int, a_m: int, *, coupled: bool = True) -> float:
    """Return E Y(a, W(a_w), M(W(a_m))) of the kite, W comonotone, or independent, in its a."""
    chance = {0: 0.2, 1: 0.8}
    mean = 0.0
    for w in (0, 1):
        for v in (0, 1):  # the W that M sees
            p, q = (x if x_is else 1 - x for x, x_is in ((chance[a_w], w), (chance[a_m], v)))
            joint = p * q
            if coupled or a_w == a_m:
                both = min(chance[a_w], chance[a_m])
                cells = {
                    (1, 1): both,
                    (1, 0): chance[a_w] - both,
                    (0, 1): chance[a_m] - both,
                    (0, 0): 1 - max(chance[a_w], chance[a_m]),
                }
                joint = cells[w, v]
            for m in (0, 1):
                pm = 0.1 + 0.7 * v if m else 0.9 - 0.7 * v
                mean += joint * pm * (0.05 + 0.2 * a + 0.1 * w + 0.1 * m + 0.5 * w * m)
    return mean


KITE = {
    "total": ({}, (1, 1, 1)),
    "direct": ({"kind": "direct"}, (1, 0, 0)),
    "indirect": ({"kind": "indirect"}, (0, 1, 1)),
    "indirect, W": ({"kind": "indirect", "mediators": ["W"]}, (0, 1, 1)),
    "direct, M": ({"kind": "direct", "mediators": ["M"]}, (1, 1, 0)),
    "path by W": ({"through": [("A", "W", "Y")]}, (0, 1, 0)),
    "path by M": ({"through": [("A", "W", "M", "Y")]}, (0, 0, 1)),
    "paths from W": ({"through": [("A", "W", ...)]}, (0, 1, 1)),
}


@pytest.mark.parametrize("case", KITE)
def test_mean_effects_equal_enumeration(kite, case):
    asked, worlds = KITE[case]
    model, cohort = kite
    result = effect(model, cohort, do(a="P"), do(a="N"), **asked)
    row = result.table.set_index(["variable", "level"]).loc["Y", "P"]
    expected = y_mean(*worlds) - y_mean(0, 0, 0)
    assert 0 < row["se"] < 0.005
    assert abs(row["change"] - expected) < 4 * row["se"]
    assert row["baseline"] == pytest.approx(y_mean(0, 0, 0), abs=0.015)
    assert row["active"] - row["baseline"] == pytest.approx(row["change"])


def test_recanting_witness_is_named(kite):
    model, cohort = kite
    result = effect(model, cohort, do(a="P"), do(a="N"), through=[("A", "W", "Y")])
    assert result.recanting == {"Y": ("W",)}
    row = result.table.set_index(["variable", "level"]).loc["Y", "P"]
    loose = y_mean(0, 1, 0, coupled=False) - y_mean(0, 0, 0)
    assert abs(row["change"] - loose) > 5 * row["se"]
    for asked, found in (
        ({"kind": "direct", "mediators": ["M"]}, {"Y": ("W",)}),
        ({"kind": "direct", "mediators": ["W", "M"]}, {}),
        ({"kind": "direct"}, {}),
        ({"through": [("A", "W", ...)]}, {}),
        ({"through": [("A", "Y")]}, {}),
        ({}, {}),
    ):
        assert effect(model, cohort.head(5), do(a="P"), **asked).recanting == found


def test_only_variables_that_pass_on_both_values_recant():
    graph = binaries(A=(), V=("A",), W=("V",), M=("W",), K=("M", "W"), Y=("K",), Z=("V",))
    assert recanting_witnesses(graph, ["A"], [("A", "V"), ("V", "W"), ("W", "K"), ("K", "Y")]) == {
        "K": ("V", "W"),
        "Y": ("V", "W"),
    }
    assert recanting_witnesses(graph, ["A"], [("A", "V"), ("V", "Z")]) == {}
    assert recanting_witnesses(graph, ["A", "M"], [("A", "V"), ("V", "W"), ("W", "K")]) == {}
