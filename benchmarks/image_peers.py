"""Image counterfactuals beside their peers: equal films, parameters and minutes of training.

    python -m benchmarks image_peers          (24 minutes of one processor for each of three)

RadiT plain, guided by the graph and generating anew without abduction; a hierarchical conditional
VAE after arXiv:2306.15764; DDIM inversion with diffusers' U-Net after arXiv:2202.10166. Seven
interventions on held-out phantoms of 64 pixels, the variables of the twins being the true ones.
Weights are kept in `runs/peers`, answers in `runs/peers/answers`, so that a run which was stopped
goes on. Draws `runs/image_peers.png`: factual, true twin, then the twin of each.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks import Row
from benchmarks._films import filmed
from benchmarks._twins import ACTIONS
from benchmarks.peers.families import weights_of
from benchmarks.peers.judging import Judge, pictured
from benchmarks.peers.models import MINUTES, WAYS, model, trained_by
from causalcxr import Cohort

__all__ = ["main"]

_RECORDS = 24  # an intervention


def main(quick: bool = False) -> list[Row]:
    """Return a row a model, the copy first and the true twins last."""
    minutes, folder = (0.05, Path("runs/peers-quick")) if quick else (MINUTES, Path("runs/peers"))
    if quick:
        judge = Judge.of(2, taught=300, names=list(ACTIONS)[:1], cycles=(1, 2))
    else:
        judge = Judge.of(_RECORDS, taught=4000)
    table: list[Row] = [judge.summary("copy", judge.bounds(true=False))]
    for name in WAYS:
        figures = trained_by(name, partial(_films, 256 if quick else 12_000), minutes, folder)
        weights = weights_of(WAYS[name].family, 1.0, folder)
        found = judge.kept(name, partial(model, name, folder), weights, folder / "answers")
        table.append({**judge.summary(name, found), **figures})
    table.append(judge.summary("true twins", judge.bounds(true=True)))
    pictured(
        judge,
        {name: model(name, folder) for name in WAYS},
        folder.parent / f"image_{folder.name}.png",
    )
    return table


@cache
def _films(n: int) -> tuple[Cohort, np.ndarray]:
    return filmed(n=n, seed=105, size=64, enriched=1)
