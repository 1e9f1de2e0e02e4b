"""Rules between the variables of a graph."""

from collections.abc import Mapping, Sequence

from causalcxr.common.errors import brief, nearest
from causalcxr.graph.mechanism_spec import GraphFault, MechanismSpec
from causalcxr.graph.variables import Variable, same_name

__all__ = ["check_image", "check_names", "check_parent_types", "check_parents"]


def check_names(variables: tuple[Variable, ...], graph_name: str) -> None:
    """Refuse an empty graph, and names that differ only in spelling."""
    if not isinstance(graph_name, str) or not 0 < len(graph_name) <= 64:
        raise GraphFault(("name",), f"name {brief(graph_name)} must be 1 to 64 characters")
    if not variables:
        raise GraphFault(("variables",), "a graph needs at least one variable")
    seen: dict[str, str] = {}
    for variable in variables:
        spelling = same_name(variable.name)
        if spelling in seen:
            text = f"its name and {seen[spelling]!r} differ only in case, _ or -; rename one"
            raise GraphFault(("variables", variable.name), text)
        seen[spelling] = variable.name


def check_parents(variables: Mapping[str, Variable]) -> None:
    """Refuse parents that are undeclared, that are the image, or that do not suit a rule."""
    for child in variables.values():
        for parent in child.parents:
            place = ("variables", child.name, "parents", parent)
            if parent not in variables:
                hint = nearest(parent, [name for name in variables if name != child.name])
                remedy = hint or "; declare it or remove it from parents"
                raise GraphFault(place, f"parent {brief(parent)} is not declared{remedy}")
            if variables[parent].is_image:
                text = f"parent {parent!r} is the image, which has no effects; remove it"
                raise GraphFault(place, text)
        try:
            check_parent_types(child.mechanism, [variables[name] for name in child.parents])
        except GraphFault as fault:
            raise GraphFault(("variables", child.name, *fault.place), str(fault)) from None


def check_parent_types(spec: MechanismSpec, parents: Sequence[Variable]) -> None:
    """Refuse parents that a kind of equation cannot read.

    Args:
        spec: The kind and its options.
        parents: The parents that are declared.

    Raises:
        GraphError: If there are too many or too few, or one is of a type that does not fit.

    Example:
        >>> check_parent_types(MechanismSpec("derived", {"rule": "at_least", "threshold": 65}), [])
        Traceback (most recent call last):
        causalcxr.graph.mechanism_spec.GraphFault: the rule 'at_least' reads one parent, not 0
    """
    if spec.kind == "empirical" and parents:
        text = "kind 'empirical' is for roots; remove its parents, or use flow or discrete"
        raise GraphFault(("mechanism",), text)
    if spec.kind == "derived":
        _check_derived(spec, parents)


def _check_derived(spec: MechanismSpec, parents: Sequence[Variable]) -> None:
    rule, is_numeric = spec.options.get("rule"), "threshold" in spec.options
    if is_numeric and len(parents) != 1:
        raise GraphFault(("mechanism",), f"the rule {rule!r} reads one parent, not {len(parents)}")
    if not parents:
        raise GraphFault(("mechanism",), "a derived variable needs parents to be derived from")
    # A threshold compares a number; other rules combine binary findings.
    expected = "continuous" if is_numeric else "binary"
    for parent in parents:
        if parent.type != expected:
            rule_name = f"the rule {rule!r}" if is_numeric else "a derived rule"
            text = f"parent {parent.name!r} is {parent.type}; {rule_name} needs a {expected} one"
            raise GraphFault(("parents", parent.name), text)


def check_image(variables: Mapping[str, Variable]) -> None:
    """Refuse a second image."""
    images = [name for name, variable in variables.items() if variable.is_image]
    if len(images) > 1:
        text = f"a graph has one image, and {images[0]!r} is one already; remove one"
        raise GraphFault(("variables", images[1]), text)
