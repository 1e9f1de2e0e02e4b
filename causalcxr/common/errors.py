"""The errors a user can meet: each message is one line with place, rule and remedy."""

import difflib
from collections.abc import Iterable
from typing import Any

__all__ = [
    "AuditError",
    "CausalCXRError",
    "ClassifierError",
    "CohortError",
    "GraphError",
    "InterventionError",
    "MechanismError",
    "ModelError",
    "StudyError",
    "brief",
    "install",
    "nearest",
    "nearest_to",
]


class CausalCXRError(ValueError):
    """Something the user can put right; the command line prints it and exits with status 2."""


class GraphError(CausalCXRError):
    """A graph that cannot be read, or an edit that would break it."""


class InterventionError(CausalCXRError):
    """An intervention that the graph, the data or common sense refuses."""


class CohortError(CausalCXRError):
    """A table or a folder of images that cannot be read as the graph declares it."""


class MechanismError(CausalCXRError):
    """A structural equation that cannot be built, trained or solved."""


class ClassifierError(CausalCXRError):
    """A classifier that cannot be asked, or whose answers are no probabilities."""


class AuditError(CausalCXRError):
    """An audit or a stress test that cannot be done as asked."""


class ModelError(CausalCXRError):
    """A saved or stale model that cannot be used as asked."""


class StudyError(CausalCXRError):
    """A reader study that cannot be made, served or analysed as asked."""


def install(*extras: str) -> str:
    """Return how the packages of some extras are installed; causalcxr is on no package index.

    Example:
        >>> install("app")
        'in the folder of causalcxr, run: pip install -e ".[app]"'
    """
    return f'in the folder of causalcxr, run: pip install -e ".[{",".join(extras)}]"'


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return a hint that names the nearest choice, or an empty string.

    Example:
        >>> nearest("agee", ["Age", "Sex"])
        "; did you mean 'Age'?"
    """
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    found = difflib.get_close_matches(str(word).lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[found[0]]!r}?" if found else ""


def brief(value: Any, length: int = 60) -> str:
    """Return a value on one line, cut to a length, without the names of numpy's types.

    Example:
        >>> import numpy as np
        >>> brief(np.int64(7)), brief((np.str_("a"), 0)), brief("x" * 99)[-5:]
        ('7', "('a', 0)", "x...'")
    """
    if type(value) is tuple:  # such as a record and its draw
        value = tuple(map(_without_numpy, value))
    text = repr(_without_numpy(value))
    return text if len(text) <= length else f"{text[: length - 4]}...{text[-1]}"


def _without_numpy(value: Any) -> Any:
    """Return a numpy scalar as Python's own, but for dates, whose item may be nanoseconds."""
    is_scalar = type(value).__module__ == "numpy" and hasattr(value, "dtype") and not value.ndim
    return value.item() if is_scalar and value.dtype.kind not in "mM" else value


def nearest_to(word: Any, choices: Iterable[str]) -> str:
    """Name the nearest choice to a word that may be anything, however long."""
    return nearest(str(word)[:80], choices)
