"""The published data sets: each module of this folder declares one.

A module is found by its name, so a new data set is one new file; `hannover` is a short example.
Each has `SOURCE` (a `causalcxr.sources.source.Source`) and its three methods as functions:
`recognises(path)`, `harmonise(path, policy)` and `load(path, **options)`.
"""

from pathlib import Path
from pkgutil import iter_modules

__all__ = ["NAMES"]

#: The names of the data sets, in alphabetical order.
NAMES = tuple(sorted(module.name for module in iter_modules([str(Path(__file__).parent)])))
