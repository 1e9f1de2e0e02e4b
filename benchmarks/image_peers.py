"""Image counterfactuals compared with peers: equal images, parameters and minutes of training.

    python -m benchmarks image_peers          (24 processor minutes for each of five networks)

RadiT by inversion: plain, guided by the graph, and generating without abduction; RadiT under
transport; a hierarchical conditional VAE after arXiv:2306.15764 with two weights of its
divergence; DDIM inversion with the U-Net of diffusers after arXiv:2202.10166. Seven interventions
on held-out phantoms of 64 pixels; the twins have the variables of the true twins. Weights are
saved in `runs/peers`, with a checkpoint every half minute of processor time, and results in
`runs/peers/results`, so the same command resumes an interrupted run. Draws
`runs/image_peers.png`: factual image, true twin, the twin of each model.
"""

from functools import cache, partial
from pathlib import Path

import numpy as np

from benchmarks import Row
from benchmarks._image_twins import ACTIONS
from benchmarks._phantom_images import phantom_images
from benchmarks.peers.evaluation import Evaluation, draw_sheet
from benchmarks.peers.families import weights_of
from benchmarks.peers.models import MINUTES, VARIANTS, model, train_network
from causalcxr import Cohort

__all__ = ["main"]

_RECORDS = 24  # for each intervention


def main(quick: bool = False) -> list[Row]:
    """Return one row per model, after that of a copy and before that of the true twins."""
    minutes, folder = (0.05, Path("runs/peers-quick")) if quick else (MINUTES, Path("runs/peers"))
    if quick:
        evaluation = Evaluation.on_phantoms(
            2, n_training=300, names=list(ACTIONS)[:1], cycles=(1, 2)
        )
    else:
        evaluation = Evaluation.on_phantoms(_RECORDS, n_training=4000)
    table: list[Row] = [evaluation.summary("copy", evaluation.reference(true=False))]
    for name in VARIANTS:
        figures = train_network(
            name, partial(_training_images, 256 if quick else 12_000), minutes, folder
        )
        weights = weights_of(VARIANTS[name].family, 1.0, folder)
        results = evaluation.cached(
            name, partial(model, name, folder), weights, folder / "results"
        )
        table.append({**evaluation.summary(name, results), **figures})
    table.append(evaluation.summary("true twins", evaluation.reference(true=True)))
    draw_sheet(
        evaluation,
        {name: model(name, folder) for name in VARIANTS},
        folder.parent / f"image_{folder.name}.png",
    )
    return table


@cache
def _training_images(n: int) -> tuple[Cohort, np.ndarray]:
    return phantom_images(n=n, seed=105, size=64, enriched=1)
