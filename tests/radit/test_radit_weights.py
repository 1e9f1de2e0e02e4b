"""Weights say what they are, come in parts where large, and are refused by name otherwise."""

import json

import pytest
import torch

from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.graph import Graph
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import BUNDLED, adopt_weights, resolve, save_radit

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SHAPE = RadiTConfig(resolution=(32, 24), patch=8, width=32, depth=2, heads=2, entry="both")


@pytest.fixture
def net():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return RadiT(SHAPE, PARENTS)


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize("shard", [2**24, 40_000])
def test_weights_of_any_size_return_with_their_shape(net, tmp_path, shard):
    path = tmp_path / "w.safetensors"
    save_radit(path, net, shard=shard, source="here")
    files = sorted(tmp_path.iterdir())
    assert (len(files) > 1) == (shard < 2**24)
    assert all(file.stat().st_size < shard + 20_000 for file in files)
    assert same(adopt_weights(path, SHAPE, PARENTS), net)
    assert load_tensors(path)[1]["source"] == "here"


def test_missing_or_wrong_part_is_named(net, tmp_path):
    path = tmp_path / "w.safetensors"
    save_radit(path, net, shard=40_000)
    part = tmp_path / "w.part2.safetensors"
    whole = part.read_bytes()
    part.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"w\.part2\.safetensors: missing, or not the part"):
        adopt_weights(path, SHAPE, PARENTS)
    part.unlink()
    with pytest.raises(ModelError, match=r"w\.part2\.safetensors: missing, or not the part"):
        adopt_weights(path, SHAPE, PARENTS)


def changed(path, name, value=None, **words):
    tensors, about = load_tensors(path)
    if value is not None:
        tensors[name].flatten()[0] = value
    save_tensors(path, tensors, about | words)


@pytest.mark.parametrize(
    ("value", "words", "said"),
    [
        (0.123, {}, "tensors were changed since they were written"),
        (None, {"version": "1"}, "weights of version 1, this package reads 2"),
        (None, {"content": "0"}, "tensors were changed"),
        (float("nan"), {}, "tensor 'embed.bias' is not finite"),
    ],
)
def test_changed_file_is_refused(net, tmp_path, value, words, said):
    path = tmp_path / "w.safetensors"
    save_radit(path, net)
    changed(path, "embed.bias", value, **words)
    with pytest.raises(ModelError, match=said):
        adopt_weights(path, SHAPE, PARENTS)


def test_another_shape_names_both(net, tmp_path):
    save_radit(tmp_path / "w.safetensors", net)
    with pytest.raises(ModelError, match="the graph asks for"):
        adopt_weights(tmp_path / "w.safetensors", RadiTConfig.from_name("tiny", 64), PARENTS)


def test_new_variable_does_not_change_the_velocity(net, tmp_path):
    save_radit(tmp_path / "w.safetensors", net)
    few = [v for v in PARENTS if v.name != "Edema"]
    small = adopt_weights(tmp_path / "w.safetensors", SHAPE, few)
    save_radit(tmp_path / "small.safetensors", small)
    config = RadiTConfig(**{**SHAPE.__dict__, "entry": "adaln"})
    with torch.random.fork_rng():
        torch.manual_seed(1)
        old = RadiT(config, few)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for p in old.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator))
    save_radit(tmp_path / "old.safetensors", old)
    grown = adopt_weights(tmp_path / "old.safetensors", config, PARENTS)
    x, t = torch.randn(3, 1, 32, 24, generator=generator), torch.rand(3, generator=generator)
    columns = {v.name: torch.zeros(3) for v in PARENTS}
    with torch.no_grad():
        for edema in (0.0, 1.0, torch.nan):
            got = grown(x, t, columns=columns | {"Edema": torch.full((3,), edema)})
            assert torch.allclose(got, old(x, t, columns=columns), atol=1e-5)


def test_bundled_weights_are_found_by_name_and_by_full_name():
    assert (
        resolve("phantom", 64) == resolve("phantom-64", 128) == BUNDLED / "phantom-64.safetensors"
    )
    with pytest.raises(ModelError, match="not bundled"):
        resolve("phantom", 128)


def test_card_describes_the_bundled_weights():
    path = resolve("phantom", 64)
    card = json.loads(path.with_suffix(".json").read_text())
    net = adopt_weights(path, RadiTConfig.from_name("tiny", 64), PARENTS)
    assert path.parent == BUNDLED
    assert card["parameters"] == sum(p.numel() for p in net.parameters())
