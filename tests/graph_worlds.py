"""A small cohort and graph for the graph page, fitted quickly.

As a program it serves their explorer: `python graph_worlds.py FOLDER`.
"""

import sys
from pathlib import Path

import numpy as np
import pandas as pd

from causalcxr import SCM, Cohort, Graph, Variable
from causalcxr.apps.explorer.workspace import Models, Workspace

SMALL = Graph.parse(
    """name: small   # a comment that survives
variables:
  Sex:     {type: binary, levels: [F, M], mechanism: empirical}
  Site:    {type: categorical, levels: [A, B, C], mechanism: empirical}
  Edema:   {type: binary, parents: [Sex], mechanism: {kind: discrete, epochs: 8}}
  View:
    type: binary
    levels: [AP, PA]
    parents: [Edema]
    mechanism: {kind: discrete, epochs: 8}
  Finding: {type: binary, parents: [Edema], mechanism: {kind: derived, rule: any_of}}
"""
)


def records(n: int = 1200, seed: int = 0, **kwargs) -> Cohort:
    """Return records in which edema depends on the site, and nothing on the sex."""
    random = np.random.default_rng(seed)
    site = random.choice(3, n, p=[0.6, 0.3, 0.1])
    edema = random.random(n) < np.array([0.1, 0.5, 0.9])[site]
    view = random.random(n) < np.where(edema, 0.2, 0.7)
    table = pd.DataFrame(
        {
            "Sex": random.choice(["F", "M"], n),
            "Site": np.array(["A", "B", "C"])[site],
            "Edema": np.where(edema, "P", "N"),
            "View": np.where(view, "PA", "AP"),
            "Finding": np.where(edema, "P", "N"),
        }
    )
    return Cohort(table, **kwargs).described("small world")


def small_workspace(model: SCM, cohort: Cohort, folder) -> Workspace:
    """Return a workspace of one model and its training cohort."""
    return Workspace(Models("small", model, "model"), {"world": cohort}, folder)


def slow_world() -> tuple[SCM, Cohort]:
    """Return model and cohort with a variable that takes seconds to fit, to watch progress."""
    cohort = records(600)
    weight = np.random.default_rng(1).normal(70, 9, len(cohort)).round(1)
    spec = {"kind": "flow", "epochs": 40, "patience": 40}
    graph = SMALL.with_variable(Variable("Weight", "continuous", unit="kg", mechanism=spec))
    world = Cohort(cohort.table.assign(Weight=weight)).described("small world")
    return SCM(graph).fit(world, progress=False), world


if __name__ == "__main__":
    from causalcxr.apps.explorer.serving import serve

    serve(small_workspace(*slow_world(), Path(sys.argv[1])), 0, show=False)
