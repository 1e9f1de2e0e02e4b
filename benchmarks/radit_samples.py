"""How near are samples to held-out phantoms, and are they copies of what was learned?

    python -m benchmarks radit_samples

Samples of the bundled weights under the variables of held-out phantoms: Frechet and kernel
distances on the bundled features, beside the floor of phantoms against other phantoms; and the
distance to the nearest training film, beside that of held-out films. Pictures in `runs/`:
`radit_samples.png`, and `radit_nearest.png` with the samples that are nearest to a training film.
"""

from pathlib import Path

import numpy as np

from benchmarks import Row, stopwatch
from benchmarks._distances import nearest, vectors
from benchmarks._twins import GRAPH, bound, chance, network
from causalcxr import Cohort, Graph
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.metrics import frechet, kernel
from causalcxr.radit.features import load_features
from causalcxr.radit.transformer import RadiT

__all__ = ["judged", "main", "sampled"]


def sampled(net: RadiT, cohort: Cohort, graph: Graph = GRAPH) -> np.ndarray:
    """Return a sample under the variables of each record, (n, 1, H, W), 0 to 1, float32."""
    equation = bound(net, cohort, graph=graph)
    noise = equation.sample_noise(chance(cohort, seed=3))
    return equation.predict(noise).clamp(0, 1).float().numpy()


def judged(
    made: np.ndarray,
    true: np.ndarray,
    again: np.ndarray,
    known: np.ndarray,
    name: str,
    real: bool = False,
) -> list[Row]:
    """Compare samples with images of another set, and with those that were learned.

    Args:
        made: Samples, (n, 1, H, W), 0 to 1.
        true: Held-out images.
        again: Other images like them: how far they are from `true` is the floor.
        known: Images that were learned.
        name: Of the pictures in `runs/`.
        real: Whether what was learned are real radiographs, which are not marked as synthetic.
    """
    features = load_features()
    a, b, c, k = (vectors(features, films) for films in (true, again, made, known))
    near, which = nearest(c, k)
    far = nearest(a, k)[0]
    pixels = [
        nearest(films.reshape(len(films), -1).astype(float), known.reshape(len(known), -1))
        for films in (made, true)
    ]
    order = np.argsort(near)[:12]
    pairs = np.stack([x for row in order for x in (made[row], known[which[row]])])
    shown = made[:24]
    contact_sheet(shown, [""] * len(shown), columns=6, path=Path(f"runs/{name}_samples.png"))
    words = ["sample", "training film"] * len(order)
    marks = [True, not real] * len(order)
    path = Path(f"runs/{name}_nearest.png")
    contact_sheet(pairs, words, columns=6, path=path, synthetic=marks)
    what = f"median distance to the nearest of {len(known)} training films"
    return [
        {"figure": "Frechet distance", "value": frechet(a, c), "real": frechet(a, b)},
        {"figure": "kernel distance", "value": kernel(a, c), "real": kernel(a, b)},
        {
            "figure": f"{what}, features",
            "value": float(np.median(near)),
            "real": float(np.median(far)),
        },
        {
            "figure": f"{what}, pixels",
            "value": float(np.median(pixels[0][0])),
            "real": float(np.median(pixels[1][0])),
        },
        {
            "figure": "share nearer than the nearest 1 % of held-out films, features",
            "value": float((near < np.quantile(far, 0.01)).mean()),
            "real": 0.01,
        },
    ]


def main(quick: bool = False) -> list[Row]:
    """Return the figures, one row each."""
    n, m = (24, 128) if quick else (500, 6000)
    held, other = (Cohort.load("phantom", n=n, seed=seed, enriched=1) for seed in (202, 203))
    learned = Cohort.load("phantom", n=60_000, seed=1, enriched=1).head(m)
    with stopwatch() as watch:
        made = sampled(network(), held)
    rows = judged(made, held.images[:], other.images[:], learned.images[:], "radit")
    return [*rows, {"figure": "samples a second", "value": n / watch.seconds}]
