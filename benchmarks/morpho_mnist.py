"""Counterfactual digits compared with true twins: equations of Morpho-MNIST, simulated strokes.

    python -m benchmarks morpho_mnist         (9 processor minutes for each of four networks)

Three interventions, each to the values of other digits of the same population; under do(thickness)
the intensity is that of the learned equation. `truth` is |twin - true| / |factual - true|, where 1
is no better than a copy. Effectiveness is measured in the twins, in copies and in the true twins:
errors of thickness (pixels) and intensity (grey levels of 255), and the share of correct digits.
`L1, k` is the distance (grey levels) of images from themselves after k cycles: cycles of the null
intervention measure composition, cycles of an intervention and its inverse reversibility. Brackets
give 95 % bootstrap intervals over digits. Weights and results are saved in `runs/morpho`, with a
checkpoint every half minute of processor time, so the same command resumes an interrupted run.
Draws `runs/morpho_mnist.png`.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks.morpho.table import FULL, QUICK, draw_sheet, make_table, trained_model

__all__ = ["main"]

_MODELS = ("RadiT, transport, narrow", "HVAE", "HVAE, beta 5", "DDIM U-Net")


def main(quick: bool = False) -> list[Row]:
    """Return one row per intervention and model; the quick table has RadiT alone."""
    sizes, names = (QUICK, _MODELS[:1]) if quick else (FULL, _MODELS)
    folder = Path("runs/morpho-quick" if quick else "runs/morpho")
    rows, evaluation = make_table(names, sizes, folder)
    models = {name: trained_model(name, sizes, folder)[0] for name in names}
    n_shown = 2 if quick else 3
    path = folder.with_name(folder.name.replace("morpho", "morpho_mnist") + ".png")
    draw_sheet(evaluation, models, path, n_shown)
    return rows
