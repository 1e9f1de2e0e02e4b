"""The speed of a training step of RadiT as `radit train` takes it, with and without compilation.

    OMP_NUM_THREADS=1 python -m benchmarks radit_training

Loss, gradient, clipping, Muon and AdamW, and the moving average, in fp32, batches of 64, at 32
pixels with patches of 4 and at 128 pixels with patches of 16 (64 patches each). Single steps
alternate, so that other work on the machine affects all equally. Results are medians, in images
per second of processor time and of wall time; the compilation itself is given apart.
"""

import os
import time
from statistics import median

import torch

from benchmarks import Row
from benchmarks._image_twins import GRAPH
from causalcxr import Cohort
from causalcxr.radit.parallel import Processes
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.train_run import TrainRun
from causalcxr.radit.transformer import RadiT, RadiTConfig

__all__ = ["main"]

_SIDES = (32, 128)


def _timed(run: TrainRun, images: torch.Tensor, columns: dict) -> tuple[float, float]:
    """Take a step, and return its processor time and its wall time in seconds."""
    processor, clock = time.process_time(), time.perf_counter()
    run.advance(images, columns)
    return time.process_time() - processor, time.perf_counter() - clock


def main(quick: bool = False) -> list[Row]:
    """Return one row per resolution, without and with compilation."""
    batch, turns = (4, 1) if quick else (64, 7)
    variables = [GRAPH[name] for name in GRAPH[GRAPH.image].parents]
    table = Cohort.load("phantom", n=batch, seed=0).with_images(None).columns(GRAPH)
    columns = {v.name: torch.from_numpy(table[v.name]).float() for v in variables}
    rows: list[Row] = []
    for side in _SIDES:
        # Noise takes the same time as images.
        images = torch.randn(batch, 1, side, side, generator=torch.Generator().manual_seed(0))
        runs, first = {}, {}
        for compiles in (False,) if quick else (False, True):
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(0)
                net = RadiT(RadiTConfig.from_name("tiny", side), variables)
            config = TrainConfig(batch=batch, precision="fp32", compile=compiles)
            runs[compiles] = TrainRun(net, columns, config, 0, Processes())
            first[compiles] = _timed(runs[compiles], images, columns)[0]
        times = {key: [] for key in runs}
        for _ in range(turns):
            for key, run in runs.items():
                times[key].append(_timed(run, images, columns))
        for key, each in times.items():
            processor, wall = (median(seconds) for seconds in zip(*each, strict=True))
            rows.append(
                {
                    "pixels": side,
                    "compile": key,
                    "threads": torch.get_num_threads(),
                    "images / s (processor)": batch / processor,
                    "images / s (wall)": batch / wall,
                    "first step (processor s)": first[key],
                    "load": round(os.getloadavg()[0], 1),
                }
            )
    return rows
