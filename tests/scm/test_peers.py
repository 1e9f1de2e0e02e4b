"""The peers of the image's equation are what they say, so that a comparison with them is fair."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from benchmarks._image_twins import GRAPH
from benchmarks.peers.ddim import DDIMEquation
from benchmarks.peers.evaluation import Evaluation
from benchmarks.peers.models import WithoutAbduction
from benchmarks.peers.training import SHARES, train
from benchmarks.peers.vae import HVAE, HVAEEquation, elbo_loss
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.radit.transformer import RadiTConfig

CONFIG = RadiTConfig.from_name("tiny", 32)
SEX = [GRAPH["Sex"], GRAPH["Age"]]
WOMEN = {"Sex": torch.zeros(3), "Age": torch.tensor([20.0, 50.0, 80.0])}
MEN = {**WOMEN, "Sex": torch.ones(3)}


def draws(n=3, seed=0):
    return Draws(record_keys(pd.RangeIndex(n)), seed, "Image")


def autoencoder(train=False):
    torch.manual_seed(0)
    return HVAE(CONFIG, SEX, (8, 16, 24, 32), latents=2, condition=16).requires_grad_(train)


class Nudge(torch.nn.Module):
    """A noise predictor that is smooth in image and time, and knows the sex."""

    config = CONFIG

    def embed_condition(self, columns, rows):
        return columns["Sex"].view(-1, 1, 1, 1)

    def forward(self, x, t, condition):
        return 0.5 * torch.tanh(x) + 0.2 * condition * t.view(-1, 1, 1, 1)


def test_null_intervention_of_an_autoencoder_returns_the_image():
    net, x = autoencoder(), torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1))
    equation = HVAEEquation(net, WOMEN)
    again = equation.predict(equation.abduct(x, draws()))
    assert (again - x).abs().max() < 1e-6
    other = HVAEEquation(net, MEN).predict(equation.abduct(x, draws()))
    assert (other - x).abs().max() > 1e-6


def test_autoencoder_prior_has_no_parents():
    net = autoencoder()
    women, men = (HVAEEquation(net, c).sample_noise(draws()) for c in (WOMEN, MEN))
    assert torch.equal(women, men)
    images = [HVAEEquation(net, c).predict(women) for c in (WOMEN, MEN)]
    assert (images[0] - images[1]).abs().max() > 1e-6


def test_bound_without_divergence_is_the_image_term():
    net, x = autoencoder(), torch.zeros(2, 1, 32, 32)
    few = {name: c[:2] for name, c in WOMEN.items()}
    losses = [
        float(elbo_loss(net, x, few, torch.Generator().manual_seed(0), beta=b)) for b in (0.0, 1.0)
    ]
    c = net.condition(few, 2)
    noise = [torch.zeros(2, *shape) for shape in net.shapes]
    divergence = net.decode(noise, c, net.features(x))[3]
    assert (divergence >= 0).all()
    assert losses[1] > losses[0]
    assert net.decode(noise, c)[3].abs().max() == 0


def test_saturated_pixels_cost_nothing():
    net, x = autoencoder(), torch.full((2, 1, 32, 32), -1.0)
    x[:, :, 8:24, 8:24] = 1
    few, g = {name: c[:2] for name, c in WOMEN.items()}, torch.Generator().manual_seed(0)

    class Beyond(torch.nn.Module):
        """An output layer that says three times what is there, with a deviation of a fifth."""

        def forward(self, h):
            return torch.cat([3 * x, torch.full_like(x, -0.6)], 1)

    net.out = Beyond()
    assert 0 <= float(elbo_loss(net, x, few, g, beta=0)) < 1e-6
    equation = HVAEEquation(net, few)
    u = equation.abduct((x + 1) / 2, draws(2))
    count = sum(c * h * w for c, h, w in net.shapes)
    assert u[:, count:].abs().max() == 0


def test_ddim_round_trip_error_halves_with_twice_the_steps():
    x = torch.rand(3, 1, 32, 32, generator=torch.Generator().manual_seed(1)) * 0.5 + 0.25
    errors = []
    for steps in (32, 64, 128):
        equation = DDIMEquation(Nudge(), WOMEN, steps)
        errors.append(float((equation.predict(equation.abduct(x, draws())) - x).abs().mean()))
    assert errors[0] > 0
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.15)
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.15)


def test_without_abduction_the_image_does_not_matter():
    equation = WithoutAbduction(DDIMEquation(Nudge(), WOMEN, 4))
    noise = [equation.abduct(torch.full((3, 1, 32, 32), v), draws()) for v in (0.0, 1.0)]
    assert torch.equal(*noise)
    assert abs(float(noise[0].std()) - 1) < 0.05


def test_trained_weights_are_saved_and_loaded(tmp_path):
    films = torch.zeros(8, 32, 32, dtype=torch.uint8)
    columns = {name: c.repeat(3)[:8] for name, c in WOMEN.items()}

    def run():
        net = autoencoder(train=True)
        chosen = [torch.optim.AdamW(net.parameters(), lr=1e-3)]
        told = train(
            net, elbo_loss, chosen, lambda: (films, columns), minutes=0.005, stem=tmp_path / "vae"
        )
        return net, told

    first, told = run()
    names = {f"vae-{100 * share:.0f}.safetensors" for share in SHARES} | {"vae.json"}
    assert {path.name for path in Path(tmp_path).iterdir()} == names
    again, same = run()
    assert told == same
    assert all(
        torch.equal(a, b)
        for a, b in zip(first.state_dict().values(), again.state_dict().values(), strict=True)
    )
    fresh = autoencoder().state_dict()
    assert any(not torch.equal(fresh[name], value) for name, value in again.state_dict().items())


@pytest.mark.slow
def test_copies_and_true_twins_are_the_extremes():
    evaluation = Evaluation.on_phantoms(
        4, n_training=300, names=["do(sex=M)", "do(pleural_effusion=N)"]
    )
    copy, true = (evaluation.summary("bound", evaluation.reference(true=t)) for t in (False, True))
    assert copy["truth"] == pytest.approx(1)
    assert copy["outside"] == 0
    assert copy["change"] == 0
    assert true["truth"] == 0
    assert true["change"] == pytest.approx(1)
    assert np.isclose(copy["inside"], 1)
