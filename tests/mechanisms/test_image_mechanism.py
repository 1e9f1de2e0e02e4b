"""The radiograph's equation fulfils the contract of every equation, bit for bit."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from causalcxr.common.errors import GraphError, MechanismError, ModelError
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph import Graph
from causalcxr.graph.mechanism_spec import MechanismSpec
from causalcxr.graph.variables import Variable
from causalcxr.mechanisms import build
from causalcxr.mechanisms.image import ImageMechanism
from causalcxr.mechanisms.image_equation import Chunk, ImageEquation, Solving
from causalcxr.mechanisms.image_transport import ImageTransportEquation, image_equation
from causalcxr.radit.calibration import Calibration
from causalcxr.radit.guidance import soft_threshold, typical_strength
from causalcxr.radit.solvers import SOLVERS
from causalcxr.radit.train import TrainConfig
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import save_radit
from causalcxr.scm import SCM

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SHAPE = RadiTConfig(resolution=32, patch=4, width=32, depth=2, heads=2)
N = 33
REACHED = {
    "Pleural Effusion",
    "Support Devices",
    "Lung Opacity",
    "Lung Lesion",
    "No Finding",
    "Image",
}


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


class Halves(torch.nn.Module):
    """A lossy autoencoder: means of 2 x 2 pixels, and a curve."""

    channels, factor = 1, 2

    def encode(self, images):
        return torch.nn.functional.avg_pool2d(images, 2).tanh()

    def decode(self, latents):
        return torch.nn.functional.interpolate(latents, scale_factor=2) * 1.1


WAYS = {name: Solving(4, name) for name in SOLVERS}
WAYS |= {
    "more steps": Solving(16),
    "guided": Solving(8, guidance=2.0, guided=frozenset(["Sex", "Edema"])),
    "guided, carried": Solving(4, "midpoint", 4.0, frozenset(["Sex"])),
    "thinned": Solving(8, guided=frozenset(["Sex", "Edema"]), threshold=0.05),
}


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_null_intervention_returns_the_image(net, depth, way):
    x, equation = images(depth, n=17), ImageEquation(net, parents(17), way)
    u = equation.abduct(x, draws(17))
    back = equation.predict(u)
    assert (equation.standard(u) - (2 * x - 1)).abs().max() > 0.3
    assert back.dtype == u.dtype == torch.float64
    assert torch.equal(back.float(), x)
    assert torch.equal((back * (2**depth - 1)).round(), (x * (2**depth - 1)).round().double())


@pytest.mark.parametrize("remainder", ["carry", "fade"])
def test_null_intervention_returns_the_image_with_a_lossy_codec(net, remainder):
    generator = torch.Generator().manual_seed(1)
    x = torch.rand(N, 1, 64, 64, generator=generator)
    way = Solving(6, remainder=remainder)
    equation = ImageEquation(net, parents(), way, Halves())
    u = equation.abduct(x, draws())
    assert torch.equal(equation.predict(u).float(), x)
    assert equation.standard(u).shape == (N, 1, 32, 32)
    twins = ImageEquation(net, parents(seed=1), way, Halves()).predict(u)
    assert (twins - x).abs().flatten(1).max(1).values.min() > 1e-3
    assert ImageEquation(net, parents(), way, Halves()).sample_noise(draws()).shape == u.shape


def test_remainder_fades_where_latents_change(net):
    x = torch.rand(N, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    made = {}
    for remainder in ("carry", "fade"):
        way = Solving(6, remainder=remainder)
        u = ImageEquation(net, parents(), way, Halves()).abduct(x, draws())
        made[remainder] = ImageEquation(net, parents(seed=1), way, Halves()).predict(u)
    # Both decode the same latents, constant over 2 x 2 pixels; what varies there is the remainder.
    left = {
        k: v - torch.nn.functional.avg_pool2d(v, 2).repeat_interleave(2, 2).repeat_interleave(2, 3)
        for k, v in made.items()
    }
    assert left["fade"].abs().mean() < 0.99 * left["carry"].abs().mean()


def test_other_parents_give_another_twin(net):
    x, other = images(), parents(seed=1)
    one, two = ImageEquation(net, parents(), Solving(8)), ImageEquation(net, other, Solving(8))
    twin = two.predict(one.abduct(x, draws()))
    assert (twin - x).abs().flatten(1).max(1).values.min() > 1e-3


def test_guidance_strengthens_only_the_guided_variables(net):
    x, columns = images(n=16), parents(16)
    columns["Edema"] = torch.zeros(16).double()
    other = columns | {"Edema": torch.ones(16).double()}

    def change(guided, weight):
        way = Solving(6, "midpoint", weight, frozenset(guided), chunk=Chunk(16))
        u = ImageEquation(net, columns, way).abduct(x, draws(16))
        return ImageEquation(net, other, way).predict(u) - x

    plain = change([], 3.0)
    assert torch.equal(change(["Edema"], 1.0), plain)
    assert change(["Edema"], 3.0).abs().mean() > 1.5 * plain.abs().mean()
    elsewhere = change(["Sex"], 3.0)
    assert elsewhere.abs().mean() == pytest.approx(plain.abs().mean().item(), rel=0.3)


def test_threshold_drops_weak_changes_and_keeps_strong_ones(net):
    x, columns = images(n=8), parents(8)
    columns["Edema"] = torch.zeros(8).double()
    other = columns | {"Edema": torch.ones(8).double()}

    def change(threshold, guided=("Edema",)):
        way = Solving(6, "midpoint", guided=frozenset(guided), threshold=threshold, chunk=Chunk(8))
        u = ImageEquation(net, columns, way).abduct(x, draws(8))
        return ImageEquation(net, other, way).predict(u) - x

    plain = change(0.0)
    assert torch.equal(change(9.0, guided=()), plain)
    assert change(9.0).abs().max() == 0
    assert (change(1e-4) - plain).abs().max() < 0.02 * plain.abs().max()
    sizes = [change(h).abs().mean() for h in (0.0, 0.1, 0.3)]
    assert sizes[0] > sizes[1] > sizes[2]


@pytest.mark.parametrize("threshold", [-0.01, float("nan"), float("inf")])
def test_invalid_threshold_is_refused(threshold):
    with pytest.raises(MechanismError, match=r"threshold is .*; expected 0 or more"):
        Solving(threshold=threshold)


def test_every_pixel_of_an_odd_size_belongs_to_one_place():
    change = torch.full((2, 3, 6, 3), 0.2)
    change[:, :, 4:] = 0.6
    kept = soft_threshold(change, 0.3)
    assert kept[:, :, :4].abs().max() == 0
    assert torch.allclose(kept[:, :, 4:], torch.tensor(0.6 * (1 - 0.25)))


def test_reaching_guides_the_changed_variables(net):
    equation = ImageEquation(net, parents(), Solving(guidance=2.0))
    assert equation.solving.guided == frozenset()
    assert equation.reaching(["Sex", "Image"]).solving.guided == {"Sex", "Image"}


def test_action_reaches_the_descendants_except_held_ones():
    acted = SCM(GRAPH).do(pleural_effusion="P", hold=["Atelectasis"])
    assert acted._reached == REACHED
    assert SCM(GRAPH)._reached == set()


@pytest.mark.parametrize("batch", [16, 7])
def test_image_depends_on_its_record_alone(net, batch):
    x, columns, way = images(), parents(), Solving(4, chunk=Chunk(batch))
    whole = ImageEquation(net, columns, way)
    u = whole.abduct(x, draws())
    twins = ImageEquation(net, parents(seed=1), way).predict(u)
    prior = whole.sample_noise(draws())
    shuffled = torch.randperm(N, generator=torch.Generator().manual_seed(0))
    for rows in (torch.tensor([20]), torch.arange(5) + 3, torch.arange(16) + 9, shuffled):
        some, keys = ImageEquation(net, picked(columns, rows), way), draws().rows(rows.numpy())
        assert torch.equal(some.abduct(x[rows], keys), u[rows])
        other = ImageEquation(net, picked(parents(seed=1), rows), way)
        assert torch.equal(other.predict(u[rows]), twins[rows])
        assert torch.equal(some.sample_noise(keys), prior[rows])


def test_prior_noise_is_standard_normal_without_remainder(net):
    equation = ImageEquation(net, parents(), Solving(4))
    u = equation.sample_noise(draws())
    z = equation.standard(u)
    assert z.shape == (N, 1, 32, 32)
    assert torch.equal(u[:, :1024], u[:, 1024:2048])
    assert not u[:, 2048:].any()
    assert z.mean().item() == pytest.approx(0, abs=4 / np.sqrt(N * 1024))
    assert z.std().item() == pytest.approx(1, abs=4 / np.sqrt(2 * N * 1024))
    other = equation.sample_noise(draws(seed=1))
    assert not (equation.standard(other) == z).any()


def test_grain_is_part_of_the_noise_and_removed_again(net):
    x, equation = images(), ImageEquation(net, parents(), Solving(4))
    one, two = equation.abduct(x, draws()), equation.abduct(x, draws(seed=1))
    assert not (one[:, :1024] == two[:, :1024]).any()
    for u in (one, two):
        assert torch.equal(equation.predict(u).float(), x)
    bare = ImageEquation(net, parents(), Solving(4, grain=0.0))
    assert torch.equal(bare.abduct(x, draws()), bare.abduct(x, draws(seed=1)))
    assert not bare.abduct(x, draws())[:, 2048:].any()


def test_grain_sets_the_start_of_the_path():
    assert Solving(grain=0.0).start == 1
    t = Solving(grain=0.1).start
    assert (1 - t) / t == pytest.approx(0.1, rel=0.01)
    assert [1024 * time % 1 for time in Solving(grain=0.1).cleaning] == [0, 0, 0]
    with pytest.raises(MechanismError, match="grain is 2; expected 0 to 1"):
        Solving(grain=2)


def test_no_records_give_no_noise(net):
    none = picked(parents(), slice(0, 0))
    assert ImageEquation(net, none).abduct(images()[:0], draws(0)).shape == (0, 3 * 1024)


@pytest.mark.parametrize("fault", [torch.nan, torch.inf, 1e4])
@pytest.mark.parametrize("method", ["reversible", "midpoint"])
def test_diverging_network_raises_an_error(net, fault, method):
    broken = RadiT(SHAPE, PARENTS).requires_grad_(False)
    broken.load_state_dict(net.state_dict())
    broken.unembed.bias += fault
    with pytest.raises(MechanismError, match="did not converge for 33 of 33 images"):
        ImageEquation(broken, parents(), Solving(4, method)).abduct(images(), draws())


def test_diverging_halves_of_a_pair_raise_an_error(net):
    stiff = RadiT(SHAPE, PARENTS).requires_grad_(False)
    stiff.load_state_dict(net.state_dict())
    stiff.unembed.weight *= 6  # a velocity that bends more than four steps can follow
    with pytest.raises(MechanismError, match=r"did not converge for .* raise solver_steps"):
        ImageEquation(stiff, parents(), Solving(4)).abduct(images(), draws())


def test_out_of_memory_halves_the_batch_and_continues(net):
    class Small(torch.nn.Module):
        channels, factor, seen = 1, 1, []

        def encode(self, x):
            self.seen.append(len(x))
            if len(x) > 4:
                raise torch.OutOfMemoryError
            return x

        def decode(self, x):
            return x

    way, codec = Solving(4), Small()
    equation = ImageEquation(net, parents(), way, codec)
    assert torch.equal(equation.predict(equation.abduct(images(), draws())).float(), images())
    assert codec.seen[:3] == [16, 8, 4]
    assert way.chunk.size == 4


def test_invalid_steps_and_solver_are_refused():
    with pytest.raises(MechanismError, match="solver_steps is 0"):
        Solving(0)
    with pytest.raises(MechanismError, match="no solver 'rk45'"):
        Solving(4, "rk45")


# The mechanism, of the size "tiny": a larger network than above, so fewer images

FEW = 6


def mechanism(**options):
    spec = {"kind": "radit", "resolution": 32, "solver_steps": 4, **options}
    names = [v.name for v in PARENTS]
    return build(Variable("Image", "image", parents=names, mechanism=spec), PARENTS)


@pytest.fixture(scope="module")
def fitted():
    one = mechanism(steps=3, batch=4)
    one.chunk.size = FEW
    x = images(n=FEW)
    before = torch.random.get_rng_state()
    history = one.fit(x.numpy(), parents(FEW), seed=0)
    assert torch.equal(before, torch.random.get_rng_state())
    return one, history


def twins(one):
    u = one(parents(FEW)).abduct(images(n=FEW), draws(FEW))
    return one(parents(FEW, seed=1)).predict(u)


def test_fit_counts_rows_and_depends_on_the_seed(fitted):
    one, history = fitted
    assert history.rows == FEW
    assert len(history.train) == 1
    again, other = mechanism(steps=3, batch=4), mechanism(steps=3, batch=4)
    again.fit(images(n=FEW).numpy(), parents(FEW), seed=0)
    other.fit(images(n=FEW).numpy(), parents(FEW), seed=1)
    weights = [torch.cat([p.flatten() for p in m.parameters()]) for m in (one, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_loaded_state_predicts_the_same(fitted):
    one, _ = fitted
    new = mechanism(steps=3, batch=4)
    new.chunk.size = FEW
    new.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    assert torch.equal(twins(new), twins(one))


def test_missing_parents_give_finite_noise_and_images(fitted):
    one, _ = fitted
    missing = {name: torch.full((FEW,), torch.nan).double() for name in parents()}
    u = one(missing).abduct(images(n=FEW), draws(FEW))
    assert u.isfinite().all()
    assert torch.equal(one(missing).predict(u).float(), images(n=FEW))


def test_loss_is_deterministic(fitted):
    one, _ = fitted
    x, columns = images(n=FEW), parents(FEW)
    assert one.loss(x, columns) == one.loss(x, columns)


def test_given_weights_are_not_trained_and_are_hashed(tmp_path):
    start = RadiT(RadiTConfig.from_name("tiny", 32), PARENTS)
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
def test_unknown_option_is_refused(options, words):
    with pytest.raises(MechanismError, match=words):
        ImageMechanism(Variable("Image", "image"), PARENTS, **options)


def test_defaults_are_those_of_training():
    assert mechanism().options["lr"] == TrainConfig().lr
    assert mechanism().options["batch"] == TrainConfig().batch


# The transport coupling

TRANSPORT = Solving(4, coupling="transport", edits=2)


def transported(net, columns=None, way=TRANSPORT, codec=None):
    return ImageTransportEquation(net, parents() if columns is None else columns, way, codec)


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("edits", [1, 3])
def test_transport_returns_the_image_under_the_null_intervention(net, depth, edits):
    x, way = images(depth), Solving(3, coupling="transport", edits=edits, guidance=3.0)
    equation = transported(net, way=way)
    back = equation.predict(equation.abduct(x, draws()))
    assert torch.equal(back.float(), x)
    assert torch.equal((back * (2**depth - 1)).round(), (x * (2**depth - 1)).round().double())


@pytest.mark.parametrize("remainder", ["carry", "fade"])
def test_transport_of_latents_returns_what_the_autoencoder_loses(net, remainder):
    x = torch.rand(N, 1, 64, 64, generator=torch.Generator().manual_seed(1))
    way = Solving(3, coupling="transport", edits=1, remainder=remainder)
    u = transported(net, way=way, codec=Halves()).abduct(x, draws())
    assert torch.equal(transported(net, way=way, codec=Halves()).predict(u).float(), x)
    twins = transported(net, parents(seed=1), way, Halves()).predict(u)
    assert (twins - x).abs().flatten(1).max(1).values.min() > 1e-3


@pytest.mark.parametrize("batch", [16, 7])
def test_transport_of_a_record_depends_on_that_record_alone(net, batch):
    x, columns = images(), parents()
    way = Solving(3, coupling="transport", edits=2, chunk=Chunk(batch))
    u = transported(net, columns, way).abduct(x, draws())
    twins = transported(net, parents(seed=1), way).predict(u)
    for rows in (torch.tensor([20]), torch.arange(16) + 9, torch.randperm(N)):
        some, keys = transported(net, picked(columns, rows), way), draws().rows(rows.numpy())
        torch.testing.assert_close(
            some.abduct(x[rows], keys), u[rows], rtol=0, atol=0, equal_nan=True
        )
        other = transported(net, picked(parents(seed=1), rows), way)
        assert torch.equal(other.predict(u[rows]), twins[rows])


def test_transport_draws_its_noise_from_seed_and_draw(net):
    x, other = images(), transported(net, parents(seed=1))
    one, two, third = (
        other.predict(transported(net).abduct(x, each))
        for each in (draws(), draws(seed=1), replace(draws(), draw=1))
    )
    assert not (one == two).flatten(1).all(1).any()
    assert not (one == third).flatten(1).all(1).any()
    assert torch.equal(one, other.predict(transported(net).abduct(x, draws())))


class KnownVelocity(torch.nn.Module):
    """A network whose velocity is a function of the state and of the variable c."""

    config = SHAPE

    def __init__(self, velocity):
        super().__init__()
        self.velocity, self.weight = velocity, torch.nn.Parameter(torch.ones(1))

    def embed_condition(self, columns, rows):
        return columns["c"].view(rows, 1, 1, 1)

    def forward(self, x, t, condition):
        return self.velocity(x, condition)


@pytest.mark.parametrize("coupling", ["inversion", "transport"])
def test_size_of_the_batch_changes_no_bit_of_a_twin(coupling):
    # Pixel by pixel, so that the network rounds alike in any batch: the noise is what is tested.
    x, net = images(n=11), KnownVelocity(lambda x, c: c * x)
    before, after = ({"c": torch.linspace(low, 0.5, 11).double()} for low in (0.0, 0.25))

    def twins(size, rows):
        way = Solving(4, coupling=coupling, threshold=0.0, chunk=Chunk(size))
        facts, others = (picked(columns, rows) for columns in (before, after))
        u = image_equation(net, facts, way).abduct(x[rows], draws(11).rows(rows.numpy()))
        return image_equation(net, others, way).predict(u)

    everyone, backwards = torch.arange(11), torch.arange(11).flip(0)
    together = twins(16, everyone)
    assert (together - x).abs().amax((1, 2, 3))[:-1].min() > 0.01
    for size in (1, 3, 11):
        assert torch.equal(twins(size, everyone), together)
        assert torch.equal(twins(size, backwards), together.flip(0))
        assert torch.equal(twins(size, everyone[4:6]), together[4:6])


@pytest.fixture(scope="module")
def partner():
    """Return a random network of 16 pixels."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        partner = RadiT(replace(SHAPE, resolution=16, patch=4), PARENTS).requires_grad_(False)
        for p in partner.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return partner.eval()


