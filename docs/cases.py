"""The models and the patient in docs/abduction.md."""

from collections.abc import Mapping
from functools import cache
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

import causalcxr as cx
from causalcxr import Cohort, Graph

__all__ = ["PATIENT", "enumerated", "expert", "severity"]

P, Q = (0.5, 0.35, 0.15), (0.25, 0.35, 0.4)
SEVERITY = """
variables:
  Ventilated: {type: binary, levels: ["not", "is"]}
  Effusion: {type: ordinal, levels: [none, small, large], parents: [Ventilated], mechanism: flow}
"""

PATIENT = {
    "Age": 70.0, "Race": "White", "Dataset": "MIMIC-CXR", "View": "AP",
    "Pleural Effusion": "P", "Lung Opacity": "P", "Support Devices": "P", "Lung Lesion": "N",
}  # fmt: skip


def enumerated(model: cx.SCM, record: Mapping[str, Any], gaps: list[str]) -> dict[str, float]:
    """Return P(last level | record) of each missing variable, by a sum over all joint states."""
    states = pd.DataFrame(product(*(model.graph[n].levels for n in gaps)), columns=gaps)
    full = states.assign(**record)
    mass = np.exp(model.log_prob(Cohort(full)).drop(columns="Age").sum(axis=1).to_numpy())
    mass /= mass.sum()
    return {
        n: float(mass[(states[n] == model.graph[n].levels[-1]).to_numpy()].sum()) for n in gaps
    }


@cache
def expert() -> tuple[cx.SCM, Cohort]:
    """Return the expert graph fitted to 20,000 phantoms, and the phantoms."""
    patients = Cohort.load("phantom", n=20_000, seed=0).with_images(None)
    return cx.SCM(Graph.load("cxr7").without_variable("Image")).fit(patients), patients


def severity() -> tuple[cx.SCM, Cohort]:
    """Return a flow over three levels, and its 8,000 records from the distributions P and Q."""
    rows = [
        (word, level)
        for word, distribution in (("not", P), ("is", Q))
        for level, share in zip(("none", "small", "large"), distribution, strict=True)
        for _ in range(round(4000 * share))
    ]
    cohort = Cohort(pd.DataFrame(rows, columns=["Ventilated", "Effusion"]))
    return cx.SCM(Graph.parse(SEVERITY)).fit(cohort), cohort
