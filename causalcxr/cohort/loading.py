"""Loading: `Cohort.load` finds the source that reads a path, by name.

Sources create cohorts, so their package comes after this one. They are imported by name when a
cohort is loaded: a source is a module with `recognises(path)` and `load(path, **options)`.
"""

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from causalcxr.common.errors import CohortError, nearest

if TYPE_CHECKING:
    from causalcxr.cohort.cohort import Cohort

__all__ = ["load", "source_module"]

_PACKAGE = "causalcxr.sources"
# Readers of this package; every other name is a module of the sources or a data set.
_OWN = {"folder": "causalcxr.cohort.saved_reader", "table": "causalcxr.cohort.csv_table"}


def load(spec: str | Path, **options: Any) -> "Cohort":
    """Read a cohort from a source or a path; see `Cohort.load`.

    Args:
        spec: `phantom`, a declared data set such as `nih`, a saved folder, the folder of a data
            set as it is published, or a .csv file.
        **options: The options of the source.

    Raises:
        CohortError: If there is no such source or path, with the possible ones.

    Example:
        >>> load("fantom")
        Traceback (most recent call last):
        causalcxr.common.errors.CohortError: no source or path 'fantom'; did you mean 'phantom'?
    """
    # A name, then an address, then a path that a reader recognises.
    sources = import_module(_PACKAGE)
    names = sources.NAMED
    if isinstance(spec, str) and spec in names:
        return source_module(spec).load(options.pop("path", None), **options)
    if "://" in str(spec):  # only stores are read from remote places
        return source_module("stored").load(str(spec), **options)
    path = Path(spec)
    try:
        exists = path.exists()
    except (OSError, ValueError):  # too long a name, or a null character
        exists = False
    if not exists:
        hint = nearest(spec, names) or f"; give {_possible(names)}"
        raise CohortError(f"no source or path {str(spec)[:200]!r}{hint}")
    for name in sources.READERS:
        if source_module(name).recognises(path):
            return source_module(name).load(path, **options)
    raise CohortError(f"{path}: no source can read this; give {_possible(names)}")


def source_module(name: str) -> ModuleType:
    """Return the module of a source.

    Example:
        >>> source_module("table").__name__
        'causalcxr.cohort.csv_table'
    """
    if name in _OWN:
        return import_module(_OWN[name])
    is_data_set = name in import_module(_PACKAGE).DECLARED
    return import_module(f"{_PACKAGE}.{'datasets.' if is_data_set else ''}{name}")


def _possible(names: Sequence[str]) -> str:
    return (
        f"a source ({', '.join(names)}), a folder written by Cohort.save, the folder of a data "
        "set as it is published, or a .csv file"
    )
