"""The fidelity of samples, and whether they are copies of training images.

    python -m benchmarks radit_samples

Samples of the bundled weights given the variables of held-out phantoms: Frechet and kernel
distances on the bundled features, compared with those between two sets of phantoms; and the
distance to the nearest training image, compared with that of held-out images. Pictures in `runs/`:
`radit_samples.png`, and `radit_nearest.png` with the samples nearest to a training image.
"""

from pathlib import Path

import numpy as np

from benchmarks import Row, stopwatch
from benchmarks._distances import feature_vectors, nearest
from benchmarks._image_twins import GRAPH, bind_parents, load_network, record_draws
from causalcxr import Cohort, Graph
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.metrics import frechet, kernel
from causalcxr.radit.features import load_features
from causalcxr.radit.transformer import RadiT

__all__ = ["compare_samples", "draw_samples", "main"]


def draw_samples(net: RadiT, cohort: Cohort, graph: Graph = GRAPH) -> np.ndarray:
    """Return a sample given the variables of each record, (n, 1, H, W), 0 to 1, float32."""
    equation = bind_parents(net, cohort, graph=graph)
    noise = equation.sample_noise(record_draws(cohort, seed=3))
    return equation.predict(noise).clamp(0, 1).float().numpy()


def compare_samples(
    samples: np.ndarray,
    held_out: np.ndarray,
    reference: np.ndarray,
    training: np.ndarray,
    name: str,
    real: bool = False,
) -> list[Row]:
    """Compare samples with held-out images and with training images.

    Args:
        samples: Samples, (n, 1, H, W), 0 to 1.
        held_out: Held-out images.
        reference: Other images from the same source; their distance from `held_out` is the floor.
        training: Training images.
        name: Of the pictures in `runs/`.
        real: Whether the training images are real radiographs, which get no synthetic mark.
    """
    features = load_features()
    held_out_features, reference_features, sample_features, training_features = (
        feature_vectors(features, images) for images in (held_out, reference, samples, training)
    )
    distances, nearest_rows = nearest(sample_features, training_features)
    held_out_distances = nearest(held_out_features, training_features)[0]
    pixels = [
        nearest(images.reshape(len(images), -1).astype(float), training.reshape(len(training), -1))
        for images in (samples, held_out)
    ]
    order = np.argsort(distances)[:12]
    pairs = np.stack([x for row in order for x in (samples[row], training[nearest_rows[row]])])
    shown = samples[:24]
    contact_sheet(shown, [""] * len(shown), columns=6, path=Path(f"runs/{name}_samples.png"))
    captions = ["sample", "training image"] * len(order)
    marks = [True, not real] * len(order)
    path = Path(f"runs/{name}_nearest.png")
    contact_sheet(pairs, captions, columns=6, path=path, synthetic=marks)
    label = f"median distance to the nearest of {len(training)} training images"
    return [
        {
            "figure": "Frechet distance",
            "value": frechet(held_out_features, sample_features),
            "real": frechet(held_out_features, reference_features),
        },
        {
            "figure": "kernel distance",
            "value": kernel(held_out_features, sample_features),
            "real": kernel(held_out_features, reference_features),
        },
        {
            "figure": f"{label}, features",
            "value": float(np.median(distances)),
            "real": float(np.median(held_out_distances)),
        },
        {
            "figure": f"{label}, pixels",
            "value": float(np.median(pixels[0][0])),
            "real": float(np.median(pixels[1][0])),
        },
        {
            "figure": "share nearer than the nearest 1 % of held-out images, features",
            "value": float((distances < np.quantile(held_out_distances, 0.01)).mean()),
            "real": 0.01,
        },
    ]


def main(quick: bool = False) -> list[Row]:
    """Return one row per measure."""
    n, m = (24, 128) if quick else (500, 6000)
    held_out, reference = (
        Cohort.load("phantom", n=n, seed=seed, enriched=1) for seed in (202, 203)
    )
    training = Cohort.load("phantom", n=60_000, seed=1, enriched=1).head(m)
    with stopwatch() as watch:
        samples = draw_samples(load_network(), held_out)
    rows = compare_samples(
        samples, held_out.images[:], reference.images[:], training.images[:], "radit"
    )
    return [*rows, {"figure": "samples per second", "value": n / watch.seconds}]
