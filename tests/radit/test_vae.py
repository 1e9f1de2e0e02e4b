"""Autoencoders: shapes, the divergence, what they start from, and files that are refused."""

import math
import pickle

import pytest
import torch
from torch import nn
from torch.distributions import Normal, kl_divergence

from causalcxr.common.errors import MechanismError, ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.radit.adversary import PatchAdversary, adaptive_weight, hinge
from causalcxr.radit.perceptual import FeatureDistance
from causalcxr.radit.vae import RadVAE, RadVAEConfig
from causalcxr.radit.vae_loss import divergence, losses
from causalcxr.radit.vae_weights import load_codec, rad_vae, save_codec

SHAPE = RadVAEConfig(latent=3, widths=(8, 16), depth=1)


def smooth(n=8, size=(32, 24), seed=0):
    """Return pictures of a few slow waves, (n, 1, H, W) in [-1, 1]."""
    generator = torch.Generator().manual_seed(seed)
    down, right = (torch.linspace(0, 1, side) for side in size)
    a, b, c = torch.rand(3, n, 1, 1, 1, generator=generator) * 6
    return torch.sin(a * down[:, None] + b * right + c)


@pytest.fixture(scope="module")
def vae():
    """A network whose every weight counts, normalised on pictures."""
    model = rad_vae(SHAPE)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for weight in model.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    model.normalise(smooth(64).split(16))
    return model.eval().requires_grad_(False)


# The network


@pytest.mark.parametrize(
    ("config", "size", "latent_size"),
    [
        (SHAPE, (32, 24), (8, 6)),
        (RadVAEConfig(latent=2, widths=(4, 6, 8, 8), depth=1, patch=1), (16, 40), (2, 5)),
        (RadVAEConfig(latent=20, widths=(8,), depth=1, patch=4), (8, 8), (2, 2)),
    ],
)
def test_latents_and_images_have_their_shapes(config, size, latent_size):
    model, x = rad_vae(config), smooth(2, size)
    latents = model.encode(x)
    assert latents.shape == (2, config.latent, *latent_size)
    assert (model.channels, model.factor) == (config.latent, size[0] // latent_size[0])
    assert model.decode(latents).shape == x.shape
    assert latents.dtype == torch.float32


def test_named_shapes_have_their_documented_sizes():
    counts = {}
    for name in ("tiny", "large"):
        with torch.device("meta"):
            model = RadVAE(RadVAEConfig.from_name(name))
        counts[name] = sum(p.numel() for p in model.parameters())
    assert counts["tiny"] == pytest.approx(1e6, rel=0.03)
    assert counts["large"] == pytest.approx(62.5e6, rel=0.01)
    assert RadVAEConfig.from_name("large").factor == 8
    with pytest.raises(
        ModelError, match=r"no shape 'tinny'; did you mean 'tiny'\?; use tiny, large"
    ):
        RadVAEConfig.from_name("tinny")
    with pytest.raises(ModelError, match="not a whole number above 0"):
        RadVAEConfig(latent=0)


def test_untrained_network_is_a_block_cosine_transform():
    # All 16 cosines of a block of 4 x 4: nothing is lost, and the first is the block's mean.
    model, x = rad_vae(RadVAEConfig(latent=16, widths=(8, 8), depth=1)), smooth(4)
    assert model.decode(model.encode(x)).sub(x).abs().max() < 1e-5
    means = nn.functional.avg_pool2d(x, 4)
    torch.testing.assert_close(model.encode(x)[:, :1], 2 * means)
    few = rad_vae(SHAPE)
    constant = torch.full((1, 1, 8, 8), 0.3)
    assert few.decode(few.encode(constant)).sub(constant).abs().max() < 1e-6
    assert 0.001 < few.decode(few.encode(x)).sub(x).abs().mean() < 0.05


def test_normalised_channels_have_mean_zero_and_deviation_one(vae):
    latents = vae.encode(smooth(64))
    assert latents.mean((0, 2, 3)).abs().max() < 1e-5
    assert latents.std((0, 2, 3), correction=0).sub(1).abs().max() < 1e-5
    assert vae.spread.sub(1).abs().max() > 0.2
    raw = vae.posterior(smooth(64))[0]
    torch.testing.assert_close(vae.synthesise(raw), vae.decode(latents))


def test_latents_depend_on_their_image_alone(vae):
    x = smooth(6)
    assert torch.equal(vae.encode(x), vae.encode(x))
    assert torch.equal(vae.decode(vae.encode(x.double()).double()), vae.decode(vae.encode(x)))
    torch.testing.assert_close(vae.encode(x)[3:4], vae.encode(x[3:4]))


def test_change_in_a_corner_keeps_distant_latents_bit_exact():
    model = rad_vae(SHAPE)
    one, two = (torch.zeros(1, 1, 128, 128) for _ in range(2))
    two[..., :8, :8] = 1
    same = model.encode(one) == model.encode(two)
    assert same[..., 16:, 16:].all()
    assert not same[..., :2, :2].any()


@pytest.mark.parametrize("shape", [(1, 1, 30, 32), (1, 3, 32, 32), (1, 32, 32)])
def test_unfit_images_name_shape_and_rule(vae, shape):
    with pytest.raises(
        MechanismError, match=r"needs \(B, 1, H, W\) with sides that are multiples of 4"
    ):
        vae.encode(torch.zeros(shape))
    with pytest.raises(MechanismError, match=r"needs \(B, 3, h, w\)"):
        vae.decode(torch.zeros(1, 5, 8, 8))


def test_normalising_without_images_is_refused():
    model = rad_vae(SHAPE)
    with pytest.raises(MechanismError, match="no images to normalise"):
        model.normalise([])
    with pytest.raises(MechanismError, match="channel 0 has a standard deviation of 0"):
        model.normalise([torch.zeros(2, 1, 16, 16)])
    with pytest.raises(MechanismError, match="channel 0 has a standard deviation of nan"):
        model.normalise([torch.full((2, 1, 16, 16), torch.nan)])


# The losses


def test_divergence_of_gaussians_is_that_of_torch():
    generator = torch.Generator().manual_seed(0)
    mean, log_variance = torch.randn(2, 5, 3, 2, 4, generator=generator)
    want = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).sum((1, 2, 3))
    torch.testing.assert_close(divergence(mean, log_variance), want)


