"""What is synthetic is marked as such, wherever it is written or drawn."""

from causalcxr.cohort import Cohort

__all__ = ["MARK", "synthetic"]

MARK = "SYNTHETIC - NOT FOR CLINICAL USE"


def synthetic(cohort: Cohort) -> bool:
    """Return whether a cohort's images were computed, so that they must be marked as such.

    Example:
        >>> import pandas as pd
        >>> synthetic(Cohort(pd.DataFrame({"Age": [61]}), source="nih, counterfactual"))
        True
    """
    source = cohort.source
    return "phantom" in source or source.startswith("model") or source.endswith("counterfactual")
