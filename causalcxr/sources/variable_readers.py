"""Readers of sex, view, race and split: each reads one variable from one column.

A reader is a function of (rows, policy, ledger), as a `Source` takes it. It looks at each distinct
text once. A value that cannot be read is missing, and is counted: no value is a default.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from causalcxr.sources.harmonised import Ledger
from causalcxr.sources.policy import Policy
from causalcxr.sources.source_rows import Rows

__all__ = ["VIEWS", "categories", "sex", "split", "split_by_file", "to_categories", "view"]

VIEWS = ("AP", "PA", "LATERAL")

_SEXES = {"F": "F", "M": "M", "FEMALE": "F", "MALE": "M"}
_SPLITS = {
    "train": "train", "val": "val", "valid": "val", "validate": "val", "validation": "val",
    "test": "test",
}  # fmt: skip

Reader = Callable[[Rows, Policy, Ledger], np.ndarray | pd.Categorical]


def categories(
    column: str,
    meaning: Mapping[str, str],
    what: str,
    rule: str,
    order: Sequence[str] | None = None,
) -> Reader:
    """Read a category from a column of codes; any other code is missing.

    Args:
        column: The column.
        meaning: The category of each code; case and surrounding spaces are ignored.
        what: The variable, as the report calls it: "sex".
        rule: The name of the rule that counts what is missing.
        order: The categories, in order; by default those of `meaning`.
    """
    names = list(order or dict.fromkeys(meaning.values()))
    by_code = {code.upper(): category for code, category in meaning.items()}

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> pd.Categorical:
        _, texts = rows.distinct(column)
        values = to_categories(
            rows, column, [by_code.get(text.strip().upper()) for text in texts], names
        )
        ledger.note(rule, f"{what} other than {', '.join(names)} is missing", values.codes < 0)
        return values

    return read


def to_categories(
    rows: Rows, column: str, meaning: Sequence[str | None], order: Sequence[str]
) -> pd.Categorical:
    """Return the category of each row.

    Args:
        rows: The rows.
        column: The column.
        meaning: The category of each distinct text of the column; None is missing.
        order: The categories, in order.
    """
    positions = np.array([-1 if each is None else order.index(each) for each in meaning], np.int8)
    codes = rows.map_texts(column, positions, -1)
    return pd.Categorical.from_codes(codes, pd.Index(order, dtype=object))


def sex(column: str) -> Reader:
    """Read F and M; O, U, Unknown and blank are missing."""
    return categories(column, _SEXES, "sex", "sex-other", ("F", "M"))


def view(column: str, meaning: Mapping[str, str]) -> Reader:
    """Read AP, PA and LATERAL; other projections are missing."""
    return categories(column, meaning, "view", "view-other", VIEWS)


def split(column: str) -> Reader:
    """Read train, val and test, in the spellings of the published data sets.

    Raises:
        CohortError: If a row has another word.
    """

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray:
        _, texts = rows.distinct(column)
        meaning = np.array([_SPLITS.get(text.strip().lower(), "") for text in texts], dtype=object)
        splits = rows.map_texts(column, meaning, "")
        rows.refuse(column, splits == "", f"is not a split; allowed: {', '.join(_SPLITS)}")
        return splits

    return read


def split_by_file(parts: Mapping[str, str]) -> Reader:
    """Read the split from the name of each row's file: {"train": "train", ...}."""

    def read(rows: Rows, policy: Policy, ledger: Ledger) -> np.ndarray:
        _, names = rows.distinct("file")
        splits = [next((s for part, s in parts.items() if part in name), "") for name in names]
        return rows.map_texts("file", np.array(splits, dtype=object), "")

    return read