def test_every_weight_gets_a_gradient_and_the_seed_decides():
    x, values = smooth(2), []
    for seed in (0, 0, 1):
        # At the very start the last layers are zero and hide those before them.
        model = rad_vae(SHAPE)
        for layer in (model.encoder[-1], model.decoder[-1]):
            nn.init.normal_(layer.weight, generator=torch.Generator().manual_seed(1))
        for block in (b for b in model.modules() if hasattr(b, "convolutions")):
            nn.init.normal_(
                block.convolutions[1].weight, generator=torch.Generator().manual_seed(2)
            )
        found = losses(model, x, torch.Generator().manual_seed(seed))
        (found.absolute + found.divergence).backward()
        values.append(float(found.absolute.detach()))
        assert all(p.grad.abs().max() > 0 for p in model.parameters())
        assert found.perceptual == 0
    assert values[0] == values[1] != values[2]


class Gradients(nn.Module):
    """Feature maps that are known: differences of neighbours, and a trained scale."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))

    def maps(self, images):
        assert images.min() >= 0
        assert images.max() <= 1
        return [self.scale * images.diff(dim=3), torch.cat([images, 1 - images], 1)]


def test_perceptual_distance_of_a_blurred_image_is_larger():
    x = smooth(2).clamp(-1, 1)
    features = Gradients()
    distance = FeatureDistance(features)
    y = x.flip(3).requires_grad_()
    assert distance(x, x) == 0
    distance(y, x).backward()
    assert y.grad.abs().max() > 0
    assert features.scale.grad is None


def test_adaptive_weight_equalises_the_gradients():
    image = torch.rand(2, 1, 8, 8, requires_grad=True)
    others, adversarial = image.square().sum(), (image * 3).sum()
    weight = adaptive_weight(others, adversarial, image)
    pulls = [torch.autograd.grad(loss, image)[0].norm() for loss in (others, adversarial)]
    assert float(weight) == pytest.approx(float(pulls[0] / pulls[1]))
    assert not weight.requires_grad
    flat = (image * 0).sum()
    assert adaptive_weight(image.sum(), flat, image) == 1e4


def test_adversary_learns_to_separate_sharp_from_blurred():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net, sharp = PatchAdversary((8, 16)), torch.rand(16, 1, 16, 16) * 2 - 1
    blurred = nn.functional.avg_pool2d(sharp, 3, 1, 1)
    optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3)
    first = float(hinge(net(sharp), net(blurred)).detach())
    for _ in range(60):
        loss = hinge(net(sharp), net(blurred))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert first == pytest.approx(1, abs=0.05)
    assert float(loss.detach()) < 0.2


# Files


def test_codec_returns_bit_for_bit_and_frozen(vae, tmp_path):
    save_codec(tmp_path / "c.safetensors", vae, source="waves")
    back, x = load_codec(tmp_path / "c.safetensors"), smooth(3)
    assert torch.equal(back.encode(x), vae.encode(x))
    assert torch.equal(back.decode(back.encode(x)), vae.decode(vae.encode(x)))
    assert not back.training
    assert not any(p.requires_grad for p in back.parameters())
    assert load_tensors(tmp_path / "c.safetensors")[1]["source"] == "waves"


def test_loading_keeps_the_global_random_state(vae, tmp_path):
    save_codec(tmp_path / "c.safetensors", vae)
    before = torch.random.get_rng_state()
    load_codec(tmp_path / "c.safetensors")
    assert torch.equal(before, torch.random.get_rng_state())


def damaged(vae, path, fault):
    """Write a file with one thing wrong."""
    save_codec(path, vae)
    tensors, about = load_tensors(path)
    if fault == "nan":
        tensors["spread"][1] = math.nan
    if fault == "tampered":
        tensors["middle"][1] += 1e-6
    if fault == "version":
        about["version"] = "0"
    if fault == "kind":
        about["kind"] = "radit"
    if fault == "nothing told":
        about = {}
    if fault == "shape":
        about["config"] = about["config"].replace("16", "24")
    if fault == "field":
        about["config"] = '{"colour": 3}'
    if fault == "no map":
        about["config"] = "[]"
    save_tensors(path, tensors, about)


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("nan", "tensor 'spread' is not finite"),
        ("tampered", "tensors were changed since they were written"),
        ("version", "of version 0, this package reads 1"),
        ("kind", "kind radit; expected rad-vae or flux2-vae"),
        ("nothing told", "kind missing"),
        ("shape", "do not fit the header"),
        ("field", "do not fit the header"),
        ("no map", "do not fit the header"),
    ],
)
def test_file_with_one_fault_is_refused(vae, tmp_path, fault, words):
    path = tmp_path / "c.safetensors"
    damaged(vae, path, fault)
    with pytest.raises(ModelError, match=words) as told:
        load_codec(path)
    assert str(path) in str(told.value)
    assert "\n" not in str(told.value)


def test_pickle_missing_and_truncated_files_are_refused(vae, tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    path = tmp_path / "c.safetensors"
    with pytest.raises(ModelError, match="no such file"):
        load_codec(path)
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="pickled weights are refused"):
        load_codec(path)
    save_codec(path, vae)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match="not a safetensors file"):
        load_codec(path)


def test_other_networks_are_not_saved(tmp_path):
    with pytest.raises(ModelError, match="Linear cannot be saved: not an autoencoder"):
        save_codec(tmp_path / "c.safetensors", nn.Linear(1, 1))
    assert not list(tmp_path.iterdir())
