# ruff: noqa: ANN001, ANN201
"""The known models against closed forms, and the measures of twins with known errors."""

import numpy as np
import pytest

from benchmarks.scm import likelihood, peers, speed
from benchmarks.scm.accuracy import command
from benchmarks.scm.suites import SUITES, mixed
from benchmarks.scm.task import Task, pool
from causalcxr.graph import Variable

CONTINUOUS = [name for name, suite in SUITES.items() if not suite.discrete]
MIXED = [name for name, suite in SUITES.items() if suite.discrete]


def make_task(name, n=400, draws=20):
    return Task.draw(SUITES[name], (400, 50, n), seed=3, draws=draws)


@pytest.mark.parametrize("name", SUITES)
def test_null_intervention_with_posterior_noise_returns_the_facts(name):
    suite, noise = SUITES[name], SUITES[name].noise(500, seed=1)
    facts = suite.values(noise)
    again = suite.values(suite.posterior(facts, noise, draw=4, seed=9))
    assert all((again[each] == facts[each]).all() for each in suite.nodes)
    assert suite.impossible(facts) == 0


@pytest.mark.parametrize("name", SUITES)
def test_intervention_changes_descendants_only(name):
    suite, noise = SUITES[name], SUITES[name].noise(200, seed=1)
    facts = suite.values(noise)
    for cause, value in suite.actions(facts):
        twins = suite.values(noise, {cause: value})
        downstream = {cause, *suite.descendants(cause)}
        assert all((twins[e] == facts[e]).all() for e in suite.nodes if e not in downstream)


@pytest.mark.parametrize("name", SUITES)
def test_equations_are_monotone_in_their_noise(name):
    suite, noise = SUITES[name], SUITES[name].noise(300, seed=2)
    facts = suite.values(noise)
    for each in suite.continuous:
        node, grid = suite.nodes[each], np.linspace(-3, 3, 41)
        column = np.stack([node.predict(facts, np.full(300, u)) for u in grid])
        step = np.diff(column, axis=0)
        assert (step > 0).all() or (step < 0).all()


def test_twin_of_symprod_equals_the_formula():
    suite = SUITES["simpson-symprod"]
    noise = suite.noise(50, seed=0)
    twins = suite.values(noise, {"x2": 0.7})
    expected = noise["x1"] * 0.7 / 2 + noise["x3"] / np.sqrt(2)
    np.testing.assert_allclose(twins["x3"], expected, rtol=1e-12)


@pytest.mark.parametrize("name", MIXED)
def test_posterior_noise_of_levels_pools_to_the_prior(name):
    suite, noise = SUITES[name], SUITES[name].noise(20_000, seed=5)
    facts = suite.values(noise)
    result = suite.posterior(facts, noise, draw=1, seed=6)
    for each in suite.discrete:
        u = result[each]
        mean, spread = (0.5, 12**-0.5) if u.ndim == 1 else (np.euler_gamma, np.pi / 6**0.5)
        assert np.abs(u.mean(0) - mean).max() < 4.5 * spread / len(u) ** 0.5
        assert np.allclose(u.std(0), spread, rtol=0.04)


@pytest.mark.parametrize("name", CONTINUOUS)
def test_oracle_is_exact_for_continuous_models(name):
    one = make_task(name)
    assert pool(one.score(one.oracle()))["rmse"] == 0.0


@pytest.mark.parametrize("name", MIXED)
def test_oracle_beats_a_copy_in_mixed_models(name):
    one = make_task(name, n=1000, draws=40)
    best, copy = (pool(one.score(answer)) for answer in (one.oracle(), one.copies()))
    assert 0 < best["brier"] < copy["brier"]
    assert best["variation"] < copy["variation"]


def test_rmse_of_a_constant_error_is_the_error():
    one = make_task("chain-nlin")
    cells = one.score([twins + 0.5 for twins in one.oracle()])
    assert [cell.rmse for cell in cells] == pytest.approx([0.5] * len(cells))
    sd = one.parts["train"]["x3"].std()
    last = next(cell for cell in cells if cell.outcome == "x3")
    assert last.scaled == pytest.approx(0.5 / sd)


def test_mixed_models_are_reproducible_and_have_every_type():
    for seed in range(5):
        one, two = mixed(seed), mixed(seed)
        noise = one.noise(50, seed=0)
        values, again = one.values(noise), two.values(noise)
        assert all((values[n] == again[n]).all() for n in one.nodes)
        assert {len(node.levels) for node in one.nodes.values()} == {0, 2, 3}
        assert 5 <= len(one.nodes) <= 8


def test_table_without_peers_has_this_package_only(monkeypatch, capsys):
    monkeypatch.delenv(peers.VARIABLE, raising=False)
    assert command(["--rows", "300", "60", "60", "--seeds", "1", "chain-nlin"]) == 0
    printed = capsys.readouterr().out
    assert "the peers are left out" in printed
    assert "causalcxr" in printed
    assert "causalflows" not in printed


def test_missing_interpreter_is_reported_in_one_line(monkeypatch):
    monkeypatch.setenv(peers.VARIABLE, "/nowhere/python")
    with pytest.raises(SystemExit, match="no such file; set it to the path of a Python"):
        peers.interpreter()


def test_speed_reports_seconds_and_changed_patients():
    row = speed.measure_ours(200)
    assert row["changed"] == 200
    assert row["seconds"] > 0


def test_boosting_comes_close_to_the_true_log_probability():
    rng = np.random.default_rng(0)
    parts = {}
    for part in ("train", "val", "test"):
        a, b = rng.integers(0, 2, 4000) * 1.0, rng.integers(0, 3, 4000) * 1.0
        y = (rng.random(4000) < 0.2 + 0.3 * a) * 1.0
        y[:3], b[3:6] = np.nan, np.nan
        parts[part] = {"A": a, "B": b, "Y": y}
    parents = [Variable("A", "binary"), Variable("B", "categorical", levels=("a", "b", "c"))]
    result = likelihood.boosted_log_masses(
        Variable("Y", "binary", parents=["A", "B"]), parents, parts
    )
    a, y = parts["test"]["A"], parts["test"]["Y"]
    truth = np.log(np.where(y == 1, 0.2 + 0.3 * a, 0.8 - 0.3 * a))
    assert (np.isnan(result) == np.isnan(y)).all()
    assert 0 <= np.nanmean(truth[3:] - result[3:]) + 0.002 < 0.006


def test_log_frequencies_of_ages_are_training_frequencies():
    x = np.array([60.0, 60.0, 61.0, np.nan])
    result = likelihood.log_frequencies(x, np.array([60.0, 62.0, np.nan]), np.arange(60.0, 63.0))
    assert np.exp(result[:2]) == pytest.approx([2.5 / 4.5, 0.5 / 4.5])
    assert np.isnan(result[2])
