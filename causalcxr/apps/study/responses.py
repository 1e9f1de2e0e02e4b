"""Answers joined with the truth: one row an answer, in words that people read."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalcxr.apps.study.answers import Answer, read_answers
from causalcxr.apps.study.plan import Plan

__all__ = ["COLUMNS", "read_responses", "responses"]

COLUMNS = (
    "reader", "presentation", "position", "trial", "stratum", "truth", "answer", "label",
    "correct", "confidence", "signal", "called", "score", "seconds", "server_seconds", "at",
    "record", "other",
)  # fmt: skip


def read_responses(folder: str | Path, plan: Plan) -> pd.DataFrame:
    """Return the answers in a study's folder so far, as `responses` does.

    Raises:
        StudyError: If a file of answers is damaged or belongs to another plan.
    """
    given = {k: read_answers(folder, plan, k) for k in range(len(plan.readers))}
    return responses(plan, given)


def responses(plan: Plan, given: Mapping[int, Sequence[Answer]]) -> pd.DataFrame:
    """Return one row an answer.

    Columns: `reader`; `presentation` and `position`, counted from 1; `trial`; `stratum`; `truth`
    and `answer` in words; `label`, which answer it was whatever the order on the page: agreement
    is agreement on it; `correct`; `confidence`; `signal`, `called` and `score`, the same as
    detection of synthetic images, or of the real image in the first place where there are two
    (the score is the confidence, negative for "no"); `seconds` that the images were visible, and
    `server_seconds`; `at`; the `record` shown first, and the `other` one.

    Args:
        plan: The plan.
        given: The answers of readers, by their number from 0.
    """
    rows = [_row(plan, number, answer) for number in sorted(given) for answer in given[number]]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    truths = ["correct", "signal", "called"]
    numbers = ["seconds", "server_seconds"]
    return table.astype(dict.fromkeys(truths, bool) | dict.fromkeys(numbers, "float64"))


def _row(plan: Plan, number: int, answer: Answer) -> dict[str, Any]:
    reader = plan.readers[number]
    shown = plan.shown(reader, answer.step)
    trial = plan.trials[shown.trial]
    order = -1 if shown.swapped else 1
    real, records = trial.real[::order], trial.records[::order]
    if plan.kind == "2afc":
        words, truth, said = ("first", "second"), real.index(True), answer.choice
        label = "ab"[answer.choice ^ shown.swapped]
        signal, called = truth == 0, said == 0
    else:
        words, truth, said = ("real", "synthetic"), int(not real[0]), answer.choice
        label = words[said]
        signal, called = truth == 1, said == 1
    return {
        "reader": reader.name,
        "presentation": shown.presentation + 1,
        "position": shown.position + 1,
        "trial": shown.trial + 1,
        "stratum": ", ".join(trial.strata.values()) or "all",
        "truth": words[truth],
        "answer": words[said],
        "label": label,
        "correct": truth == said,
        "confidence": answer.confidence,
        "signal": signal,
        "called": called,
        "score": answer.confidence if called else -answer.confidence,
        "seconds": None if answer.seen_ms is None else answer.seen_ms / 1000,
        "server_seconds": None if answer.server_ms is None else answer.server_ms / 1000,
        "at": answer.at,
        "record": records[0],
        "other": records[1] if len(records) > 1 else "",
    }
