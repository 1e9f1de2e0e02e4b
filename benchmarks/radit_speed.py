"""The speed of a training step of RadiT, compared with public transformers of its size.

    python -m benchmarks radit_speed         (one thread; diffusers requires the extra latent)

Loss, gradient, AdamW and a moving average of the weights, in fp32, batches of 32 at 64 pixels. All
have the same tokens, width, depth and heads, and the same data. Blocks of a few steps alternate,
so that other work on the machine affects all equally. Results are medians over the blocks, in
images per second of processor time and of wall time. A ratio is RadiT's rate over the other's.
"""

import contextlib
import copy
import time
from collections.abc import Callable, Mapping
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks import Row
from benchmarks._dit import DiffusersDiT, PlainDiT
from benchmarks._image_twins import GRAPH
from causalcxr import Cohort
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.transformer import RadiT, RadiTConfig

__all__ = ["main", "networks", "stepper"]

_BATCH = 32
_TARGET = 1.2


def networks(config: RadiTConfig) -> dict[str, nn.Module]:
    """Return RadiT and its peers; that of diffusers only if it is installed."""
    variables = [GRAPH[name] for name in GRAPH[GRAPH.image].parents]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = {"RadiT": RadiT(config, variables), "plain DiT": PlainDiT(config, variables)}
        with contextlib.suppress(ImportError):
            nets["diffusers DiT"] = DiffusersDiT(config)
    return nets


def stepper(net: nn.Module, images: Tensor, columns: Mapping[str, Tensor]) -> Callable[[], None]:
    """Return a function that takes one training step, the same for every network."""
    average = [p.detach().clone() for p in net.parameters()]
    adam = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.98), weight_decay=0.01)
    generator = torch.Generator().manual_seed(0)

    def step() -> None:
        loss = velocity_loss(net, images, dict(columns), generator)
        adam.zero_grad(set_to_none=True)
        loss.backward()
        adam.step()
        with torch.no_grad():
            torch._foreach_lerp_(average, list(net.parameters()), 1e-3)

    return step


def _data(config: RadiTConfig, rows: int) -> tuple[Tensor, dict[str, Tensor]]:
    """Return noise, which takes the same time as images, and variables of phantoms."""
    columns = Cohort.load("phantom", n=rows, seed=0).with_images(None).columns(GRAPH)
    shape = (rows, 1, *config.size)
    images = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    names = GRAPH[GRAPH.image].parents
    return images, {name: torch.from_numpy(columns[name]).float() for name in names}


def _turns(steps: Mapping[str, Callable[[], None]], turns: int, each: int) -> dict[str, list]:
    """Return for each network (processor time, wall time) of every block, in seconds."""
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in steps}
    for turn in range(turns + 1):
        for name, step in steps.items():
            processor, clock = time.process_time(), time.perf_counter()
            for _ in range(each):
                step()
            spent = (time.process_time() - processor, time.perf_counter() - clock)
            if turn:  # the first block warms up
                times[name].append(spent)
    return times


def main(quick: bool = False) -> list[Row]:
    """Return one row per network."""
    turns, each, batch = (1, 1, 4) if quick else (15, 5, _BATCH)
    config = RadiTConfig.from_name("tiny", 64)
    images, columns = _data(config, batch)
    nets = networks(config)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        steps = {name: stepper(copy.deepcopy(net), images, columns) for name, net in nets.items()}
        times = _turns(steps, turns, each)
    finally:
        torch.set_num_threads(threads)
    table: list[Row] = []
    for name, net in nets.items():
        ours = zip(times[name], times["RadiT"], strict=True)
        ratios = [(a[0] / b[0], a[1] / b[1]) for a, b in ours]
        row: Row = {"network": name, "parameters": sum(p.numel() for p in net.parameters())}
        row["images / s (processor)"] = batch * each / median(t[0] for t in times[name])
        row["images / s (wall)"] = batch * each / median(t[1] for t in times[name])
        row["ratio (processor)"] = median(r[0] for r in ratios)
        row["ratio (wall)"] = median(r[1] for r in ratios)
        row["target"] = "" if name == "RadiT" else f">= {_TARGET}"
        table.append(row)
    return table
