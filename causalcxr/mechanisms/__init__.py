"""Structural equations, one kind a file; `build` makes the one a graph asks for."""

from collections.abc import Sequence
from importlib import import_module

from causalcxr.errors import MechanismError, nearest
from causalcxr.graph import Variable
from causalcxr.mechanisms.base import Columns, Equation, History, Mechanism

__all__ = ["REGISTRY", "Columns", "Equation", "History", "Mechanism", "build"]

#: kind -> "module:class", imported when a graph first asks for it; yours can be added.
REGISTRY: dict[str, str] = {
    "flow": "causalcxr.mechanisms.flow:FlowMechanism",
    "discrete": "causalcxr.mechanisms.discrete:DiscreteMechanism",
    "derived": "causalcxr.mechanisms.derived:DerivedMechanism",
    "empirical": "causalcxr.mechanisms.empirical:EmpiricalMechanism",
    "radit": "causalcxr.mechanisms.image:ImageMechanism",
}


def build(variable: Variable, parents: Sequence[Variable]) -> Mechanism:
    """Return the mechanism that the variable's `mechanism:` entry asks for, untrained.

    Raises:
        MechanismError: if the kind is not registered, or its options do not fit.
    """
    kind = variable.mechanism.kind
    if kind not in REGISTRY:
        raise MechanismError(
            f"variable {variable.name!r}: mechanism {kind!r} is not known"
            f"{nearest(kind, REGISTRY)}; known are {sorted(REGISTRY)}"
        )
    module, _, name = REGISTRY[kind].partition(":")
    return getattr(import_module(module), name)(variable, parents, **variable.mechanism.options)
