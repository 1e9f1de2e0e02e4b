"""The audit of a classifier: do its scores depend on who the patient is?

The public names are imported from here: `from causalcxr.audit import Pairs`. The attribute `audit`
of `causalcxr` is the function of that name, not this package; see `causalcxr/__init__.py`.
"""

from importlib import import_module
from typing import Any

__all__ = [
    "AttributeReader",
    "Audit",
    "CrossFittedReader",
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

_MODULES = {
    "AttributeReader": "attribute_reader",
    "Audit": "audit_result",
    "CrossFittedReader": "cross_fitted_reader",
    "Gates": "quality_checks",
    "Pairs": "pairs",
    "Stress": "stress_result",
    "acquisition": "shifts",
    "as_classifier": "classifiers",
    "audit": "auditing",
    "audit_pairs": "auditing",
    "demographics": "shifts",
    "image_features": "attribute_reader",
    "make_pairs": "making_pairs",
    "prevalence": "shifts",
    "severity": "shifts",
    "stress": "stressing",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its module when it is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
