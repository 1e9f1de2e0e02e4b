"""The explorer without its pages: who is asked about, what is asked, what was made already."""

import asyncio
import hashlib
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

import numpy as np
from pydantic import Field

from causalcxr.apps.explorer.doubt import Doubt, doubt_of
from causalcxr.apps.explorer.downloads import Pair
from causalcxr.apps.explorer.drawn import drawn
from causalcxr.apps.explorer.dropping import Drops
from causalcxr.apps.explorer.filming import Darkroom, gives_way
from causalcxr.apps.explorer.kept import Kept
from causalcxr.apps.explorer.patients import Ward, doses
from causalcxr.apps.explorer.pictures import grey
from causalcxr.apps.explorer.question import Answer, Question, Visit, worded_value
from causalcxr.apps.explorer.workbench import Workbench
from causalcxr.common.errors import CohortError
from causalcxr.common.web_server import Sent

__all__ = ["UPLOADS", "Asked", "Desk", "Who"]

_T = TypeVar("_T")
_VISITS, _PAIRS = 256, 64
UPLOADS = 4  # files that are read and decoded at a time


class Who(Sent):
    """A patient: a row of a cohort, or a file that was dropped in with what is known of it."""

    cohort: str = ""
    row: int = Field(default=0, ge=0)
    drop: str = ""
    facts: dict[str, str | int | float] = Field(default={})


