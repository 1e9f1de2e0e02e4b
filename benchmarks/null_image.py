"""Whether the null intervention returns the radiograph, and how fast.

    python -m benchmarks null_image

The bundled weights of cxr7 on phantoms; every image is abducted and predicted again
(`recompute=True`) by the reversible solver. Expected: all images are bit-exact.
"""

import numpy as np

from benchmarks import Row, stopwatch
from causalcxr import SCM, Cohort, Graph, do

__all__ = ["main"]


def main(quick: bool = False) -> list[Row]:
    """Return the largest difference of an image from its twin, and images per second."""
    n = 4 if quick else 64
    phantoms = Cohort.load("phantom", n=2000, seed=5)
    model = SCM(Graph.load("cxr7")).fit(phantoms, progress=False)
    records = phantoms.head(n)
    factual = records.images[:]
    table: list[Row] = []
    for what, action in {"nothing": do(), "do(sex=M)": do(sex="M")}.items():
        twins = model.counterfactual(records, action, recompute=True)
        with stopwatch() as watch:
            images = twins.images[:]
        difference = np.abs(images - factual)
        table.append(
            {
                "intervention": what,
                "images": n,
                "max |difference|": float(difference.max()),
                "mean |difference|": float(difference.mean()),
                "bit-identical": int((difference.max(axis=(1, 2, 3)) == 0).sum()),
                "images/s": n / watch.seconds,
            }
        )
    return table
