"""Inversion or transport: which coupling gives twins nearer to the true twins of the phantom?

    python -m benchmarks radit_coupling          (about 25 minutes on one core)

The bundled weights under both couplings, with seven interventions on held-out phantoms of a seed
that was not used to choose anything; the twins have the variables of the true twins. For each
coupling the table has the error relative to a copy's with its interval, the share of twins in
which a reader finds the value that was set, the change of what should not change, identity, the
distance to the true twins, composition and reversibility. The ceiling is a model that knows all
that the factual radiograph shows (`causalcxr.sources.phantom.possible_twins`). Results are saved
in `runs/coupling`; draws `runs/radit_coupling.png`.
"""

from pathlib import Path

from benchmarks import Row
from benchmarks._image_twins import ACTIONS, load_network
from benchmarks.peers.evaluation import Evaluation, draw_sheet
from benchmarks.peers.families import small_batches
from benchmarks.peers.models import Model
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.mechanisms.image_transport import image_equation
from causalcxr.radit.weights import resolve

__all__ = ["main"]

_RECORDS = 24  # for each intervention
_COUPLINGS = {
    "inversion": Solving(),
    "transport": Solving(coupling="transport"),
    "transport, no threshold": Solving(coupling="transport", threshold=0.0),
    "transport, weight 1.5": Solving(coupling="transport", guidance=1.5),
}


def main(quick: bool = False) -> list[Row]:
    """Return one row per coupling, between those of a copy and of the ceiling and true twins."""
    folder = Path("runs/coupling-quick" if quick else "runs/coupling")
    if quick:
        evaluation = Evaluation.on_phantoms(
            2, n_training=300, names=list(ACTIONS)[:1], cycles=(1, 2), seed=311
        )
    else:
        evaluation = Evaluation.on_phantoms(_RECORDS, n_training=4000, seed=311)
    net, weights = load_network(), resolve("phantom", 64)

    def model(options: Solving) -> Model:
        return lambda parents: image_equation(net, parents, small_batches(options, parents))

    table: list[Row] = [evaluation.summary("copy", evaluation.reference(true=False))]
    for name, options in _COUPLINGS.items():
        results = evaluation.cached(name, lambda options=options: model(options), weights, folder)
        table.append(evaluation.summary(name, results))
    table.append(evaluation.summary("ceiling", evaluation.ceiling()))
    table.append(evaluation.summary("true twins", evaluation.reference(true=True)))
    shown = {name: model(options) for name, options in _COUPLINGS.items() if "," not in name}
    draw_sheet(evaluation, shown, Path("runs/radit_coupling.png"), n_shown=2)
    return table
