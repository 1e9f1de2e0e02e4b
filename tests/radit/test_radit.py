"""The network, its conditioning, its flow and its solver: what is computed, not what it learns."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise

import pytest
import torch

from causalcxr.common.errors import MechanismError, ModelError
from causalcxr.graph import Graph
from causalcxr.graph.variables import Variable
from causalcxr.radit.conditioning import Conditioner
from causalcxr.radit.flow import BatchNoise, hide_some, logit_normal, velocity_loss
from causalcxr.radit.solvers import SOLVERS, carry, on_lattice, solver, times
from causalcxr.radit.transformer import SIZES, RadiT, RadiTConfig

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SMALL = RadiTConfig(resolution=16, patch=4, width=32, depth=2, heads=2)


def jolted(net, seed=0, size=0.1):
    """Return the network with noise on every weight: an untrained last layer is zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in net.parameters():
            p.add_(size * torch.randn(p.shape, generator=generator))
    return net


def network(variables=PARENTS, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return jolted(RadiT(SMALL, variables), seed)


def values(n, variables=PARENTS, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(v):
        if v.is_discrete:
            return torch.randint(len(v.levels), (n,), generator=generator).float()
        low, high = v.range
        return low + (high - low) * torch.rand(n, generator=generator)

    return {v.name: draw(v) for v in variables}


# The network


@pytest.mark.parametrize("channels", [1, 16])
@pytest.mark.parametrize(
    ("size", "millions"), [("tiny", 3), ("S", 33), ("B", 300), ("L", 460), ("XL", 1300)]
)
def test_named_sizes_have_their_number_of_parameters(size, millions, channels):
    with torch.device("meta"):
        net = RadiT(RadiTConfig.from_name(size, 64 if channels == 1 else 32, channels), PARENTS)
    share = sum(p.numel() for p in net.parameters()) / (1e6 * millions)
    # A sixth of the smallest is its first and last layer, when a token has 256 numbers.
    assert share == pytest.approx(1, abs=0.2 if (size, channels) == ("tiny", 16) else 0.03)


@pytest.mark.parametrize("modulation", ["shared", "blocks"])
def test_untrained_velocity_is_zero(modulation):
    net = RadiT(replace(SMALL, modulation=modulation), [])
    assert not net(torch.randn(3, 1, 16, 16), torch.rand(3), net.embed_condition({}, 3)).any()


SHAPES = [
    {},
    {"modulation": "shared", "numbers": "spline"},
    {"numbers": "smooth"},
    {"entry": "both"},
    {"entry": "adaln", "window": 2},
    {"entry": "tokens", "resolution": (16, 24)},
    {"channels": 3, "patch": 2, "mlp": 4.0},
]


@pytest.mark.parametrize("change", SHAPES, ids=str)
def test_every_parameter_gets_a_finite_gradient(change):
    config = replace(SMALL, **change)
    net, columns = jolted(RadiT(config, PARENTS)), values(64)
    for column in columns.values():
        column[::5] = torch.nan
    shape = (64, config.channels, *config.size)
    x = torch.rand(shape, generator=torch.Generator().manual_seed(1)) * 2 - 1
    draw = torch.Generator().manual_seed(0)
    velocity_loss(net, x, columns, draw, windows=net.windows).backward()
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.any(), name


def test_velocity_depends_on_time_place_and_condition():
    net, columns = network(), values(1)
    x, t = torch.randn(1, 1, 16, 16, generator=torch.Generator().manual_seed(2)), torch.ones(1)
    with torch.no_grad():
        here = net(x, t, net.embed_condition(columns, 1))
        assert (net(x, 0.5 * t, net.embed_condition(columns, 1)) - here).abs().max() > 1e-3
        for name in columns:
            other = columns | {name: torch.full((1,), torch.nan)}
            assert (net(x, t, net.embed_condition(other, 1)) - here).abs().max() > 1e-4, name
        shifted = net(x.roll(4, -1), t, net.embed_condition(columns, 1)).roll(-4, -1)
        assert (shifted - here).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"resolution": 60}, "not a multiple of the patch of 8"),
        ({"width": 100}, "not a multiple of 4 x 6 heads"),
        ({"patch": 0}, "not a multiple of the patch"),
        ({"resolution": (64, 60)}, "not a multiple of the patch of 8"),
        ({"entry": "token"}, "entry is 'token'; expected adaln or tokens or both"),
    ],
)
def test_invalid_shape_is_refused(change, words):
    with pytest.raises(ModelError, match=words):
        RadiTConfig(**change)


def test_unknown_size_names_the_nearest():
    with pytest.raises(ModelError, match=r"no size 'tinny'; did you mean 'tiny'\?"):
        RadiTConfig.from_name("tinny", 64)
    assert set(SIZES) == {"mini", "tiny", "S", "B", "L", "XL"}


