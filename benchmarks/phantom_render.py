"""Speed, memory and precision of rendering phantoms.

    python -m benchmarks phantom_render

Images are rendered as users do it, by `Cohort.load("phantom", ...).images[rows]`, with an empty
cache; the first few warm up the processor and do not count. Memory is the peak of a separate
process that draws a table of n phantoms and renders 3,000 of them, for two values of n: the table
grows with n, the memory for rendering does not.
"""

import subprocess
import sys

import numpy as np
import torch
from torch import Tensor

from benchmarks import Row, stopwatch
from causalcxr import Cohort
from causalcxr.common.progress import progress
from causalcxr.sources.phantom.body import build_body, camera
from causalcxr.sources.phantom.patient import Patient
from causalcxr.sources.phantom.physics import line_integral
from causalcxr.sources.phantom.rendering import render
from causalcxr.sources.phantom.solids import Beam, Solids

__all__ = ["main"]

# Side in pixels -> number of images, and the target in images per second.
_SPEED = {64: (640, ">= 150"), 128: (320, ">= 40"), 256: (96, ""), 512: (24, "")}
_WARM = 8
_BATCH = 64

# The cohort caches at most 512 MiB of images, which can come on top of what is measured.
# In Linux ru_maxrss includes the peak of the parent process, VmHWM does not.
_MEMORY = """
import resource, sys
from pathlib import Path
from causalcxr import Cohort
n, n_rendered = int(sys.argv[1]), int(sys.argv[2])
images = Cohort.load("phantom", n=n, seed=3, size=64).images
for start in range(0, n_rendered, 100):
    images[start : start + 100]
status = Path("/proc/self/status")
if status.exists():
    print(int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10)
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def _row(figure: str, value: float, target: str = "", note: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target, "note": note}


def _speeds(quick: bool) -> list[Row]:
    rows = []
    for size, (count, target) in _SPEED.items():
        count = count // 4 if quick else count
        images = Cohort.load("phantom", n=count + _WARM, seed=1, size=size).images
        images[:_WARM]
        starts = range(_WARM, len(images), _BATCH)
        with stopwatch() as watch:
            for start in progress(starts, f"Rendering at {size} pixels"):
                images[start : start + _BATCH]
        note = f"{count} images, threads: {torch.get_num_threads()}"
        rows.append(_row(f"images/s, {size} pixels", count / watch.seconds, target, note))
    return rows


def _peak(n: int, n_rendered: int) -> float:
    """Return the peak memory in MiB of a process that draws n phantoms and renders some."""
    command = [sys.executable, "-c", _MEMORY, str(n), str(n_rendered)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _memory(quick: bool) -> list[Row]:
    n_rendered = 300 if quick else 3000
    small, large = (_peak(n, n_rendered) for n in (10_000, 100_000))
    note = f"{n_rendered:,} of them rendered at 64 pixels; a full cache of images adds 512 at most"
    return [
        _row("peak MiB, 10,000 phantoms", small, "", note),
        _row("peak MiB, 100,000 phantoms", large, "< 2,048", note),
        _row("bytes per additional phantom", (large - small) * 2**20 / 90_000),
    ]


def _exactness(quick: bool) -> list[Row]:
    """Compare the images of both precisions, before they are rounded to 8 bits."""
    rows, n = [], 8 if quick else 64
    for size in (64, 128, 256):
        phantoms = Cohort.load("phantom", n=n, seed=2, size=size).images
        largest = 0.0
        for start in progress(range(0, n, 8), f"Both precisions, {size} pixels"):
            rows = np.arange(start, min(start + 8, n))
            columns = {name: torch.from_numpy(c[rows]) for name, c in phantoms.columns.items()}
            patients = Patient(columns, phantoms.draws.rows(rows))
            single, double = (render(patients, size, t) for t in (torch.float32, torch.float64))
            largest = max(largest, float((single - double).abs().max()))
        figure = f"max |float32 - float64|, {size} pixels"
        rows.append(_row(figure, largest, "<= 1e-4", f"{n} images, grey levels 0 to 1"))
    return rows


def _every_chord(group: Solids, beam: Beam, size: int) -> Tensor:
    """Return the line integral of every solid at every pixel, without tiles, (B, size, size)."""
    centres = (torch.arange(size, dtype=torch.float64) + 0.5) * (2 / size) - 1
    q, p = torch.meshgrid(-centres, centres, indexing="ij")
    scale = torch.stack([beam.width, beam.width, torch.ones_like(beam.width)], -1)
    pixels = torch.stack([p.flatten(), q.flatten(), torch.ones(size**2).double()])
    rays = (beam.frame * scale[:, None]) @ pixels  # (B, 3, P)
    d = group.shape @ rays[:, None]
    o = group.shape @ (beam.source[:, None] - group.centre)[..., None]
    (r, rows), start, end = group.kind, -torch.inf, torch.inf
    if r:
        a, b = (d[:, :, :r] ** 2).sum(2), (d[:, :, :r] * o[:, :, :r]).sum(2)
        c = (o[:, :, :r] ** 2).sum(2) - 1
        half = (b * b - a * c).clamp(min=0).sqrt() / a
        start, end = -b / a - half, -b / a + half
    for row in range(r, rows):
        low, high = (-1, 1) if row < 3 else (0, 1e6)
        one, other = ((edge - o[:, :, row]) / d[:, :, row] for edge in (low, high))
        start = torch.maximum(torch.as_tensor(start), torch.minimum(one, other))
        end = torch.minimum(torch.as_tensor(end), torch.maximum(one, other))
    lengths = (end - start).clamp(min=0) * group.mu[..., None]
    return (lengths.sum(1) * rays.norm(dim=1)).view(-1, size, size)


def _against_plain(quick: bool) -> list[Row]:
    """Compare the line integrals with those of every solid at every pixel."""
    size, n = (64, 2) if quick else (128, 8)
    columns = Cohort.load("phantom", n=n, seed=4, size=size).images
    patients = Patient({k: torch.from_numpy(c) for k, c in columns.columns.items()}, columns.draws)
    solids, beam = build_body(patients).solids, camera(patients)
    with stopwatch() as plain:
        reference = sum(_every_chord(group, beam, size) for group in solids)
    with stopwatch() as tiled:
        tiled_integral = line_integral(solids, beam, size, dtype=torch.float64)
    note = f"{n} bodies at {size} pixels, both in float64, without the lungs"
    return [
        _row("speed-up over every chord", plain.seconds / tiled.seconds, "", note),
        _row(
            "max difference from every chord",
            float((reference - tiled_integral).abs().max()),
            "<= 1e-5",
            "",
        ),
    ]


def main(quick: bool = False) -> list[Row]:
    """Return images per second, the speed-up, peak memory, and the error of single precision."""
    return [*_speeds(quick), *_against_plain(quick), *_memory(quick), *_exactness(quick)]
