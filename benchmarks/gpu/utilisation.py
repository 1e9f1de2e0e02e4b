"""The utilisation of a graphics card by training and sampling: S, B, L, XL at 1,024 tokens.

    OUT=out python benchmarks/gpu/utilisation.py            on a graphics card, about 8 minutes
    OUT=out python benchmarks/gpu/utilisation.py --tiny     seconds, to check that it works

Latents of 512-pixel images (64 x 64 x 16, tokens of 2 x 2), bf16. The dense rate of the card is
measured first, in the same run: the best of a few large matrix products. A training step is that
of the package (`TrainRun`): forward, backward, clipping, fused AdamW, moving average. Model FLOPs
are counted from the shapes, three forward passes per step; recomputation does not count. The table
is written after each case, and a case in the table is not measured again.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from causalcxr.common.files import atomic_write
from causalcxr.graph import Graph
from causalcxr.radit.guidance import guided_velocity
from causalcxr.radit.parallel import Processes
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.train_run import TrainRun
from causalcxr.radit.transformer import RadiT, RadiTConfig

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[name] for name in GRAPH[GRAPH.image].parents]
TARGETS = {"S": 0.30, "B": 0.47, "L": 0.53, "XL": 0.58}
SAMPLING = 0.60


@dataclass(frozen=True)
class Case:
    """One case: a size, the number of images at a time, and options."""

    size: str
    micro: int
    compile: bool = True
    recompute: bool = False
    sampling: bool = False

    @property
    def name(self) -> str:
        """The case in words."""
        words = ["sampling" if self.sampling else "training", self.size, f"{self.micro} at a time"]
        words += ["compiled"] * self.compile + ["recomputed"] * self.recompute
        return ", ".join(words)


# In order of priority.
CASES = [
    Case("B", 32),
    Case("XL", 16, recompute=True),
    Case("S", 128),
    Case("L", 32),
    Case("XL", 8),
    Case("B", 64, compile=False, sampling=True),
    Case("XL", 32, compile=False, sampling=True),
    Case("S", 256, compile=False, sampling=True),
    Case("L", 64, compile=False, sampling=True),
    Case("B", 64),
    Case("B", 32, compile=False),
    Case("S", 64),
    Case("L", 16),
    Case("XL", 16, compile=False, recompute=True),
    Case("S", 128, compile=False),
]


def forward_flops(config: RadiTConfig) -> float:
    """Return the FLOPs of the matrix products in one forward pass, per image."""
    tokens, d, h = config.grid[0] * config.grid[1], config.width, config.hidden
    n = tokens + len(PARENTS) * (config.entry != "adaln")  # variables are tokens, too
    block = 2 * n * (4 * d * d + 3 * d * h) + 4 * n * n * d
    block += 12 * d * d if config.modulation == "blocks" else 0
    ends = 4 * tokens * d * config.channels * config.patch**2
    return config.depth * block + ends


def median_seconds(work: Callable[[], object], device: str, repeats: int) -> float:
    """Return the median time of a call in seconds, after two that do not count."""
    times = []
    for repeat in range(repeats + 2):
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times += [time.perf_counter() - start] if repeat > 1 else []
    return sorted(times)[len(times) // 2]


def dense_rate(device: str, side: int) -> float:
    """Return the best rate of large products, FLOP per second: bf16 on a card, else float32."""
    dtype, rates = (torch.bfloat16 if device == "cuda" else torch.float32), []
    for k in (side, 2 * side):
        a, b = (torch.randn(k, k, device=device, dtype=dtype) for _ in range(2))
        rates.append(2 * k**3 / median_seconds(lambda a=a, b=b: a @ b, device, 8))
    return max(rates)


def measure(case: Case, config: RadiTConfig, device: str, repeats: int) -> dict[str, Any]:
    """Measure one case; the images are noise, which does not change the time."""
    n = case.micro
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = RadiT(config, PARENTS).to(device)
    columns = {v.name: torch.zeros(n, device=device) for v in PARENTS}
    x = torch.randn(n, config.channels, *config.size, device=device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    if case.sampling:
        net.eval().requires_grad_(False)
        f = guided_velocity(net, columns, n, 1.0, ())

        def work() -> None:
            with torch.no_grad(), torch.autocast(device, torch.bfloat16, device == "cuda"):
                f(x, 0.5)
    else:
        training = TrainConfig(
            optimiser="adamw",
            batch=n,
            precision="bf16" if device == "cuda" else "fp32",
            compile=case.compile and device == "cuda",
            recompute=case.recompute,
            noise="device" if device == "cuda" else "cpu",
        )
        train_run = TrainRun(net, columns, training, 0, Processes.current())

        def work() -> None:
            train_run.advance(x, columns)

    seconds = median_seconds(work, device, repeats)
    flops = forward_flops(config) * n * (1 if case.sampling else 3)
    peak = torch.cuda.max_memory_allocated() / 2**30 if device == "cuda" else None
    return {
        "case": case.name,
        "at_a_time": n if case.sampling else train_run.micro or n,  # fewer, where memory ran out
        "parameters": sum(p.numel() for p in net.parameters()),
        "forward_gflop": round(forward_flops(config) / 1e9, 2),
        "images_per_second": round(n / seconds, 2),
        "flop_per_second": flops / seconds,
        "peak_gib": None if peak is None else round(peak, 1),
        "target": SAMPLING if case.sampling else TARGETS.get(case.size),
    }


def rows(cases: list[Case], done: dict[str, Any], args: argparse.Namespace) -> Iterator[dict]:
    """Measure the cases that are not in the table, until the time is over."""
    device, start = args.device, time.monotonic()
    for case in cases:
        if case.name in done or time.monotonic() - start > 60 * args.minutes:
            continue
        config = RadiTConfig.from_name(case.size, 16 if args.tiny else 64, channels=16)
        try:
            yield measure(case, config, device, 1 if args.tiny else 12)
        except torch.OutOfMemoryError:
            yield {"case": case.name, "out_of_memory": True}
        if device == "cuda":
            torch.cuda.empty_cache()
            torch._dynamo.reset()


def main() -> None:
    """Measure, and write the table after each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="one small network, one step")
    parser.add_argument("--minutes", type=float, default=8.0, help="start no case after this time")
    args = parser.parse_args()
    args.device = "cuda" if torch.cuda.is_available() else "cpu"
    out = Path(os.environ.get("OUT", "out")) / "utilisation.json"
    rows_before = json.loads(out.read_text())["rows"] if out.exists() else []
    done = {row["case"]: row for row in rows_before}
    cases = [Case("tiny", 2), Case("tiny", 2, sampling=True)] if args.tiny else CASES
    rate = dense_rate(args.device, 256 if args.tiny else 8192)
    name = torch.cuda.get_device_name() if args.device == "cuda" else "processor, float32"
    machine = {"device": name, "torch": torch.__version__, "dense_flop_per_second": rate}
    for row in rows(cases, done, args):
        if "flop_per_second" in row:
            row |= {"utilisation": round(row["flop_per_second"] / rate, 3), **machine}
        done[row["case"]] = row
        print(json.dumps(row), flush=True)
        atomic_write(out, json.dumps({"rows": list(done.values())}, indent=1) + "\n")
    print(out)


if __name__ == "__main__":
    main()
