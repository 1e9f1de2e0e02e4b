"""The training loop: seeds, early stopping, known distributions, losses that are not finite."""

import numpy as np
import pytest
import torch

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph import Variable
from causalcxr.mechanisms import build, training
from causalcxr.mechanisms.learning_rate import learning_rate

A, B = Variable("A", "continuous"), Variable("B", "binary")


def binary(**options):
    spec = {"kind": "discrete", **options}
    return build(Variable("Y", "binary", parents=["A", "B"], mechanism=spec), [A, B])


def logistic(n, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.integers(0, 2, n) * 1.0
    p = 1 / (1 + np.exp(-(-1 + 0.8 * a + 0.7 * b)))
    y = (rng.random(n) < p) * 1.0
    columns = {"A": torch.tensor(a), "B": torch.tensor(b)}
    return torch.tensor(y), columns, torch.tensor(p)


@pytest.fixture(scope="module")
def trained():
    y, columns, _ = logistic(20_000)
    mechanism = binary()
    return mechanism, mechanism.fit(y, columns, validation=logistic(5000, 1)[:2], seed=0)


def test_logistic_regression_is_recovered(trained):
    mechanism, _ = trained
    y, columns, p = logistic(20_000, seed=2)
    with torch.no_grad():
        fitted_p = mechanism(columns).log_probs.exp()[:, 1]
    assert (fitted_p - p).abs().mean().item() < 0.012
    truth = -(y * p.log() + (1 - y) * (1 - p).log()).mean().item()
    assert mechanism.loss(y, columns).item() - truth < 0.001


def test_missing_parent_is_averaged_out(trained):
    mechanism, _ = trained
    y, columns, _ = logistic(50_000, seed=3)
    hidden = torch.full((2,), torch.nan, dtype=torch.float64)
    with torch.no_grad():
        both = mechanism({"A": hidden, "B": hidden}).log_probs.exp()[0, 1].item()
        one_missing = mechanism({"A": hidden, "B": torch.tensor([0.0, 1.0]).double()})
    assert both == pytest.approx(y.mean().item(), abs=0.04)
    for level in (0, 1):
        share = y[columns["B"] == level].mean().item()
        assert one_missing.log_probs.exp()[level, 1].item() == pytest.approx(share, abs=0.04)


def test_history_names_the_epoch_that_is_kept(trained):
    mechanism, history = trained
    y, columns, _ = logistic(5000, 1)
    with torch.no_grad():
        loss = mechanism.loss(y, columns).item()
    assert loss == pytest.approx(history.validation[history.best], abs=1e-12)
    assert loss <= min(history.validation) + 1e-3
    assert len(history.validation) == len(history.train) + 1
    assert history.rows == 20_000


@pytest.mark.parametrize("transform", ["discrete", "spline", "cnf"])
def test_weights_depend_on_the_seed_and_not_on_the_global_state(transform):
    y, columns, _ = logistic(200)

    def weights(seed, disturb):
        torch.manual_seed(disturb)
        if transform == "discrete":
            mechanism, x = binary(epochs=2), y
        else:
            spec = {"kind": "flow", "transform": transform, "epochs": 2, "hidden": 8}
            variable = Variable("X", "continuous", parents=["A", "B"], mechanism=spec)
            mechanism, x = build(variable, [A, B]), columns["A"] * 2 + y
        before = torch.random.get_rng_state()
        mechanism.fit(x, columns, seed=seed)
        assert torch.equal(before, torch.random.get_rng_state())
        return torch.cat([p.detach().flatten() for p in mechanism.parameters()])

    assert torch.equal(weights(3, disturb=0), weights(3, disturb=1))
    assert not torch.equal(weights(3, disturb=0), weights(4, disturb=0))


@pytest.mark.parametrize("n", [30, 300, 2000])
def test_noise_only_fit_is_no_worse_than_the_marginal(n):
    rng = np.random.default_rng(n)
    parents = [Variable(f"P{i}", "binary") for i in range(8)]
    columns = {p.name: torch.tensor(rng.integers(0, 2, 12_000) * 1.0) for p in parents}
    y = torch.tensor((rng.random(12_000) < 0.3) * 1.0)
    variable = Variable("Y", "binary", parents=[p.name for p in parents])
    mechanism = build(variable, parents)
    history = mechanism.fit(y[:n], {k: v[:n] for k, v in columns.items()}, seed=0)
    assert min(history.validation) <= history.validation[0]
    with torch.no_grad():
        fresh = mechanism.loss(y[2000:], {k: v[2000:] for k, v in columns.items()}).item()
    marginal = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert fresh - marginal < {30: 0.12, 300: 0.06, 2000: 0.01}[n]


def test_progress_is_called_after_every_epoch():
    y, columns, _ = logistic(500)
    heard = []
    mechanism = binary(epochs=3)
    history = mechanism.fit(y, columns, seed=0, progress=lambda *now: heard.append(now))
    assert [epoch for epoch, _, _ in heard] == [1, 2, 3][: len(heard)]
    assert [loss for *_, loss in heard] == history.validation[1:]


def test_loss_that_is_not_finite_names_the_variable():
    y, columns, _ = logistic(500)
    mechanism = binary(lr=1e300)
    with pytest.raises(MechanismError, match="'Y': the training loss is nan"):
        mechanism.fit(y, columns, seed=0)


def test_rows_with_missing_values_are_left_out():
    y, columns, _ = logistic(2000)
    kept = torch.arange(2000) % 2 == 0
    gaps = torch.where(kept, y, torch.nan)
    one, two = binary(epochs=2), binary(epochs=2)
    one.fit(gaps, columns, seed=0)
    two.fit(y[kept], {name: c[kept] for name, c in columns.items()}, seed=0)
    assert all(map(torch.equal, one.parameters(), two.parameters()))


@pytest.mark.parametrize("kind", ["discrete", "flow"])
def test_hiding_parents_changes_no_bit_where_none_is_missing(kind):
    y, columns, _ = logistic(400)
    variable = Variable("Y", "ordinal", levels=("N", "P"), parents=["A", "B"])
    mechanism = build(variable.replace(mechanism={"kind": kind, "epochs": 1}), [A, B])
    mechanism.fit(y, columns, seed=0)
    hidden = {"A": torch.full((400,), torch.nan).double(), "B": columns["B"]}
    with torch.no_grad():
        before, blind = (mechanism(c).log_prob(y) for c in (columns, hidden))
    data = (y, mechanism.encode(columns).detach())
    generator = torch.Generator().manual_seed(1)
    training.learn_missing_parents(mechanism, data, generator, mechanism.null_rates())
    with torch.no_grad():
        after, blind_after = (mechanism(c).log_prob(y) for c in (columns, hidden))
    assert torch.equal(before, after)
    assert not torch.equal(blind, blind_after)


def test_often_missing_parent_is_not_hidden():
    y, columns, _ = logistic(400)
    columns["A"][::20] = torch.nan
    mechanism = binary(epochs=1)
    mechanism.prepare(y, columns)
    rates = mechanism.null_rates()[mechanism.conditioner.bent.weight]
    assert rates.any(0).tolist() == [False, False, False, False, True]


# Few records, and any number of steps


def test_learning_rate_rises_once_and_falls_to_almost_zero():
    for steps in range(1, 401):
        rates = np.array([learning_rate(step, steps, 0.5) for step in range(steps)])
        assert ((rates > 0) & (rates <= 0.5)).all(), steps
        top = rates.argmax()
        assert (np.diff(rates[: top + 1]) > 0).all(), steps
        assert (np.diff(rates[top:]) < 0).all(), steps
        if steps > 1:
            assert rates[-1] == pytest.approx(0.5 / 25 / 1e4), steps
        if steps >= 20:
            assert rates.max() > 0.97 * 0.5, steps


def test_learning_rate_is_the_one_cycle_policy_of_torch():
    for steps in (*range(1, 10), *range(11, 60), 1200, 4096):
        weight = torch.nn.Parameter(torch.zeros(1))
        adam = torch.optim.AdamW([weight], lr=0.005)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            adam, 0.005, total_steps=max(steps, 2), pct_start=0.1, cycle_momentum=False
        )
        for step in range(steps):
            assert learning_rate(step, steps, 0.005) == adam.param_groups[0]["lr"], (steps, step)
            adam.step()
            schedule.step()


