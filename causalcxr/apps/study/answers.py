"""Answers: one line each in the reader's file, written to disk before it is acknowledged."""

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

from causalcxr.apps.study.plan import StudyPlan
from causalcxr.common.errors import StudyError
from causalcxr.common.files import sync_folder
from causalcxr.common.locks import exclusive

__all__ = ["AnswerFile", "ReaderAnswer", "answer_path", "only_server", "read_answers"]

_CHECK = "check"  # the name of a line's checksum
_CONFIDENCES = range(1, 6)
_LONGEST = 10 * 365 * 86_400_000.0  # milliseconds; longer times are invalid


@dataclass(frozen=True)
class ReaderAnswer:
    """Hold one answer.

    Args:
        step: The number of the reader's question, from 0 over all presentations.
        choice: 0 or 1, see `StudyPlan.correct`.
        confidence: 1 (guess) to 5 (certain).
        seen_ms: How long the images were visible in the browser, in milliseconds.
        server_ms: From sending the question to receiving the answer; None if the server was
            restarted in between.
        at: When it was received, UTC, ISO 8601.
    """

    step: int
    choice: int
    confidence: int
    seen_ms: float | None = None
    server_ms: float | None = None
    at: str = ""


class AnswerFile:
    """Append the answers of one reader to a file that also gives the reader's position.

    The first line names the plan and the reader. Each line ends with the first 16 digits of its
    own SHA-256; lines of version 0.1.0 have none. A line is complete or absent: an incomplete last
    line, left by a kill, is cut off before anything is appended. Only the server that holds the
    study's lock may write, see `only_server`.

    Args:
        folder: The study.
        plan: Its plan.
        number: The number of the reader, from 0.

    Raises:
        StudyError: If the file belongs to another plan, or is damaged before its last line.
    """

    def __init__(self, folder: str | Path, plan: StudyPlan, number: int) -> None:
        self.path = answer_path(folder, number)
        self._plan, self._lock = plan, threading.Lock()
        self._answers, n_bytes = _read(self.path, plan, number)
        self.path.parent.mkdir(exist_ok=True)
        with self.path.open("ab") as file:
            os.truncate(file.fileno(), n_bytes)
            if not n_bytes:
                _append(file.fileno(), _head(plan, number))
        sync_folder(self.path.parent)

    @property
    def answers(self) -> list[ReaderAnswer]:
        """The answers so far, in order."""
        return list(self._answers)

    @property
    def position(self) -> int:
        """The step that comes next."""
        return len(self._answers)

    def record(self, answer: ReaderAnswer) -> ReaderAnswer:
        """Write an answer to disk and return it; a repeated step returns the first answer.

        Raises:
            StudyError: If the answer is invalid, steps were skipped, or writing fails.
        """
        _check(answer)
        with self._lock:
            # A page may send an answer twice, as after a broken connection.
            if answer.step < self.position:
                return self._answers[answer.step]
            if answer.step != self.position or answer.step >= self._plan.steps:
                raise StudyError(
                    f"answer to step {answer.step}: step {self.position} of {self._plan.steps} "
                    "comes next; reload the page"
                )
            # On disk first, then in memory: what is confirmed is saved.
            at = datetime.now(UTC).isoformat(timespec="milliseconds")
            answer = ReaderAnswer(**asdict(answer) | {"at": at})
            handle = os.open(self.path, os.O_WRONLY | os.O_APPEND)
            try:
                _append(handle, asdict(answer))
            finally:
                os.close(handle)
            self._answers.append(answer)
            return answer


def answer_path(folder: str | Path, number: int) -> Path:
    """Return the file of a reader, numbered from 0."""
    return Path(folder) / "answers" / f"reader-{number + 1:03d}.jsonl"


def read_answers(folder: str | Path, plan: StudyPlan, number: int) -> list[ReaderAnswer]:
    """Return the answers of a reader, also while a server writes them.

    Raises:
        StudyError: As `AnswerFile` does.
    """
    return _read(answer_path(folder, number), plan, number)[0]


@contextlib.contextmanager
def only_server(folder: str | Path) -> Iterator[None]:
    """Hold the study's lock; the system releases it when the process ends.

    Raises:
        StudyError: If another process serves the study.
    """
    refusal = StudyError(f"{folder}: another process serves this study; stop it or use its links")
    with exclusive(Path(folder) / "lock", refusal, keep=True):
        yield


def _read(path: Path, plan: StudyPlan, number: int) -> tuple[list[ReaderAnswer], int]:
    """Return the answers and the length of the complete lines in bytes."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return [], 0
    lines = content.split(b"\n")
    # What follows the last newline is an answer that was being written.
    torn = lines.pop()
    rows: list[dict[str, Any]] = []
    for place, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line))
        except _Changed:
            raise StudyError(
                f"{path}:{place}: the line was changed after it was written; restore a copy"
            ) from None
        except ValueError:
            # A damaged last line can come from a crash; one in the middle cannot.
            if place < len(lines) or torn:
                raise StudyError(f"{path}:{place}: the line is damaged; restore a copy") from None
            torn = line + b"\n"
    # The first line names plan and reader; then come the answers, in the order of the steps.
    if rows and rows[0] != _head(plan, number):
        raise StudyError(f"{path}:1: belongs to another plan or reader; restore its plan")
    answers = []
    for place, row in enumerate(rows[1:], start=2):
        try:
            answers.append(_check(ReaderAnswer(**row)))
        except (TypeError, StudyError) as fault:
            raise StudyError(f"{path}:{place}: is not a valid answer ({fault})") from None
        if answers[-1].step != place - 2 or place - 2 >= plan.steps:
            raise StudyError(f"{path}:{place}: step {answers[-1].step}, expected {place - 2}")
    return answers, len(content) - len(torn)


class _Changed(Exception):
    """A line does not match its checksum."""


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


def _head(plan: StudyPlan, number: int) -> dict[str, Any]:
    return {"plan": plan.digest, "reader": number}


def _check(answer: ReaderAnswer) -> ReaderAnswer:
    for name, value, allowed in (
        ("choice", answer.choice, (0, 1)),
        ("confidence", answer.confidence, _CONFIDENCES),
    ):
        # Not isinstance: True and False are integers, too.
        if type(value) is not int or value not in allowed:
            raise StudyError(f"{name} {value!r:.40}: give {allowed[0]} to {allowed[-1]}")
    if type(answer.step) is not int or answer.step < 0:
        raise StudyError(f"step {answer.step!r:.40}: give a number from 0")
    for name, time in (("seen_ms", answer.seen_ms), ("server_ms", answer.server_ms)):
        is_valid = time is None or (
            isinstance(time, int | float) and isfinite(time) and 0 <= time <= _LONGEST
        )
        if not is_valid:
            raise StudyError(f"{name} {time!r:.40}: give milliseconds")
    return answer


def _append(handle: int, row: dict[str, Any]) -> None:
    """Write one line and flush it to disk; remove what was written of it if that fails."""
    # One write a line, so that an error can be undone by cutting the file.
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
            f"the answer was not saved ({fault.strerror or fault}); try again"
        ) from None
