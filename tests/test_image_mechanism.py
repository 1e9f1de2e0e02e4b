"""The radiograph's equation keeps the contract of every equation, to the last bit."""

import numpy as np
import pandas as pd
import pytest
import torch

from causalcxr.errors import MechanismError
from causalcxr.graph import Graph
from causalcxr.mechanisms import build
from causalcxr.mechanisms.image import ImageEquation, ImageMechanism
from causalcxr.noise import Draws, record_keys
from causalcxr.radit.train import TrainConfig
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import save_radit
from causalcxr.variables import Variable

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SHAPE = RadiTConfig(resolution=32, patch=4, width=32, depth=2, heads=2)
N = 33


@pytest.fixture(scope="module")
def net():
    """Return a random network whose velocities are about as large as trained ones."""
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = RadiT(SHAPE, PARENTS).requires_grad_(False)
    for p in net.parameters():
        p.add_(0.1 * torch.randn(p.shape, generator=generator))
    return net.eval()


def parents(n=N, seed=0):
    generator = torch.Generator().manual_seed(seed)
    columns = {}
    for v in PARENTS:
        most = len(v.levels) if v.is_discrete else 90
        columns[v.name] = torch.randint(most, (n,), generator=generator).double()
    columns["Race"][::3] = torch.nan
    return columns


def images(depth=8, n=N):
    generator = torch.Generator().manual_seed(depth)
    levels = torch.randint(2**depth, (n, 1, 32, 32), generator=generator)
    return levels.float() / (2**depth - 1)


def draws(n=N, seed=0):
    return Draws(record_keys(pd.RangeIndex(n)), seed, "Image")


def picked(columns, rows):
    return {name: column[rows] for name, column in columns.items()}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("steps", [4, 16])
def test_given_the_null_intervention_then_the_very_image_comes_back(net, depth, steps):
    x, equation = images(depth), ImageEquation(net, parents(), steps)
    u = equation.abduct(x)
    back = equation.predict(u)
    assert (u[:, 0] - (2 * x - 1)).abs().max() > 0.3
    assert back.dtype == u.dtype == torch.float64
    assert torch.equal(back.float(), x)
    assert torch.equal((back * (2**depth - 1)).round(), (x * (2**depth - 1)).round().double())


def test_given_other_parents_then_the_twin_differs_and_the_way_back_is_exact_too(net):
    x, other = images(), parents(seed=1)
    one, two = ImageEquation(net, parents(), 8), ImageEquation(net, other, 8)
    twin = two.predict(one.abduct(x))
    assert (twin - x).abs().flatten(1).max(1).values.min() > 1e-3


@pytest.mark.parametrize("batch", [16, 7])
def test_given_any_batch_or_order_then_an_image_depends_on_its_record_alone(net, batch):
    x, columns = images(), parents()
    whole = ImageEquation(net, columns, 4, batch=batch)
    u = whole.abduct(x)
    twins = ImageEquation(net, parents(seed=1), 4, batch=batch).predict(u)
    prior = whole.sample_noise(draws())
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    for rows in (torch.tensor([20]), torch.arange(5) + 3, torch.arange(16) + 9, shuffled):
        some = ImageEquation(net, picked(columns, rows), 4, batch=batch)
        assert torch.equal(some.abduct(x[rows]), u[rows])
        other = ImageEquation(net, picked(parents(seed=1), rows), 4, batch=batch)
        assert torch.equal(other.predict(u[rows]), twins[rows])
        assert torch.equal(some.sample_noise(draws().rows(rows.numpy())), prior[rows])


def test_given_the_prior_then_its_noise_is_standard_normal_and_alike_in_both_halves(net):
    u = ImageEquation(net, parents(), 4).sample_noise(draws())
    assert u.shape == (N, 2, 1, 32, 32)
    assert torch.equal(u[:, 0], u[:, 1])
    assert u.mean().item() == pytest.approx(0, abs=4 / np.sqrt(N * 1024))
    assert u.std().item() == pytest.approx(1, abs=4 / np.sqrt(2 * N * 1024))
    other = ImageEquation(net, parents(), 4).sample_noise(draws(seed=1))
    assert not (u == other).any()


