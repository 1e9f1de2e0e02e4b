"""Training an autoencoder: it learns, it goes on to the bit, it refuses what would spoil it."""

import json
from dataclasses import replace

import pytest
import torch
from torch import nn

from causalcxr.cohort import Cohort
from causalcxr.common.errors import MechanismError, ModelError
from causalcxr.common.tensors import load_tensors
from causalcxr.radit.perceptual import FeatureDistance
from causalcxr.radit.vae import RadVAEConfig
from causalcxr.radit.vae_train import VAETrainConfig, train_vae
from causalcxr.radit.vae_weights import rad_vae

SHAPE = RadVAEConfig(latent=3, widths=(8, 16), depth=1)
SHORT = VAETrainConfig(steps=8, batch=2, warmup=3, log=4, save_every=-1.0)  # saves every step
OPPOSED = replace(SHORT, adversary=0.5, adversary_from=4)


@pytest.fixture(scope="module")
def films():
    """Chests of 128 phantoms, (128, 1, 16, 16) in [-1, 1]."""
    images = Cohort.load("phantom", n=128, seed=0, size=32).images[:]
    return torch.from_numpy(images[..., 8:24, 8:24]) * 2 - 1


class Edges(nn.Module):
    """Differences of neighbours beside a constant, as a network gives maps."""

    def maps(self, images):
        right, down = images.diff(dim=3)[..., 1:, :], images.diff(dim=2)[..., 1:]
        return [torch.cat([5 * right, 5 * down, torch.ones_like(right)], 1)]


def killed(films, after):
    """Return images that are there for some steps, and then the power fails."""
    calls = []

    def images(rows):
        calls.append(rows)
        if len(calls) > after:
            raise KeyboardInterrupt
        return films[rows]

    return images


def trained(films, config, **more):
    model = rad_vae(SHAPE)
    train_vae(model, films.__getitem__, len(films), config, **more)
    return model


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_images_get_nearer_and_latents_are_normal(films):
    config = VAETrainConfig(steps=60, batch=8, lr=3e-3, warmup=10, average=0.95, kl=1e-4, log=20)
    model = rad_vae(RadVAEConfig(latent=4, widths=(12, 16), depth=1))

    def error():
        return float((model.decode(model.encode(films)) - films).detach().abs().mean())

    model.normalise([films])
    before = error()
    heard = train_vae(model, films.__getitem__, len(films), config)
    assert error() < 0.9 * before
    assert [set(row) for row in heard] == 3 * [{"absolute", "nats"}]
    assert heard[2]["absolute"] < heard[0]["absolute"]
    latents = model.encode(films)
    assert latents.std((0, 2, 3)).sub(1).abs().max() < 1e-3
    assert latents.mean((0, 2, 3)).abs().max() < 1e-4
    assert not model.training
    assert not any(p.requires_grad for p in model.parameters())


@pytest.mark.slow
def test_larger_divergence_weight_makes_latents_tolerate_more_noise(films):
    noise = []
    for kl in (1e-5, 1e-1):
        config = VAETrainConfig(steps=20, batch=4, lr=3e-3, warmup=5, average=0.8, kl=kl)
        model = trained(films, config)
        log_variance = model.posterior(films)[1]
        noise.append(((log_variance / 2).exp() / model.spread).mean())
    assert noise[1] > 2 * noise[0]


@pytest.mark.slow
@pytest.mark.parametrize("config", [SHORT, OPPOSED], ids=["plain", "with an adversary"])
def test_killed_run_resumes_to_the_same_end(films, tmp_path, config):
    whole = trained(films, config, seed=3)
    with pytest.raises(KeyboardInterrupt):
        train_vae(rad_vae(SHAPE), killed(films, 5), 128, config, seed=3, folder=tmp_path)
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == "5"
    again = trained(films, config, seed=3, folder=tmp_path)
    assert same(whole, again)
    assert not same(whole, trained(films, config, seed=4))
    assert same(whole, trained(films, config, seed=3, folder=tmp_path))  # nothing left to do


def test_spent_budget_resumes_to_the_same_end(films, tmp_path):
    config = replace(SHORT, save_every=60.0)
    trained(films, config, folder=tmp_path, budget=0.0)
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == "0"
    assert same(trained(films, config, folder=tmp_path), trained(films, config))


def test_adversary_starts_at_its_step_and_changes_the_weights(films):
    plain = trained(films, SHORT)
    heard = train_vae(rad_vae(SHAPE), films.__getitem__, 128, OPPOSED)
    assert ["hinge" in row for row in heard] == [False, True]
    assert all(0 < row["hinge"] < 2 for row in heard[1:])
    assert not same(plain, trained(films, OPPOSED))
    assert same(plain, trained(films, replace(OPPOSED, adversary_from=8)))


def test_perceptual_distance_is_logged_and_falls(films):
    distance = FeatureDistance(Edges())
    plain = VAETrainConfig(steps=20, batch=4, lr=3e-3, warmup=5, average=0.8, perceptual=0.0)
    ends = []
    for weight in (0.0, 2.0):
        model = trained(films, replace(plain, perceptual=weight), perceptual=distance)
        ends.append(float(distance(model.decode(model.encode(films)), films)))
    assert ends[1] < 0.97 * ends[0]
    heard = train_vae(rad_vae(SHAPE), films.__getitem__, 128, SHORT, perceptual=distance)
    assert all(0 < row["perceptual"] < 4 for row in heard)


@pytest.mark.parametrize("change", ["steps", "seed", "weights", "images"])
def test_checkpoint_of_another_run_is_refused(films, tmp_path, change):
    trained(films, SHORT, folder=tmp_path, budget=0.0)
    config = replace(SHORT, steps=30) if change == "steps" else SHORT
    model = rad_vae(SHAPE, seed=change == "weights")
    n = 100 if change == "images" else 128
    with pytest.raises(ModelError, match="is of another run"):
        train_vae(model, films.__getitem__, n, config, seed=int(change == "seed"), folder=tmp_path)


def test_images_that_are_not_finite_keep_the_last_checkpoint(films, tmp_path):
    with pytest.raises(KeyboardInterrupt):
        train_vae(rad_vae(SHAPE), killed(films, 3), 128, SHORT, folder=tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(MechanismError, match="not finite at step 4; lower lr or check the images"):
        trained(films * torch.nan, SHORT, folder=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    with pytest.raises(MechanismError, match="the loss 'absolute' is nan at step 4"):
        trained(films * torch.nan, SHORT)


def test_training_keeps_the_global_random_state(films):
    runs = []
    for disturb in (1, 2):
        torch.manual_seed(disturb)
        before = torch.random.get_rng_state()
        runs.append(trained(films, OPPOSED))
        assert torch.equal(before, torch.random.get_rng_state())
    assert same(*runs)


def test_log_holds_every_mean(films, tmp_path):
    heard = train_vae(
        rad_vae(SHAPE), films.__getitem__, 128, replace(SHORT, steps=10), folder=tmp_path
    )
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == [4, 8, 10]
    assert [row["absolute"] for row in rows] == [row["absolute"] for row in heard]


def test_invalid_settings_are_named():
    with pytest.raises(MechanismError, match="steps is 0; expected at least 1"):
        VAETrainConfig(steps=0)
    with pytest.raises(MechanismError, match="kl is -1; expected 0 or more"):
        VAETrainConfig(kl=-1)
    with pytest.raises(MechanismError, match="no images to train on"):
        train_vae(rad_vae(SHAPE), lambda rows: rows, 0, SHORT)
