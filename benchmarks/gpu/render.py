"""Phantom images rendered per second, with rays computed on a graphics card.

    OUT=out python benchmarks/gpu/render.py            on a graphics card
    OUT=out python benchmarks/gpu/render.py --tiny     seconds, to check that it works

Writes `render.json`: images per second for each size, and the largest difference from the images
of the processor.
"""

import argparse
import json
import os
import platform
import time
from pathlib import Path

import numpy as np
import torch

from causalcxr import Cohort
from causalcxr.common.files import atomic_write
from causalcxr.sources.phantom.patient import Patient
from causalcxr.sources.phantom.rendering import render

BATCH = 64


def patients(n: int, size: int) -> list[Patient]:
    """Return n phantoms in batches."""
    images = Cohort.load("phantom", n=n, seed=1, size=size).images
    return [
        Patient(
            {k: torch.from_numpy(c[rows]) for k, c in images.columns.items()},
            images.draws.rows(rows),
        )
        for rows in np.array_split(np.arange(n), -(-n // BATCH))
    ]


def measure(size: int, n: int, device: str) -> dict[str, float]:
    """Render n phantoms on a device, and the first batch also on the processor."""
    batches = patients(n, size)
    render(batches[0], size, device=device)
    start = time.perf_counter()
    first, *_ = [render(p, size, device=device) for p in batches]
    speed = n / (time.perf_counter() - start)
    difference = (first - render(batches[0], size)).abs().max().item()
    return {"size": size, "images_per_second": speed, "max_difference": difference}


def main() -> None:
    """Measure every size and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tiny", action="store_true")
    tiny = parser.parse_args().tiny
    device = "cuda" if torch.cuda.is_available() else "cpu"
    cases = [(32, 8)] if tiny else [(64, 4096), (128, 2048), (256, 512), (512, 128)]
    machine = {"device": device, "torch": torch.__version__, "python": platform.python_version()}
    rows = [measure(size, n, device) for size, n in cases]
    out = Path(os.environ.get("OUT", "out")) / "render.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(out, json.dumps(machine | {"rows": rows}, indent=1) + "\n")
    print(out.read_text())


if __name__ == "__main__":
    main()