def test_given_no_record_then_nothing_is_computed(net):
    none = picked(parents(), slice(0, 0))
    assert ImageEquation(net, none, 4).abduct(images()[:0]).shape == (0, 2, 1, 32, 32)


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, 1e4])
def test_given_a_network_gone_wild_then_it_is_told_and_no_image_is_made(net, fault):
    broken = RadiT(SHAPE, PARENTS).requires_grad_(False)
    broken.load_state_dict(net.state_dict())
    broken.unembed.bias += fault
    with pytest.raises(MechanismError, match="did not converge for 33 of 33 images"):
        ImageEquation(broken, parents(), 4).abduct(images())


def test_given_steps_out_of_range_then_they_are_refused(net):
    with pytest.raises(MechanismError, match="solver_steps is 0"):
        ImageEquation(net, parents(), 0)


# The mechanism


def mechanism(**options):
    spec = {"kind": "radit", "resolution": 32, "solver_steps": 2, **options}
    names = [v.name for v in PARENTS]
    return build(Variable("Image", "image", parents=names, mechanism=spec), PARENTS)


@pytest.fixture(scope="module")
def fitted():
    one = mechanism(steps=6, batch=8)
    x = images()
    before = torch.random.get_rng_state()
    history = one.fit(x.numpy(), parents(), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    return one, history


def twins(one):
    return one(parents(seed=1)).predict(one(parents()).abduct(images()))


def test_given_a_fit_then_its_history_counts_rows_and_the_seed_decides(fitted):
    one, history = fitted
    assert history.rows == N
    assert len(history.train) == 1
    again, other = mechanism(steps=6, batch=8), mechanism(steps=6, batch=8)
    again.fit(images().numpy(), parents(), seed=0)
    other.fit(images().numpy(), parents(), seed=1)
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_given_a_state_dict_then_a_fresh_mechanism_predicts_the_same(fitted):
    one, _ = fitted
    new = mechanism(steps=6, batch=8)
    new.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    assert torch.equal(twins(new), twins(one))


def test_given_missing_parents_then_noise_and_images_are_finite(fitted):
    one, _ = fitted
    gone = {name: torch.full((N,), torch.nan).double() for name in parents()}
    u = one(gone).abduct(images())
    assert u.isfinite().all()
    assert torch.equal(one(gone).predict(u).float(), images())


def test_given_the_loss_then_it_is_the_same_number_every_time(fitted):
    one, _ = fitted
    assert one.loss(images(), parents()) == one.loss(images(), parents())


def test_given_weights_then_no_step_is_taken_and_their_hash_is_part_of_what_was_learned(tmp_path):
    start = RadiT(RadiTConfig.of("tiny", 32), PARENTS)
    save_radit(tmp_path / "w.safetensors", start)
    one = mechanism(weights=str(tmp_path / "w.safetensors"))
    assert one.options["steps"] == 0
    assert len(one.provenance()) == 64
    assert one.fit(None, {}, seed=0).train == []
    for name, value in start.state_dict().items():
        assert torch.equal(one.net.state_dict()[name], value), name
    assert mechanism().provenance() == ""


@pytest.mark.parametrize(
    ("options", "words"), [({"size": "huge"}, "size"), ({"colour": 1}, "colour")]
)
def test_given_an_unknown_option_then_it_is_refused_by_name(options, words):
    with pytest.raises(MechanismError, match=words):
        ImageMechanism(Variable("Image", "image"), PARENTS, **options)


def test_given_the_defaults_then_they_are_those_of_training():
    assert mechanism().options["lr"] == TrainConfig().lr
    assert mechanism().options["batch"] == TrainConfig().batch