def test_partners_average_their_changes(net, partner):
    x, way = images(), Solving(3, coupling="transport", edits=1, threshold=0.0)

    def changed(*others, columns=None):
        facts, twins = parents(), parents(seed=1) if columns is None else columns
        u = image_equation(net, facts, way, partners=others).abduct(x, draws())
        twin = image_equation(net, twins, way, partners=others).reaching({"Sex"}).predict(u)
        return twin - x

    alone, both, three = changed(), changed(partner), changed(partner, partner)
    assert (both - alone).abs().amax((1, 2, 3)).min() > 1e-3
    # What 16 pixels cannot show is that of the first network.
    difference, own = (torch.fft.rfft2(each).abs().square() for each in (both - alone, alone))
    assert difference[..., 10:-9, 10:].sum() < 0.02 * difference.sum()
    assert own[..., 10:-9, 10:].sum() > 0.05 * own.sum()
    # Each partner has noise of its own.
    assert (three - both).abs().amax((1, 2, 3)).min() > 1e-4
    # The null intervention is exact.
    assert not changed(partner, partner, columns=parents()).any()


def test_shape_is_that_of_the_weights_and_is_saved(tmp_path):
    config = replace(RadiTConfig.from_name("mini", 64), numbers="fourier")
    save_radit(tmp_path / "net.safetensors", RadiT(config, PARENTS))
    options = {"size": "mini", "resolution": 64, "weights": str(tmp_path / "net.safetensors")}
    fitted = mechanism(**options)
    fitted.fit(None, parents(), seed=0)
    assert fitted.net.config == config
    # A saved model does not need the file any more.
    (tmp_path / "net.safetensors").unlink()
    again = mechanism(**options)
    again.load_state_dict(fitted.state_dict())
    assert again.net.config == config
    usual = mechanism(size="mini", resolution=64)
    assert "shape" not in usual.state_dict()
    assert usual.net.config.numbers == "smooth"