class Asked(Sent):
    """A question as the browser sends it."""

    model: str
    who: Who
    settings: dict[str, str | int | float] = Field(default={})
    hold: list[str] = Field(default=[])
    beyond_range: bool = False

    @property
    def question(self) -> Question:
        """What is set and held."""
        return Question(dict(self.settings), tuple(self.hold), self.beyond_range)

    @property
    def key(self) -> str:
        """The same for the same question about the same patient."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()


class Desk:
    """Answer what pages ask; several threads may ask at once.

    Args:
        workbench: Models and cohorts.
    """

    def __init__(self, workbench: Workbench) -> None:
        self.workbench = workbench
        self.drops, self.darkroom = Drops(), Darkroom()
        # Uploads wait for each other before they are read: each takes memory and a process.
        self.uploads = asyncio.Semaphore(UPLOADS)
        self.key = secrets.token_bytes(32)
        # What takes longer than a table is done one after the other, by a thread that gives way.
        self._slow = ThreadPoolExecutor(1, "doubts", initializer=gives_way)
        self._visits, self._wards = Kept(_VISITS), Kept(_VISITS)
        self._pairs, self._answers = Kept(_PAIRS), Kept(_VISITS)

    def ward(self, cohort: str, model: str) -> Ward:
        """Return the patients of a cohort, as a model's graph reads them."""
        graph = self.workbench.models[model].graph
        found = self.workbench.cohort(cohort)
        return self._wards.get((cohort, graph.hash), lambda: Ward(found, graph))

    def visit(self, asked: Asked) -> Visit:
        """Return the patient before the model.

        Raises:
            CausalCXRError: If there is no such patient or model, or a fact is none.
        """
        model, who = self.workbench.models[asked.model], asked.who
        if who.drop:
            drop, told = self.drops[who.drop], tuple(sorted(who.facts.items()))
            size = _size(model)
            key = (asked.model, who.drop, told)
            return self._visits.get(key, lambda: Visit(model, drop.cohort(who.facts, size)))
        cohort = self.workbench.cohort(who.cohort)
        if who.row >= len(cohort):
            raise CohortError(f"no record {who.row}; the cohort has {len(cohort):,}")
        key = (asked.model, who.cohort, who.row)
        return self._visits.get(key, lambda: Visit(model, cohort.at([who.row])))

    def answer(self, asked: Asked) -> Answer:
        """Return what becomes of every variable; the same question is answered once."""
        return self._answers.get(asked.key, lambda: self.visit(asked).ask(asked.question))

    def table(self, asked: Asked) -> dict[str, Any]:
        """Return the answer's table, and the Python that asks it."""
        return self.answer(asked).to_json() | {"python": self.code(asked)}

    def graph(self, asked: Asked) -> str:
        """Return the graph that shows the answer, SVG."""
        return drawn(self.workbench.models[asked.model].graph, self.answer(asked))

    async def later(self, work: Callable[[Asked], _T], asked: Asked) -> _T:
        """Return what takes longer than a table, without holding one up."""
        return await asyncio.get_running_loop().run_in_executor(self._slow, work, asked)

    def close(self) -> None:
        """Let go of the threads."""
        self._slow.shutdown(wait=False, cancel_futures=True)
        self.darkroom.close()

    def doubt(self, asked: Asked) -> Doubt:
        """Return what the answer rests on."""
        return doubt_of(self.visit(asked), asked.question)

    def patient(self, asked: Asked) -> dict[str, Any]:
        """Return who the patient is: facts in words, whether there is an image, of what kind."""
        visit = self.visit(asked)
        images = visit.patient.images
        known = images is not None and bool(images.available[0])
        name = self.drops[asked.who.drop].name if asked.who.drop else ""
        return {
            "label": name or str(visit.patient.records[0]),
            "facts": visit.facts,
            "codes": {
                n: None if np.isnan(c := float(visit.noise.columns[n][0])) else c
                for n in visit.model.graph.tabular
            },
            "image": known,
            "synthetic": visit.synthetic,
            "source": visit.patient.source,
        }

    def factual(self, asked: Asked) -> np.ndarray:
        """Return the factual image, (H, W) uint16."""
        images = self.visit(asked).patient.images
        if images is None or not images.available[0]:
            raise CohortError("this record has no image")
        return grey(images[0])

    def doses(self, asked: Asked, name: str) -> list[tuple[float, Question]]:
        """Return the question at each dose of a continuous variable."""
        graph = self.workbench.models[asked.model].graph
        cohort = asked.who.cohort or next(iter(self.workbench.cohorts))
        name = graph.find(name)
        column = self.ward(cohort, asked.model).columns[name]
        settings = {graph.find(key): value for key, value in asked.settings.items()}
        base = Question(settings, tuple(asked.hold), asked.beyond_range)
        return [(dose, base.with_setting(name, dose)) for dose in doses(graph[name], column)]

    def dose_table(self, asked: Asked, name: str) -> dict[str, Any]:
        """Return what becomes of every other variable at each dose."""
        visit, asks = self.visit(asked), self.doses(asked, name)
        variable = visit.model.graph[name]
        answers = [visit.ask(question) for _, question in asks]
        # A line for each variable that is another at some dose.
        moving = [
            (lines[0].name, lines[0].factual, lines)
            for lines in zip(*(answer.lines for answer in answers), strict=True)
            if lines[0].name != variable.name and any(line.mark == "changed" for line in lines)
        ]
        return {
            "variable": variable.name,
            "doses": [worded_value(variable, dose) for dose, _ in asks],
            "values": [dose for dose, _ in asks],
            "lines": [
                {"name": n, "factual": fact, "twins": [line.twin for line in lines]}
                for n, fact, lines in moving
            ],
        }

    def code(self, asked: Asked) -> str:
        """Return the line of Python that asks the same."""
        model = self.workbench.models.code(asked.model)
        if not asked.who.drop:
            name, rows = asked.who.cohort, f"[{asked.who.row}]"
            return asked.question.code(model, self.workbench.cohort_code(name), rows)
        drop = self.drops[asked.who.drop]
        table = f"pd.DataFrame([{dict(asked.who.facts)!r}], index=[{drop.record!r}])"
        return asked.question.code(model, f"cx.Cohort({table}, films)", "[0]")

    def keep(self, asked: Asked, pair: Pair) -> None:
        """Keep a pair for whoever wants to download it."""
        self._pairs.put(asked.key, pair)

    def pair(self, asked: Asked) -> Pair:
        """Return a pair that was made.

        Raises:
            CohortError: If it was not.
        """
        found = self._pairs.find(asked.key)
        if found is None:
            raise CohortError("the twin's image is not made yet; wait for it")
        return found


def _size(model: Any) -> tuple[int, int] | None:
    """Return height and width of the images that a model makes."""
    name = model.graph.image
    return model.fitted[name].mechanism.image_size if name in model.fitted else None
