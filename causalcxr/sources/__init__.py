"""Where cohorts come from: one module a source.

A source is a module with `load(path, **options) -> Cohort` and, if it reads files,
`recognises(path) -> bool`. One that declares a published data set (`causalcxr.sources.source`)
also has `harmonise(path, policy) -> Harmonised`, which says what was done to each row.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from causalcxr.cohort.loading import load, source_module
from causalcxr.common.errors import CohortError, nearest

if TYPE_CHECKING:
    from causalcxr.sources.harmonised import Harmonised
    from causalcxr.sources.policy import Policy

__all__ = ["DECLARED", "NAMED", "READERS", "harmonise", "load"]

# Published data sets, each declared in a module of its name.
DECLARED = (
    "nih", "mimic", "chexpert", "chexpert_plus", "padchest", "vindr", "brax", "rexgradient",
    "hannover", "cxr7_table",
)  # fmt: skip

# Sources that can be asked for by name, and those that are tried on a path, in this order.
NAMED = ("phantom", *DECLARED)
READERS = ("folder", "stored", *DECLARED, "table")


def harmonise(
    path: str | Path, policy: "Policy | None" = None, name: str | None = None
) -> "Harmonised":
    """Return the rows of a published data set, and what was done to them.

    Args:
        path: The folder of the data set as it is published, or the first of its files.
        policy: What is decided where the source leaves a decision to us; see `Policy`.
        name: Which of the declared data sets it is, where it should not be recognised.

    Raises:
        CohortError: If it is none of them, or a file is not as published.

    Example:
        >>> harmonise("nowhere", name="padchst")
        Traceback (most recent call last):
        causalcxr.common.errors.CohortError: no data set 'padchst'; did you mean 'padchest'?
    """
    if name is not None and name not in DECLARED:
        hint = nearest(name, DECLARED) or f"; there are {', '.join(DECLARED)}"
        raise CohortError(f"no data set {name!r}{hint}")
    if not Path(path).exists():
        raise CohortError(f"{path}: there is no such file or folder; check the path")
    for each in (name,) if name else DECLARED:
        if name or source_module(each).recognises(Path(path)):
            return source_module(each).harmonise(path, policy)
    raise CohortError(
        f"{path}: none of the data sets {', '.join(DECLARED)}; give the folder as it is published"
    )
