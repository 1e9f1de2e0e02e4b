# ruff: noqa: ANN001, ANN201
"""The known models against closed forms, and the figures of answers that are known."""

import numpy as np
import pytest

from benchmarks.scm import likelihood, peers, speed
from benchmarks.scm.accuracy import command
from benchmarks.scm.suites import SUITES, mixed
from benchmarks.scm.task import Task, pooled
from causalcxr.graph import Variable

CONTINUOUS = [name for name, suite in SUITES.items() if not suite.discrete]
MIXED = [name for name, suite in SUITES.items() if suite.discrete]


def task(name, n=400, draws=20):
    return Task.of(SUITES[name], (400, 50, n), seed=3, draws=draws)


@pytest.mark.parametrize("name", SUITES)
def test_given_the_posterior_when_nothing_is_done_then_the_facts_return(name):
    suite, noise = SUITES[name], SUITES[name].noise(500, seed=1)
    facts = suite.values(noise)
    again = suite.values(suite.posterior(facts, noise, draw=4, seed=9))
    assert all((again[each] == facts[each]).all() for each in suite.nodes)
    assert suite.impossible(facts) == 0


@pytest.mark.parametrize("name", SUITES)
def test_given_an_action_then_only_descendants_change(name):
    suite, noise = SUITES[name], SUITES[name].noise(200, seed=1)
    facts = suite.values(noise)
    for cause, value in suite.actions(facts):
        twins = suite.values(noise, {cause: value})
        downstream = {cause, *suite.descendants(cause)}
        assert all((twins[e] == facts[e]).all() for e in suite.nodes if e not in downstream)


@pytest.mark.parametrize("name", SUITES)
def test_given_more_noise_then_every_equation_is_monotone_in_it(name):
    suite, noise = SUITES[name], SUITES[name].noise(300, seed=2)
    facts = suite.values(noise)
    for each in suite.continuous:
        node, grid = suite.nodes[each], np.linspace(-3, 3, 41)
        column = np.stack([node.predict(facts, np.full(300, u)) for u in grid])
        step = np.diff(column, axis=0)
        assert (step > 0).all() or (step < 0).all()


def test_given_the_symprod_equations_then_a_twin_is_the_formula():
    suite = SUITES["simpson-symprod"]
    noise = suite.noise(50, seed=0)
    twins = suite.values(noise, {"x2": 0.7})
    expected = noise["x1"] * 0.7 / 2 + noise["x3"] / np.sqrt(2)
    np.testing.assert_allclose(twins["x3"], expected, rtol=1e-12)


@pytest.mark.parametrize("name", MIXED)
def test_given_levels_then_posterior_noise_is_the_prior_again(name):
    suite, noise = SUITES[name], SUITES[name].noise(20_000, seed=5)
    facts = suite.values(noise)
    found = suite.posterior(facts, noise, draw=1, seed=6)
    for each in suite.discrete:
        u = found[each]
        mean, spread = (0.5, 12**-0.5) if u.ndim == 1 else (np.euler_gamma, np.pi / 6**0.5)
        assert np.abs(u.mean(0) - mean).max() < 4.5 * spread / len(u) ** 0.5
        assert np.allclose(u.std(0), spread, rtol=0.04)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_given_numbers_only_then_the_oracle_makes_no_error(name):
    one = task(name)
    assert pooled(one.score(one.oracle()))["rmse"] == 0.0


@pytest.mark.parametrize("name", MIXED)
def test_given_levels_then_the_oracle_beats_a_copy(name):
    one = task(name, n=1000, draws=40)
    best, copy = (pooled(one.score(answer)) for answer in (one.oracle(), one.copies()))
    assert 0 < best["brier"] < copy["brier"]
    assert best["variation"] < copy["variation"]


def test_given_an_error_of_one_half_then_rmse_is_one_half():
    one = task("chain-nlin")
    cells = one.score([twins + 0.5 for twins in one.oracle()])
    assert [cell.rmse for cell in cells] == pytest.approx([0.5] * len(cells))
    sd = one.parts["train"]["x3"].std()
    last = next(cell for cell in cells if cell.outcome == "x3")
    assert last.scaled == pytest.approx(0.5 / sd)


def test_given_a_seed_then_mixed_models_repeat_and_have_every_type():
    for seed in range(5):
        one, two = mixed(seed), mixed(seed)
        noise = one.noise(50, seed=0)
        values, again = one.values(noise), two.values(noise)
        assert all((values[n] == again[n]).all() for n in one.nodes)
        assert {len(node.levels) for node in one.nodes.values()} == {0, 2, 3}
        assert 5 <= len(one.nodes) <= 8


def test_given_no_peers_then_the_table_has_this_package_alone(monkeypatch, capsys):
    monkeypatch.delenv(peers.VARIABLE, raising=False)
    assert command(["--rows", "300", "60", "60", "--seeds", "1", "chain-nlin"]) == 0
    told = capsys.readouterr().out
    assert "the peers are left out" in told
    assert "causalcxr" in told
    assert "causalflows" not in told


def test_given_a_wrong_interpreter_then_one_line_says_so(monkeypatch):
    monkeypatch.setenv(peers.VARIABLE, "/nowhere/python")
    with pytest.raises(SystemExit, match="no such file; give the path of a python"):
        peers.interpreter()


def test_given_few_patients_then_speed_tells_seconds_and_who_changed():
    row = speed.ours(200)
    assert row["changed"] == 200
    assert row["seconds"] > 0


def test_given_a_known_law_then_boosting_comes_near_its_entropy():
    rng = np.random.default_rng(0)
    parts = {}
    for part in ("train", "val", "test"):
        a, b = rng.integers(0, 2, 4000) * 1.0, rng.integers(0, 3, 4000) * 1.0
        y = (rng.random(4000) < 0.2 + 0.3 * a) * 1.0
        y[:3], b[3:6] = np.nan, np.nan
        parts[part] = {"A": a, "B": b, "Y": y}
    parents = [Variable("A", "binary"), Variable("B", "categorical", levels=("a", "b", "c"))]
    found = likelihood.boosted(Variable("Y", "binary", parents=["A", "B"]), parents, parts)
    a, y = parts["test"]["A"], parts["test"]["Y"]
    truth = np.log(np.where(y == 1, 0.2 + 0.3 * a, 0.8 - 0.3 * a))
    assert (np.isnan(found) == np.isnan(y)).all()
    assert 0 <= np.nanmean(truth[3:] - found[3:]) + 0.002 < 0.006


def test_given_years_of_age_then_counting_is_the_training_frequency():
    x = np.array([60.0, 60.0, 61.0, np.nan])
    found = likelihood.counted(x, np.array([60.0, 62.0, np.nan]), np.arange(60.0, 63.0))
    assert np.exp(found[:2]) == pytest.approx([2.5 / 4.5, 0.5 / 4.5])
    assert np.isnan(found[2])
