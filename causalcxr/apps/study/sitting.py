"""One reader at work: what their page shows, and what becomes of their answers."""

from pathlib import Path
from time import monotonic
from typing import Any

from causalcxr.apps.study.answers import Answer, AnswerFile
from causalcxr.apps.study.making import IMAGES
from causalcxr.apps.study.plan import Plan

__all__ = ["Sitting"]


class Sitting:
    """Answer a reader's browser; all that must outlive the process is in the answer file.

    Nothing that leaves here tells the truth, the record or the trial's number in the plan.

    Args:
        folder: The study.
        plan: Its plan.
        number: Which of its readers, counted from 0.

    Raises:
        StudyError: As `AnswerFile` does.
    """

    def __init__(self, folder: str | Path, plan: Plan, number: int) -> None:
        self._folder, self._plan = Path(folder), plan
        self.reader = plan.readers[number]
        self._file = AnswerFile(folder, plan, number)
        self._sent: dict[int, float] = {}
        self._images = {name for trial in plan.trials for name in trial.images}

    @property
    def position(self) -> int:
        """The step that is to be answered next."""
        return self._file.position

    def state(self) -> dict[str, Any]:
        """Return what the page shows now: JSON."""
        plan, step = self._plan, self.position
        told = {
            "title": plan.title,
            "reader": self.reader.name,
            "kind": plan.kind,
            "step": step,
            "total": len(plan.trials),
            "presentations": plan.presentations,
            "size": list(plan.size),
            "smooth": plan.smooth,
        }
        if step == plan.steps:
            return told | {"phase": "done"}
        shown = plan.shown(self.reader, step)
        first = shown.position == 0
        phase = "trial" if not first else ("break" if shown.presentation else "start")
        self._sent.setdefault(step, monotonic())
        ahead = plan.shown(self.reader, step + 1).images if step + 1 < plan.steps else ()
        return told | {
            "phase": phase,
            "presentation": shown.presentation + 1,
            "position": shown.position + 1,
            "images": list(shown.images),
            "ahead": list(ahead),
        }

    def answer(self, step: int, choice: int, confidence: int, seen_ms: float) -> dict[str, Any]:
        """Save an answer and return what the page shows next.

        Raises:
            StudyError: If it is no answer to the question that comes next, or cannot be saved.
        """
        sent = self._sent.get(step)
        waited = None if sent is None else round((monotonic() - sent) * 1000, 1)
        self._file.record(Answer(step, choice, confidence, round(seen_ms, 1), waited))
        self._sent.pop(step, None)
        return self.state()

    def image(self, name: str) -> bytes | None:
        """Return the file of an image of the study, or None where there is no such image."""
        if name not in self._images:
            return None
        return (self._folder / IMAGES / f"{name}.png").read_bytes()
