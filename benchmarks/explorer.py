"""How long a person waits in the explorer.

    python -m benchmarks explorer

The demo's graph (cxr7, bundled weights of 64 pixels), fitted to phantoms. Questions set one to
three variables of one patient each, drawn with a seed. `patient` finds the noise of a record, when
a patient is chosen. `table` is what the page asks for at every change: the twin, its probabilities
and the line of Python, as JSON. `graph` draws them on a graph that was laid out before. `doubt`
follows: couplings and support. `image` is from the question to the twin's image, the first of a
patient and a later one. The last row asks for tables while another user's images are being made.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np

from benchmarks import Row
from causalcxr.apps.explorer.desk import Asked, Desk, Who
from causalcxr.apps.explorer.filming import Take
from causalcxr.apps.explorer.workbench import Models, Workbench
from causalcxr.cohort import Cohort
from causalcxr.graph import Graph
from causalcxr.scm import SCM

__all__ = ["asked_at_random", "main", "workbench"]

_SPEC = "phantom:n=2000,seed=0"


def workbench(n: int = 2000) -> Workbench:
    """Return the demo's workbench."""
    patients = Cohort.load("phantom", n=n, seed=0)
    model = SCM(Graph.load("cxr7")).fit(patients, progress=False)
    return Workbench(Models("cxr7", model, "model"), {_SPEC: patients}, Path("unused"))


def asked_at_random(bench: Workbench, count: int, seed: int = 0) -> list[Asked]:
    """Return questions that set one to three variables to levels or numbers of other patients."""
    rng = np.random.default_rng(seed)
    cohort, model = bench.cohorts[_SPEC], bench.models["cxr7"]
    table, names = cohort.table, model.graph.tabular
    # A derived variable is set only by its rule's causes, as a person would.
    names = [name for name in names if model.graph[name].mechanism.kind != "derived"]
    found = []
    for row in rng.choice(len(cohort), count, replace=False):
        chosen = rng.choice(names, rng.integers(1, 4), replace=False)
        other = table.iloc[rng.integers(len(table))]
        settings = {str(name): _plain(other[name]) for name in chosen}
        who = Who(cohort=_SPEC, row=int(row))
        found.append(Asked(model="cxr7", who=who, settings=settings, beyond_range=True))
    return found


def _plain(value: object) -> str | float:
    return value if isinstance(value, str) else float(value)


def _times(work: Callable[[Asked], object], asks: list[Asked]) -> np.ndarray:
    """Return how long each took, in milliseconds."""
    found = []
    for asked in asks:
        begun = time.perf_counter()
        work(asked)
        found.append(1000 * (time.perf_counter() - begun))
    return np.array(found)


def _filmed(desk: Desk, asks: list[Asked]) -> tuple[list[Take], Event]:
    """Put an image of each question in the queue."""
    ready, left = Event(), [len(asks)]

    def tell(event: dict) -> None:
        if "done" in event or "error" in event:
            left[0] -= 1
            if not left[0]:
                ready.set()

    takes = [Take(desk.visit(asked), [asked.question], tell) for asked in asks]
    for take in takes:
        desk.darkroom.submit(take)
    return takes, ready


def _film(desk: Desk, asked: Asked) -> None:
    _, ready = _filmed(desk, [asked])
    ready.wait()


def _row(what: str, times: np.ndarray, target: str = "") -> Row:
    low, high = np.median(times), np.quantile(times, 0.95)
    return {"what": what, "n": len(times), "median, ms": low, "95 %, ms": high, "target": target}


def main(quick: bool = False) -> list[Row]:
    """Return a row for each kind of waiting."""
    count = 20 if quick else 100
    bench = workbench(500 if quick else 2000)
    desk = Desk(bench)
    warm, *asks = asked_at_random(bench, count + 1)
    few = asks[: 3 if quick else 10]
    json.dumps(desk.table(warm))
    desk.graph(warm)
    desk.doubt(warm)
    _film(desk, warm)
    rows = [
        _row("patient", _times(desk.patient, asks)),
        _row("table", _times(lambda asked: json.dumps(desk.table(asked)), asks), "median < 100"),
        _row("graph", _times(desk.graph, asks)),
        _row("doubt", _times(desk.doubt, asks)),
        _row("image, first of a patient", _times(lambda asked: _film(desk, asked), few)),
        _row("image, a later one", _times(lambda asked: _film(desk, asked), few)),
    ]
    others = asked_at_random(bench, 4 * len(few), seed=1)
    asks = asked_at_random(bench, count, seed=2)
    for asked in asks:
        desk.patient(asked)
    takes, ready = _filmed(desk, others)
    busy = _times(lambda asked: json.dumps(desk.table(asked)), asks)
    still = not ready.is_set()
    for take in takes:
        take.stop()
    made = "while images are made" if still else "while images were made, part of the time"
    rows.append(_row(f"table, {made}", busy, "median < 100"))
    desk.close()
    return rows
