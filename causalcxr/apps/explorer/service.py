"""The explorer without its pages: models, cohorts, patients, questions, and recent answers."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from pydantic import Field

from causalcxr.apps.explorer.assumptions import Assumptions, find_assumptions
from causalcxr.apps.explorer.downloads import ImagePair
from causalcxr.apps.explorer.image_encoding import to_uint16
from causalcxr.apps.explorer.patient_graph import patient_graph_svg
from causalcxr.apps.explorer.patients import PatientList, doses
from causalcxr.apps.explorer.question import AbductedPatient, Question, TwinAnswer, worded_value
from causalcxr.apps.explorer.recent_results import RecentResults
from causalcxr.apps.explorer.rendering import RenderQueue, lower_priority
from causalcxr.apps.explorer.uploads import Uploads
from causalcxr.apps.explorer.workspace import Workspace
from causalcxr.common.errors import CohortError
from causalcxr.common.web_server import Sent
from causalcxr.scm.model_images import sizes_of
from causalcxr.scm.scm import SCM

__all__ = ["MAX_UPLOADS", "ExplorerService", "PatientReference", "QuestionRequest"]

_T = TypeVar("_T")
_PATIENTS, _PAIRS = 256, 64  # how many recent results are kept
MAX_UPLOADS = 4  # files that are read and decoded at the same time


class PatientReference(Sent):
    """A patient: a row of a cohort, or an uploaded file with the values entered for it."""

    cohort: str = ""
    row: int = Field(default=0, ge=0)
    upload: str = ""
    facts: dict[str, str | int | float] = Field(default={})


class QuestionRequest(Sent):
    """A question as the browser sends it."""

    model: str
    patient: PatientReference
    settings: dict[str, str | int | float] = Field(default={})
    hold: list[str] = Field(default=[])
    beyond_range: bool = False

    @property
    def question(self) -> Question:
        """The variables that are set and held."""
        return Question(dict(self.settings), tuple(self.hold), self.beyond_range)

    @property
    def key(self) -> str:
        """A digest that equal questions about the same patient share."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class ExplorerService:
    """Answer the requests of the pages, from several threads at once.

    Args:
        workspace: Models and cohorts.
    """

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.uploads, self.render_queue = Uploads(), RenderQueue()
        # Each upload takes memory and a process, so only some are read at the same time.
        self.upload_slots = asyncio.Semaphore(MAX_UPLOADS)
        self.key = secrets.token_bytes(32)
        # Slow answers are computed one after the other, in a thread of low priority.
        self._slow = ThreadPoolExecutor(1, "assumptions", initializer=lower_priority)
        self._patients, self._lists = RecentResults(_PATIENTS), RecentResults(_PATIENTS)
        self._pairs, self._answers = RecentResults(_PAIRS), RecentResults(_PATIENTS)

    def patient_list(self, cohort: str, model: str) -> PatientList:
        """Return the patients of a cohort, read with the graph of a model."""
        graph = self.workspace.models[model].graph
        records = self.workspace.cohort(cohort)
        return self._lists.get((cohort, graph.hash), lambda: PatientList(records, graph))

    def abducted(self, request: QuestionRequest) -> AbductedPatient:
        """Return the patient of a question with the noise that the model abducts.

        Raises:
            CausalCXRError: If the patient or the model does not exist, or a value is invalid.
        """
        model, patient = self.workspace.models[request.model], request.patient
        if patient.upload:
            upload, facts = self.uploads[patient.upload], tuple(sorted(patient.facts.items()))
            # An upload has no row; facts are part of the key, as the user can edit them.
            size = _image_size(model)
            key = (request.model, patient.upload, facts)
            return self._patients.get(
                key, lambda: AbductedPatient(model, upload.cohort(patient.facts, size))
            )
        cohort = self.workspace.cohort(patient.cohort)
        if patient.row >= len(cohort):
            raise CohortError(f"no record {patient.row}; the cohort has {len(cohort):,}")
        key = (request.model, patient.cohort, patient.row)
        return self._patients.get(key, lambda: AbductedPatient(model, cohort.at([patient.row])))

    def answer(self, request: QuestionRequest) -> TwinAnswer:
        """Return the twin's value of every variable; a repeated question is not recomputed."""
        return self._answers.get(request.key, lambda: self.abducted(request).ask(request.question))

    def table(self, request: QuestionRequest) -> dict[str, Any]:
        """Return the answer as a table, and the Python code that gives the same result."""
        return self.answer(request).to_json() | {"python": self.code(request)}

    def graph(self, request: QuestionRequest) -> str:
        """Return the graph with the values of the answer, SVG."""
        graph = self.workspace.models[request.model].graph
        return patient_graph_svg(graph, self.answer(request))

    async def run_slow(
        self, work: Callable[[QuestionRequest], _T], request: QuestionRequest
    ) -> _T:
        """Return the result of slow work without delaying tables."""
        return await asyncio.get_running_loop().run_in_executor(self._slow, work, request)

    def close(self) -> None:
        """End the threads."""
        self._slow.shutdown(wait=False, cancel_futures=True)
        self.render_queue.close()

    def assumptions(self, request: QuestionRequest) -> Assumptions:
        """Return how much of the answer depends on the coupling and on sparse data."""
        return find_assumptions(self.abducted(request), request.question)

    def patient(self, request: QuestionRequest) -> dict[str, Any]:
        """Return a description of the patient: name, factual values, image, source."""
        abducted = self.abducted(request)
        images = abducted.patient.images
        codes = {n: float(abducted.noise.columns[n][0]) for n in abducted.model.graph.tabular}
        upload = request.patient.upload
        return {
            "label": self.uploads[upload].name if upload else str(abducted.patient.records[0]),
            "facts": abducted.facts,
            "codes": {name: None if np.isnan(code) else code for name, code in codes.items()},
            "image": images is not None and bool(images.available[0]),
            "sizes": sizes_of(abducted.model, abducted.patient),
            "synthetic": abducted.synthetic,
            "source": abducted.patient.source,
        }

    def factual(self, request: QuestionRequest) -> np.ndarray:
        """Return the factual image, (H, W) uint16."""
        images = self.abducted(request).patient.images
        if images is None or not images.available[0]:
            raise CohortError("this record has no image")
        return to_uint16(images[0])

    def doses(self, request: QuestionRequest, name: str) -> list[tuple[float, Question]]:
        """Return the question at each dose of a continuous variable."""
        graph = self.workspace.models[request.model].graph
        cohort = request.patient.cohort or next(iter(self.workspace.cohorts))
        name = graph.find(name)
        column = self.patient_list(cohort, request.model).columns[name]
        settings = {graph.find(key): value for key, value in request.settings.items()}
        base = Question(settings, tuple(request.hold), request.beyond_range)
        return [(dose, base.with_setting(name, dose)) for dose in doses(graph[name], column)]

    def dose_table(self, request: QuestionRequest, name: str) -> dict[str, Any]:
        """Return the values of the other variables at each dose."""
        abducted, questions = self.abducted(request), self.doses(request, name)
        variable = abducted.model.graph[name]
        # The noise is abducted once; each dose is another intervention.
        answers = [abducted.ask(question) for _, question in questions]
        # One row for each variable that changes at some dose.
        changing = [
            lines
            for lines in zip(*(answer.lines for answer in answers), strict=True)
            if lines[0].name != variable.name and any(line.mark == "changed" for line in lines)
        ]
        return {
            "variable": variable.name,
            "doses": [worded_value(variable, dose) for dose, _ in questions],
            "values": [dose for dose, _ in questions],
            "lines": [
                {
                    "name": lines[0].name,
                    "factual": lines[0].factual,
                    "twins": [line.twin for line in lines],
                }
                for lines in changing
            ],
        }

    def code(self, request: QuestionRequest) -> str:
        """Return the line of Python that gives the same twin."""
        model, patient = self.workspace.models.code(request.model), request.patient
        if not patient.upload:
            cohort = self.workspace.cohort_code(patient.cohort)
            return request.question.code(model, cohort, f"[{patient.row}]")
        upload = self.uploads[patient.upload]
        table = f"pd.DataFrame([{dict(patient.facts)!r}], index=[{upload.record!r}])"
        return request.question.code(model, f"cx.Cohort({table}, images)", "[0]")

    def keep(self, request: QuestionRequest, pair: ImagePair) -> None:
        """Keep a rendered pair for downloads."""
        self._pairs.put(request.key, pair)

    def pair(self, request: QuestionRequest) -> ImagePair:
        """Return a pair that was rendered.

        Raises:
            CohortError: If it was not.
        """
        pair = self._pairs.find(request.key)
        if pair is None:
            raise CohortError("the twin's image is not rendered yet; wait until it is ready")
        return pair


def _image_size(model: SCM) -> tuple[int, int] | None:
    """Return height and width of the images that a model renders."""
    name = model.graph.image
    return model.fitted[name].mechanism.image_size if name in model.fitted else None
