"""Interventions: do(...) by name, then bound to a graph, then evaluated on records."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from causalcxr.common.errors import GraphError, InterventionError, brief, nearest
from causalcxr.common.frozen_dict import FrozenDict
from causalcxr.graph.distributions import Categorical, Normal, Resample, read_distribution
from causalcxr.graph.intervention_values import (
    Shift,
    canonical,
    checked,
    evaluate,
    jsonable,
    worded,
)
from causalcxr.graph.value_codes import Written
from causalcxr.graph.variables import Variable, same_name

if TYPE_CHECKING:
    import pandas as pd

    from causalcxr.common.random_numbers import Draws
    from causalcxr.graph.graph import Graph

__all__ = [
    "BoundIntervention",
    "Categorical",
    "Intervention",
    "Normal",
    "Resample",
    "Shift",
    "do",
    "parse",
]

_DRAWN = re.compile(r"([^=~]+)~(.*)", re.DOTALL)
_SIGNED = re.compile(r"[+-](\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")


@dataclass(frozen=True, eq=False)
class Intervention:
    """Settings of variables by name, not yet checked against a graph; see `do`.

    Args:
        settings: The name of each variable and its setting.
        beyond_range: Whether numbers outside a variable's declared range are allowed.
    """

    settings: Mapping[str, Any]
    beyond_range: bool = False

    def bind(self, graph: "Graph") -> "BoundIntervention":
        """Resolve the names and check the values against a graph.

        Raises:
            InterventionError: If a variable is unknown, set twice or the image, or a value is
                neither a level nor a number, or outside the range.
        """
        bound: dict[str, Any] = {}
        for written, value in self.settings.items():
            variable = _variable(graph, written)
            if variable.name in bound:
                text = f"intervention {written!r}: {variable.name!r} is set twice; keep one"
                raise InterventionError(text)
            bound[variable.name] = canonical(variable, value, self.beyond_range)
        variables = {name: graph[name] for name in bound}
        return BoundIntervention(FrozenDict(bound), self.beyond_range, FrozenDict(variables))

    def describe(self) -> str:
        """Return a short text, such as `do(Sex=M, Age+10)`."""
        return f"do({', '.join(worded(name, value) for name, value in self.settings.items())})"

    def to_json(self) -> dict[str, Any]:
        """Return the entry for a manifest: a function by its name, a column by its SHA-256."""
        settings = {name: jsonable(value) for name, value in self.settings.items()}
        return {"do": settings, "beyond_range": self.beyond_range}

    def repeat(self, draws: int) -> "Intervention":
        """Return the intervention for records that are each repeated `draws` times.

        Only values given in the order of the records change; a Series is aligned by record. See
        `Cohort.repeat`.

        Example:
            >>> do(age=[40, 50], sex="M").repeat(2).settings["age"].tolist()
            [40, 40, 50, 50]
        """
        settings = dict(self.settings)
        for name, value in settings.items():
            if isinstance(value, np.ndarray):
                settings[name] = np.repeat(value, draws)
                settings[name].flags.writeable = False
        return replace(self, settings=FrozenDict(settings))

    def among(self, index: "pd.Index") -> "Intervention":
        """Return the intervention for some of the records: a Series keeps only their values.

        Example:
            >>> import pandas as pd
            >>> ages = pd.Series([40, 50], index=["a", "b"])
            >>> do(age=ages).among(pd.Index(["b"])).settings["age"].to_dict()
            {'b': 50}
        """
        settings = dict(self.settings)
        for name, value in settings.items():
            if hasattr(value, "loc"):
                records = index if value.index.nlevels == index.nlevels else index.unique(0)
                settings[name] = value[value.index.isin(records)]
        return replace(self, settings=FrozenDict(settings))

    def __bool__(self) -> bool:
        return bool(self.settings)

    def __str__(self) -> str:
        return self.describe()


@dataclass(frozen=True, eq=False)
class BoundIntervention(Intervention):
    """An intervention whose names and values were checked against a graph.

    Args:
        settings: Canonical names and settings.
        beyond_range: Whether numbers outside a variable's declared range are allowed.
        variables: The declarations of the variables that are set.
    """

    variables: Mapping[str, Variable] = field(default_factory=FrozenDict)

    @property
    def names(self) -> tuple[str, ...]:
        """The canonical names of the variables set, in the order given."""
        return tuple(self.settings)

    def values(
        self,
        factual: Mapping[str, np.ndarray],
        draws: "Draws | None" = None,
        index: "pd.Index | None" = None,
    ) -> dict[str, np.ndarray]:
        """Return the value that every record is set to.

        A shift or a function of a missing value is missing. Numbers of a variable recorded on a
        lattice (`resolution`) are rounded to it, halves upwards; a factual value is on the
        lattice already and is returned bit-exact.

        Args:
            factual: For each variable, shape (n,): numbers in raw units, or positions of levels;
                NaN where missing.
            draws: The random numbers of the n records, required by a distribution; the value of a
                record depends only on seed, record, draw and variable.
            index: The ids of the n records, or (record, draw); a Series is aligned to it.

        Returns:
            For each variable that is set, shape (n,), float64, coded as `factual` is.

        Raises:
            InterventionError: If a value is invalid, with the number of records and the first.

        Example:
            >>> from causalcxr.graph import Graph
            >>> older = do(age=Shift(10), sex="M").bind(Graph.load("mini"))
            >>> older.values({"Age": np.array([60.0, np.nan]), "Sex": np.array([0.0, 1.0])})
            {'Age': array([70., nan]), 'Sex': array([1., 1.])}
        """
        count = len(next(iter(factual.values()), ()))
        codes = {}
        for name, value in self.settings.items():
            observed = np.asarray(factual.get(name, np.full(count, np.nan)), dtype=np.float64)
            variable = self.variables[name]
            codes[name] = evaluate(variable, value, observed, self.beyond_range, draws, index)
        return codes


def do(
    mapping: Mapping[str, Any] | None = None, /, *, beyond_range: bool = False, **values: Any
) -> Intervention:
    """Set variables, independently of their causes.

    Names match whatever the case, with `_` for a space. A value is a level (text) or a number, a
    `Shift`, a function of the factual column (a pandas Series by record in raw units: numbers, or
    levels as text), one value for each record, or a distribution to draw each record's value from:
    `Normal`, `Categorical`, `Resample`. A list or an array holds values in the order of the
    records; a Series belongs to the records by its index, whatever its order.

    Args:
        mapping: Names and values, for names that are not valid keywords.
        beyond_range: Allow numbers outside a variable's declared range; it is recorded.
        **values: Names and values.

    Raises:
        InterventionError: If one variable is given twice, or a value is missing or not finite.

    Example:
        >>> do({"Pleural Effusion": "P"}, sex="M", age=Shift(10)).describe()
        'do(Pleural Effusion=P, sex=M, age+10)'
        >>> do(age=Normal(60, 10), sex=Categorical({"F": 0.3, "M": 0.7})).describe()
        'do(age~normal(60, 10), sex~categorical(F=0.3, M=0.7))'
    """
    if mapping is not None and not isinstance(mapping, Mapping):
        text = f"do() takes names and values, do(sex='M'), not {brief(mapping)}"
        raise InterventionError(text)
    if not isinstance(beyond_range, bool | np.bool_):
        raise InterventionError(
            f"beyond_range={brief(beyond_range)}: the option beyond_range is True or False; to "
            f"set a variable of that name, write do({{'beyond_range': {brief(beyond_range)}}})"
        )
    settings: dict[str, Any] = {}
    seen: dict[str, str] = {}
    # Names that differ only in case, spaces, `_` or `-` are one variable.
    for name, value in [*(mapping or {}).items(), *values.items()]:
        if not isinstance(name, str):
            raise InterventionError(f"intervention {brief(name)}: a name must be text")
        other = seen.setdefault(same_name(name), name)
        if name in settings or other != name:
            raise InterventionError(f"intervention {name!r}: {other!r} is set too; keep one")
        settings[name] = checked(name, value)
    return Intervention(FrozenDict(settings), bool(beyond_range))


def parse(words: Iterable[str], *, beyond_range: bool = False) -> Intervention:
    """Read interventions as the command line writes them.

    A sign makes a shift: `age=+10` and `age=-5` change the factual age, `age=60` sets it. A tilde
    draws each value: `age~normal(60, 10)`, `sex~categorical(F=.3, M=.7)`.

    Args:
        words: Each `NAME=VALUE` or `NAME~DISTRIBUTION`.
        beyond_range: Allow numbers outside a variable's declared range.

    Raises:
        InterventionError: If a word is malformed or sets a variable again.

    Example:
        >>> parse(["sex=M", "age=+10"]).describe()
        'do(sex=M, age+10)'
    """
    settings: dict[str, Any] = {}
    seen: set[str] = set()
    for word in words:
        # NAME~DISTRIBUTION, or else NAME=VALUE.
        match = _DRAWN.fullmatch(str(word))
        parts = match.groups() if match else str(word).partition("=")[::2]
        name, value = (part.strip() for part in parts)
        if not name or not value or value.startswith("="):
            example = "write NAME=VALUE, such as sex=M, age=60 or age=+10"
            raise InterventionError(f"intervention {brief(word)}: {example}")
        if same_name(name) in seen:
            raise InterventionError(f"intervention {brief(word)}: {name!r} is set twice; keep one")
        seen.add(same_name(name))
        if match:
            settings[name] = read_distribution(value)
        else:
            # A sign makes a number a shift. Other words are read when the variable is known.
            settings[name] = Shift(float(value)) if _SIGNED.fullmatch(value) else Written(value)
    return do(settings, beyond_range=beyond_range)


def _variable(graph: "Graph", written: str) -> Variable:
    try:
        variable = graph[written]
    except GraphError:
        hint = nearest(written, graph.tabular) or f" (variables: {', '.join(graph.tabular)})"
        text = f"intervention {brief(written)}: no such variable{hint}"
        raise InterventionError(text) from None
    if variable.is_image:
        text = f"{variable.name!r} is the image, which is the outcome; intervene on its causes"
        raise InterventionError(f"intervention {written!r}: {text}")
    return variable
