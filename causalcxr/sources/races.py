"""Readers of race: one race for each patient, whose rows may disagree."""

from collections.abc import Callable

import numpy as np
import pandas as pd

from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.label_maps import bundled
from causalcxr.sources.policy import Policy
from causalcxr.sources.source_rows import Rows

__all__ = ["RACES", "race", "race_by_row", "race_per_patient"]

RACES = ("Asian", "Black", "White")
_CONFLICT = "race conflict"
_OTHER = f"race other than {', '.join(RACES)} is missing"


def race_per_patient(
    key: str, columns: tuple[str, ...], words: str
) -> Callable[[pd.DataFrame, Policy], pd.DataFrame]:
    """Return a `Table.reduce` that combines the rows of a patient into one, with a race.

    Rows without a race are ignored. If the others disagree, the policy decides, and the patient
    is marked.

    Args:
        key: The column of the patients.
        columns: The columns that may hold the race; the first that exists is read.
        words: The bundled map of the words.
    """

    def reduce(frame: pd.DataFrame, policy: Policy) -> pd.DataFrame:
        column = next((name for name in columns if name in frame), None)
        patients = frame[key].array.remove_unused_categories()
        # Count for each patient the rows that name each race.
        votes = np.zeros((len(patients.categories), len(RACES)), dtype=np.int64)
        if column is not None:
            label_map = bundled(words, RACES)
            cells = frame[column].cat
            by_text = [_position(label_map.meaning(str(text))) for text in cells.categories]
            # The last entry, -1, is for code -1: a missing cell.
            position = np.append(np.array(by_text, dtype=np.int64), -1)[cells.codes.to_numpy()]
            has_race = position >= 0
            np.add.at(votes, (patients.codes[has_race], position[has_race]), 1)
        # Rows that differ are a conflict; a tie for the most votes decides nothing.
        conflict = (votes > 0).sum(axis=1) > 1
        most = votes.max(axis=1)
        clear = (votes == most[:, None]).sum(axis=1) == 1
        decided = clear & (~conflict if policy.race_conflict == "missing" else most > 0)
        codes = np.where(decided & (most > 0), votes.argmax(axis=1), -1)
        return pd.DataFrame(
            {
                key: pd.Categorical(patients.categories),
                "race": pd.Categorical.from_codes(codes, pd.Index(RACES, dtype=object)),
                _CONFLICT: pd.Categorical.from_codes(
                    conflict.astype(np.int8), pd.Index(["", "yes"], dtype=object)
                ),
            }
        )

    return reduce


def race_by_row(column: str, words: str) -> Callable[[Rows, Policy, Ledger], pd.Categorical]:
    """Read the race from a column of the first table.

    Args:
        column: The column.
        words: The bundled map of the words.
    """

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
        label_map = bundled(words, RACES)
        positions = [_position(label_map.meaning(text)) for text in rows.distinct(column)[1]]
        codes = rows.map_texts(column, np.array(positions, dtype=np.int8), -1)
        ledger.note("race-other", _OTHER, codes < 0)
        return pd.Categorical.from_codes(codes, pd.Index(RACES, dtype=object))

    return read


def race(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
    """Read the race from the table of `race_per_patient`, and record where rows disagree."""
    if "race" not in rows:
        rows = rows.with_missing("race")
    values = rows.frame["race"].array.set_categories(pd.Index(RACES, dtype=object))
    decision = {"missing": "missing", "majority": "that of most rows, missing in a tie"}
    why = f"race where a patient's rows disagree is {decision[policy.race_conflict]}"
    if _CONFLICT in rows:
        ledger.note("race-conflict", why, rows.texts(_CONFLICT) == "yes")
    ledger.note("race-other", _OTHER, values.codes < 0)
    return values


def _position(targets: tuple[str, ...] | None) -> int:
    return RACES.index(targets[0]) if targets and targets[0] in RACES else -1
