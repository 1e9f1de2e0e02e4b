"""Images per second of RadiT: a training step, a sample, a counterfactual; on any device.

    OUT=out python benchmarks/gpu/throughput.py            on a graphics card, all sizes
    OUT=out python benchmarks/gpu/throughput.py --tiny     seconds, to check that it works

Writes `throughput.json`: one row per size, with the device and the versions; bf16 on a card,
float32 otherwise. The images are noise, because the time of a step does not depend on them. The
largest change under the null intervention is also reported; it should be 0 in any precision.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch

from causalcxr.common.files import atomic_write
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.graph import Graph
from causalcxr.graph.variables import Variable
from causalcxr.mechanisms.image_equation import Chunk, ImageEquation, Solving
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT, RadiTConfig

# Size, side, channels: pixels at 64 and 128, and latents of 512 pixels.
CASES = [
    ("tiny", 64, 1),
    ("S", 64, 1),
    ("B", 64, 16),
    ("tiny", 128, 1),
    ("S", 128, 1),
    ("S", 64, 16),
]
BATCHES = {"cpu": (32, 16), "cuda": (256, 256)}  # of training, of the solver


def seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Return the shortest time of a few calls, after one that does not count."""
    best = float("inf")
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start) if repeat else best
    return best


def columns_of(variables: list[Variable], n: int) -> dict[str, torch.Tensor]:
    """Return random parents of n images."""
    generator = torch.Generator().manual_seed(0)
    n_values = {v.name: len(v.levels) if v.is_discrete else 90 for v in variables}
    return {k: torch.randint(m, (n,), generator=generator).double() for k, m in n_values.items()}


class _Latents(torch.nn.Module):
    """In place of an autoencoder: copies of an image as channels, and their mean."""

    factor = 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        return images.expand(-1, self.channels, -1, -1)

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        return latents.mean(1, keepdim=True)


def measure(
    case: tuple[str, int, int], device: str, *, steps: int, solver: int, repeats: int
) -> dict:
    """Measure one network size at one resolution."""
    size, side, channels = case
    graph = Graph.load("cxr7")
    variables = [graph[p] for p in graph[graph.image].parents]
    precision = "bf16" if device == "cuda" else "fp32"
    config, (batch, group) = RadiTConfig.from_name(size, side, channels), BATCHES[device]
    torch.manual_seed(0)
    net, x = RadiT(config, variables), torch.rand(batch, channels, side, side)
    columns, plan = (
        columns_of(variables, batch),
        TrainConfig(steps=steps, batch=batch, precision=precision),
    )
    learn = seconds(
        lambda: train(net, lambda rows: x[rows] * 2 - 1, columns, plan, device=device),
        device,
        repeats,
    )
    columns = columns_of(variables, group)
    solving = Solving(solver, chunk=Chunk(group, half=device == "cuda"))
    codec = _Latents(channels)
    factual = ImageEquation(net, columns, solving, codec)
    twin_equation = ImageEquation(net, {k: v.flip(0) for k, v in columns.items()}, solving, codec)
    draws = Draws(record_keys(pd.RangeIndex(group)), 0, "Image")
    u = factual.sample_noise(draws)
    images = factual.predict(u).clamp(0, 1)
    sample = seconds(lambda: factual.predict(u), device, repeats)
    twin = seconds(lambda: twin_equation.predict(factual.abduct(images, draws)), device, repeats)
    null = (factual.predict(factual.abduct(images, draws)) - images).abs().max()
    return {
        "size": size,
        "side": side,
        "channels": channels,
        "null_largest_change": float(null),
        "parameters": sum(p.numel() for p in net.parameters()),
        "batch": batch,
        "solver_batch": group,
        "solver_steps": solver,
        "trained_per_second": round(steps * batch / learn, 1),
        "sampled_per_second": round(group / sample, 1),
        "twins_per_second": round(group / twin, 1),
    }


def main() -> None:
    """Measure every size and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="one small size, a few steps")
    tiny = parser.parse_args().tiny
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases, work = (CASES[:1], (2, 2, 1)) if tiny else (CASES, (50, 16, 3))
    steps, solver, repeats = work
    name = torch.cuda.get_device_name() if device == "cuda" else platform.machine()
    machine = {"device": name, "torch": torch.__version__, "threads": torch.get_num_threads()}
    rows = []
    for case in cases:
        rows.append(measure(case, device, steps=steps, solver=solver, repeats=repeats))
        print(json.dumps(rows[-1]))
    out = Path(os.environ.get("OUT", "out")) / "throughput.json"
    print(atomic_write(out, json.dumps({**machine, "rows": rows}, indent=1) + "\n"))


if __name__ == "__main__":
    main()
