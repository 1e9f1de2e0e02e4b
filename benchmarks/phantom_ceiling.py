"""The ceiling of image models: the error of twins that know all that the factual image shows.

    python -m benchmarks phantom_ceiling         (about a minute on one core)

For seven interventions on held-out phantoms, `possible_twins` draws again the exogenous numbers of
findings that are absent in the fact and present in the twin. The table has the error of these
twins over a copy's, with its 95 % interval over patients, and the share of twins to which a
finding is added.
"""

import numpy as np
import pandas as pd

from benchmarks import Row
from benchmarks._image_twins import ACTIONS
from causalcxr import Cohort
from causalcxr.metrics.truth import truth_errors, truth_table
from causalcxr.sources.phantom import possible_twins, truth
from causalcxr.sources.phantom.tables import FINDINGS

__all__ = ["main"]

_RECORDS = 48  # for each intervention
_DRAWS = 3  # of the exogenous numbers


def main(quick: bool = False) -> list[Row]:
    """Return one row per intervention, and their mean."""
    n, size = (2, 32) if quick else (_RECORDS, 64)
    cohort, findings = Cohort.load("phantom", n=25 * n, seed=311, size=size), list(FINDINGS)
    table: list[Row] = []
    for name, (where, action) in ACTIONS.items():
        records = cohort.select(where).head(n)
        true = truth(records, action)
        errors = [
            truth_errors(
                possible_twins(records, true, seed=draw).images[:],
                true.images[:],
                records.images[:],
                patients=records.patients,
            )
            for draw in range(_DRAWS)
        ]
        row = truth_table(pd.concat(errors)).iloc[0]
        added = (records.table[findings] == "N") & (true.table[findings] == "P")
        table.append(
            {
                "intervention": name,
                "ceiling": row["normalised"],
                "95 %": f"{row['low']:.3f} to {row['high']:.3f}",
                "added": float(added.any(axis=1).mean()),
            }
        )
    mean = float(np.mean([row["ceiling"] for row in table]))
    return [*table, {"intervention": "mean", "ceiling": mean, "95 %": "", "added": ""}]
