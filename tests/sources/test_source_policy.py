"""What a policy decides, and what it may never do, for any marks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.policy import (
    _CHOICES,
    BLANK,
    FINDINGS,
    PATHOLOGIES,
    UNCERTAIN,
    UNLISTED,
    N,
    P,
    Policy,
)

_POLICIES = st.builds(
    Policy,
    **{name: st.sampled_from(_CHOICES[name]) for name in ("uncertain", "blank", "unlisted")},
    implied=st.sampled_from(_CHOICES["implied"]),
)
_MARKS = st.lists(
    st.lists(st.sampled_from([N, P, UNCERTAIN, BLANK, UNLISTED]), min_size=14, max_size=14),
    min_size=1,
    max_size=6,
)


@given(rows=_MARKS, policy=_POLICIES)
@settings(max_examples=80, deadline=None)
def test_policy_keeps_known_labels(rows, policy):
    marks = {name: np.array([r[k] for r in rows], np.int8) for k, name in enumerate(FINDINGS)}
    before = {name: mark.copy() for name, mark in marks.items()}
    ledger = Ledger(np.arange(len(rows)))
    decided = policy.decide(marks, ledger)
    for name in FINDINGS:
        assert (marks[name] == before[name]).all()
        found = np.asarray(decided[name], dtype=object)
        assert (found[before[name] == P] == "P").all()
        assert (found[before[name] == N] == "N").all()
        unsure = {"raw": "U", "u_zeros": "N", "u_ones": "P"}.get(policy.uncertain)
        for value in found[before[name] == UNCERTAIN]:
            assert value == unsure or (unsure is None and value != value)
    assert all(0 < rule.rows <= len(rows) for rule in ledger.rules)
    assert all(len(rule.records) == min(rule.rows, 5) for rule in ledger.rules)


@given(rows=_MARKS)
@settings(max_examples=40, deadline=None)
def test_policy_can_leave_labels_as_written(rows):
    marks = {name: np.array([r[k] for r in rows], np.int8) for k, name in enumerate(FINDINGS)}
    policy = Policy(unlisted="U", implied="leave")
    for name, levels in policy.decide(marks, Ledger(np.arange(len(rows)))).items():
        assert (levels.isna() == (marks[name] >= BLANK)).all()


def test_implied_labels_are_filled_in():
    marks = {name: np.full(3, BLANK, np.int8) for name in FINDINGS}
    marks["No Finding"][0] = P
    marks["Edema"][:2] = (UNCERTAIN, P)
    marks["Support Devices"][2] = P
    found = Policy().decide(marks, Ledger(np.arange(3)))
    assert [found[name][0] for name in PATHOLOGIES].count("N") == 11
    assert found["Edema"][0] == "U"  # uncertain, so not denied
    assert found["No Finding"][1] == "N"
    assert np.asarray(found["Support Devices"].isna()).tolist() == [True, True, False]
    assert found["No Finding"].isna()[2]  # a device is no finding, and nothing else is said


def test_dropped_records_are_counted_once():
    ledger = Ledger(np.array(list("abcd")))
    ledger.drop("first", "x", np.array([True, True, False, False]))
    ledger.drop("second", "y", np.array([True, False, True, False]))
    ledger.note("third", "z", np.array([True, True, True, False]))
    assert [(rule.name, rule.rows, rule.records) for rule in ledger.rules] == [
        ("first", 2, ("a", "b")),
        ("second", 1, ("c",)),
    ]
    assert ledger.kept.tolist() == [False, False, False, True]


@pytest.mark.parametrize("name", sorted(_CHOICES))
def test_unknown_choice_is_refused(name):
    with pytest.raises(ValueError, match=f"policy: {name}='nonsense'; one of"):
        Policy.parse({name: "nonsense"})