def test_recomputed_gradients_are_the_same():
    net, columns = network(), values(8)
    x = torch.rand(8, 1, 16, 16, generator=torch.Generator().manual_seed(1))
    grads = []
    for net.recompute in (False, True):
        net.zero_grad()
        velocity_loss(net, x, columns, torch.Generator().manual_seed(0)).backward()
        grads.append([p.grad.clone() for p in net.parameters()])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_tensor_names_are_those_of_saved_weights():
    names = "\n".join(sorted(RadiT(RadiTConfig.from_name("tiny", 64), PARENTS).state_dict()))
    assert hashlib.sha256(names.encode()).hexdigest()[:16] == "9fb2281f1ba90e4f"


# Conditioning


def test_missing_value_enters_as_the_learned_null():
    net = network().conditioner
    columns = values(1)
    with torch.no_grad():
        for name, embed in zip(net.names, net.embeddings, strict=True):
            gone = embedded(net, columns | {name: torch.full((1,), torch.nan)}) - embedded(
                net, columns
            )
            null = embed.nothing if hasattr(embed, "nothing") else embed.table[-1]
            assert torch.allclose(gone[0], null - embed(columns[name])[0], atol=1e-6), name


def embedded(net, columns):
    """Return the sum of a conditioner's vectors."""
    return net(columns, len(next(iter(columns.values())))).sum(1)


def adopted(old, variables):
    new = Conditioner(variables, 32)
    new.load_state_dict(new.adopt(old.state_dict(), old.describe()))
    return new


def test_order_of_variables_does_not_matter():
    old, columns = network().conditioner, values(20)
    new = adopted(old, PARENTS[::-1])
    with torch.no_grad():
        assert torch.allclose(embedded(new, columns), embedded(old, columns), atol=1e-6)


@pytest.mark.parametrize("dropped", [["Age"], ["Sex"], ["Age", "Dataset", "Edema", "View"]])
def test_removed_variables_act_as_missing(dropped):
    old, columns = network().conditioner, values(20)
    new = adopted(old, [v for v in PARENTS if v.name not in dropped])
    hidden = columns | {name: torch.full((20,), torch.nan) for name in dropped}
    with torch.no_grad():
        assert (embedded(new, columns) - embedded(old, hidden)).abs().max() < 1e-6


@pytest.mark.parametrize(
    "fresh",
    [
        Variable("Smoker", "binary", levels=["N", "P"]),
        Variable("Weight", "continuous", range=[0, 200]),
    ],
    ids=["discrete", "continuous"],
)
def test_new_variable_has_no_effect_until_trained(fresh):
    old, columns = network().conditioner, values(20)
    new = adopted(old, [fresh, *PARENTS])
    with torch.no_grad():
        for x in (0.0, 1.0, torch.nan):
            assert (
                embedded(new, columns | {fresh.name: torch.full((20,), x)})
                - embedded(old, columns)
            ).abs().max() < 1e-6


def test_new_level_is_the_null_and_others_are_kept():
    old, columns = network().conditioner, values(20)
    views = Variable("View", "categorical", levels=["LATERAL", "OBLIQUE", "PA"])
    new = adopted(old, [views if v.name == "View" else v for v in PARENTS])
    with torch.no_grad():
        for there, here in ((0.0, 2.0), (2.0, 1.0), (1.0, torch.nan), (torch.nan, torch.nan)):
            got = embedded(new, columns | {"View": torch.full((20,), there)})
            assert torch.allclose(
                got, embedded(old, columns | {"View": torch.full((20,), here)}), atol=1e-6
            )


def test_number_with_another_range_or_type_keeps_only_its_null():
    old, columns = network().conditioner, values(20)
    missing = columns | {"Age": torch.full((20,), torch.nan)}
    for age in (
        Variable("Age", "continuous", range=[0, 90]),
        Variable("Age", "categorical", levels=["young", "old"]),
    ):
        new = adopted(old, [age if v.name == "Age" else v for v in PARENTS])
        with torch.no_grad():
            assert torch.allclose(embedded(new, missing), embedded(old, missing), atol=1e-6)


def test_description_is_json_with_levels_and_ranges():
    about = json.loads(network().conditioner.describe())
    assert list(about) == [v.name for v in PARENTS]
    assert about["View"] == ["AP", "PA", "LATERAL"]
    assert about["Age"] == [0, 105]


# The flow


def test_loss_depends_on_the_generator_alone():
    net, columns = network(), values(8)
    x, before = torch.zeros(8, 1, 16, 16), torch.random.get_rng_state()
    with torch.no_grad():
        one, two, other = (
            velocity_loss(net, x, columns, torch.Generator().manual_seed(seed))
            for seed in (0, 0, 1)
        )
    assert one == two
    assert one != other
    assert torch.equal(before, torch.random.get_rng_state())


