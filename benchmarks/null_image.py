"""Does a radiograph come back when nothing is done to the patient, and how fast?

    python -m benchmarks null_image

The bundled weights of cxr7 on phantoms, every image abducted and predicted anew
(`recompute=True`) by the reversible solver. Expected: not one bit differs.
"""

import numpy as np

from benchmarks import Row, stopwatch
from causalcxr import SCM, Cohort, Graph, do

__all__ = ["main"]


def main(quick: bool = False) -> list[Row]:
    """Return the largest difference of a null image, and images a second."""
    n = 4 if quick else 64
    phantoms = Cohort.load("phantom", n=2000, seed=5)
    model = SCM(Graph.load("cxr7")).fit(phantoms, progress=False)
    few = phantoms.head(n)
    factual = few.images[:]
    table: list[Row] = []
    for what, action in {"nothing": do(), "do(sex=M)": do(sex="M")}.items():
        twins = model.counterfactual(few, action, recompute=True)
        with stopwatch() as watch:
            made = twins.images[:]
        difference = np.abs(made - factual)
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
