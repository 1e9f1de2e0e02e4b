"""Where cohorts come from: one module a source.

A source is a module with `load(path, **options) -> Cohort` and, if it reads files,
`recognises(path) -> bool`. One that declares a published data set (`causalcxr.sources.source`)
also has `harmonise(path, policy) -> Harmonised`, which says what was done to each row.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from causalcxr.common.errors import CohortError, nearest

if TYPE_CHECKING:  # the processes that decode images need none of it
    from causalcxr.cohort.cohort import Cohort
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


def load(spec: str | Path, **options: Any) -> "Cohort":
    """Read a cohort from a source or a path; see `Cohort.load`.

    Args:
        spec: `phantom`, a declared data set such as `nih`, a saved folder, the folder of a data
            set as it is published, or a .csv file.
        **options: What the source takes.

    Raises:
        CohortError: If the specification fits nothing; what is possible is told.

    Example:
        >>> load("fantom")
        Traceback (most recent call last):
        causalcxr.common.errors.CohortError: no source or path 'fantom'; did you mean 'phantom'?
    """
    if isinstance(spec, str) and spec in NAMED:
        return _source(spec).load(options.pop("path", None), **options)
    if "://" in str(spec):  # only stores are read from a distance
        return _source("stored").load(str(spec), **options)
    path = Path(spec)
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name that is too long, or holds a null character
        exists = False
    if not exists:
        hint = nearest(str(spec)[:80], NAMED) or f"; give {_possible()}"
        raise CohortError(f"no source or path {str(spec)[:200]!r}{hint}")
    for name in READERS:
        if _source(name).recognises(path):
            return _source(name).load(path, **options)
    raise CohortError(f"{path}: no source can read this; give {_possible()}")


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
        if name or _source(each).recognises(Path(path)):
            return _source(each).harmonise(path, policy)
    raise CohortError(
        f"{path}: none of the data sets {', '.join(DECLARED)}; give the folder as it is published"
    )


def _source(name: str) -> ModuleType:
    return import_module(f"causalcxr.sources.{name}")


def _possible() -> str:
    return (
        f"a source ({', '.join(NAMED)}), a folder written by Cohort.save, the folder of a data "
        "set as it is published, or a .csv file"
    )
