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
from benchmarks._distances import frechet, kernel, nearest, vectors
from benchmarks._twins import bound, chance, network
from causalcxr import Cohort
from causalcxr.contact_sheet import contact_sheet
from causalcxr.radit.features import load_features
from causalcxr.radit.transformer import RadiT

__all__ = ["main", "sampled"]


def sampled(net: RadiT, cohort: Cohort) -> np.ndarray:
    """Return a sample under the variables of each record, (n, 1, H, W), 0 to 1, float32."""
    equation = bound(net, cohort)
    noise = equation.sample_noise(chance(cohort, seed=3))
    return equation.predict(noise).clamp(0, 1).float().numpy()


def main(quick: bool = False) -> list[Row]:
    """Return the figures, one row each."""
    n, m = (64, 128) if quick else (500, 6000)
    net, features = network(), load_features()
    held, other = (Cohort.load("phantom", n=n, seed=seed, enriched=1) for seed in (202, 203))
    learned = Cohort.load("phantom", n=48_000, seed=1, enriched=1).head(m)
    true, again, known = (cohort.images[:] for cohort in (held, other, learned))
    with stopwatch() as watch:
        made = sampled(net, held)
    a, b, c, k = (vectors(features, films) for films in (true, again, made, known))
    near, which = nearest(c, k)
    far = nearest(a, k)[0]
    order = np.argsort(near)[:12]
    pairs = np.stack([x for row in order for x in (made[row], known[which[row]])])
    contact_sheet(made[:24], [""] * min(24, n), columns=6, path=Path("runs/radit_samples.png"))
    contact_sheet(
        pairs, ["sample", "training film"] * 12, columns=6, path=Path("runs/radit_nearest.png")
    )
    return [
        {"figure": "Frechet distance", "value": frechet(a, c), "phantoms": frechet(a, b)},
        {"figure": "kernel distance", "value": kernel(a, c), "phantoms": kernel(a, b)},
        {
            "figure": f"median distance to the nearest of {m} training films",
            "value": float(np.median(near)),
            "phantoms": float(np.median(far)),
        },
        {
            "figure": "share nearer than the nearest 1 % of held-out films",
            "value": float((near < np.quantile(far, 0.01)).mean()),
            "phantoms": 0.01,
        },
        {"figure": "samples a second", "value": n / watch.seconds},
    ]
