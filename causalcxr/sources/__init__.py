"""Sources of cohorts: published data sets, the phantom, and stores.

A source is a module with `load(path, **options) -> Cohort` and, if it reads files,
`recognises(path) -> bool`. A published data set (`causalcxr.sources.datasets`) also has
`harmonise(path, policy) -> Harmonised`, which returns the rules that were applied to its rows.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from causalcxr.cohort.loading import load, source_module
from causalcxr.common.errors import CohortError, nearest
from causalcxr.sources.datasets import NAMES

if TYPE_CHECKING:
    from causalcxr.sources.harmonised import Harmonised
    from causalcxr.sources.policy import Policy

__all__ = ["DECLARED", "NAMED", "READERS", "harmonise", "load"]

# The published data sets, a module each in `datasets`.
DECLARED = NAMES

# Sources that users can name, and those that are tried on a path, in this order.
NAMED = ("phantom", *DECLARED)
READERS = ("folder", "stored", *DECLARED, "table")


def harmonise(
    path: str | Path, policy: "Policy | None" = None, name: str | None = None
) -> "Harmonised":
    """Return the rows of a published data set under the names of the graph.

    Args:
        path: The folder of the data set as it is published, or the first of its files.
        policy: The decisions that the data set leaves open; see `Policy`.
        name: The name of the data set; by default the one that recognises the path.

    Raises:
        CohortError: If no data set recognises the path, or a file is not as published.

    Example:
        >>> harmonise("nowhere", name="padchst")
        Traceback (most recent call last):
        causalcxr.common.errors.CohortError: no data set 'padchst'; did you mean 'padchest'?
    """
    if name is not None and name not in DECLARED:
        hint = nearest(name, DECLARED) or f"; allowed: {', '.join(DECLARED)}"
        raise CohortError(f"no data set {name!r}{hint}")
    if not Path(path).exists():
        raise CohortError(f"{path}: no such file or folder; check the path")
    for each in (name,) if name else DECLARED:
        if name or source_module(each).recognises(Path(path)):
            return source_module(each).harmonise(path, policy)
    raise CohortError(
        f"{path}: none of the data sets {', '.join(DECLARED)}; give the folder as it is published"
    )
