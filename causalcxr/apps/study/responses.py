"""Answers joined with the truth: one row for each answer."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from causalcxr.apps.study.answers import ReaderAnswer, read_answers
from causalcxr.apps.study.plan import StudyPlan

__all__ = ["COLUMNS", "read_responses", "responses"]

COLUMNS = (
    "reader", "presentation", "position", "trial", "stratum", "truth", "answer", "label",
    "correct", "confidence", "signal", "called", "score", "seconds", "server_seconds", "at",
    "record", "other",
)  # fmt: skip


def read_responses(folder: str | Path, plan: StudyPlan) -> pd.DataFrame:
    """Return the answers in a study's folder so far, as `responses` does.

    Raises:
        StudyError: If a file of answers is damaged or belongs to another plan.
    """
    given = {k: read_answers(folder, plan, k) for k in range(len(plan.readers))}
    return responses(plan, given)


def responses(plan: StudyPlan, given: Mapping[int, Sequence[ReaderAnswer]]) -> pd.DataFrame:
    """Return one row for each answer.

    Columns: `reader`; `presentation` and `position`, counted from 1; `trial`; `stratum`; `truth`
    and `answer` in words; `label`, the answer independent of the order on the page, on which
    agreement is computed; `correct`; `confidence`; `signal`, `called` and `score`, the answer as
    detection of synthetic images, or of a real first image if there are two (the score is the
    confidence, negative for "no"); `seconds` during which the images were visible, and
    `server_seconds`; `at`; the `record` shown first, and the `other` one.

    Args:
        plan: The plan.
        given: The answers of each reader, by number from 0.
    """
    rows = [_row(plan, number, answer) for number in sorted(given) for answer in given[number]]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    truths = ["correct", "signal", "called"]
    numbers = ["seconds", "server_seconds"]
    return table.astype(dict.fromkeys(truths, bool) | dict.fromkeys(numbers, "float64"))


def _row(plan: StudyPlan, number: int, answer: ReaderAnswer) -> dict[str, Any]:
    reader = plan.readers[number]
    shown = plan.shown(reader, answer.step)
    trial = plan.trials[shown.trial]
    # As shown: a swapped pair is reversed.
    order = -1 if shown.swapped else 1
    real, records = trial.real[::order], trial.records[::order]
    if plan.kind == "2afc":
        words, truth, choice = ("first", "second"), real.index(True), answer.choice
        # As drawn: the same image has the same label in every order.
        label = "ab"[answer.choice ^ shown.swapped]
        signal, called = truth == 0, choice == 0
    else:
        words, truth, choice = ("real", "synthetic"), int(not real[0]), answer.choice
        label = words[choice]
        # One image: the signal is that it is synthetic.
        signal, called = truth == 1, choice == 1
    return {
        "reader": reader.name,
        "presentation": shown.presentation + 1,
        "position": shown.position + 1,
        "trial": shown.trial + 1,
        "stratum": ", ".join(trial.strata.values()) or "all",
        "truth": words[truth],
        "answer": words[choice],
        "label": label,
        "correct": truth == choice,
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
