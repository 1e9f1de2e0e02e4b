"""Checkpoints: they come back to the bit, and what is not theirs is refused by name."""

import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors
from causalcxr.radit.checkpoint import NotFinite, read_checkpoint, write_checkpoint
from causalcxr.radit.muon import Muon


def parts(seed=0, steps=0):
    """Return a network, an average and two optimisers, after some steps."""
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.Linear(12, 3))
    adam = torch.optim.AdamW(
        [
            {"params": [net[2].weight], "weight_decay": 0.3, "share": 2.0},
            {"params": net[1].weight},
        ],
        lr=0.1 + seed,
        betas=(0.7, 0.83),
        amsgrad=True,
    )
    muon = Muon([net[0].weight], lr=0.3, momentum=0.9)
    odd = {
        "half": torch.rand(3, generator=generator).bfloat16(),
        "empty": torch.zeros(0, 4),
        "turned": torch.rand(4, 5, generator=generator).T.contiguous(),
        "flag": torch.tensor([True, seed == 0]),
        "whole": torch.tensor(seed),
        "small": torch.tensor([seed], dtype=torch.int8),
    }
    for _ in range(steps):
        net(torch.randn(6, 8, generator=generator)).square().mean().backward()
        for optimiser in (adam, muon):
            optimiser.param_groups[0]["lr"] *= 0.77
            optimiser.step()
    return {"net": net, "odd": odd, "adam": adam, "muon": muon}


def flat(found):
    """Return every tensor and number of some parts."""
    out = {f"net.{k}": v for k, v in found["net"].state_dict().items()}
    out |= {f"odd.{k}": v for k, v in found["odd"].items()}
    for name in ("adam", "muon"):
        state = found[name].state_dict()
        out |= {f"{name}.{j}.{k}": v for j, s in state["state"].items() for k, v in s.items()}
        out[f"{name}.groups"] = state["param_groups"]
    return out


def same(a, b):
    a, b = flat(a), flat(b)
    alike = [
        torch.equal(a[k], v) and a[k].dtype == v.dtype
        if isinstance(v, torch.Tensor)
        else a[k] == v
        for k, v in b.items()
    ]
    return set(a) == set(b) and all(alike)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "checkpoint.safetensors"


def test_parts_and_optimisers_return_bit_for_bit(path):
    saved, new = parts(0, steps=3), parts(1)
    write_checkpoint(path, saved, {"step": "3", "name": "Zoë"})
    assert not same(saved, new)
    assert read_checkpoint(path, new) == {"step": "3", "name": "Zoë"}
    assert same(saved, new)
    assert new["adam"].state[new["net"][2].weight]["step"] == 3
    assert new["adam"].param_groups[0]["lr"] == saved["adam"].param_groups[0]["lr"]


def test_same_parts_give_the_same_safetensors_bytes(path, tmp_path):
    saved = parts(0, steps=2)
    for file in (path, tmp_path / "b.safetensors"):
        write_checkpoint(file, saved, {"step": "2"})
    assert path.read_bytes() == (tmp_path / "b.safetensors").read_bytes()
    assert torch.equal(load_file(path)["net.0.weight"], saved["net"][0].weight)
    assert load_tensors(path)[1]["step"] == "2"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["b.safetensors", path.name]


def test_optimisers_before_their_first_step_return(path):
    write_checkpoint(path, parts(0), {})
    new = parts(1, steps=2)
    read_checkpoint(path, new)
    assert same(parts(0), new)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_tensor_that_is_not_finite_keeps_the_last_checkpoint(path, value):
    saved = parts(0, steps=1)
    write_checkpoint(path, saved, {"step": "1"})
    before = path.read_bytes()
    saved["muon"].state[saved["net"][0].weight]["momentum"][0, 0] = value
    with pytest.raises(NotFinite, match=r"'muon.0.momentum' is not finite"):
        write_checkpoint(path, saved, {"step": "2"})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("place", [30, 400, -1, -300])
def test_changed_bit_is_refused_and_nothing_is_loaded(path, place):
    write_checkpoint(path, parts(0, steps=1), {"step": "1"})
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    new = parts(1)
    with pytest.raises(ModelError, match=r"changed since it was written|not a safetensors file"):
        read_checkpoint(path, new)
    assert same(parts(1), new)


@pytest.mark.parametrize("cut", [0, 7, 500, -1])
def test_truncated_file_is_refused(path, cut):
    write_checkpoint(path, parts(0, steps=1), {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="not a safetensors file"):
        read_checkpoint(path, parts(1))


def test_forged_step_is_refused(path):
    write_checkpoint(path, parts(0), {"step": "1"})
    words = load_tensors(path)[1] | {"step": "9"}
    save_file(load_file(path), path, words)
    with pytest.raises(ModelError, match="changed since it was written"):
        read_checkpoint(path, parts(1))


def test_pickle_is_refused_unopened(path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match="pickled checkpoints are refused"):
        read_checkpoint(path, parts(1))
    torch.save({"net": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="pickled checkpoints are refused"):
        read_checkpoint(path, parts(1))
    with pytest.raises(ModelError, match="No such file"):
        read_checkpoint(path.with_name("other"), parts(1))


def test_another_run_is_refused(path):
    write_checkpoint(path, parts(0), {"run": "a"})
    assert read_checkpoint(path, parts(1), run="a") == {"run": "a"}
    with pytest.raises(ModelError, match="is of another run"):
        read_checkpoint(path, parts(1), run="b")


def wider(given):
    given["odd"]["half"] = torch.zeros(4).bfloat16()


def doubled(given):
    given["odd"]["empty"] = given["odd"]["empty"].double()


def more(given):
    given["odd"]["new"] = torch.zeros(1)


def fewer(given):
    del given["odd"]["flag"]


def regrouped(given):
    given["adam"].add_param_group({"params": [given["net"][0].bias]})


def turned(given):
    given["muon"] = Muon([nn.Parameter(torch.zeros(8, 12))])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (wider, r"'odd.half' is BF16 \(3,\), not BF16 \(4,\)"),
        (doubled, r"'odd.empty' is F32 \(0, 4\), not F64"),
        (more, "it has no 'odd.new'"),
        (fewer, "it also holds 'odd.flag'"),
        (regrouped, "'adam' has other parameters"),
        (turned, r"'muon.0.momentum' has the shape \(12, 8\)"),
    ],
)
def test_unfit_parts_are_named_and_nothing_is_loaded(path, change, words):
    write_checkpoint(path, parts(0, steps=1), {})
    new, untouched = parts(1), parts(1)
    change(new)
    with pytest.raises(ModelError, match=words):
        read_checkpoint(path, new)
    assert all(
        torch.equal(v, untouched["net"].state_dict()[k])
        for k, v in new["net"].state_dict().items()
    )
