"""Input tables: a function that takes a Cohort takes a DataFrame too, read as `Cohort(table)`."""

from pathlib import Path

import pandas as pd

from causalcxr.common.errors import CohortError, brief

__all__ = ["check_table"]

_KEYS = {"patient": "patients", "split": "splits"}


def check_table(records: object) -> pd.DataFrame:
    """Return a DataFrame that can stand for a cohort as it is.

    Args:
        records: What was given in place of a Cohort.

    Raises:
        CohortError: If it is no DataFrame, or has a column `patient` or `split` that would be
            ignored: records of one patient would count as records of several.

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
            f"the table has a column {next(iter(keys))!r}; write Cohort(table, {options}), so "
            "that it counts"
        )
    return records


def _kind(records: object) -> str:
    if isinstance(records, str | Path):
        return f"the path {brief(str(records))}"
    return "None" if records is None else f"a {type(records).__name__}"


def _remedy(records: object) -> str:
    """Return what makes a Cohort of what is given."""
    if isinstance(records, str | Path):
        return f"Cohort.load({brief(str(records))})"
    if isinstance(records, pd.Series):
        return "Cohort(series.to_frame())"
    if hasattr(records, "to_pandas"):
        return "Cohort(table.to_pandas())"
    return "Cohort(pd.DataFrame(...))"
