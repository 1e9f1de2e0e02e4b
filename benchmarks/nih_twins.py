"""Twins of held-out NIH patients: does nothing done give the image back, and is sex read as set?

    python -m benchmarks nih_twins        (first 18 minutes of a fit on one core)

The fit is `causalcxr fit nih path/to/nih --out runs/nih`, and is kept there. A small classifier of
sex is trained on the real training images, tried on the held-out ones, and then reads their twins.
It says whether the picture moved the right way, not whether it is true.
"""

from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks import Row
from benchmarks._classifier import train_reader
from benchmarks.fit_nih import data_folder
from causalcxr import SCM, Cohort, Graph, do
from causalcxr.apps.cli.fit import FitOptions, fit
from causalcxr.graph.mechanism_spec import MechanismSpec

__all__ = ["main"]


def _male(cohort: Cohort) -> np.ndarray:
    return (cohort.table["Sex"] == "M").to_numpy()


def fitted(cohort: Cohort, quick: bool) -> SCM:
    """Return the model of the real patients; equations that are there and not stale are kept."""
    if not quick:
        folder, out = str(data_folder() / "nih"), Path("runs/nih")
        return fit(FitOptions(graph="nih", cohort=folder, out=out))
    graph = Graph.load("nih")
    image = graph[graph.image]
    options = {**image.mechanism.options, "steps": 4}
    graph = graph.with_variable(image.replace(mechanism=MechanismSpec("radit", options)))
    return SCM(graph).fit(cohort)


def main(quick: bool = False) -> list[Row]:
    """Return the figures, one row each; a note where the data are absent."""
    if not (data_folder() / "nih").is_dir():
        return [{"figure": "skipped: no NIH data", "value": ""}]
    cohort = Cohort.load(data_folder() / "nih", size=64).with_images_only()
    train, held = cohort.split("train"), cohort.split("val")
    train, held = (train.head(300), held.head(12)) if quick else (train, held)
    model = fitted(train, quick)
    epochs = 2 if quick else 40
    reader = train_reader(train.images[:], {"male": _male(train)}, epochs)
    read = reader.read(held.images[:])["male"]
    rows: list[Row] = [
        {"figure": "training images", "value": len(train)},
        {"figure": "held-out images", "value": len(held)},
        {"figure": "AUROC of sex on them", "value": float(roc_auc_score(_male(held), read))},
    ]
    for before, after in (("F", "M"), ("M", "F")):
        some = held.select(f"Sex == '{before}'")
        twins = model.counterfactual(some, do(sex=after))
        male = [float((reader.read(c.images[:])["male"] > 0).mean()) for c in (some, twins)]
        rows.append({"figure": f"{before}: share read as male, factual", "value": male[0]})
        rows.append(
            {"figure": f"{before}: share read as male, twin do(sex={after})", "value": male[1]}
        )
    few = held.head(64)
    null = model.counterfactual(few, do(), recompute=True)
    difference = np.abs(null.images[:] - few.images[:])
    rows.append({"figure": "null twins, max |difference|", "value": float(difference.max())})
    return rows
