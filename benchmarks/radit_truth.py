"""The distance of image counterfactuals from the true twins of the phantom.

    python -m benchmarks radit_truth

|twin - true| / |factual - true| for several interventions; the twins have the variables of the
true twins: RadiT plain, with a threshold (.03), guided by the graph (weight 1.5), and generating
without abduction; also with weights trained under optimal-transport pairing, if
`runs/ot/phantom-64.safetensors` exists. A value of 1 is no better than a copy of the factual
image. Writes `runs/radit_truth.png`: factual image, true twin, twin, sample without abduction.
"""

from pathlib import Path

import numpy as np

from benchmarks import Row
from benchmarks._image_twins import (
    ACTIONS,
    affected,
    bind_parents,
    load_network,
    radiographs,
    record_draws,
    relative_error,
)
from causalcxr import Cohort
from causalcxr.graph.interventions import Intervention
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.transformer import RadiT
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_PAIRED = Path("runs/ot/phantom-64.safetensors")
_SHOWN = 3  # patients in the picture, for each intervention
_GUIDED, _THRESHOLD = 1.5, 0.03


def _model_twins(
    net: RadiT,
    records: Cohort,
    true_twins: Cohort,
    action: Intervention,
    options: Solving | None = None,
) -> np.ndarray:
    """Return twins given the variables of the true twins."""
    names = affected(action)
    u = (
        bind_parents(net, records, options)
        .reaching(names)
        .abduct(radiographs(records), record_draws(records))
    )
    return bind_parents(net, true_twins, options).reaching(names).predict(u).clamp(0, 1)


def _without_abduction(net: RadiT, true_twins: Cohort) -> np.ndarray:
    equation = bind_parents(net, true_twins)
    return equation.predict(equation.sample_noise(record_draws(true_twins, seed=7))).clamp(0, 1)


def main(quick: bool = False) -> list[Row]:
    """Return one row per intervention, and their mean."""
    n, records = (2, 300) if quick else (48, 2000)
    cohort, net = Cohort.load("phantom", n=records, seed=102), load_network()
    paired = load_network(_PAIRED) if _PAIRED.exists() else None
    table: list[Row] = []
    thinned = Solving(threshold=_THRESHOLD)
    sheet, captions = [], []
    for name, (where, action) in ACTIONS.items():
        records = cohort.select(where).head(n)
        true_twins = truth(records, action)
        factual, target = radiographs(records).double(), radiographs(true_twins).double()
        twins = {
            "RadiT": _model_twins(net, records, true_twins, action),
            f"threshold {_THRESHOLD}": _model_twins(net, records, true_twins, action, thinned),
            f"guided {_GUIDED}": _model_twins(
                net, records, true_twins, action, Solving(guidance=_GUIDED)
            ),
            "without abduction": _without_abduction(net, true_twins),
        }
        if paired:
            twins["OT-paired"] = _model_twins(paired, records, true_twins, action)
        errors = {key: relative_error(twins, target, factual) for key, twins in twins.items()}
        table.append({"intervention": name, "n": len(records), **errors})
        for row in range(min(_SHOWN, len(records))):
            parts = (factual, target, twins["RadiT"], twins["without abduction"])
            sheet += [part[row].float().numpy() for part in parts]
            captions += [name, "true twin", "RadiT", "without abduction"]
    columns = [key for key in table[0] if key not in ("intervention", "n")]
    mean = {key: float(np.mean([row[key] for row in table])) for key in columns}
    contact_sheet(np.stack(sheet), captions, columns=8, path=Path("runs/radit_truth.png"))
    return [*table, {"intervention": "mean (target .5)", "n": "", **mean}]
