"""Two processes train what one trains: with all the weights each, or with half of them."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from causalcxr.common.tensors import load_tensors
from causalcxr.graph import Graph
from causalcxr.radit.parallel import joined
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT, RadiTConfig

GRAPH = Graph.load("mini")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SHAPE = RadiTConfig(resolution=16, patch=4, width=32, depth=2, heads=2)
SHORT = TrainConfig(
    sparse=0.1,
    steps=6,
    batch=8,
    lr=1e-3,
    warmup=2,
    average=0.5,
    save_every=-1.0,
    log=3,
    precision="fp32",
)
TOLERANCE = 1e-6  # sums of other parts round otherwise, in the seventh digit


def data():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(32, 1, 16, 16, generator=generator) * 2 - 1
    columns = {v.name: torch.randint(0, 2, (32,), generator=generator).double() for v in PARENTS}
    return images, columns


def trained(config, folder=None, stop=None):
    images, columns = data()
    with torch.random.fork_rng():
        torch.manual_seed(5)
        net = RadiT(SHAPE, PARENTS)

    def read(rows):
        stop[0] -= 1
        if stop[0] < 0:
            raise KeyboardInterrupt
        return images[rows]

    read_all = images.__getitem__ if stop is None else read
    history = train(net, read_all, columns, config, seed=2, folder=folder)
    return net, history


def work(rank, port, configs, folder):
    """Train in one of two processes, and leave the weights in a file."""
    torch.set_num_threads(1)
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": "2",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    with joined("cpu") as (world, _):
        assert (world.rank, world.ranks) == (rank, 2)
        for name, config, steps in configs:
            stop = None if steps is None else [steps]
            try:
                net, history = trained(config, folder / name, stop)
            except KeyboardInterrupt:
                distributed.barrier()
                net, history = trained(config, folder / name)
            if rank == 0:
                torch.save({"net": net.state_dict(), "history": history}, folder / f"{name}.pt")


def in_two_processes(configs, folder):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    multiprocessing.start_processes(
        work, (port, configs, folder), nprocs=2, start_method="fork", join=True
    )
    names = [name for name, *_ in configs]
    return {name: torch.load(folder / f"{name}.pt", weights_only=True) for name in names}


def distance(net, state):
    return max((v - state[k]).abs().max().item() for k, v in net.state_dict().items())


def test_two_processes_train_like_one(tmp_path):
    config = replace(SHORT, micro=2)
    found = in_two_processes([("ddp", config, None)], tmp_path)["ddp"]
    net, history = trained(config)
    assert distance(net, found["net"]) < TOLERANCE
    assert found["history"] == pytest.approx(history, abs=1e-6)
    assert distance(trained(replace(SHORT, steps=1))[0], found["net"]) > 100 * TOLERANCE


@pytest.mark.slow
def test_two_processes_of_any_kind_train_like_one(tmp_path):
    configs = {
        f"{parallel}-{optimiser}-{micro}": replace(
            SHORT, parallel=parallel, optimiser=optimiser, micro=micro
        )
        for parallel in ("ddp", "fsdp")
        for optimiser in ("muon", "adamw")
        for micro in (0, 2)
    }
    configs["recompute"] = replace(SHORT, parallel="fsdp", recompute=True)
    found = in_two_processes([(name, c, None) for name, c in configs.items()], tmp_path)
    for name, config in configs.items():
        net, history = trained(config)
        assert distance(net, found[name]["net"]) < TOLERANCE, name
        assert found[name]["history"] == pytest.approx(history, abs=1e-6), name


@pytest.mark.slow
@pytest.mark.parametrize("parallel", ["ddp", "fsdp"])
def test_two_processes_resume_bit_for_bit(tmp_path, parallel):
    config = replace(SHORT, parallel=parallel)
    found = in_two_processes([("whole", config, None), ("broken", config, 4)], tmp_path)
    for name, value in found["whole"]["net"].items():
        assert torch.equal(value, found["broken"]["net"][name]), name


@pytest.mark.slow
def test_one_process_resumes_from_two(tmp_path):
    config = replace(SHORT, parallel="fsdp")
    found = in_two_processes([("run", config, None)], tmp_path)["run"]
    net, _ = trained(config, tmp_path / "run")  # it is over: the average is taken up as it is
    assert distance(net, found["net"]) == 0


@pytest.mark.slow
def test_torchrun_command_writes_the_weights_of_one_process(tmp_path):
    text = (
        "cohort: phantom:n=16,seed=1\nresolution: 32\nnetwork: {width: 32, depth: 1, heads: 2}\n"
        "device: cpu\ntraining: {steps: 3, batch: 8, parallel: fsdp, precision: fp32}\n"
    )
    (tmp_path / "run.yaml").write_text("out: none\n" + text)
    tools = Path(sys.executable).parent
    command = [str(tools / "causalcxr"), "radit", "train", str(tmp_path / "run.yaml")]
    two = [str(tools / "torchrun"), "--nproc-per-node=2", "--standalone", "--no-python", *command]
    for name, words in (("one", command), ("two", two)):
        done = subprocess.run(
            [*words, f"out={tmp_path / name}.safetensors"],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr
    one, two = (load_tensors(tmp_path / f"{name}.safetensors")[0] for name in ("one", "two"))
    assert max((one[k] - two[k]).abs().max().item() for k in one) < TOLERANCE
