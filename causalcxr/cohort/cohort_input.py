"""Cohort input: a question takes a Cohort, or a DataFrame as `Cohort(table)` would."""

from pathlib import Path

import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import CohortError
from causalcxr.cohort.rows import shown

__all__ = ["Records", "as_cohort"]

Records = Cohort | pd.DataFrame

_KEYS = {"patient": "patients", "split": "splits"}


def as_cohort(records: Records) -> Cohort:
    """Return records as a Cohort.

    Args:
        records: A Cohort, which is returned as it is, or a DataFrame, one row a record.

    Raises:
        CohortError: If it is anything else, or a DataFrame whose column `patient` or `split` would
            be ignored: records of one patient would count as records of several.

    Example:
        >>> as_cohort(pd.DataFrame({"Age": [61, 47]}))
        Cohort(2 records of 2 patients, no images, from table)
    """
    if isinstance(records, Cohort):
        return records
    if isinstance(records, pd.DataFrame):
        keys = {name: option for name, option in _KEYS.items() if name in records.columns}
        if keys:
            told = ", ".join(f"{option}={name!r}" for name, option in keys.items())
            raise CohortError(
                f"the table has a column {next(iter(keys))!r}; write Cohort(table, {told}), so "
                "that it counts"
            )
        return Cohort(records)
    raise CohortError(
        f"a Cohort or a pandas DataFrame is needed, not {_kind(records)}; write {_remedy(records)}"
    )


def _kind(records: object) -> str:
    if isinstance(records, str | Path):
        return f"the path {shown(str(records))}"
    return "None" if records is None else f"a {type(records).__name__}"


def _remedy(records: object) -> str:
    """Return what makes a Cohort of what is given."""
    if isinstance(records, str | Path):
        return f"Cohort.load({shown(str(records))})"
    if isinstance(records, pd.Series):
        return "Cohort(series.to_frame())"
    if hasattr(records, "to_pandas"):
        return "Cohort(table.to_pandas())"
    return "Cohort(pd.DataFrame(...))"
