"""Pairs of a cause that an action sets and an outcome: which may have a hidden common cause."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from causalcxr.common.errors import GraphError, InterventionError
from causalcxr.mechanisms.derived import DerivedMechanism
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.mechanisms.noise_scores import has_score_interval, has_scores

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["Between", "Pair", "confounded_pairs"]

Between = tuple[str, str] | Sequence[tuple[str, str]] | None


@dataclass(frozen=True)
class Pair:
    """A cause, and a child of it that may share a hidden cause with it.

    Args:
        cause: The variable that the action sets.
        outcome: Its child.
        has_scores: Whether both noises have a normal score, so that they can be correlated.
        has_levels: Whether the cause is discrete, so that there are bounds.
    """

    cause: str
    outcome: str
    has_scores: bool
    has_levels: bool

    def __str__(self) -> str:
        return f"{self.cause} and {self.outcome}"


def confounded_pairs(
    model: "SCM", causes: Sequence[str], fixed: Iterable[str], between: Between
) -> list[Pair]:
    """Return the pairs, checked against the graph.

    Args:
        model: The model.
        causes: The variables that the action sets.
        fixed: The variables that have no equation under the action: set, or held.
        between: Two names, several pairs of names, or None for each cause with each child.

    Raises:
        InterventionError: If the noises of a named pair cannot be correlated.
    """
    fixed = frozenset(fixed)
    if between is None:
        graph = model.graph
        named = [(cause, child) for cause in causes for child in graph.children(cause)]
        named = [(a, b) for a, b in named if b not in fixed and _has_noise(model, b)]
        return [pair for names in named if (pair := _pair(model, *names)) is not None]
    is_one = len(between) == 2 and all(isinstance(name, str) for name in between)
    return [
        _named_pair(model, causes, fixed, names) for names in ([between] if is_one else between)
    ]


def _named_pair(
    model: "SCM", causes: Sequence[str], fixed: frozenset[str], names: tuple[str, str]
) -> Pair:
    """Return the pair with these names, in either order."""
    if isinstance(names, str) or len(names) != 2:
        raise InterventionError(f"between={names!r}: give two names, such as ('Sex', 'Edema')")
    graph = model.graph
    try:
        one, other = (graph.find(name) for name in names)
    except GraphError as error:
        raise InterventionError(f"between={tuple(names)}: {error}") from None
    cause, outcome = (other, one) if other in graph[one].parents else (one, other)
    place = f"between {cause!r} and {outcome!r}"
    if cause not in graph[outcome].parents:
        raise InterventionError(
            f"{place}: no edge joins them, so that data can show a hidden cause; test the graph, "
            "or add the edge"
        )
    if cause not in causes:
        raise InterventionError(
            f"{place}: the action sets {' and '.join(causes)}; a hidden cause of two other "
            "variables leaves its total effect unchanged"
        )
    if outcome in fixed:
        raise InterventionError(f"{place}: {outcome!r} is set or held; leave it free")
    if not _has_noise(model, outcome):
        raise InterventionError(
            f"{place}: {outcome!r} has no noise that can be correlated; name a learned variable "
            "of the table"
        )
    pair = _pair(model, cause, outcome)
    if pair is None:
        raise InterventionError(
            f"{place}: their noises have no normal score, and {cause!r} has no levels for bounds"
        )
    return pair


def _has_noise(model: "SCM", name: str) -> bool:
    mechanism = model._mechanisms.get(name)
    is_rule = mechanism is None or isinstance(mechanism, DerivedMechanism)
    return not (is_rule or model.graph[name].is_image)


def _pair(model: "SCM", cause: str, outcome: str) -> Pair | None:
    """Return a pair, or None if neither a correlation nor a bound is defined."""
    one, other = model._mechanisms.get(cause), model._mechanisms[outcome]
    correlated = one is not None and has_score_interval(one) and has_scores(other)
    bounded = model.graph[cause].is_discrete and (
        isinstance(other, DiscreteMechanism) or has_scores(other)
    )
    return Pair(cause, outcome, correlated, bounded) if correlated or bounded else None
