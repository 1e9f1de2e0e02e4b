"""The kind of a structural equation and its options, checked as a graph writes them."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

from causalcxr.common.errors import GraphError, brief, nearest
from causalcxr.common.frozen_dict import FrozenDict
from causalcxr.graph.mechanism_options import (
    BUILT_IN,
    KINDS,
    ODE_OPTIONS,
    OPTIONS,
    REAL,
    NumberOr,
)

__all__ = ["GraphFault", "MechanismSpec", "add_kind"]

_OVER_NUMBERS = ("at_least", "below")  # the derived rules that compare a number with a threshold


def add_kind(kind: str, types: Iterable[str], options: Mapping[str, Any] | None = None) -> None:
    """Add a kind of equation that graphs can name; see `mechanisms.register`.

    Args:
        kind: Its name.
        types: The types of variables that can have it.
        options: Its options: a tuple of allowed words, int, float or str for each.

    Raises:
        GraphError: If the kind is a built-in one, or a type is not known.
    """
    if kind in BUILT_IN:
        raise GraphError(f"mechanism {brief(kind)} is built in; choose another name")
    types = tuple(types)
    if unknown := [type for type in types if type not in KINDS]:
        raise GraphError(f"type {brief(unknown[0])} is not known{nearest(unknown[0], KINDS)}")
    OPTIONS[kind] = dict(options or {})
    for type, kinds in KINDS.items():
        others = tuple(each for each in kinds if each != kind)
        KINDS[type] = (*others, kind) if type in types else others


class GraphFault(GraphError):
    """A broken rule and its place in the file, as a path of keys."""

    def __init__(self, place: tuple[str | int, ...], text: str) -> None:
        named = (
            f"variable {brief(place[1])}: " if place[:1] == ("variables",) and place[1:] else ""
        )
        super().__init__(named + text)
        self.place = place


class MechanismSpec:
    """The kind of a structural equation and its options, such as training settings.

    Args:
        kind: `flow`, `discrete`, `derived`, `empirical` or `radit`.
        options: The options of that kind; see `OPTIONS`.

    Raises:
        GraphError: If the kind, an option or its value is unknown.

    Example:
        >>> MechanismSpec("discrete", {"coupling": "gumbel"})
        MechanismSpec('discrete', {'coupling': 'gumbel'})
        >>> MechanismSpec("flow", {"bin": 16})
        Traceback (most recent call last):
        causalcxr.graph.mechanism_spec.GraphFault: flow has no option 'bin'; did you mean 'bins'?
    """

    __slots__ = ("_kind", "_options")

    def __init__(self, kind: str, options: Mapping[str, Any] | None = None) -> None:
        if not isinstance(kind, str) or kind not in OPTIONS:
            raise GraphFault(
                ("kind",),
                f"mechanism {brief(kind)} is not known{nearest(kind, OPTIONS)} "
                f"(kinds: {', '.join(OPTIONS)})",
            )
        self._kind = kind
        checked = {key: _option(kind, key, value) for key, value in (options or {}).items()}
        self._options = FrozenDict(dict(sorted(checked.items())))

    @property
    def kind(self) -> str:
        """The kind of equation."""
        return self._kind

    @property
    def options(self) -> FrozenDict:
        """The options, by name."""
        return self._options

    @classmethod
    def parse(cls, value: Any, kind_key: str = "kind") -> "MechanismSpec":
        """Read a specification from YAML: a word, or a map with the kind."""
        if isinstance(value, MechanismSpec):
            return value
        if isinstance(value, str):
            return cls(value)
        if not isinstance(value, Mapping) or kind_key not in value:
            raise GraphFault((), f"a mechanism is a word or a map: {{{kind_key}: flow}}")
        options = {key: item for key, item in value.items() if key != kind_key}
        try:
            return cls(value[kind_key], options)
        except GraphFault as fault:
            place = (kind_key,) if fault.place == ("kind",) else fault.place
            raise GraphFault(place, str(fault)) from None

    def for_type(self, type: str) -> "MechanismSpec":
        """Return the specification for a type of variable, with built-in options filled in."""
        if self.kind not in KINDS[type]:
            raise GraphFault(
                ("kind",),
                f"mechanism {self.kind!r} does not suit the type {type}; "
                f"use {' or '.join(KINDS[type])}",
            )
        built_in = dict(BUILT_IN.get(self.kind, {}))
        # Levels without an order have no monotone coupling.
        if self.kind == "discrete" and type == "categorical":
            built_in["coupling"] = "gumbel"
            if self.options.get("coupling") == "monotone":
                raise GraphFault(
                    ("coupling",),
                    "coupling 'monotone' needs levels in an order; use gumbel or type: ordinal",
                )
        # Options of the graph take precedence over the built-in ones.
        spec = MechanismSpec(self.kind, built_in | dict(self.options))
        _check_threshold(spec)
        _check_ode(spec)
        return spec

    def to_dict(self) -> dict[str, Any]:
        """Return the specification as a map, kind first."""
        return {"kind": self.kind, **self.options}

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MechanismSpec) and self.to_dict() == other.to_dict()

    def __hash__(self) -> int:
        return hash((self.kind, self.options))

    def __repr__(self) -> str:
        return f"MechanismSpec({self.kind!r}, {self.options!r})"

    def __str__(self) -> str:
        return " ".join([self.kind, *(f"{key}={value}" for key, value in self.options.items())])


def _check_threshold(spec: MechanismSpec) -> None:
    """Refuse a numeric rule without a threshold, and a threshold without a numeric rule."""
    if spec.kind != "derived":
        return
    rule = spec.options["rule"]
    if rule in _OVER_NUMBERS and "threshold" not in spec.options:
        text = f"rule {rule!r} needs a threshold: {{kind: derived, rule: {rule}, threshold: 65}}"
        raise GraphFault(("rule",), text)
    if rule not in _OVER_NUMBERS and "threshold" in spec.options:
        text = f"rule {rule!r} has no threshold; remove it or use {' or '.join(_OVER_NUMBERS)}"
        raise GraphFault(("threshold",), text)


def _check_ode(spec: MechanismSpec) -> None:
    """Refuse options of an ODE if there is none."""
    if spec.options.get("transform") == "cnf":
        return
    if options := [key for key in ODE_OPTIONS if key in spec.options]:
        raise GraphFault(
            (options[0],), f"{options[0]} is an option of transform: cnf; add transform: cnf"
        )


def _option(kind: str, key: Any, value: Any) -> Any:
    rules = OPTIONS[kind]
    if key not in rules:
        hint = nearest(key, rules) or f" (options: {', '.join(rules)})"
        raise GraphFault((key,), f"{kind} has no option {brief(key)}{hint}")
    rule = rules[key]
    # True and False are integers in Python, but no numbers here.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(rule, tuple):
        valid, want = value in rule, f"one of {', '.join(rule)}"
    elif isinstance(rule, NumberOr):
        valid, want = rule.allows(value), str(rule)
    elif rule is str:
        valid, want = isinstance(value, str) and value.strip() != "", "a text"
    elif rule is int:
        least = 2 if key == "bins" else 1
        valid = number and isinstance(value, int) and value >= least
        want = f"a whole number, at least {least}"
    elif rule == REAL:
        valid, want = number and math.isfinite(value), REAL
    else:
        valid, want = number and math.isfinite(value) and value > 0, "a positive number"
    if not valid:
        hint = nearest(value, rule) if isinstance(rule, tuple) else ""
        raise GraphFault((key,), f"{key} {brief(value)} of {kind} must be {want}{hint}")
    # 1 and 1.0 are the same option.
    is_real = number and not isinstance(rule, tuple) and rule is not int
    return float(value) if is_real else value
