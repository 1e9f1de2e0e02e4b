"""The phantom's population: known equations of the 19 variables of `graphs/cxr7.yaml`.

Every binary equation is x = 1 iff u < sigmoid(b + w . parents), u uniform: a monotone coupling,
so the true counterfactual of every patient is known. The intercepts b are solved so that the
marginals are those of CXR7-1M with blank labels read as negative (arXiv:2606.19460). The weights w
are ours: of the sign and size that a clinician would expect, not estimated.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit

from causalcxr.noise import Draws, record_keys

__all__ = ["DATASETS", "FINDINGS", "VIEWS", "sample_noise", "structural_equations"]

Columns = dict[str, np.ndarray]

DATASETS = {
    "MIMIC-CXR": 0.313,
    "ReXGradient": 0.226,
    "CheXpert-Plus": 0.185,
    "PadChest": 0.134,
    "ChestX-ray14": 0.093,
    "BRAX": 0.034,
    "VinDr-CXR": 0.015,
}
VIEWS = ("AP", "PA", "LATERAL")
# Shares of AP, PA and LATERAL, one row a data set in the order above.
_VIEW_BY_DATASET = np.array(
    [
        [0.45, 0.28, 0.27],
        [0.35, 0.33, 0.32],
        [0.68, 0.16, 0.16],
        [0.12, 0.56, 0.32],
        [0.40, 0.60, 0.00],
        [0.40, 0.30, 0.30],
        [0.00, 1.00, 0.00],
    ]
)
_RACES = (0.08, 0.15, 0.77)  # Asian, Black, White
_P_MALE = 0.53
# Quantiles of age read off the marginal of CXR7-1M: a peak at 63-67, some 3 % of small children.
_AGE = (
    (0, 0.027, 0.05, 0.12, 0.25, 0.4, 0.5, 0.6, 0.75, 0.88, 0.97, 1),
    (0, 5, 18, 30, 44, 55, 60, 65, 73, 81, 89, 105),
)

# Finding: prevalence, weights of its parents. Age enters as (age - 60) / 20.
FINDINGS: dict[str, tuple[float, dict[str, float]]] = {
    "Cardiomegaly": (0.091, {"Age": 0.7, "Race": -0.15, "Sex": -0.25}),
    "Edema": (0.056, {"Age": 0.6, "Race": -0.1, "Sex": 0.1}),
    "Pleural Other": (0.0144, {"Age": 0.5, "Sex": 0.4}),
    "Pneumonia": (0.036, {"Age": 0.25, "Sex": 0.15}),
    "Fracture": (0.022, {"Age": 0.5, "Sex": 0.2}),
    "Pneumothorax": (0.022, {"Age": -0.1, "Sex": 0.4, "Fracture": 1.6}),
    "Enlarged Cardiomediastinum": (0.016, {"Cardiomegaly": 1.8}),
    "Consolidation": (0.028, {"Pneumonia": 2.6}),
    "Pleural Effusion": (0.119, {"Cardiomegaly": 1.6, "Pleural Other": 1.1, "Pneumonia": 1.2}),
    "Support Devices": (0.127, {"Pleural Effusion": 1.9, "Pneumothorax": 2.2}),
    "Atelectasis": (0.102, {"Pleural Effusion": 1.7, "Pneumothorax": 0.9}),
    "Lung Opacity": (
        0.162,
        {"Pleural Other": 0.8, "Edema": 1.8, "Atelectasis": 1.4, "Consolidation": 2.0},
    ),
    "Lung Lesion": (0.036, {"Lung Opacity": 1.0}),
}
_PATHOLOGIES = [name for name in FINDINGS if name != "Support Devices"]


def sample_noise(draws: Draws) -> Columns:
    """Return the exogenous noise of every record: one uniform number a variable."""
    names = ["Age", "Sex", "Race", "Dataset", "View", *FINDINGS]
    return {name: draws.on(f"phantom {name}").uniform()[:, 0] for name in names}


def _pick(u: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Return the level whose share of [0, 1] holds u; shares are (k,) or (n, k)."""
    edges = np.cumsum(shares, axis=-1)[..., :-1]
    return (u[:, None] > edges).sum(-1).astype(float)


def _score(weights: Mapping[str, float], columns: Columns) -> np.ndarray:
    """Return w . parents, (n,)."""
    parts = [
        w * ((columns[p] - 60) / 20 if p == "Age" else columns[p]) for p, w in weights.items()
    ]
    return np.sum(parts, axis=0)


def _finding(name: str, intercept: float) -> Callable[[np.ndarray, Columns], np.ndarray]:
    weights = FINDINGS[name][1]
    return lambda u, c: (u < expit(intercept + _score(weights, c))).astype(float)


def structural_equations(
    intercepts: Mapping[str, float] | None = None,
) -> dict[str, Callable[[np.ndarray, Columns], np.ndarray]]:
    """Return the true equations, in causal order: name -> f(u, columns so far).

    Args:
        intercepts: Of the findings to include; by default all of them, solved for the marginals.

    Returns:
        Functions of the noise (n,) and the parents to level positions and years, (n,) float64.
    """
    intercepts = _intercepts() if intercepts is None else intercepts
    shares = np.array(list(DATASETS.values()))
    equations = {
        "Age": lambda u, c: np.floor(np.interp(u, *_AGE)),
        "Sex": lambda u, c: (u < _P_MALE).astype(float),
        "Race": lambda u, c: _pick(u, np.array(_RACES)),
        "Dataset": lambda u, c: _pick(u, shares / shares.sum()),
        "View": lambda u, c: _pick(u, _VIEW_BY_DATASET[c["Dataset"].astype(int)]),
    }
    equations |= {name: _finding(name, b) for name, b in intercepts.items()}
    equations["No Finding"] = lambda u, c: 1.0 - np.any([c[p] > 0 for p in _PATHOLOGIES], axis=0)
    return equations


def _excess(intercept: float, score: np.ndarray, prevalence: float) -> float:
    return expit(intercept + score).mean() - prevalence


@lru_cache(maxsize=1)
def _intercepts() -> dict[str, float]:
    """Solve the intercepts one after another on a fixed sample of 40,000 patients."""
    noise = sample_noise(Draws(record_keys(pd.RangeIndex(40_000)), seed=0))
    columns: Columns = {}
    for name, equation in structural_equations({}).items():
        if name != "No Finding":
            columns[name] = equation(noise[name], columns)
    solved: dict[str, float] = {}
    for name, (prevalence, weights) in FINDINGS.items():
        score = _score(weights, columns)
        solved[name] = brentq(_excess, -15, 5, args=(score, prevalence))
        columns[name] = _finding(name, solved[name])(noise[name], columns)
    return solved
