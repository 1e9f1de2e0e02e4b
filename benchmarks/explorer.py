"""Response times of the explorer.

    python -m benchmarks explorer

The demo's graph (cxr7, bundled weights of 64 pixels), fitted to phantoms. Questions set one to
three variables of one patient each, drawn with a seed. `patient` abducts the noise of a record
when a patient is chosen. `table` is what the page requests at every change: the twin, its
probabilities and the line of Python, as JSON. `graph` draws them on a graph with a known layout.
`assumptions` follows: couplings and support. `image` is the time from the question to the image of
the twin, for the first image of a patient and for a later one. The last row requests tables while
images of another user are rendered.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from threading import Event

import numpy as np

from benchmarks import Row
from causalcxr.apps.explorer.rendering import RenderJob
from causalcxr.apps.explorer.service import ExplorerService, PatientReference, QuestionRequest
from causalcxr.apps.explorer.workspace import Models, Workspace
from causalcxr.cohort import Cohort
from causalcxr.graph import Graph
from causalcxr.scm import SCM

__all__ = ["main", "random_questions", "workspace"]

_SPEC = "phantom:n=2000,seed=0"


def workspace(n: int = 2000) -> Workspace:
    """Return the demo's workspace."""
    patients = Cohort.load("phantom", n=n, seed=0)
    model = SCM(Graph.load("cxr7")).fit(patients, progress=False)
    return Workspace(Models("cxr7", model, "model"), {_SPEC: patients}, Path("unused"))


def random_questions(workspace: Workspace, count: int, seed: int = 0) -> list[QuestionRequest]:
    """Return questions that set one to three variables to values of other patients."""
    rng = np.random.default_rng(seed)
    cohort, model = workspace.cohorts[_SPEC], workspace.models["cxr7"]
    table, names = cohort.table, model.graph.tabular
    # Users set the causes of a derived variable, not the variable itself.
    names = [name for name in names if model.graph[name].mechanism.kind != "derived"]
    results = []
    for row in rng.choice(len(cohort), count, replace=False):
        chosen = rng.choice(names, rng.integers(1, 4), replace=False)
        other = table.iloc[rng.integers(len(table))]
        settings = {str(name): _plain(other[name]) for name in chosen}
        patient = PatientReference(cohort=_SPEC, row=int(row))
        results.append(
            QuestionRequest(model="cxr7", patient=patient, settings=settings, beyond_range=True)
        )
    return results


def _plain(value: object) -> str | float:
    return value if isinstance(value, str) else float(value)


def _times(
    work: Callable[[QuestionRequest], object], questions: list[QuestionRequest]
) -> np.ndarray:
    """Return the time of each request, in milliseconds."""
    results = []
    for request in questions:
        start = time.perf_counter()
        work(request)
        results.append(1000 * (time.perf_counter() - start))
    return np.array(results)


def _queued(
    service: ExplorerService, questions: list[QuestionRequest]
) -> tuple[list[RenderJob], Event]:
    """Queue an image for each question; the event is set when all are ready."""
    ready, remaining = Event(), [len(questions)]

    def report(event: dict) -> None:
        if "done" in event or "error" in event:
            remaining[0] -= 1
            if not remaining[0]:
                ready.set()

    jobs = [
        RenderJob(service.abducted(request), [request.question], report) for request in questions
    ]
    for job in jobs:
        service.render_queue.submit(job)
    return jobs, ready


def _render(service: ExplorerService, request: QuestionRequest) -> None:
    _, ready = _queued(service, [request])
    ready.wait()


def _row(what: str, times: np.ndarray, target: str = "") -> Row:
    low, high = np.median(times), np.quantile(times, 0.95)
    return {"what": what, "n": len(times), "median, ms": low, "95 %, ms": high, "target": target}


def main(quick: bool = False) -> list[Row]:
    """Return one row per kind of request."""
    count = 20 if quick else 100
    shared = workspace(500 if quick else 2000)
    service = ExplorerService(shared)
    warm_up, *questions = random_questions(shared, count + 1)
    image_questions = questions[: 3 if quick else 10]
    json.dumps(service.table(warm_up))
    service.graph(warm_up)
    service.assumptions(warm_up)
    _render(service, warm_up)
    rows = [
        _row("patient", _times(service.patient, questions)),
        _row(
            "table",
            _times(lambda request: json.dumps(service.table(request)), questions),
            "median < 100",
        ),
        _row("graph", _times(service.graph, questions)),
        _row("assumptions", _times(service.assumptions, questions)),
        _row(
            "image, first of a patient",
            _times(lambda request: _render(service, request), image_questions),
        ),
        _row(
            "image, a later one",
            _times(lambda request: _render(service, request), image_questions),
        ),
    ]
    other_questions = random_questions(shared, 4 * len(image_questions), seed=1)
    questions = random_questions(shared, count, seed=2)
    for request in questions:
        service.patient(request)
    jobs, ready = _queued(service, other_questions)
    busy = _times(lambda request: json.dumps(service.table(request)), questions)
    unfinished = not ready.is_set()
    for job in jobs:
        job.stop()
    state = "while images are rendered" if unfinished else "while images were rendered, in part"
    rows.append(_row(f"table, {state}", busy, "median < 100"))
    service.close()
    return rows