def test_partner_is_saved_with_the_mechanism_and_checked(net, partner, tmp_path):
    save_radit(tmp_path / "net.safetensors", net)
    save_radit(tmp_path / "partner.safetensors", partner)
    given = {
        "resolution": 64,
        "coupling": "transport",
        "partners": str(tmp_path / "no.safetensors"),
    }
    with pytest.raises(ModelError, match="no such file and not bundled"):
        mechanism(**given)
    given["partners"] = f"{tmp_path / 'partner.safetensors'}, phantom-randomised-32"
    fitted = mechanism(**given, weights="phantom")
    fitted.fit(None, parents(), seed=0)
    assert len(fitted.partners) == 2
    assert torch.equal(fitted.partners[0].embed.weight, partner.embed.weight)
    again = mechanism(**given)
    again.load_state_dict(fitted.state_dict())
    assert torch.equal(again.partners[0].embed.weight, partner.embed.weight)
    alone = mechanism(resolution=64, weights="phantom")
    assert fitted.provenance() != alone.provenance()


def test_noise_of_transport_is_standard_normal(net):
    z = transported(net).standard(transported(net).abduct(images(), draws()))
    assert z.shape == (N, 1, 32, 32)
    assert z.mean().item() == pytest.approx(0, abs=4 / np.sqrt(N * 1024))
    assert z.std().item() == pytest.approx(1, abs=4 / np.sqrt(2 * N * 1024))