def test_loss_of_a_zero_velocity_is_that_of_image_minus_noise():
    net = RadiT(SMALL, [])
    x = torch.full((4000, 1, 16, 16), 0.5)
    with torch.no_grad():
        loss = velocity_loss(net, x, {}, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(1 + 0.25, rel=0.01)


def test_hide_some_hides_that_share():
    columns = {f"v{k}": torch.ones(20_000) for k in range(6)}
    uniform = torch.rand(20_000, 7, generator=torch.Generator().manual_seed(0))
    hidden = torch.stack(list(hide_some(columns, 0.1, uniform).values()))
    gone = hidden.isnan()
    assert gone.float().mean().item() == pytest.approx(1 - 0.9**2, rel=0.03)
    assert gone.all(0).float().mean().item() == pytest.approx(0.1, rel=0.06)
    assert not torch.stack(list(columns.values())).isnan().any()


@pytest.mark.parametrize("shift", [1.0, 2.0, 8.0])
def test_shift_multiplies_the_odds_of_noise(shift):
    normal = torch.linspace(-3, 3, 13).double()
    t, plain = logit_normal(normal, shift), normal.sigmoid()
    assert torch.allclose((1 - t) / t, shift * (1 - plain) / plain)


def test_losses_of_parts_make_up_the_batch():
    net, columns = network(), values(12)
    x = torch.rand(12, 1, 16, 16, generator=torch.Generator().manual_seed(1))

    def loss(some, **told):
        part = {k: v[some] for k, v in columns.items()}
        generator = torch.Generator().manual_seed(5)
        return velocity_loss(net, x[some], part, generator, **told)

    with torch.no_grad():
        whole = loss(slice(None))
        thirds = [loss(slice(k, k + 4), rows=slice(k, k + 4), total=12) for k in (0, 4, 8)]
    assert torch.stack(thirds).mean().item() == pytest.approx(whole.item(), rel=1e-6)


def test_batch_noise_parts_are_its_rows():
    generator = torch.Generator().manual_seed(0)
    chance = BatchNoise.draw(torch.Size([6, 1, 4, 4]), 3, generator)
    assert chance.uniform.shape == (6, 4)
    assert torch.equal(chance.part(slice(2, 5)).noise, chance.noise[2:5])


# The solver


@pytest.mark.parametrize("steps", [1, 4, 5, 16, 31, 256])
def test_times_are_dyadic_and_fall_from_1_to_0(steps):
    grid = torch.tensor(times(steps), dtype=torch.float64)
    assert len(grid) == steps + 1
    assert grid[0] == 1
    assert grid[-1] == 0
    assert (grid * 1024 == (grid * 1024).round()).all()
    assert (grid.diff() < 0).all()


@pytest.mark.parametrize("steps", [0, -1, 257])
def test_number_of_steps_out_of_range_is_refused(steps):
    with pytest.raises(MechanismError, match=f"solver_steps is {steps}; expected 1 to 256"):
        times(steps)


@pytest.mark.parametrize("name", ["reversible", "leapfrog"])
@pytest.mark.parametrize("steps", [4, 5, 16, 31])
@pytest.mark.parametrize("depth", [8, 16])
def test_reversible_solvers_return_the_image_bit_for_bit(name, steps, depth):
    net, columns = network(), values(16)
    generator = torch.Generator().manual_seed(3)
    levels = torch.randint(2**depth, (16, 1, 16, 16), generator=generator).float()
    x = on_lattice(2 * (levels / (2**depth - 1)).double() - 1)

    def velocity(y, t):
        return net(y.float(), torch.full((16,), t), condition)

    with torch.no_grad():
        condition = net.embed_condition(columns, 16)
        there = carry(name, velocity, solver(name).start(x), times(steps))
        home = carry(name, velocity, there, times(steps), back=True)
    assert (there[:, 0] - x).abs().max() > 0.3
    assert torch.equal(home[:, 0], x)
    assert torch.equal(home, solver(name).start(x))


@pytest.mark.parametrize("name", SOLVERS)
def test_error_falls_with_the_order_of_the_solver(name):
    # dy/dt = y cos(3 t): y(0) = y(1) exp(-sin(3) / 3).
    start = solver(name).start(on_lattice(torch.ones(1, 1)))
    exact = torch.exp(-torch.sin(torch.tensor(3.0, dtype=torch.float64)) / 3).item()
    errors = []
    for steps in (8, 16, 32, 64, 128):
        grid = [1 - k / steps for k in range(steps + 1)]
        y = carry(name, lambda y, t: y * torch.cos(torch.tensor(3.0 * t)), start, grid)
        errors.append(abs(y[0, 0].item() - exact))
    rates = [a / b for a, b in pairwise(errors)]
    assert errors[-1] < (1e-2 if name == "euler" else 1e-4)
    assert rates[-1] == pytest.approx(2 if name == "euler" else 4, rel=0.25), rates


def test_unknown_solver_names_the_nearest():
    with pytest.raises(MechanismError, match=r"no solver 'midpiont'; did you mean 'midpoint'\?"):
        solver("midpiont")
