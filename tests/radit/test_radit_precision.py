"""`precision: auto`: the faster of fp32 and bf16, and the choice of a run that resumes."""

import json
from dataclasses import replace

import pytest
import torch

from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors
from causalcxr.graph import Graph
from causalcxr.radit import precision
from causalcxr.radit.parallel import Processes
from causalcxr.radit.precision import choose_precision, measured_seconds
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT, RadiTConfig

GRAPH = Graph.load("mini")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SHAPE = RadiTConfig(resolution=16, patch=4, width=32, depth=2, heads=2, entry="places")
AUTO = TrainConfig(steps=4, batch=4, lr=1e-3, warmup=2, average=0.5, save_every=-1.0, log=2)
IMAGES = torch.rand(16, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
COLUMNS = {
    v.name: torch.randint(0, 2, (16,), generator=torch.Generator().manual_seed(k)).double()
    for k, v in enumerate(PARENTS)
}


def fresh():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return RadiT(SHAPE, PARENTS)


def trained(config, **more):
    net = fresh()
    train(net, IMAGES.__getitem__, COLUMNS, config, seed=2, **more)
    return net.state_dict()


def same(a, b):
    return all(torch.equal(value, b[name]) for name, value in a.items())


@pytest.fixture
def machine(monkeypatch):
    """A machine whose times a test sets: seconds in fp32 and in bf16."""
    times = {"step": (1.0, 2.0), "muon": (1.0, 2.0)}
    monkeypatch.setattr(precision, "measured_seconds", lambda *_: dict(times))
    return times


@pytest.mark.parametrize(
    ("step", "muon", "expected"),
    [
        ((1.0, 0.5), (1.0, 0.5), ("bf16", "bf16")),
        ((1.0, 0.5), (1.0, 1.5), ("bf16", "fp32")),
        ((1.0, 1.5), (1.0, 0.5), ("fp32", "bf16")),
        ((1.0, 0.97), (1.0, 1.0), ("fp32", "fp32")),
    ],
)
def test_the_faster_precision_is_chosen(machine, step, muon, expected):
    machine |= {"step": step, "muon": muon}
    chosen = choose_precision(fresh(), COLUMNS, AUTO, Processes())
    assert (chosen.products, chosen.muon) == expected
    assert chosen.milliseconds["step bf16"] == 1000 * step[1]


def test_the_chosen_precision_trains_as_the_set_one_does(machine):
    machine["step"] = (2.0, 1.0)
    assert same(trained(AUTO), trained(replace(AUTO, precision="bf16")))
    machine["step"] = (1.0, 2.0)
    assert same(trained(AUTO), trained(replace(AUTO, precision="fp32")))
    machine["muon"] = (2.0, 1.0)
    assert not same(trained(AUTO), trained(replace(AUTO, precision="fp32")))


def test_a_resumed_run_keeps_the_choice_of_another_machine(machine, tmp_path):
    machine |= {"step": (2.0, 1.0), "muon": (2.0, 1.0)}
    complete = trained(AUTO)
    trained(AUTO, folder=tmp_path, budget=-1.0)
    machine |= {"step": (1.0, 2.0), "muon": (1.0, 2.0)}
    assert same(trained(AUTO, folder=tmp_path), complete)
    about = load_tensors(tmp_path / "checkpoint.safetensors")[1]
    assert (about["precision"], about["muon"]) == ("bf16", "bf16")
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert rows[0]["precision"] == "bf16"
    assert rows[0]["milliseconds"]["step fp32"] == 2000
    assert [row["step"] for row in rows] == [0, 2, 4]


def test_a_run_that_resumes_in_another_set_precision_is_refused(machine, tmp_path):
    trained(AUTO, folder=tmp_path, budget=-1.0)
    with pytest.raises(ModelError, match="is of another run"):
        trained(replace(AUTO, precision="bf16"), folder=tmp_path)
    trained(replace(AUTO, precision="fp32"), folder=tmp_path)


def test_the_measurement_times_both_precisions_and_changes_nothing():
    net, state = fresh(), torch.random.get_rng_state()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    seconds = measured_seconds(net, COLUMNS, AUTO)
    assert set(seconds) == {"step", "muon"}
    assert all(0 < time < 60 for pair in seconds.values() for time in pair)
    assert same(before, net.state_dict())
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(p.grad is None for p in net.parameters())
