"""What an equation was learned from, and what changed between two fits.

A recipe holds what the graph declares (`variable`, `parents`), the resolved `options`, `seed`,
`revision`, and fingerprints of starting `weights`, `records`, `columns` and `images`.
"""

from collections.abc import Mapping
from typing import Any

from causalcxr.graph.diff import declaration_changes

__all__ = ["recipe_changes"]


def recipe_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> tuple[str, ...]:
    """Return in words what changed between two recipes of an equation.

    Args:
        before: The `Fitted.recipe` of one fit.
        after: The recipe of a later fit of the same variable.

    Example:
        >>> from causalcxr.graph import Graph
        >>> from causalcxr.graph.diff import declaration
        >>> pieces = {"options": {}, "weights": "", "records": "", "columns": {}, "images": ""}
        >>> one = {**declaration(Graph.load("mini"), "View"), **pieces, "seed": 0, "revision": 1}
        >>> recipe_changes(one, {**one, "seed": 4})
        ('seed 0 -> 4',)
    """
    changes = list(declaration_changes(before, after))
    # Options written in the graph are part of the declaration; the rest are defaults.
    written = {*before["variable"]["mechanism"], *after["variable"]["mechanism"]}
    changes += [
        f"default of mechanism {key} {before['options'][key]} -> {value}"
        for key, value in after["options"].items()
        if key not in written and before["options"].get(key, value) != value
    ]
    changes += [
        f"{key} {before[key]} -> {after[key]}"
        for key in ("seed", "revision")
        if before[key] != after[key]
    ]
    if before["weights"] != after["weights"]:
        changes.append("starting weights changed")
    # Other records change every column too: name the records only.
    if before["records"] != after["records"]:
        changes.append("the training records changed")
    elif changed := [n for n in after["columns"] if _column_changed(before, after, n)]:
        changes.append(f"data of {', '.join(changed)} changed")
    elif before["images"] != after["images"]:
        changes.append("the images changed")
    return tuple(changes)


def _column_changed(before: Mapping[str, Any], after: Mapping[str, Any], name: str) -> bool:
    """Return whether a column's values changed; other levels only renumber the same values."""
    fingerprint = after["columns"][name]
    levels = [r["parents"].get(name, r["variable"])["levels"] for r in (before, after)]
    return before["columns"].get(name, fingerprint) != fingerprint and levels[0] == levels[1]
