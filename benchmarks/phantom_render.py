"""How quickly are phantoms filmed, in how much memory, and how exact is single precision?

    python -m benchmarks phantom_render

Films are asked for as users do, `Cohort.load("phantom", ...).images[rows]`, none of them kept from
before; the first few, which warm the processor, are not counted. Memory is the peak of a process
of its own that draws a table of n phantoms and films 3,000 of them, for two n: the table grows
with n, filming does not.
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

# Side in pixels -> films to time, and the films a second that are wanted.
_SPEED = {64: (640, ">= 150"), 128: (320, ">= 40"), 256: (96, ""), 512: (24, "")}
_WARM = 8
_BATCH = 64

# The cohort keeps films in a cache of at most 512 MiB, which may come on top of what is measured.
# Linux's ru_maxrss is that of the parent, too, where the parent was larger; VmHWM is not.
_MEMORY = """
import resource, sys
from pathlib import Path
from causalcxr import Cohort
n, filmed = int(sys.argv[1]), int(sys.argv[2])
films = Cohort.load("phantom", n=n, seed=3, size=64).images
for start in range(0, filmed, 100):
    films[start : start + 100]
status = Path("/proc/self/status")
if status.exists():
    print(int(status.read_text().split("VmHWM:")[1].split()[0]) / 2**10)
else:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(peak / (2**20 if sys.platform == "darwin" else 2**10))
"""


def _row(figure: str, value: float, target: str = "", beside: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target, "beside": beside}


def _speeds(quick: bool) -> list[Row]:
    rows = []
    for size, (count, target) in _SPEED.items():
        count = count // 4 if quick else count
        films = Cohort.load("phantom", n=count + _WARM, seed=1, size=size).images
        films[:_WARM]
        starts = range(_WARM, len(films), _BATCH)
        with stopwatch() as watch:
            for start in progress(starts, f"Filming at {size} pixels"):
                films[start : start + _BATCH]
        beside = f"{count} films, threads: {torch.get_num_threads()}"
        rows.append(_row(f"films/s, {size} pixels", count / watch.seconds, target, beside))
    return rows


def _peak(n: int, filmed: int) -> float:
    """Return the peak memory in MiB of a process that draws n phantoms and films some of them."""
    command = [sys.executable, "-c", _MEMORY, str(n), str(filmed)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _memory(quick: bool) -> list[Row]:
    filmed = 300 if quick else 3000
    few, many = (_peak(n, filmed) for n in (10_000, 100_000))
    beside = f"{filmed:,} of them filmed at 64 pixels; a full cache of films adds 512 at most"
    return [
        _row("peak MiB, 10,000 phantoms", few, "", beside),
        _row("peak MiB, 100,000 phantoms", many, "< 2,048", beside),
        _row("bytes that one more phantom takes", (many - few) * 2**20 / 90_000),
    ]


def _exactness(quick: bool) -> list[Row]:
    """Compare the films of both precisions, before they are cut to 8 bits."""
    rows, n = [], 8 if quick else 64
    for size in (64, 128, 256):
        phantoms = Cohort.load("phantom", n=n, seed=2, size=size).images
        worst = 0.0
        for start in progress(range(0, n, 8), f"Both precisions, {size} pixels"):
            some = np.arange(start, min(start + 8, n))
            columns = {name: torch.from_numpy(c[some]) for name, c in phantoms.columns.items()}
            given = Patient(columns, phantoms.draws.rows(some))
            single, double = (render(given, size, t) for t in (torch.float32, torch.float64))
            worst = max(worst, float((single - double).abs().max()))
        figure = f"max |float32 - float64|, {size} pixels"
        rows.append(_row(figure, worst, "<= 1e-4", f"{n} films, of grey levels 0 to 1"))
    return rows


def _every_chord(group: Solids, beam: Beam, size: int) -> Tensor:
    """Return the line integral the plain way: every solid at every pixel, (B, size, size)."""
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
    """Set the solids' line integrals beside those of every solid at every pixel."""
    size, n = (64, 2) if quick else (128, 8)
    columns = Cohort.load("phantom", n=n, seed=4, size=size).images
    given = Patient({k: torch.from_numpy(c) for k, c in columns.columns.items()}, columns.draws)
    solids, beam = build_body(given).solids, camera(given)
    with stopwatch() as plain:
        slow = sum(_every_chord(group, beam, size) for group in solids)
    with stopwatch() as tiled:
        quick_ = line_integral(solids, beam, size, dtype=torch.float64)
    beside = f"{n} bodies at {size} pixels, both in float64, lungs apart"
    return [
        _row("times as quick as every chord", plain.seconds / tiled.seconds, "", beside),
        _row("max difference to every chord", float((slow - quick_).abs().max()), "<= 1e-5", ""),
    ]


def main(quick: bool = False) -> list[Row]:
    """Return films a second, a ratio to the plain way, peak memory, error of single precision."""
    return [*_speeds(quick), *_against_plain(quick), *_memory(quick), *_exactness(quick)]
