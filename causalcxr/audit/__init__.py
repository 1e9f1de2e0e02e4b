"""The audit of a classifier: does it treat patients differently for who they are?

`causalcxr.audit(...)` is the question itself, so this package can be called: Python binds a
package to its name in the one above as soon as any module of it is imported, and would hide a
function of that name.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

__all__ = [
    "AttributeReader",
    "Audit",
    "Gates",
    "Pairs",
    "Stress",
    "acquisition",
    "as_classifier",
    "audit",
    "audit_pairs",
    "demographics",
    "image_features",
    "make_pairs",
    "prevalence",
    "severity",
    "stress",
]

_HOMES = {
    "AttributeReader": "reader",
    "Audit": "result",
    "Gates": "gates",
    "Pairs": "pairs",
    "Stress": "stress_result",
    "acquisition": "shifts",
    "as_classifier": "classifiers",
    "audit": "auditing",
    "audit_pairs": "auditing",
    "demographics": "shifts",
    "image_features": "reader",
    "make_pairs": "pairs",
    "prevalence": "shifts",
    "severity": "shifts",
    "stress": "stressing",
}


class _Audit(ModuleType):
    """The package, which is also the question."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        """Audit a classifier; see `causalcxr.audit.auditing.audit`."""
        return self.audit(*args, **options)


def __getattr__(name: str) -> Any:
    """Import a public name from its home the first time that it is asked for."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


sys.modules[__name__].__class__ = _Audit
