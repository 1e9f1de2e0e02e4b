"""Inversion or transport: which coupling gives twins that are nearer to the phantom's true ones?

    python -m benchmarks radit_coupling          (one core, about 25 minutes; answers are kept)

The bundled weights under both couplings, seven interventions on held-out phantoms whose seed was
not used to choose anything, the variables of the twins being the true ones. Told per coupling: the
error over a copy's with its interval, the share of twins in which a reader finds what was set, the
change of what should not change, identity, distance to the true twins, composition, reversibility.
Answers are kept in `runs/coupling`; draws `runs/radit_coupling.png`.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks._twins import ACTIONS, network
from benchmarks.peers.families import few_at_once
from benchmarks.peers.judging import Judge, pictured
from benchmarks.peers.models import Model
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.mechanisms.image_transport import image_equation
from causalcxr.radit.weights import resolve

__all__ = ["main"]

_RECORDS = 24  # an intervention
_WAYS = {
    "inversion": Solving(),
    "transport": Solving(coupling="transport"),
    "transport, no threshold": Solving(coupling="transport", threshold=0.0),
    "transport, weight 1.5": Solving(coupling="transport", guidance=1.5),
}


def main(quick: bool = False) -> list[Row]:
    """Return a row a coupling, the copy first and the true twins last."""
    folder = Path("runs/coupling-quick" if quick else "runs/coupling")
    if quick:
        judge = Judge.of(2, taught=300, names=list(ACTIONS)[:1], cycles=(1, 2), seed=311)
    else:
        judge = Judge.of(_RECORDS, taught=4000, seed=311)
    net, weights = network(), resolve("phantom", 64)

    def model(how: Solving) -> Model:
        return lambda parents: image_equation(net, parents, few_at_once(how, parents))

    table: list[Row] = [judge.summary("copy", judge.bounds(true=False))]
    for name, how in _WAYS.items():
        found = judge.kept(name, lambda how=how: model(how), weights, folder)
        table.append(judge.summary(name, found))
    table.append(judge.summary("true twins", judge.bounds(true=True)))
    shown = {name: model(how) for name, how in _WAYS.items() if "," not in name}
    pictured(judge, shown, Path("runs/radit_coupling.png"), shown=2)
    return table