def test_samples_do_not_depend_on_the_coupling(net):
    one, two = ImageEquation(net, parents(), Solving(4)), transported(net)
    assert torch.equal(
        two.predict(two.sample_noise(draws())), one.predict(one.sample_noise(draws()))
    )


def test_transport_moves_along_the_difference_of_two_known_velocities():
    # v = c everywhere: the change is w (c* - c), whatever the noise and the number of edits.
    net = KnownVelocity(lambda x, c: c.expand_as(x))
    x, way = images(n=5), Solving(8, coupling="transport", guidance=1.5, threshold=0.0)
    before = {"c": torch.full((5,), 0.25).double()}
    after = {"c": torch.tensor([0.25, 0.5, 0.75, 0.0, -0.25]).double()}
    u = image_equation(net, before, way).abduct(x, draws(5))
    change = 2 * (image_equation(net, after, way).predict(u) - x)
    expected = 1.5 * (after["c"] - before["c"]).view(-1, 1, 1, 1).expand_as(change)
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-9)


def test_threshold_of_transport_keeps_strong_places_only(net):
    x, other = images(), parents(seed=1)
    kept = []
    for threshold in (0.0, 0.8, 0.95):
        way = replace(TRANSPORT, threshold=threshold)
        change = (
            transported(net, other, way).predict(transported(net, way=way).abduct(x, draws())) - x
        )
        kept.append((change != 0).double().mean().item())
    assert kept[0] == 1
    assert 0 < kept[2] < kept[1] < 1


