"""Readers of the 14 findings: from a column for each finding, or from a list of labels."""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pandas as pd

from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.label_maps import LabelMap, bundled
from causalcxr.sources.policy import BLANK, FINDINGS, UNCERTAIN, UNLISTED, N, P, Policy
from causalcxr.sources.source_rows import EMPTY, Rows

__all__ = ["finding_columns", "finding_list"]

_NOT_A_LABEL = 99

FindingsReader = Callable[[Rows, Policy, Ledger], dict[str, np.ndarray]]


def finding_columns(
    columns: Mapping[str, str] | None = None,
    codes: Mapping[str, int] | None = None,
    study: Callable[[Rows], np.ndarray] | None = None,
) -> FindingsReader:
    """Read findings from a column each, with the codes of CheXpert: 1, 0, -1 and blank.

    Args:
        columns: The column of each finding; by default columns named as the findings.
        codes: The meaning of other codes, as marks of the policy.
        study: The study of each record, shape (n,), "" where unknown. Labels belong to a study's
            report, so records of one study with different labels are counted.
    """
    by_finding = columns or {name: name for name in FINDINGS}
    meaning = codes or {"1": P, "0": N, "-1": UNCERTAIN}

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
        marks = {}
        for finding, column in by_finding.items():
            # Read each distinct text once.
            _, texts = rows.distinct(column)
            by_text = np.array([_mark(text, meaning) for text in texts], dtype=np.int8)
            marks[finding] = rows.map_texts(column, by_text, BLANK)
            rule = f"is not a label; allowed: {', '.join(meaning)} and blank"
            rows.refuse(column, marks[finding] == _NOT_A_LABEL, rule)
        if study is not None:
            why = "labels that differ between images of one study are kept as they are written"
            ledger.note("labels-differ", why, _differing(marks, study(rows)), "noted")
        return marks

    return read


def finding_list(
    column: str, separate: Callable[[str], list[str]], words: str, *, closed: bool = False
) -> FindingsReader:
    """Read findings from a column that lists the findings that are present.

    Args:
        column: The column.
        separate: A function that cuts a cell into words; each distinct cell is cut once.
        words: The bundled map of the words.
        closed: Whether a word that is not in the map is an error; else it is counted.
    """

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> dict[str, np.ndarray]:
        label_map = bundled(words)
        _, texts = rows.distinct(column)
        lists = [separate(text) for text in texts]
        marks, unknown = label_map.marks(lists)
        is_unknown = np.array([bool(word) for word in unknown], dtype=bool)
        _note_unknown(rows, column, unknown, label_map, ledger, closed)
        # An unknown word may be any finding, so findings beside it are not known to be absent.
        for mark in marks.values():
            mark[(mark == UNLISTED) & is_unknown] = BLANK
        aside = np.array([label_map.sets_aside(words) for words in lists], dtype=bool)
        why = "the authors set the image aside, so its labels are not used"
        ledger.note("image-set-aside", why, rows.map_texts(column, aside, False))
        return {name: rows.map_texts(column, mark, BLANK) for name, mark in marks.items()}

    return read


def _note_unknown(
    rows: Rows, column: str, unknown: list[str], label_map: LabelMap, ledger: Ledger, closed: bool
) -> None:
    """Refuse or count the rows with a word that is not in the map."""
    first = next((word for word in unknown if word), "")
    where = rows.map_texts(column, np.array([bool(word) for word in unknown]), False)
    if closed:
        hint = label_map.nearest(first)
        rows.refuse(
            column, where, f"holds {first[:60]!r}, not a label of {label_map.source}{hint}"
        )
    why = (
        f"a label that the map does not have, such as {first[:60]!r}, may be any finding: "
        "those that are not listed beside it are missing"
    )
    ledger.note("label-unknown", why, where)


def _differing(marks: Mapping[str, np.ndarray], studies: np.ndarray) -> np.ndarray:
    """Return which records, shape (n,), have other labels than an image of the same study."""
    pattern = np.zeros(len(studies), dtype=np.int64)
    for mark in marks.values():
        pattern = 8 * pattern + mark  # marks are below 8, and 14 of them fit into 64 bits
    codes, distinct = pd.factorize(studies)
    low = np.full(len(distinct), np.iinfo(np.int64).max)
    high = np.full(len(distinct), -1, dtype=np.int64)
    np.minimum.at(low, codes, pattern)
    np.maximum.at(high, codes, pattern)
    return (low < high)[codes] & (studies != "")


def _mark(text: str, meaning: Mapping[str, int]) -> int:
    text = text.strip()
    if text in EMPTY:
        return meaning.get("", BLANK)
    return meaning.get(re.sub(r"\.0*$", "", text), _NOT_A_LABEL)