def few_records(n, seed=0):
    """Return a continuous child and its two parents."""
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=n), rng.integers(0, 2, n) * 1.0
    y = a + b + rng.normal(size=n)
    return torch.tensor(y), {"A": torch.tensor(a), "B": torch.tensor(b)}


def fits(n, **options):
    """Fit a flow to n records and return whether it gives each value back to nine digits."""
    spec = {"kind": "flow", "bins": 4, "hidden": 4, **options}
    child = build(Variable("Y", "continuous", parents=["A", "B"], mechanism=spec), [A, B])
    y, columns = few_records(n)
    history = child.fit(y, columns, seed=0)
    noise = child(columns).abduct(y, Draws(np.arange(n, dtype=np.uint64)))
    off = (child(columns).predict(noise) - y).abs().max().item()
    return len(history.validation) > 1 and off < 1e-8 * y.abs().max().item()


# With 64 rows a batch, 30 epochs and a trial of 5, ten steps come about at 75 to 145 records.
@pytest.mark.parametrize("n", [2, 3, 5, 40, 74, 76, 100, 142, 145, 200])
def test_few_records_are_fitted(n):
    assert fits(n)


@pytest.mark.parametrize(("epochs", "n"), [(1, 400), (2, 400), (5, 100), (10, 40), (30, 2)])
def test_ten_steps_in_all_are_enough_to_fit(epochs, n):
    assert fits(n, epochs=epochs)


@pytest.mark.slow  # 400 numbers of records, 30 of epochs: minutes
@pytest.mark.parametrize("transform", ["spline", "cnf"])
def test_any_number_of_records_and_epochs_is_fitted(transform):
    failed = [n for n in range(2, 401) if not fits(n, transform=transform)]
    failed += [(n, e) for n in (40, 100, 400) for e in range(1, 31) if not fits(n, epochs=e)]
    assert failed == []
