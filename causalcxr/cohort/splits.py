"""Splits: train, val and test, each patient in one of them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalcxr.cohort.ids import patient_numbers
from causalcxr.common.errors import CohortError, brief
from causalcxr.common.random_numbers import Draws, record_keys

__all__ = ["SPLITS", "check_splits", "draw_folds", "draw_splits"]

SPLITS = ("train", "val", "test")


def draw_splits(
    patients: pd.Series | Sequence,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    seed: int = 0,
) -> np.ndarray:
    """Return a split for each record, drawn by a hash of its patient's id and the seed.

    A patient's split is the same in any order and any subset of the patients.

    Args:
        patients: The patient of each record, shape (n,).
        fractions: The shares of train, val and test; they sum to one.
        seed: The seed.

    Returns:
        Shape (n,), of "train", "val" and "test".

    Example:
        >>> draw_splits(["a", "a", "b"])[:2].tolist() == draw_splits(["a", "a"]).tolist()
        True
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.shape != (3,) or not (shares >= 0).all() or not np.isclose(shares.sum(), 1):
        raise CohortError(f"fractions {fractions} are not three shares that sum to 1")
    codes, distinct = patient_numbers(patients, len(patients), "splits", CohortError)
    numbers = Draws(record_keys(distinct), seed, "split").uniform()[:, 0]
    chosen = np.searchsorted(np.cumsum(shares)[:2], numbers, side="right")
    return np.array(SPLITS, dtype=object)[chosen[codes]]


def draw_folds(patients: pd.Series | Sequence, folds: int, seed: int = 0) -> np.ndarray:
    """Return a fold for each record, drawn by a hash of its patient's id and the seed.

    A patient's fold is the same in any cohort, so no list of patients need be kept.

    Args:
        patients: The patient of each record, shape (n,).
        folds: The number of folds, at least 2.
        seed: The seed.

    Returns:
        Shape (n,), from 0 to folds - 1.

    Raises:
        CohortError: If there are fewer than two folds.

    Example:
        >>> a, b = draw_folds(["a", "b"], 5), draw_folds(["b", "a", "a"], 5)
        >>> bool(a[0] == b[1] == b[2]), bool(a[1] == b[0])
        (True, True)
    """
    if folds < 2:
        raise CohortError(f"folds: {folds}; give at least 2")
    codes, distinct = patient_numbers(patients, len(patients), "folds", CohortError)
    numbers = Draws(record_keys(distinct), seed, "fold").uniform()[:, 0]
    return np.minimum((numbers * folds).astype(np.int64), folds - 1)[codes]


def check_splits(splits: pd.Series, patients: pd.Series, place: str) -> None:
    """Refuse unknown splits, and patients in more than one split.

    Args:
        splits: The split of each record.
        patients: The patient of each record.
        place: The name of the table in messages.

    Raises:
        CohortError: With the first record or patient, and the number of them.
    """
    invalid = ~splits.isin(SPLITS).to_numpy()
    if invalid.any():
        first = int(invalid.argmax())
        raise CohortError(
            f"{place}: record {brief(splits.index[first])}: {brief(splits.iloc[first])} is not "
            f"a split ({invalid.sum():,} records); allowed: {', '.join(SPLITS)}"
        )
    # One row for each patient and split: a patient with two rows is in two splits.
    pairs = pd.DataFrame({"patient": patients.to_numpy(), "split": splits.to_numpy()})
    pairs = pairs.drop_duplicates()
    twice = pairs["patient"].duplicated()
    if twice.any():
        patient = pairs["patient"][twice].iloc[0]
        both = " and ".join(pairs["split"][pairs["patient"] == patient])
        raise CohortError(
            f"{place}: patient {brief(patient)} is in two splits, {both} "
            f"({pairs['patient'][twice].nunique():,} patients); use assign_splits()"
        )
