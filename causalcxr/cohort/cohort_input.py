"""Cohort input: questions accept a Cohort, or a DataFrame as `Cohort(table)` does."""

import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.input_table import check_table

__all__ = ["Records", "as_cohort"]

Records = Cohort | pd.DataFrame


def as_cohort(records: Records) -> Cohort:
    """Return records as a Cohort.

    Args:
        records: A Cohort, which is returned unchanged, or a DataFrame, one row for each record.

    Raises:
        CohortError: If it is anything else, or a DataFrame that `check_table` refuses.

    Example:
        >>> as_cohort(pd.DataFrame({"Age": [61, 47]}))
        Cohort(2 records of 2 patients, no images, from table)
    """
    return records if isinstance(records, Cohort) else Cohort(check_table(records))
