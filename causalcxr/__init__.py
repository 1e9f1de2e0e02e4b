"""Counterfactual chest radiographs from an expert causal graph: what a notebook needs.

Names are imported when they are first used (PEP 562), so that `import causalcxr` is instant and a
graph can be read without loading torch.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from causalcxr.audit.auditing import audit
    from causalcxr.audit.stressing import stress
    from causalcxr.cohort.cohort import Cohort
    from causalcxr.common.errors import CausalCXRError
    from causalcxr.graph.graph import Graph, Variable
    from causalcxr.graph.interventions import Categorical, Normal, Resample, Shift, do
    from causalcxr.scm.scm import SCM, Noise

__all__ = [
    "SCM",
    "Categorical",
    "CausalCXRError",
    "Cohort",
    "Graph",
    "Noise",
    "Normal",
    "Resample",
    "Shift",
    "Variable",
    "__version__",
    "audit",
    "do",
    "stress",
]

_HOMES = {
    "Categorical": "causalcxr.graph.interventions",
    "CausalCXRError": "causalcxr.common.errors",
    "Cohort": "causalcxr.cohort",
    "Graph": "causalcxr.graph",
    "Noise": "causalcxr.scm",
    "Normal": "causalcxr.graph.interventions",
    "Resample": "causalcxr.graph.interventions",
    "SCM": "causalcxr.scm",
    "Shift": "causalcxr.graph.interventions",
    "Variable": "causalcxr.graph",
    "do": "causalcxr.graph.interventions",
    "stress": "causalcxr.audit.stressing",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home the first time that it is asked for."""
    if name == "__version__":
        value = import_module("importlib.metadata").version("causalcxr")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'causalcxr' has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """The package, whose `audit` is always the function, whatever has been imported."""

    @property
    def audit(self) -> Callable[..., Any]:
        return import_module("causalcxr.audit.auditing").audit

    @audit.setter
    def audit(self, package: ModuleType) -> None:
        """Ignore the package `causalcxr.audit`, which Python binds here when it imports it."""


sys.modules[__name__].__class__ = _Package