def test_typical_strength_is_that_of_the_places_that_change():
    change = torch.zeros(2, 1, 16, 16)
    change[0, ..., :4, :4], change[1] = 0.3, 0.3
    torch.testing.assert_close(typical_strength(change), torch.tensor([0.3, 0.3]))
    assert typical_strength(torch.zeros(1, 1, 16, 16)).item() == 0
    each = soft_threshold(change, torch.tensor([0.1, 0.4]))
    assert each[0, 0, 0, 0] == pytest.approx(0.3 * (1 - 1 / 9))
    assert not each[1].any()


def test_diverging_change_makes_no_image(net):
    broken = RadiT(SHAPE, PARENTS).requires_grad_(False)
    broken.load_state_dict(net.state_dict())
    broken.unembed.weight *= 1e6
    u = transported(net).abduct(images(), draws())
    with pytest.raises(MechanismError, match="the change of a twin diverged; train for longer"):
        transported(broken, parents(seed=1)).predict(u)


def test_unknown_coupling_and_number_of_edits_are_refused():
    with pytest.raises(
        MechanismError, match="coupling is 'transprt'; expected inversion or trans"
    ):
        Solving(coupling="transprt")
    with pytest.raises(MechanismError, match="edits is 0; expected 1 to 256"):
        Solving(coupling="transport", edits=0)


