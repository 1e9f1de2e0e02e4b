"""Ids of records and patients: none is missing, and different ids stay different in files."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalcxr.cohort.columns import MISSING_WORDS
from causalcxr.common.errors import CausalCXRError, CohortError, brief

__all__ = ["as_ids", "check_kinds", "check_words", "missing_ids", "patient_numbers"]

# Texts of missing ids in a column that was converted to text.
_WORDS = (*MISSING_WORDS, "<NA>", "NaT", "None")


def as_ids(values: Sequence | np.ndarray | pd.Series | pd.Index) -> pd.Series:
    """Return ids as a Series numbered from 0, in which missing ids stay missing.

    `np.asarray(["a", nan])` would be an array of texts, in which the missing id is "nan".

    Example:
        >>> as_ids(["a", float("nan")]).tolist()
        ['a', nan]
    """
    if isinstance(values, pd.Series | pd.Index):
        return pd.Series(values.array)
    if isinstance(values, np.ndarray):
        return pd.Series(values)
    ids = np.empty(len(values), dtype=object)
    ids[:] = list(values)
    return pd.Series(ids, dtype=object).infer_objects()


def missing_ids(ids: pd.Series) -> np.ndarray:
    """Return which ids are missing or empty, shape (n,), boolean.

    Example:
        >>> missing_ids(pd.Series(["a", None, ""])).tolist()
        [False, True, True]
    """
    blank = [isinstance(value, str) and not value.strip() for value in ids]
    return ids.isna().to_numpy(dtype=bool) | np.array(blank, dtype=bool)


def check_words(patients: pd.Series, records: pd.Index, place: str) -> None:
    """Refuse a word for a missing value as the patient of several records.

    Args:
        patients: The patient of each row.
        records: The record of each row.
        place: The name of the table in messages.

    Raises:
        CohortError: With the word and the number of records.
    """
    worded = patients.isin(_WORDS).to_numpy()
    if not worded.any():
        return
    table = pd.DataFrame({"patient": patients.to_numpy()[worded], "record": records[worded]})
    several = table.groupby("patient")["record"].nunique()
    if (several > 1).any():
        raise CohortError(
            f"{place}: patient {several.idxmax()!r} of {several.max():,} records is a word for a "
            "missing value; give each record its patient, or omit the column"
        )


def check_kinds(ids: pd.Series, place: str) -> None:
    """Refuse ids that cannot be restored from a file: neither all texts nor all numbers.

    The ids 1 and "1" are the same text in a file.

    Args:
        ids: The ids of records or patients, named "record" or "patient".
        place: The name of the table in messages.

    Raises:
        CohortError: With the kinds, and an id of each.
    """
    if ids.dtype.kind in "iufb" or isinstance(ids.dtype, pd.StringDtype):
        return
    kinds = {type(each).__name__: each for each in reversed(list(ids))}
    if set(kinds) - {"str"}:
        examples = " and ".join(f"{brief(kinds[kind])} ({kind})" for kind in sorted(kinds))
        raise CohortError(
            f"{place}: {ids.name} ids such as {examples} cannot be restored from a "
            "file; make them all texts or all whole numbers before saving"
        )


def patient_numbers(
    patients: Sequence | np.ndarray | pd.Series | None,
    n: int,
    what: str = "patients",
    error: type[CausalCXRError] = CausalCXRError,
) -> tuple[np.ndarray, pd.Index]:
    """Return the number of each row's patient, shape (n,), and the patients by number.

    Args:
        patients: The patient of each row; by default every row is a patient.
        n: The number of rows.
        what: The subject of messages.
        error: The class of the error to raise.

    Raises:
        CausalCXRError: If there is not one patient for each row, or some are missing.

    Example:
        >>> patient_numbers(["b", "a", "b"], 3)[0].tolist()
        [0, 1, 0]
        >>> patient_numbers(["b", None], 2)
        Traceback (most recent call last):
        causalcxr.common.errors.CausalCXRError: patients: row 1 has no patient (1 of 2 rows); \
fill it in or drop the row
    """
    if patients is None:
        return np.arange(n), pd.RangeIndex(n)
    if (shape := np.shape(patients)) != (n,):
        raise error(f"{what}: shape {shape} beside {n} rows; give one patient for each row")
    ids = as_ids(patients)
    if (missing := missing_ids(ids)).any():
        raise error(
            f"{what}: row {int(missing.argmax())} has no patient ({missing.sum():,} of {n:,} "
            "rows); fill it in or drop the row"
        )
    codes, distinct = pd.factorize(ids)
    return codes, pd.Index(distinct)
