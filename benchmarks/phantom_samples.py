"""Does RadiT show what it is told to? A classifier trained on true phantoms reads its samples.

    python -m benchmarks phantom_samples

Also: the noise abducted from held-out phantoms (its standard deviation and kurtosis), and the
error of twins to the phantom's true twins for several interventions.
"""

import numpy as np
import torch
from scipy.stats import kurtosis
from sklearn.metrics import roc_auc_score

from benchmarks import Row, stopwatch
from benchmarks._classifier import Answers, Reader, train_reader
from causalcxr import SCM, Cohort, Graph, do
from causalcxr.demo import image_error
from causalcxr.interventions import Shift
from causalcxr.mechanisms import Equation
from causalcxr.noise import Draws, record_keys
from causalcxr.prediction import bind

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


def _answers(cohort: Cohort) -> Answers:
    table = cohort.table
    pairs = {target: target.split("=") for target in _TARGETS}
    return {target: (table[name] == level).to_numpy() for target, (name, level) in pairs.items()}


def _aurocs(reader: Reader, cohort: Cohort) -> dict[str, float]:
    read, true = reader.read(cohort.images[:]), _answers(cohort)
    return {
        name: roc_auc_score(true[name], read[name]) if 0 < true[name].mean() < 1 else np.nan
        for name in _TARGETS
    }


def _row(figure: str, value: float, target: str = "", beside: str = "") -> Row:
    return {"figure": figure, "value": value, "target": target, "beside": beside}


def _agreement(model: SCM, train: Cohort, test: Cohort) -> list[Row]:
    """Film the variables of held-out phantoms anew, and let the classifier read the films."""
    reader = train_reader(train.images[:], _answers(train), epochs=4)
    equation = _equation(model, test)
    with stopwatch() as watch:
        u = equation.sample_noise(Draws(record_keys(test.records), 7, "samples"))
        sampled = test.with_images(equation.predict(u).clamp(0, 1).float().numpy())
    true, made = _aurocs(reader, test), _aurocs(reader, sampled)
    rows = [
        _row(f"AUROC of {name} on samples", made[name], f">= {target}", f"true {true[name]:.3f}")
        for name, target in _TARGETS.items()
    ]
    return [*rows, _row("samples a second", len(test) / watch.seconds)]


def _noise_moments(model: SCM, cohort: Cohort) -> list[Row]:
    u = _equation(model, cohort).abduct(torch.from_numpy(cohort.images[:]))[:, 0]
    moments = float(u.std()), float(kurtosis(u.flatten().numpy(), fisher=False))
    return [
        _row("std of abducted noise", moments[0], ".95 to 1.05"),
        _row("kurtosis of abducted noise", moments[1], "2.7 to 3.3"),
    ]


def _equation(model: SCM, cohort: Cohort) -> Equation:
    columns = {k: torch.from_numpy(v) for k, v in cohort.columns(model.graph).items()}
    return bind(model.fitted[model.graph.image].mechanism, columns)


def _truth(model: SCM, cohort: Cohort) -> list[Row]:
    """Compare twins with the true ones, pixel by pixel, where anything changes at all."""
    actions = {
        "do(sex=M)": ("Sex == 'F'", do(sex="M")),
        "do(view=PA)": ("View == 'AP'", do(view="PA")),
        "do(cardiomegaly=P)": ("Cardiomegaly == 'N'", do(cardiomegaly="P")),
        "do(pleural_effusion=P)": ("`Pleural Effusion` == 'N'", do(pleural_effusion="P")),
        "do(support_devices=N)": ("`Support Devices` == 'P'", do(support_devices="N")),
        "do(age+20)": ("Age <= 85", do(age=Shift(20))),
    }
    rows = []
    for name, (where, action) in actions.items():
        few = cohort.select(where)
        score = image_error(few, model.counterfactual(few, action), action)
        beside = f"{score['twin_to_truth']:.4f} / {score['factual_to_truth']:.4f}, n = {len(few)}"
        rows.append(_row(f"|twin - true| / |factual - true|, {name}", score["ratio"], "", beside))
    return rows


def main(quick: bool = False) -> list[Row]:
    """Return the figures, one row each."""
    n_train, n_test, n_truth = (4000, 400, 64) if quick else (16000, 2000, 256)
    train = Cohort.load("phantom", n=n_train, seed=101)
    test = Cohort.load("phantom", n=n_test, seed=102)
    model = SCM(Graph.load("cxr7")).fit(train, seed=0, progress=False)
    return [
        *_agreement(model, train, test),
        *_noise_moments(model, test.head(n_truth)),
        *_truth(model, test.head(n_truth)),
    ]
