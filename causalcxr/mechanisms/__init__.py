"""Structural equations, one kind a file; `build` makes the one that a graph names."""

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from causalcxr.common.errors import MechanismError, nearest
from causalcxr.graph.graph import Variable
from causalcxr.graph.mechanism_spec import add_kind
from causalcxr.mechanisms.base import Columns, Equation, History, Mechanism

if TYPE_CHECKING:
    from causalcxr.mechanisms.contract import check_mechanism

__all__ = [
    "REGISTRY",
    "Columns",
    "Equation",
    "History",
    "Mechanism",
    "build",
    "check_mechanism",
    "register",
]

#: kind -> a class, or "module:class", imported when a graph first needs it; see `register`.
REGISTRY: dict[str, str | type[Mechanism]] = {
    "flow": "causalcxr.mechanisms.flow:FlowMechanism",
    "discrete": "causalcxr.mechanisms.discrete:DiscreteMechanism",
    "derived": "causalcxr.mechanisms.derived:DerivedMechanism",
    "empirical": "causalcxr.mechanisms.empirical:EmpiricalMechanism",
    "radit": "causalcxr.mechanisms.image:ImageMechanism",
}


def __getattr__(name: str) -> Any:
    """Import the contract at first use, because scipy's statistics take a while to load."""
    if name == "check_mechanism":
        return import_module("causalcxr.mechanisms.contract").check_mechanism
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def register(
    kind: str,
    home: str | type[Mechanism],
    *,
    types: Iterable[str],
    options: Mapping[str, Any] | None = None,
) -> None:
    """Add your own kind of equation, so that a graph can name it: `mechanism: <kind>`.

    A saved model with this kind can be loaded wherever the kind is registered. Test the class
    with `check_mechanism` first.

    Args:
        kind: Its name in a graph.
        home: The class, a `Mechanism`; or "module:class", imported at first use.
        types: The types of variables that can have this mechanism.
        options: The options that a graph may set: for each a tuple of the words allowed, or int,
            float or str. The class holds the defaults.

    Raises:
        GraphError: If the kind is built in, or a type is unknown.

    Example:
        >>> register("flow", "package.module:Mine", types=["continuous"])
        Traceback (most recent call last):
        causalcxr.common.errors.GraphError: mechanism 'flow' is built in; choose another name
    """
    add_kind(kind, types, options)
    REGISTRY[kind] = home


def build(variable: Variable, parents: Sequence[Variable]) -> Mechanism:
    """Return the mechanism that the variable's `mechanism:` entry names, untrained.

    Raises:
        MechanismError: If the kind is not registered, or its options do not fit.
    """
    kind = variable.mechanism.kind
    if kind not in REGISTRY:
        raise MechanismError(
            f"variable {variable.name!r}: mechanism {kind!r} is not known"
            f"{nearest(kind, REGISTRY)}; use one of {sorted(REGISTRY)}, or register it"
        )
    mechanism = REGISTRY[kind]
    # A text is imported at first use, so that scalar equations never load the image's network.
    if isinstance(mechanism, str):
        module, _, name = mechanism.partition(":")
        mechanism = getattr(import_module(module), name)
    return mechanism(variable, parents, **variable.mechanism.options)
