"""Transitions between levels: closed forms against simulation, enumeration and one another."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Variable
from causalcxr.mechanisms.couplings import COUPLINGS as EQUATIONS
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.mechanisms.transport import heights
from causalcxr.scm.questions.transition_probabilities import (
    COUPLINGS,
    extreme_mean,
    gumbel,
    monotone,
    transport,
    upper_bounds,
)

P, Q = [0.6, 0.3, 0.1], [0.3, 0.3, 0.4]


def column(values):
    return torch.tensor(values, dtype=torch.float64)[None]


def table(coupling, p, q):
    """All transitions of a distribution, (K, K): one row per factual level."""
    k = len(p)
    both = (column(p_or_q).expand(k, -1) for p_or_q in (p, q))
    return COUPLINGS[coupling](*both, torch.arange(k))


@st.composite
def distributions(draw):
    k = draw(st.integers(2, 6))
    weights = st.lists(st.floats(1e-3, 1.0), min_size=k, max_size=k)
    return tuple([w / sum(ws) for w in ws] for ws in (draw(weights), draw(weights)))


@pytest.mark.parametrize(
    ("coupling", "expected"),
    [("monotone", 0.0), ("gumbel", 3 / 13), ("ot", 0.2241), ("independent", 0.24)],
)
def test_jump_over_a_level_is_the_known_figure(coupling, expected):
    assert 0.6 * table(coupling, P, Q)[0, 2].item() == pytest.approx(expected, abs=5e-4)


@pytest.mark.parametrize("coupling", ["monotone", "gumbel", "ot"])
def test_binary_flip_probability(coupling):
    assert table(coupling, [0.8, 0.2], [0.5, 0.5])[0, 1].item() == pytest.approx(0.375)
    assert table(coupling, [0.5, 0.5], [0.8, 0.2])[1, 0].item() == pytest.approx(0.6)


@pytest.mark.parametrize("coupling", ["monotone", "gumbel", "independent"])
@pytest.mark.parametrize("level", range(4))
def test_transitions_equal_simulated_equations(coupling, level):
    p, q, n = [0.45, 0.3, 0.05, 0.2], [0.1, 0.35, 0.3, 0.25], 250_000
    variable = Variable("X", "ordinal", levels=tuple("abcd"))
    mechanism = DiscreteMechanism(variable, [], coupling=coupling)
    before, after = (EQUATIONS[coupling](mechanism, column(p_or_q).log()) for p_or_q in (p, q))
    draws = Draws(np.arange(n, dtype=np.uint64), seed=level, stream="X")
    x = torch.full((n,), float(level), dtype=torch.float64)
    if coupling == "independent":  # the one coupling that has to see that the parents differ
        before.parents, after.parents = {"a": 0 * x}, {"a": 0 * x + 1}
    twin = after.predict(before.abduct(x, draws))
    seen = torch.bincount(twin.long(), minlength=4) / n
    # Four standard errors, and the margin that abduction keeps from the edges of a cell.
    assert (seen - table(coupling, p, q)[level]).abs().max().item() < 4 * 0.5 / n**0.5 + 1e-5


def test_transport_equals_simulation():
    p, q, n = [0.45, 0.3, 0.05, 0.2], [0.1, 0.35, 0.3, 0.25], 1_000_000
    before, after = (heights(column(p_or_q).log())[0].numpy() for p_or_q in (p, q))
    u = np.random.default_rng(0).standard_normal((n, 4))
    pairs = (u + before).argmax(1) * 4 + (u + after).argmax(1)
    seen = np.bincount(pairs, minlength=16).reshape(4, 4) / n
    joint = column(p).T.numpy() * table("ot", p, q).numpy()
    assert np.abs(seen - joint).max() < 4 * 0.5 / n**0.5


@settings(max_examples=60, deadline=None)
@given(distributions())
def test_couplings_have_the_right_margins(pair):
    p, q = pair
    for coupling in COUPLINGS:
        moves = table(coupling, p, q)
        joint = torch.tensor(p, dtype=torch.float64)[:, None] * moves
        assert moves.min().item() >= 0
        assert moves.sum(1).tolist() == pytest.approx([1.0] * len(p), abs=1e-12)
        assert joint.sum(0).tolist() == pytest.approx(q, abs=1e-8)


@settings(max_examples=60, deadline=None)
@given(distributions())
def test_couplings_keep_the_frechet_hoeffding_bounds(pair):
    p, q = (torch.tensor(p_or_q, dtype=torch.float64) for p_or_q in pair)
    k = len(p)
    bound = upper_bounds(p[None].expand(k, -1), q[None].expand(k, -1), torch.arange(k))
    lower = (p[:, None] + q[None] - 1).clamp(min=0) / p[:, None]
    each = torch.eye(k, dtype=torch.float64)
    for j in range(k):
        least = extreme_mean(bound, each[j], largest=False)
        most = extreme_mean(bound, each[j], largest=True)
        assert least.tolist() == pytest.approx(lower[:, j].tolist(), abs=1e-9)
        assert most.tolist() == pytest.approx(bound[:, j].tolist(), abs=1e-12)
        for coupling in COUPLINGS:
            moves = table(coupling, *pair)[:, j]
            assert (moves >= least - 1e-9).all()
            assert (moves <= most + 1e-9).all()


def test_extreme_mean_is_the_optimum():
    """A row of a coupling can be any distribution below the bounds: checked over all tables."""
    value, k = np.array([0.2, 0.9, 0.5]), 1
    margins = [np.kron(np.eye(3), np.ones(3)), np.kron(np.ones(3), np.eye(3))]
    cost = np.zeros(9)
    cost[3 * k : 3 * k + 3] = value / P[k]
    bound = upper_bounds(column(P), column(Q), torch.tensor([k]))
    for sign, largest in ((1, False), (-1, True)):
        best = linprog(sign * cost, A_eq=np.vstack(margins), b_eq=[*P, *Q])
        result = extreme_mean(bound, torch.from_numpy(value), largest=largest).item()
        assert result == pytest.approx(sign * best.fun, abs=1e-9)


def test_equal_distributions_change_nothing():
    assert torch.allclose(table("monotone", P, P), torch.eye(3, dtype=torch.float64))
    assert torch.allclose(table("gumbel", P, P), torch.eye(3, dtype=torch.float64))
    assert torch.allclose(table("ot", P, P), torch.eye(3, dtype=torch.float64))
    assert torch.allclose(table("independent", P, P), column(P).expand(3, -1))


def test_nearly_impossible_levels_stay_finite():
    p, q = [1 - 3e-6, 1e-6, 1e-6, 1e-6], [1e-6, 1e-6, 1e-6, 1 - 3e-6]
    for closed in (monotone, gumbel, transport):
        moves = closed(column(p).expand(4, -1), column(q).expand(4, -1), torch.arange(4))
        assert moves.isfinite().all()
        assert moves[0, 3].item() == pytest.approx(1, abs=1e-5)
