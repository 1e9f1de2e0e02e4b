"""Where cohorts come from: one module a source.

A source is a module with `load(path, **options) -> Cohort` and, if it reads files,
`recognises(path) -> bool`.
"""

from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from causalcxr.cohort import Cohort
from causalcxr.errors import CohortError, nearest

__all__ = ["NAMED", "READERS", "load"]

# Sources that can be asked for by name, and those that are tried on a path, in this order.
NAMED = ("phantom", "nih")
READERS = ("folder", "nih", "table")


def load(spec: str | Path, **options: Any) -> Cohort:
    """Read a cohort from a source or a path; see `Cohort.load`.

    Args:
        spec: `phantom`, `nih`, a saved folder, a folder as NIH publishes it, or a .csv file.
        **options: What the source takes.

    Raises:
        CohortError: If the specification fits nothing; what is possible is told.

    Example:
        >>> load("fantom")
        Traceback (most recent call last):
        causalcxr.errors.CohortError: no source or path 'fantom'; did you mean 'phantom'?
    """
    if isinstance(spec, str) and spec in NAMED:
        return _source(spec).load(options.pop("path", None), **options)
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


def _source(name: str) -> ModuleType:
    return import_module(f"causalcxr.sources.{name}")


def _possible() -> str:
    return (
        f"a source ({', '.join(NAMED)}), a folder written by Cohort.save, a folder with NIH's "
        "Data_Entry_2017*.csv, or a .csv file"
    )
