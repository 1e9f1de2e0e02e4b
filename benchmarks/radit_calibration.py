"""Does a weight for each variable, calibrated without true twins, bring twins nearer to the truth?

    python -m benchmarks radit_calibration

The bundled weights are calibrated on phantoms of another seed, with 16 records a variable, unless
`runs/calibrated-64.safetensors` exists.

|twin - true| / |factual - true| on held-out phantoms for several interventions, under transport
with one weight (1.2) and threshold for all variables, with calibrated weights, and with calibrated
weights and thresholds. The twins have the variables of the true twins; 1 is no better than a copy.
"""

from pathlib import Path

import numpy as np

from benchmarks import Row
from benchmarks._image_twins import (
    ACTIONS,
    GRAPH,
    affected,
    bind_parents,
    radiographs,
    record_draws,
    relative_error,
)
from causalcxr import Cohort
from causalcxr.apps.training.calibration_job import CalibrationRun, calibrate_weights
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.calibration import Calibration
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.weights import adopt_weights, saved_calibration
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_WEIGHTS = Path("runs/calibrated-64.safetensors")
_CALIBRATION = CalibrationRun(
    weights="phantom-64", cohort="phantom:n=1500,seed=602", out=_WEIGHTS, records=16
)
_FIXED = Solving(coupling="transport")
_WAYS = {
    "weight 1.2": _FIXED,
    "calibrated weight": Solving(coupling="transport", calibrated=frozenset(["guidance"])),
    "calibrated weight and threshold": Solving(
        coupling="transport", calibrated=frozenset(["guidance", "threshold"])
    ),
}


def main(quick: bool = False, weights: Path = _WEIGHTS, n: int = 12) -> list[Row]:
    """Return one row per intervention, and their mean."""
    if not weights.exists():
        calibrate_weights(_CALIBRATION)
    net = _calibrated_network(weights)
    side = net.config.size[0]
    cohort = Cohort.load("phantom", n=1000, seed=601, size=side)
    table: list[Row] = []
    for name, (where, action) in ACTIONS.items():
        records = cohort.select(where).head(2 if quick else n)
        true = truth(records, action)
        factual, target = radiographs(records).double(), radiographs(true).double()
        row: Row = {"intervention": name}
        for way, solving in _WAYS.items():
            before, after = (bind_parents(net, each, solving) for each in (records, true))
            u = before.reaching(affected(action)).abduct(
                radiographs(records), record_draws(records)
            )
            twins = after.reaching(affected(action)).predict(u)
            row[way] = relative_error(twins, target, factual)
        facts = before.parents
        weight = net.calibration.settings(facts, after.parents)[0]
        table.append(row | {"mean calibrated weight": float(weight.mean())})
    means = {way: float(np.mean([row[way] for row in table])) for way in _WAYS}
    return [*table, {"intervention": "mean", **means}]


def _calibrated_network(path: Path) -> RadiT:
    variables = [GRAPH[name] for name in GRAPH[GRAPH.image].parents]
    net = adopt_weights(path, None, variables).eval().requires_grad_(False)
    net.calibration = Calibration.from_json(saved_calibration(path), net.conditioner.names)
    return net
