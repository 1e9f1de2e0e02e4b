"""Arguments of questions: actions given first or by name, options distinct from variables."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.common.errors import GraphError, InterventionError, brief, nearest
from causalcxr.graph.distributions import is_number
from causalcxr.graph.interventions import Intervention, do

if TYPE_CHECKING:
    from causalcxr.graph.graph import Graph

__all__ = ["Action", "action_of", "actions_of", "check_options", "names_of"]

Action = Intervention | Mapping[str, Any] | None


def action_of(
    action: Action, values: Mapping[str, Any] | None = None, beyond_range: bool = False
) -> Intervention:
    """Return one intervention from the first argument and the keyword arguments.

    Args:
        action: An intervention, a mapping of names to values, or None.
        values: Names and values of keyword arguments.
        beyond_range: Allow values outside the range; an intervention that allows them keeps this.

    Raises:
        InterventionError: If a variable is set twice, or a value is invalid.

    Example:
        >>> action_of(do(sex="M"), {"age": 60}).describe()
        'do(sex=M, age=60)'
    """
    if isinstance(action, Intervention):
        beyond_range = beyond_range or action.beyond_range
        action = action.settings
    return do(action, beyond_range=beyond_range, **(values or {}))


def actions_of(
    actions: Intervention | Mapping[str, Any] | Iterable[Intervention | Mapping[str, Any]],
) -> list[Intervention]:
    """Return several interventions as a list; one alone is a list of one.

    Example:
        >>> [str(each) for each in actions_of(do(sex="M"))], len(actions_of([{"age": 60}] * 2))
        (['do(sex=M)'], 2)
    """
    given = [actions] if isinstance(actions, Intervention | Mapping) else list(actions)
    return [action_of(action) for action in given]


def names_of(names: str | Iterable[str]) -> tuple[str, ...]:
    """Return names as a tuple; a text is one name, not its letters.

    Example:
        >>> names_of("View"), names_of(["View", "Age"])
        (('View',), ('View', 'Age'))
    """
    return (names,) if isinstance(names, str) else tuple(names)


def check_options(graph: "Graph", **options: Any) -> None:
    """Refuse an option whose value is meant for a variable of the same name.

    A variable called Seed, Draws or Hold cannot be set by keyword, as the option of that name
    takes the value. A value that does not suit the option is refused, with the remedy. A value
    that suits both is the option's.

    Args:
        graph: The variables.
        **options: The options of a question by name, with the values given.

    Raises:
        InterventionError: If a value does not suit its option.

    Example:
        >>> from causalcxr.graph import Graph
        >>> graph = Graph.parse("variables: {Seed: {type: binary, levels: [N, P]}}")
        >>> check_options(graph, seed=1, hold="Seed")
        >>> check_options(graph, seed="P")
        Traceback (most recent call last):
        causalcxr.common.errors.InterventionError: seed='P': the option seed is a whole number; \
to set the variable 'Seed', write do({'Seed': 'P'})
    """
    for option, value in options.items():
        fits, rule = _RULES[option]
        variable = _variable(graph, option)
        if variable is None and option in _WORDS and isinstance(value, str):
            continue  # the question checks its own words
        # A text that names no variable may be a value for the variable of the option's name.
        stray = _stray(graph, value) if variable is not None and option in _NAMING else None
        if stray is not None:
            rule = f"{rule}, and {stray!r} is not one{nearest(stray, graph.tabular)}"
        if not fits(value) or stray is not None:
            setting = f"do({{{variable!r}: {brief(value)}}})"
            hint = f"; to set the variable {variable!r}, write {setting}" if variable else ""
            text = f"{option}={brief(value)}: the option {option} is {rule}{hint}"
            raise InterventionError(text)


def _variable(graph: "Graph", name: str) -> str | None:
    try:
        return graph.find(name)
    except GraphError:
        return None


def _stray(graph: "Graph", value: Any) -> str | None:
    """Return the first name that is not a variable."""
    names = names_of(value) if _are_names(value) else ()
    return next((name for name in names if _variable(graph, name) is None), None)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)


def _is_yes_or_no(value: Any) -> bool:
    return isinstance(value, bool | np.bool_)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _are_names(value: Any) -> bool:
    return isinstance(value, Iterable) and all(isinstance(name, str) for name in names_of(value))


def _or_none(fits: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or fits(value)


_NAMES = (_or_none(_are_names), "names of variables")
_WHOLE, _SWITCH = (_is_whole, "a whole number"), (_is_yes_or_no, "True or False")
_WORDS = ("kind", "missing", "vary")
_NAMING = ("hold", "label", "mediators", "variables")
_RULES: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "alpha": (is_number, "a number"),
    "beyond_range": _SWITCH,
    "bootstrap": _WHOLE,
    "draws": (_or_none(_is_whole), "a whole number"),
    "few": (is_number, "a number"),
    "hold": (_are_names, "names of variables, such as hold=['View']"),
    "images": _WHOLE,
    "kind": (lambda value: value in ("total", "direct", "indirect"), "total, direct or indirect"),
    "label": (_or_none(_is_text), "the name of a variable"),
    "least": (is_number, "a number"),
    "mediators": _NAMES,
    "missing": (lambda value: value in ("keep", "posterior"), "'keep' or 'posterior'"),
    "recompute": _SWITCH,
    "rows": _WHOLE,
    "seed": _WHOLE,
    "split": (_or_none(_is_text), "the name of a split"),
    "variables": _NAMES,
    "by": (_are_names, "names of columns"),
    "vary": (lambda value: value in ("all", "one"), "'all' or 'one'"),
}
