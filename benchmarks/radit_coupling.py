"""Inversion or transport: which coupling gives twins nearer to the true twins of the phantom?

    python -m benchmarks radit_coupling          (about 40 minutes on one core)

The bundled weights under both couplings, and networks whose edits are averaged, with seven
interventions on held-out phantoms of a seed that was not used to choose anything; the twins have
the variables of the true twins. For each model the table has the error relative to a copy's with
its interval, the share of twins in which a reader finds the value that was set, the change of what
should not change, identity, the distance to the true twins, composition and reversibility. The
ceiling is a model that knows all that the factual radiograph shows
(`causalcxr.sources.phantom.possible_twins`). Results are saved in `runs/coupling`; draws
`runs/radit_coupling.png`.
"""

from functools import cache
from pathlib import Path

from benchmarks import Row
from benchmarks._image_twins import ACTIONS, GRAPH
from benchmarks.peers.evaluation import Evaluation, draw_sheet
from benchmarks.peers.families import small_batches
from benchmarks.peers.models import Model
from causalcxr.mechanisms.base import Columns, Equation
from causalcxr.mechanisms.image_equation import Solving
from causalcxr.mechanisms.image_transport import image_equation
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.weights import adopt_weights, resolve_file

__all__ = ["main"]

_OLD, _NEW, _SMALL = "phantom-64", "phantom-randomised-64", "phantom-randomised-32"
_RECORDS = 48  # for each intervention
_SEED = 908
_TRANSPORT = Solving(coupling="transport")
# Name -> the settings, the network and its partners.
_MODELS = {
    "inversion, phantom-64": (Solving(), _OLD),
    "inversion, phantom-randomised-64": (Solving(), _NEW),
    "transport, phantom-64": (_TRANSPORT, _OLD),
    "transport, phantom-randomised-64": (_TRANSPORT, _NEW),
    "transport, three networks": (_TRANSPORT, _NEW, _OLD, _SMALL),
}


def main(quick: bool = False) -> list[Row]:
    """Return one row per model, between those of a copy and of the ceiling and true twins."""
    folder = Path("runs/coupling-quick" if quick else "runs/coupling")
    if quick:
        evaluation = Evaluation.on_phantoms(
            2, n_training=300, names=list(ACTIONS)[:1], cycles=(1, 2), seed=_SEED
        )
    else:
        evaluation = Evaluation.on_phantoms(_RECORDS, n_training=4000, seed=_SEED)
    table: list[Row] = [evaluation.summary("copy", evaluation.reference(true=False))]
    for name, (options, first, *others) in _MODELS.items():
        model = _model(options, first, *others)
        results = evaluation.cached(name, lambda model=model: model, resolve_file(first), folder)
        table.append(evaluation.summary(name, results))
    table.append(evaluation.summary("ceiling", evaluation.ceiling()))
    table.append(evaluation.summary("true twins", evaluation.reference(true=True)))
    first, *_, last = _MODELS
    shown = {name: _model(*_MODELS[name]) for name in (first, last)}
    draw_sheet(evaluation, shown, Path("runs/radit_coupling.png"), n_shown=2)
    return table


def _model(options: Solving, first: str, *others: str) -> Model:
    net, partners = _network(first), [_network(name) for name in others]

    def equation(parents: Columns) -> Equation:
        chosen = small_batches(options, parents)
        return image_equation(net, parents, chosen, partners=partners).sized(64, 64)

    return equation


@cache
def _network(name: str) -> RadiT:
    variables = [GRAPH[v] for v in GRAPH[GRAPH.image].parents]
    net = adopt_weights(resolve_file(name), None, variables)
    return net.eval().requires_grad_(False)
