"""Whether samples of RadiT show their variables: a classifier trained on phantoms reads them.

    python -m benchmarks phantom_samples

`radit_noise` and `radit_truth` evaluate noise and twins.
"""

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from benchmarks import Row, stopwatch
from benchmarks._classifier import Labels, Reader, train_reader
from causalcxr import SCM, Cohort, Graph
from causalcxr.common.random_numbers import Draws, record_keys
from causalcxr.mechanisms import Equation
from causalcxr.scm.prediction import bind

__all__ = ["main"]

_TARGETS = {
    "View=AP": 0.9,
    "View=PA": 0.9,
    "View=LATERAL": 0.9,
    "Sex=M": 0.8,
    "Cardiomegaly=P": 0.9,
    "Pleural Effusion=P": 0.9,
    "Support Devices=P": 0.9,
}


def _labels(cohort: Cohort) -> Labels:
    table = cohort.table
    pairs = {target: target.split("=") for target in _TARGETS}
    return {target: (table[name] == level).to_numpy() for target, (name, level) in pairs.items()}


def _aurocs(reader: Reader, cohort: Cohort) -> dict[str, float]:
    result, labels = reader.read(cohort.images[:]), _labels(cohort)
    return {
        name: roc_auc_score(labels[name], result[name]) if 0 < labels[name].mean() < 1 else np.nan
        for name in _TARGETS
    }


def _row(figure: str, value: float, target: str = "", note: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target, "note": note}


def _agreement(model: SCM, train: Cohort, test: Cohort) -> list[Row]:
    """Sample images given the variables of held-out phantoms, and let the classifier read them."""
    reader = train_reader(train.images[:], _labels(train), epochs=4)
    equation = _equation(model, test)
    with stopwatch() as watch:
        u = equation.sample_noise(Draws(record_keys(test.records), 7, "samples"))
        pixels = equation.predict(u).clamp(0, 1).float().numpy()
        sampled = test.with_images(test.images.with_pixels(pixels))
    true_aurocs, sample_aurocs = _aurocs(reader, test), _aurocs(reader, sampled)
    rows = [
        _row(
            f"AUROC of {name} on samples",
            sample_aurocs[name],
            f">= {target}",
            f"phantoms {true_aurocs[name]:.3f}",
        )
        for name, target in _TARGETS.items()
    ]
    return [*rows, _row("samples per second", len(test) / watch.seconds)]


def _equation(model: SCM, cohort: Cohort) -> Equation:
    columns = {k: torch.from_numpy(v) for k, v in cohort.columns(model.graph).items()}
    return bind(model.fitted[model.graph.image].mechanism, columns)


def main(quick: bool = False) -> list[Row]:
    """Return one row per measure."""
    n_train, n_test = (1000, 32) if quick else (16000, 2000)
    train = Cohort.load("phantom", n=n_train, seed=101)
    test = Cohort.load("phantom", n=n_test, seed=102)
    model = SCM(Graph.load("cxr7")).fit(train, seed=0, progress=False)
    return _agreement(model, train, test)
