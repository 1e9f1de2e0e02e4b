"""How far are image counterfactuals from the phantom's true twins?

    python -m benchmarks radit_truth

|twin - true| / |factual - true| for several interventions, the table's part being the true one:
RadiT plain, with a threshold (.03), guided by the graph (weight 1.5), and generating anew without
abduction; with weights that were trained under optimal-transport pairing, too, where
`runs/ot/phantom-64.safetensors` is. One is no better than a copy of the factual image. Writes
`runs/radit_truth.png`: factual, true twin, twin, anew.
"""

from pathlib import Path

import numpy as np

from benchmarks import Row
from benchmarks._twins import ACTIONS, bound, chance, films, network, reached, wrong
from causalcxr import Cohort
from causalcxr.graph.interventions import Intervention
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.radit.transformer import RadiT
from causalcxr.sources.phantom import truth

__all__ = ["main"]

_PAIRED = Path("runs/ot/phantom-64.safetensors")
_SHOWN = 3  # patients an intervention in the picture
_GUIDED, _THRESHOLD = 1.5, 0.03


def _twins(
    net: RadiT, few: Cohort, true: Cohort, action: Intervention, how: Solving | None = None
) -> np.ndarray:
    """Return twins under the true variables of the twins."""
    names = reached(action)
    u = bound(net, few, how).reaching(names).abduct(films(few), chance(few))
    return bound(net, true, how).reaching(names).predict(u).clamp(0, 1)


def _anew(net: RadiT, true: Cohort) -> np.ndarray:
    equation = bound(net, true)
    return equation.predict(equation.sample_noise(chance(true, seed=7))).clamp(0, 1)


def main(quick: bool = False) -> list[Row]:
    """Return a row an intervention, and their mean."""
    n, records = (2, 300) if quick else (48, 2000)
    cohort, net = Cohort.load("phantom", n=records, seed=102), network()
    paired = network(_PAIRED) if _PAIRED.exists() else None
    table: list[Row] = []
    thinned = Solving(threshold=_THRESHOLD)
    sheet, captions = [], []
    for name, (where, action) in ACTIONS.items():
        few = cohort.select(where).head(n)
        true = truth(few, action)
        factual, target = films(few).double(), films(true).double()
        made = {
            "RadiT": _twins(net, few, true, action),
            f"threshold {_THRESHOLD}": _twins(net, few, true, action, thinned),
            f"guided {_GUIDED}": _twins(net, few, true, action, Solving(guidance=_GUIDED)),
            "anew": _anew(net, true),
        }
        if paired:
            made["OT-paired"] = _twins(paired, few, true, action)
        errors = {key: wrong(twins, target, factual) for key, twins in made.items()}
        table.append({"intervention": name, "n": len(few), **errors})
        for row in range(min(_SHOWN, len(few))):
            parts = (factual, target, made["RadiT"], made["anew"])
            sheet += [part[row].float().numpy() for part in parts]
            captions += [name, "true twin", "RadiT", "anew"]
    columns = [key for key in table[0] if key not in ("intervention", "n")]
    mean = {key: float(np.mean([row[key] for row in table])) for key in columns}
    contact_sheet(np.stack(sheet), captions, columns=8, path=Path("runs/radit_truth.png"))
    return [*table, {"intervention": "mean (target .5)", "n": "", **mean}]
