"""What the pages of the explorer share: models, cohorts, and a folder for new models."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from types import MappingProxyType

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.selection import parse_spec
from causalcxr.common.errors import CohortError, ModelError
from causalcxr.scm.scm import SCM

__all__ = ["Models", "Workspace", "loading_code"]


class Models:
    """Keep fitted models by name; pages add models, and none is ever removed.

    Args:
        name: Of the first model.
        model: The first model.
        code: The Python that loads it, such as `cx.SCM.load("runs/edited")`.
    """

    def __init__(self, name: str, model: SCM, code: str) -> None:
        self._models = {name: model}
        self._codes = {name: code}
        self._lock = Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The names, oldest first."""
        return tuple(self._models)

    @property
    def first(self) -> str:
        """The name of the model that the explorer was started with."""
        return self.names[0]

    def __getitem__(self, name: str) -> SCM:
        try:
            return self._models[name]
        except KeyError:
            raise ModelError(f"no model {name!r} here; choose another") from None

    def code(self, name: str) -> str:
        """Return the Python that loads a model."""
        self[name]
        return self._codes[name]

    def add(self, name: str, model: SCM, code: str) -> None:
        """Add a model.

        Raises:
            ModelError: If the name is taken.
        """
        with self._lock:
            if name in self._models:
                raise ModelError(f"a model {name!r} exists already; give another name")
            # New maps replace the old ones, so that readers need no lock.
            self._codes = {**self._codes, name: code}
            self._models = {**self._models, name: model}


@dataclass(frozen=True)
class Workspace:
    """Hold what all pages and all of their users share.

    Args:
        models: Fitted models, by name.
        cohorts: The cohorts to choose patients from, by their specification.
        folder: Where a page may write new models, each in its own folder.
        fitting: Held while a model is fitted: one at a time.
    """

    models: Models
    cohorts: Mapping[str, Cohort]
    folder: Path
    fitting: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cohorts", MappingProxyType(dict(self.cohorts)))

    def cohort(self, name: str) -> Cohort:
        """Return a cohort by its name.

        Raises:
            CohortError: If no cohort has this name.
        """
        if name not in self.cohorts:
            raise CohortError(f"no cohort {name!r} here; choose another")
        return self.cohorts[name]

    def cohort_code(self, name: str) -> str:
        """Return the Python that loads a cohort."""
        self.cohort(name)
        return loading_code(name)


def loading_code(spec: str) -> str:
    """Return the Python that loads a cohort of a specification.

    Example:
        >>> loading_code("phantom:n=500,seed=1")
        "cx.Cohort.load('phantom', n=500, seed=1)"
    """
    name, options = parse_spec(spec)
    arguments = [repr(name), *(f"{key}={value!r}" for key, value in options.items())]
    return f"cx.Cohort.load({', '.join(arguments)})"
