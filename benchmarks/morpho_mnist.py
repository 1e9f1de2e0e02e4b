"""Counterfactual digits beside their true twins: Morpho-MNIST's equations, strokes drawn by us.

    python -m benchmarks morpho_mnist         (9 minutes of one processor for each of three)

Three interventions, to values of other digits of the same population, the intensity under
do(thickness) being the learned equation's. `truth` is |twin - true| / |factual - true|: one is no
better than a copy. Effectiveness is what a ruler finds in the twins, beside what it finds in
copies and in the true twins: errors of thickness (pixels) and intensity (grey levels of 255), and
how often the digit is right. `L1, k` is how far (grey levels) images are from themselves after k
cycles: of the null intervention, which is composition; of going there and back, which is
reversibility. In brackets 95 % of the bootstrap over digits. Weights and answers are kept in
`runs/morpho`, so that a run which was stopped goes on. Draws `runs/morpho_mnist.png`.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks.morpho.table import FULL, QUICK, pictured, tabulated, trained

__all__ = ["main"]

_MODELS = ("RadiT", "HVAE", "HVAE, beta 5", "DDIM U-Net")


def main(quick: bool = False) -> list[Row]:
    """Return a row an intervention and model; the quick table asks RadiT alone."""
    sizes, names = (QUICK, _MODELS[:1]) if quick else (FULL, _MODELS)
    folder = Path("runs/morpho-quick" if quick else "runs/morpho")
    rows, judge = tabulated(names, sizes, folder)
    models = {name: trained(name, sizes, folder)[0] for name in names}
    shown = 2 if quick else 3
    path = folder.with_name(folder.name.replace("morpho", "morpho_mnist") + ".png")
    pictured(judge, models, path, shown)
    return rows
