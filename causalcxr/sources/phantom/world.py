"""A phantom world: its equations, its planted biases, and its recording."""

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
    """A phantom world; by default the equations of cxr7 without planted biases.

    A planted arrow is in the world and not in the graph, so that an audit has something to find.
    It changes which patients have a finding; the marginals stay. `planted_effects` returns the
    true sizes.

    Args:
        graph: The graph of the equations: cxr7 or cxr7-acquisition.
        confounding: Patients with a pathology are imaged AP more often: the rise of the
            probability of AP, all else equal, 0 to 1, as far as the marginals allow.
        shortcut: Patients with the disease have devices more often: the rise of the probability
            of devices through the planted arrow, all else equal.
        disease: The disease, one of the 12 pathologies.
        underdiagnosis: The probability that a pathology of a patient of the group is labelled N,
            independently for each; the image shows it. No Finding follows from the labels.
        group: The group: variables and a level for each.
        race_signal: The effect of race on the image: 1 for that of the phantom, 0 for none.
        missing: Whether the table has the gaps of the sources, see `recording`.

    Raises:
        CohortError: If a value is not allowed.

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
                    f"world: {name}={value!r}; give a number from 0 to 1 (cohort options are in "
                    "per cent)"
                )
        disease = _named("disease", self.disease, PATHOLOGIES)
        if not isinstance(self.group, Mapping) or not self.group:
            raise CohortError(
                f"world: group={self.group!r}; give variables and a level for each, {{'Sex': 'F'}}"
            )
        group = {}
        for written, level in self.group.items():
            name = _named("group", written, LEVELS)
            group[name] = _one_of(f"group {name!r}", level, LEVELS[name])
        object.__setattr__(self, "disease", disease)
        object.__setattr__(self, "group", FrozenDict(group))

    def described(self) -> list[str]:
        """Return the settings that differ from the defaults in one line, or an empty list.

        Example:
            >>> World(graph="cxr7-acquisition", shortcut=0.5).described()
            ["world: graph='cxr7-acquisition', shortcut=0.5"]
        """
        defaults = World()
        settings = [
            f"{each.name}={getattr(self, each.name)!r}"
            for each in fields(self)
            if getattr(self, each.name) != getattr(defaults, each.name)
        ]
        return [f"world: {', '.join(settings)}"] if settings else []


def _one_of(what: str, value: object, choices: tuple[str, ...]) -> str:
    if value not in choices:
        hint = nearest(value, choices) or f"; allowed: {', '.join(choices)}"
        raise CohortError(f"world: {what} cannot be {str(value)[:80]!r}{hint}")
    return value


def _named(what: str, value: object, names: Mapping | tuple[str, ...]) -> str:
    """Return the name of a variable; case is ignored, and `_` stands for a space."""
    spelled = {same_name(name): name for name in names}
    return spelled.get(same_name(str(value))) or _one_of(what, value, tuple(names))
