"""Networks that see one window of an image at a time."""

import pytest
import torch

from causalcxr import Graph
from causalcxr.common.errors import ModelError
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import adopt_weights, save_radit
from causalcxr.radit.windows import Windows

GRAPH = Graph.load("cxr7")
SEX = [GRAPH["Sex"]]
WHOLE = RadiTConfig(
    resolution=16, patch=4, width=32, depth=1, heads=2, entry="places", modulation="shared"
)
FINE = RadiTConfig(
    resolution=32, patch=4, width=32, depth=1, heads=2, entry="places", modulation="shared",
    window=4,
)  # fmt: skip


def records(n=64):
    """Return images whose bottom right corner is bright in men."""
    generator = torch.Generator().manual_seed(0)
    sex = torch.randint(0, 2, (n,), generator=generator).double()
    images = 0.1 * torch.randn(n, 1, 32, 32, generator=generator)
    images[..., 24:, 24:] += sex.float().view(-1, 1, 1, 1)
    return images, {"Sex": sex}


def trained(steps=120):
    images, columns = records()
    net = RadiT(FINE, SEX)
    settings = TrainConfig(steps=steps, batch=8, log=20, precision="fp32")
    losses = train(net, lambda rows: images[rows], columns, settings)
    return net, losses


def test_windows_cover_images_that_are_not_square():
    windows = Windows((5, 8), side=4, patch=2)
    assert windows.corners.tolist() == [[0, 0], [0, 2], [0, 4], [1, 0], [1, 2], [1, 4]]
    images = torch.rand(3, 2, 10, 16)
    parts = torch.cat([windows.cut(images, c.expand(3, 2)) for c in windows.corners])
    torch.testing.assert_close(windows.blended(parts), images)
    one = Windows((4, 4), side=4, patch=2)
    assert one.corners.tolist() == [[0, 0]]


def test_random_windows_reach_every_place_and_no_further():
    corners = Windows((5, 8), 4, 2).random(500, torch.Generator().manual_seed(0))
    assert corners.amin(0).tolist() == [0, 0]
    assert corners.amax(0).tolist() == [1, 4]


def test_training_learns_an_effect_at_its_place():
    torch.manual_seed(0)
    net, losses = trained()
    assert losses[-1] < 0.5 * losses[0]
    # The velocity of men differs from that of women in the corner only.
    x, t = torch.zeros(2, 1, 32, 32), torch.full((2,), 0.3)
    with torch.no_grad():
        women, men = net(x, t, columns={"Sex": torch.tensor([0.0, 1.0])})
    effect = (men - women)[0]
    assert effect[26:, 26:].mean() > 0.5
    assert effect[:16, :16].abs().mean() < 0.1


def saved_network(folder, images, columns):
    """Train a network without windows for three steps, and save it."""
    net = RadiT(WHOLE, SEX)
    settings = TrainConfig(steps=3, batch=8, precision="fp32")
    train(net, lambda rows: images[rows], columns, settings)
    save_radit(folder / "net.safetensors", net)
    return net


def test_a_window_of_the_whole_image_is_the_network_without_windows(tmp_path):
    images, columns = records()
    small = torch.nn.functional.avg_pool2d(images, 2)
    net = saved_network(tmp_path, small, columns)
    shape = WHOLE.__class__(**vars(WHOLE) | {"window": 4})
    same = adopt_weights(tmp_path / "net.safetensors", shape, SEX)
    some, t = {"Sex": columns["Sex"][:2].float()}, torch.tensor([0.2, 0.7])
    torch.testing.assert_close(same(small[:2], t, columns=some), net(small[:2], t, columns=some))


def test_a_network_without_windows_starts_one_with(tmp_path):
    images, columns = records()
    net = saved_network(tmp_path, torch.nn.functional.avg_pool2d(images, 2), columns)
    fine = adopt_weights(tmp_path / "net.safetensors", FINE, SEX)
    assert fine.mean.gates.shape == (1, 8, 8)
    assert torch.equal(fine.mean.gates[:, ::2, ::2], net.mean.gates)
    some = {"Sex": columns["Sex"][:2].float()}
    coarse = torch.nn.functional.avg_pool2d(fine.mean(some), 2)
    torch.testing.assert_close(coarse, net.mean(some))
    assert fine(images[:2], torch.tensor([0.2, 0.7]), columns=some).shape == (2, 1, 32, 32)


def test_parts_of_a_batch_have_the_windows_of_the_whole():
    images, columns = records(8)
    net = RadiT(FINE, SEX)
    torch.nn.init.normal_(net.unembed.weight)
    losses = [
        velocity_loss(
            net, images[rows], {"Sex": columns["Sex"][rows]}, torch.Generator().manual_seed(0),
            windows=net.windows, rows=rows, total=8,
        )
        for rows in (slice(0, 8), slice(0, 2), slice(2, 8))
    ]  # fmt: skip
    torch.testing.assert_close(losses[0], (2 * losses[1] + 6 * losses[2]) / 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"window": 9}, "window is 9 patches"), ({"entry": "tokens"}, "window needs entry")],
)
def test_windows_that_cannot_be_are_refused(change, message):
    with pytest.raises(ModelError, match=message):
        RadiTConfig(**vars(FINE) | change)
