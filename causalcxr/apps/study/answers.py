"""Answers: one line each in a file of its reader, on the disk before it is acknowledged."""

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Any

from causalcxr.apps.study.plan import Plan
from causalcxr.common.errors import StudyError
from causalcxr.common.files import sync_folder
from causalcxr.common.locks import exclusive

__all__ = ["Answer", "AnswerFile", "answer_path", "only_server", "read_answers"]

_CHECK = "check"  # the name of a line's checksum
_CONFIDENCES = range(1, 6)
_LONGEST = 10 * 365 * 86_400_000.0  # milliseconds; more is no time that anybody took


@dataclass(frozen=True)
class Answer:
    """Hold one answer.

    Args:
        step: Which of the reader's questions, counted from 0 over all presentations.
        choice: 0 or 1, see `Plan.correct`.
        confidence: 1 (guess) to 5 (certain).
        seen_ms: How long the images were visible in the browser, in milliseconds.
        server_ms: From sending the question to receiving the answer; None where a server that was
            started anew cannot know.
        at: When it was received, UTC, ISO 8601.
    """

    step: int
    choice: int
    confidence: int
    seen_ms: float | None = None
    server_ms: float | None = None
    at: str = ""


class AnswerFile:
    """Append the answers of one reader, and know from the file alone how far they are.

    The first line says to which plan and reader the file belongs. Each line ends with the
    first 16 digits of its own SHA-256; lines of version 0.1.0 have none. A line is whole or it is
    not there: what a kill left of a last line is cut off before anything is appended. Only the
    server that holds the study's lock may write, see `only_server`.

    Args:
        folder: The study.
        plan: Its plan.
        number: Which of its readers, counted from 0.

    Raises:
        StudyError: If the file belongs to another plan, or is damaged before its last line.
    """

    def __init__(self, folder: str | Path, plan: Plan, number: int) -> None:
        self.path = answer_path(folder, number)
        self._plan, self._lock = plan, threading.Lock()
        self._answers, whole = _read(self.path, plan, number)
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab") as file:
            os.truncate(file.fileno(), whole)
            if not whole:
                _append(file.fileno(), _head(plan, number))
        sync_folder(self.path.parent)

    @property
    def answers(self) -> list[Answer]:
        """The answers so far, in order."""
        return list(self._answers)

    @property
    def position(self) -> int:
        """The step that is to be answered next."""
        return len(self._answers)

    def record(self, answer: Answer) -> Answer:
        """Put an answer on the disk and return it; of a step that has one, return the first.

        Raises:
            StudyError: If it is no answer, steps were left out, or the disk refuses.
        """
        _check(answer)
        with self._lock:
            if answer.step < self.position:
                return self._answers[answer.step]
            if answer.step != self.position or answer.step >= self._plan.steps:
                raise StudyError(
                    f"answer to step {answer.step}: step {self.position} of {self._plan.steps} "
                    "comes next; load the page anew"
                )
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            answer = Answer(**asdict(answer) | {"at": at})
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                _append(handle, asdict(answer))
            finally:
                os.close(handle)
            self._answers.append(answer)
            return answer


def answer_path(folder: str | Path, number: int) -> Path:
    """Return the file of a reader, counted from 0."""
    return Path(folder) / "answers" / f"reader-{number + 1:03d}.jsonl"


def read_answers(folder: str | Path, plan: Plan, number: int) -> list[Answer]:
    """Return the answers of a reader, also while a server writes them.

    Raises:
        StudyError: As `AnswerFile` does.
    """
    return _read(answer_path(folder, number), plan, number)[0]


@contextlib.contextmanager
def only_server(folder: str | Path) -> Iterator[None]:
    """Hold the study's lock; the system lets go of it when the process ends, however it ends.

    Raises:
        StudyError: If another process serves the study.
    """
    refusal = StudyError(f"{folder}: another process serves this study; stop it, or use it")
    with exclusive(Path(folder) / "lock", refusal, keep=True):
        yield


def _read(path: Path, plan: Plan, number: int) -> tuple[list[Answer], int]:
    """Return the answers and the length of the whole lines in bytes."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines = content.split(b"\n")
    torn = lines.pop()
    rows: list[dict[str, Any]] = []
    for place, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line))
        except _Changed:
            raise StudyError(
                f"{path}:{place}: was changed since it was written; bring back a copy"
            ) from None
        except ValueError:
            if place < len(lines) or torn:
                raise StudyError(f"{path}:{place}: is damaged; bring back a copy") from None
            torn = line + b"\n"
    if rows and rows[0] != _head(plan, number):
        raise StudyError(f"{path}:1: belongs to another plan or reader; bring its plan back")
    answers = []
    for place, row in enumerate(rows[1:], start=2):
        try:
            answers.append(_check(Answer(**row)))
        except (TypeError, StudyError) as fault:
            raise StudyError(f"{path}:{place}: is no answer ({fault})") from None
        if answers[-1].step != place - 2 or place - 2 >= plan.steps:
            raise StudyError(f"{path}:{place}: step {answers[-1].step}, expected {place - 2}")
    return answers, len(content) - len(torn)


class _Changed(Exception):
    """A line is not what its checksum says."""


def _row(line: bytes) -> dict[str, Any]:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError
    if _CHECK in row and row.pop(_CHECK) != _checksum(row):
        raise _Changed
    return row


def _checksum(row: dict[str, Any]) -> str:
    """Return the first 16 digits of the SHA-256 of a line without its checksum."""
    return hashlib.sha256(_packed(row)).hexdigest()[:16]


def _packed(row: dict[str, Any]) -> bytes:
    return json.dumps(row, separators=(",", ":")).encode()


def _head(plan: Plan, number: int) -> dict[str, Any]:
    return {"plan": plan.digest, "reader": number}


def _check(answer: Answer) -> Answer:
    for name, value, allowed in (
        ("choice", answer.choice, (0, 1)),
        ("confidence", answer.confidence, _CONFIDENCES),
    ):
        if type(value) is not int or value not in allowed:
            raise StudyError(f"{name} {value!r:.40}: give {allowed[0]} to {allowed[-1]}")
    if type(answer.step) is not int or answer.step < 0:
        raise StudyError(f"step {answer.step!r:.40}: give a number from 0")
    for name, time in (("seen_ms", answer.seen_ms), ("server_ms", answer.server_ms)):
        fine = time is None or (
            isinstance(time, int | float) and isfinite(time) and 0 <= time <= _LONGEST
        )
        if not fine:
            raise StudyError(f"{name} {time!r:.40}: give milliseconds")
    return answer


def _append(handle: int, row: dict[str, Any]) -> None:
    """Write one line and force it to the disk; take back what could be written of it if not."""
    before = os.fstat(handle).st_size
    line = _packed({**row, _CHECK: _checksum(row)}) + b"\n"
    try:
        if os.write(handle, line) != len(line):
            raise OSError("the disk is full")
        os.fsync(handle)
    except OSError as fault:
        with contextlib.suppress(OSError):
            os.ftruncate(handle, before)
        raise StudyError(
            f"the answer is not saved ({fault.strerror or fault}); try again"
        ) from None
