"""A world: which equations hold, what is planted in them, and what gets written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields

from causalcxr.common.errors import CohortError, nearest
from causalcxr.common.frozen_dict import FrozenDict
from causalcxr.graph.variables import same_name
from causalcxr.sources.phantom.tables import GRAPHS, LEVELS, PATHOLOGIES

__all__ = ["World"]

_SHARES = ("confounding", "shortcut", "underdiagnosis", "race_signal")


@dataclass(frozen=True)
class World:
    """What holds in a phantom world; by default the equations of cxr7 and nothing planted.

    A planted arrow is in the world and not in the graph, so that an audit has something to find.
    It moves who has what; the marginals stay. `planted_effects` gives the true sizes.

    Args:
        graph: Whose edges the equations have: cxr7 or cxr7-acquisition.
        confounding: The sicker are filmed AP. By how much the chance of AP rises, all else the
            same, if there is any pathology: 0 to 1, as far as the shares of AP allow it.
        shortcut: Devices come with the disease. By how much the chance of devices rises through
            the planted arrow, all else the same, if the disease is there.
        disease: That disease, one of the 12 pathologies.
        underdiagnosis: The chance that a pathology of somebody of the group is labelled N, each
            on its own; the film shows it. No Finding is what the labels say.
        group: That group: variables and a level each.
        race_signal: How much of race reaches the film: 1 as the phantom has it, 0 nothing.
        missing: Whether the table has the gaps of the sources, see `recording`.

    Raises:
        CohortError: If a value is none of these.

    Example:
        >>> World(underdiagnosis=0.3, group={"race": "Black"}).group
        {'Race': 'Black'}
    """

    graph: str = "cxr7"
    confounding: float = 0.0
    shortcut: float = 0.0
    disease: str = "Pneumothorax"
    underdiagnosis: float = 0.0
    group: Mapping[str, str] = field(default_factory=lambda: FrozenDict({"Sex": "F"}))
    race_signal: float = 1.0
    missing: bool = False

    def __post_init__(self) -> None:
        _one_of("graph", self.graph, GRAPHS)
        for name in _SHARES:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise CohortError(
                    f"world: {name}={value!r}; give a number from 0 to 1 (as the option of a "
                    "cohort, a whole number of per cent)"
                )
        disease = _named("disease", self.disease, PATHOLOGIES)
        if not isinstance(self.group, Mapping) or not self.group:
            raise CohortError(
                f"world: group={self.group!r}; give variables and a level each, {{'Sex': 'F'}}"
            )
        group = {}
        for written, level in self.group.items():
            name = _named("group", written, LEVELS)
            group[name] = _one_of(f"group {name!r}", level, LEVELS[name])
        object.__setattr__(self, "disease", disease)
        object.__setattr__(self, "group", FrozenDict(group))

    def described(self) -> list[str]:
        """Return what differs from the usual world, in a line, or nothing.

        Example:
            >>> World(graph="cxr7-acquisition", shortcut=0.5).described()
            ["world: graph='cxr7-acquisition', shortcut=0.5"]
        """
        usual = World()
        told = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != getattr(usual, each.name)
        ]
        return [f"world: {', '.join(told)}"] if told else []


def _one_of(what: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        hint = nearest(str(value)[:80], choices) or f"; one of {', '.join(choices)}"
        raise CohortError(f"world: {what} cannot be {str(value)[:80]!r}{hint}")
    return value


def _named(what: str, value: object, names: Mapping | tuple[str, ...]) -> str:
    """Return the name of a variable, whatever the case and with `_` for a space."""
    spelled = {same_name(name): name for name in names}
    return spelled.get(same_name(str(value))) or _one_of(what, value, tuple(names))
