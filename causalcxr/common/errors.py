"""The errors for users: each message is one line with place, rule and remedy."""

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
]


class CausalCXRError(ValueError):
    """An error that the user can correct; the command line prints it and exits with status 2."""


class GraphError(CausalCXRError):
    """A graph that cannot be read, or an edit that would break it."""


class InterventionError(CausalCXRError):
    """An intervention that does not fit the graph or the data."""


class CohortError(CausalCXRError):
    """A table or a folder of images that cannot be read as the graph declares it."""


class MechanismError(CausalCXRError):
    """A structural equation that cannot be built, trained or solved."""


class ClassifierError(CausalCXRError):
    """A classifier that cannot be called, or whose outputs are not probabilities."""


class AuditError(CausalCXRError):
    """An audit or a stress test that cannot be carried out with these arguments."""


class ModelError(CausalCXRError):
    """A saved or stale model that cannot be used in this way."""


class StudyError(CausalCXRError):
    """A reader study that cannot be created, served or analysed in this way."""


def install(*extras: str) -> str:
    """Return the command that installs some extras; causalcxr is not on a package index.

    Example:
        >>> install("app")
        'in the folder of causalcxr, run: pip install -e ".[app]"'
    """
    return f'in the folder of causalcxr, run: pip install -e ".[{",".join(extras)}]"'


def nearest(word: Any, choices: Iterable[str]) -> str:
    """Return a hint with the nearest choice to a word, or an empty string.

    Example:
        >>> nearest("agee", ["Age", "Sex"])
        "; did you mean 'Age'?"
    """
    by_lower = {str(choice).lower(): str(choice) for choice in choices}
    matches = difflib.get_close_matches(str(word)[:80].lower(), by_lower, n=1, cutoff=0.6)
    return f"; did you mean {by_lower[matches[0]]!r}?" if matches else ""


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
