"""One reader's session: what the page shows, and saving of answers."""

from pathlib import Path
from time import monotonic
from typing import Any

from causalcxr.apps.study.answers import AnswerFile, ReaderAnswer
from causalcxr.apps.study.creation import IMAGES
from causalcxr.apps.study.plan import StudyPlan

__all__ = ["ReaderSession"]


class ReaderSession:
    """Serve one reader; the state that must outlive the process is in the answer file.

    The replies never contain the truth, the record or the trial's number in the plan.

    Args:
        folder: The study.
        plan: Its plan.
        number: The number of the reader, from 0.

    Raises:
        StudyError: As `AnswerFile` does.
    """

    def __init__(self, folder: str | Path, plan: StudyPlan, number: int) -> None:
        self._folder, self._plan = Path(folder), plan
        self.reader = plan.readers[number]
        self._file = AnswerFile(folder, plan, number)
        self._sent: dict[int, float] = {}
        self._images = {name for trial in plan.trials for name in trial.images}

    @property
    def position(self) -> int:
        """The step that comes next."""
        return self._file.position

    def state(self) -> dict[str, Any]:
        """Return what the page shows now, as JSON."""
        plan, step = self._plan, self.position
        state = {
            "title": plan.title,
            "reader": self.reader.name,
            "kind": plan.kind,
            "step": step,
            "total": len(plan.trials),
            "presentations": plan.presentations,
            "size": list(plan.size),
            "smooth": plan.smooth,
        }
        # Every question is answered.
        if step == plan.steps:
            return state | {"phase": "done"}
        shown = plan.shown(self.reader, step)
        is_first = shown.position == 0
        phase = "trial" if not is_first else ("break" if shown.presentation else "start")
        # The first time counts: reloading the page does not restart the clock.
        self._sent.setdefault(step, monotonic())
        # The next images are loaded ahead, so that loading time does not differ.
        ahead = plan.shown(self.reader, step + 1).images if step + 1 < plan.steps else ()
        return state | {
            "phase": phase,
            "presentation": shown.presentation + 1,
            "position": shown.position + 1,
            "images": list(shown.images),
            "ahead": list(ahead),
        }

    def answer(self, step: int, choice: int, confidence: int, seen_ms: float) -> dict[str, Any]:
        """Save an answer and return what the page shows next.

        Raises:
            StudyError: If the answer is not to the next question, or cannot be saved.
        """
        sent = self._sent.get(step)
        waited = None if sent is None else round((monotonic() - sent) * 1000, 1)
        self._file.record(ReaderAnswer(step, choice, confidence, round(seen_ms, 1), waited))
        self._sent.pop(step, None)
        return self.state()

    def image(self, name: str) -> bytes | None:
        """Return the file of an image of the study, or None if the study has no such image."""
        if name not in self._images:
            return None
        return (self._folder / IMAGES / f"{name}.png").read_bytes()