def test_coupling_selects_the_equation_without_changing_its_hash():
    one = mechanism(coupling="transport", edits=2)
    assert isinstance(one(parents()), ImageTransportEquation)
    assert (one.solving.guidance, one.solving.threshold) == (1.2, 0.15)
    assert str(one.solving) == "transport, the mean of 2 edits of 4 steps"
    assert str(mechanism(guidance=2.0, coupling="inversion").solving).endswith(", guidance 2")
    hashes = set()
    for coupling in ("inversion", "transport"):
        options = {**GRAPH["Image"].mechanism.options, "coupling": coupling}
        image = GRAPH["Image"].replace(mechanism=MechanismSpec("radit", options))
        hashes.add(GRAPH.with_variable(image).equation_hash("Image"))
    assert len(hashes) == 1


@pytest.fixture
def calibrated(net):
    """Return the network with a weight and threshold for each variable."""
    numbers = ("slope", "error", "share", "size", "weight", "threshold")
    rows = {
        v.name: dict(zip(numbers, (0.5, 0.1, 0.5, 1.0 + k, 0.8 + k / 20, 0.1), strict=True))
        for k, v in enumerate(PARENTS)
    }
    text = json.dumps({"weight": 1.3, "threshold": 0.2, "variables": rows})
    net.calibration = Calibration.from_json(text, [v.name for v in PARENTS])
    yield net
    net.calibration = None


