"""A small world whose effects are known: its images are a function of its variables."""

import numpy as np
import pandas as pd

from causalcxr import Cohort, Graph

GRAPH = Graph.parse(
    """
variables:
  Sex: {type: binary, levels: [F, M]}
  Edema: {type: binary, levels: [N, P], parents: [Sex]}
  View: {type: binary, levels: [AP, PA]}
  Image: {type: image, parents: [Sex, Edema, View], mechanism: {kind: radit, resolution: 16}}
"""
)
TABULAR = GRAPH.without_variable("Image")


def people(n: int, seed: int = 0, *, patients: int | None = None) -> Cohort:
    """Return n records with images: grey .1, + .2 if male, + .3 with edema, with little noise."""
    rng = np.random.default_rng(seed)
    sex = rng.random(n) < 0.5
    edema = rng.random(n) < np.where(sex, 0.5, 0.3)
    view = rng.random(n) < 0.4
    table = pd.DataFrame(
        {
            "Sex": np.where(sex, "M", "F"),
            "Edema": np.where(edema, "P", "N"),
            "View": np.where(view, "PA", "AP"),
        },
        index=[f"r{k}" for k in range(n)],
    )
    numbers = np.arange(n) if patients is None else rng.integers(0, patients, n)
    return Cohort(table, drawn(table, rng.random((n, 1, 1, 1)) * 0.1), patients=numbers)


def drawn(table: pd.DataFrame, noise: np.ndarray) -> np.ndarray:
    """Return images (n, 1, 8, 8) of records, each with its own noise (n, 1, 1, 1)."""
    grey = 0.1 + 0.2 * (table["Sex"] == "M") + 0.3 * (table["Edema"] == "P")
    images = np.broadcast_to(grey.to_numpy()[:, None, None, None] + noise, (len(table), 1, 8, 8))
    images = images.copy()
    images[:, :, :2] += np.where(table["View"] == "PA", 0.3, 0)[:, None, None, None]
    return images.astype(np.float32)


def as_men(cohort: Cohort, *, also: str | None = None) -> Cohort:
    """Return the true twins under do(Sex=M), with the same edema; `also` changes by mistake."""
    table = cohort.table.assign(Sex="M")
    if also:
        table[also] = table[also].map({"AP": "PA", "PA": "AP"})
    noise = (
        cohort.images[:][:, :, 4:5, 4:5]
        - drawn(cohort.table, np.zeros((1, 1, 1, 1)))[:, :, 4:5, 4:5]
    )
    return cohort.with_columns(
        GRAPH, Cohort(cohort.table.assign(Sex="M")).columns(GRAPH)
    ).with_images(drawn(table, noise))


def features(cohort: Cohort) -> np.ndarray:
    """Return the mean grey of the lower and of the upper part of each image, (n, 2)."""
    images = cohort.images[:]
    return np.stack([images[:, 0, 4:].mean((1, 2)), images[:, 0, :2].mean((1, 2))], 1)
