"""Twins of held-out NIH patients: the null intervention, and the effect of do(sex).

    python -m benchmarks nih_twins        (the first run fits a model for 18 minutes on one core)

The fit is `causalcxr fit nih path/to/nih --out runs/nih`, and is saved there. A small classifier
of sex is trained on the real training images and tested on the held-out ones; then it classifies
their twins. It shows whether the image changed in the right direction, not whether the twin is
correct.
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


def fitted_model(cohort: Cohort, quick: bool) -> SCM:
    """Return the model of the real patients; saved equations that are up to date are used."""
    if not quick:
        folder, out = str(data_folder() / "nih"), Path("runs/nih")
        return fit(FitOptions(graph="nih", cohort=folder, out=out))
    graph = Graph.load("nih")
    image = graph[graph.image]
    options = {**image.mechanism.options, "steps": 4}
    graph = graph.with_variable(image.replace(mechanism=MechanismSpec("radit", options)))
    return SCM(graph).fit(cohort)


def main(quick: bool = False) -> list[Row]:
    """Return one row per measure, or a note if the data are missing."""
    if not (data_folder() / "nih").is_dir():
        return [{"figure": "skipped: no NIH data", "value": ""}]
    cohort = Cohort.load(data_folder() / "nih", size=64).with_images_only()
    train, held = cohort.split("train"), cohort.split("val")
    train, held = (train.head(300), held.head(12)) if quick else (train, held)
    model = fitted_model(train, quick)
    epochs = 2 if quick else 40
    reader = train_reader(train.images[:], {"male": _male(train)}, epochs)
    result = reader.read(held.images[:])["male"]
    rows: list[Row] = [
        {"figure": "training images", "value": len(train)},
        {"figure": "held-out images", "value": len(held)},
        {"figure": "AUROC of sex on them", "value": float(roc_auc_score(_male(held), result))},
    ]
    for before, after in (("F", "M"), ("M", "F")):
        records = held.select(f"Sex == '{before}'")
        twins = model.counterfactual(records, do(sex=after))
        male = [float((reader.read(c.images[:])["male"] > 0).mean()) for c in (records, twins)]
        rows.append({"figure": f"{before}: share read as male, factual", "value": male[0]})
        rows.append(
            {"figure": f"{before}: share read as male, twin do(sex={after})", "value": male[1]}
        )
    head = held.head(64)
    null = model.counterfactual(head, do(), recompute=True)
    difference = np.abs(null.images[:] - head.images[:])
    rows.append({"figure": "null twins, max |difference|", "value": float(difference.max())})
    return rows