WITH_CALIBRATION = replace(TRANSPORT, calibrated=frozenset(["guidance", "threshold"]))


def test_calibrated_weights_do_not_depend_on_the_batch(calibrated):
    x, other = images(), parents(seed=1)

    def twins(rows):
        u = transported(calibrated, picked(parents(), rows), WITH_CALIBRATION).abduct(
            x[rows], Draws(draws().states()[rows.numpy()], stream="Image")
        )
        return transported(calibrated, picked(other, rows), WITH_CALIBRATION).predict(u)

    every, some = torch.arange(N), torch.tensor([20, 3, 7])
    together = twins(every)
    assert torch.equal(twins(some), together[some])
    # The null intervention is exact, and a weight for each record matters.
    same = transported(calibrated, way=WITH_CALIBRATION)
    assert torch.equal(same.predict(same.abduct(x, draws())).float(), x)


def test_calibrated_weight_of_one_variable_is_that_weight(calibrated):
    x, twin = images(), parents()
    twin["Sex"] = 1 - twin["Sex"]
    row = {r["variable"]: r for r in calibrated.calibration.rows()}["Sex"]
    fixed = replace(TRANSPORT, guidance=row["weight"], threshold=row["threshold"])
    made = [
        transported(calibrated, twin, way).predict(
            transported(calibrated, way=way).abduct(x, draws())
        )
        for way in (fixed, WITH_CALIBRATION)
    ]
    torch.testing.assert_close(*made, rtol=0, atol=1e-6)


def test_calibration_is_saved_with_the_mechanism(calibrated, tmp_path):
    save_radit(tmp_path / "w.safetensors", calibrated)
    config = {"coupling": "transport", "weights": str(tmp_path / "w.safetensors")}
    shape = ImageMechanism.__module__ + ".RadiTConfig.from_name"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shape, lambda *a, **k: SHAPE)
        one = mechanism(**config, guidance="calibrated")
        with pytest.raises(MechanismError, match="guidance is calibrated, but the model has no"):
            one(parents())
        one.fit(None, parents(), seed=0)
        again = mechanism(**config, guidance="calibrated")
        again.load_state_dict(one.state_dict())
        # Weights that are trained further need another calibration.
        trained = mechanism(**config, steps=1, batch=4)
        trained.fit(images(), parents(), seed=0)
    assert again.calibration.rows() == one.calibration.rows() == calibrated.calibration.rows()
    assert one.solving.calibrated == {"guidance", "threshold"}
    assert str(one.solving).endswith("guidance calibrated, threshold calibrated")
    assert trained.calibration is None
    plain = mechanism()
    plain.load_state_dict(mechanism().state_dict())
    assert plain.calibration is None


def test_numbers_override_the_calibration():
    given = {"coupling": "transport", "guidance": "calibrated", "threshold": 0.1}
    assert mechanism(**given).solving.calibrated == {"guidance"}
    assert mechanism(**given | {"guidance": 1.1}).solving.calibrated == frozenset()
    with pytest.raises(
        MechanismError, match="calibrated needs coupling: transport, not inversion"
    ):
        mechanism(guidance="calibrated", coupling="inversion")(parents())
    with pytest.raises(
        GraphError, match="guidance 'calibrate' of radit must be a positive number"
    ):
        mechanism(guidance="calibrate")
