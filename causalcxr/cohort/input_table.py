"""Input tables: functions accept a DataFrame in place of a Cohort, as `Cohort(table)`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from causalcxr.common.errors import CohortError, brief

__all__ = ["as_table", "check_table", "record_index"]

_KEYS = {"patient": "patients", "split": "splits"}


def check_table(records: object) -> pd.DataFrame:
    """Return a DataFrame that can replace a cohort.

    Args:
        records: The argument given in place of a Cohort.

    Raises:
        CohortError: If it is not a DataFrame, or has a column `patient` or `split`, which would
            be ignored: records of one patient would count as records of several.

    Example:
        >>> check_table("patients.csv")
        Traceback (most recent call last):
        causalcxr.common.errors.CohortError: a Cohort or a pandas DataFrame is needed, not the \
path 'patients.csv'; write Cohort.load('patients.csv')
    """
    if not isinstance(records, pd.DataFrame):
        raise CohortError(
            f"a Cohort or a pandas DataFrame is needed, not {_kind(records)}; write "
            f"{_remedy(records)}"
        )
    keys = {name: option for name, option in _KEYS.items() if name in records.columns}
    if keys:
        options = ", ".join(f"{option}={name!r}" for name, option in keys.items())
        raise CohortError(
            f"the table has a column {next(iter(keys))!r}; write Cohort(table, {options}), "
            "or it would be ignored"
        )
    return records


def _kind(records: object) -> str:
    if isinstance(records, str | Path):
        return f"the path {brief(str(records))}"
    return "None" if records is None else f"a {type(records).__name__}"


def _remedy(records: object) -> str:
    """Return the code that makes a Cohort of the argument."""
    if isinstance(records, str | Path):
        return f"Cohort.load({brief(str(records))})"
    if isinstance(records, pd.Series):
        return "Cohort(series.to_frame())"
    if hasattr(records, "to_pandas"):
        return "Cohort(table.to_pandas())"
    return "Cohort(pd.DataFrame(...))"


def as_table(table: Any) -> pd.DataFrame:
    """Return a copy of a table, or a table from columns by name or a list of rows.

    Raises:
        CohortError: If it is anything else, such as a path.
    """
    if isinstance(table, str | Path):
        raise CohortError(
            f"a Cohort is made of a table; to read {brief(str(table))}, write Cohort.load(path)"
        )
    if not isinstance(table, pd.DataFrame | Mapping | list):
        raise CohortError(
            f"a Cohort is made of a pandas DataFrame, not {type(table).__name__}; give one with a "
            "column for each variable"
        )
    try:
        return pd.DataFrame(table).copy()
    except (ValueError, TypeError) as error:
        reason = str(error).split("\n")[0][:80]
        raise CohortError(f"a Cohort is made of a pandas DataFrame: {reason}") from None


def record_index(index: pd.Index, place: str) -> pd.Index:
    """Return an index of records, or of (record, draw), named and without duplicates."""
    if index.nlevels > 2:
        raise CohortError(f"{place}: the index has {index.nlevels} levels; expected record, draw")
    if index.has_duplicates:
        twice = index[index.duplicated()]
        raise CohortError(
            f"{place}: record {brief(twice[0])} occurs more than once ({len(twice):,} rows too "
            "many); give every record an id of its own, or drop the duplicates"
        )
    if index.get_level_values(0).hasnans:
        raise CohortError(f"{place}: a record has no id; give every record one")
    return index.set_names(["record", "draw"] if index.nlevels == 2 else ["record"])
