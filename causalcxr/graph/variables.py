"""Variables: the values of a node, its parents, and the kind of its equation."""

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictStr, ValidationError

from causalcxr.common.errors import brief, nearest
from causalcxr.common.frozen_dict import FrozenDict
from causalcxr.graph.mechanism_options import KINDS
from causalcxr.graph.mechanism_spec import GraphFault, MechanismSpec

__all__ = ["LARGEST", "TYPES", "Variable", "same_name"]

TYPES = tuple(KINDS)
LARGEST = 1e100  # absolute value of any number: its square and its cube are still finite
_FIELD_RULES = {
    "name": "a name is text",
    "type": "the types are " + ", ".join(TYPES),
    "unit": "a unit is text, such as year",
    "range": "a range is two finite numbers, [lowest, highest]",
    "resolution": "a resolution is a positive number, the step on which values are recorded",
    "levels": 'levels are a list of texts: quote numbers, ["0", "1"]',
    "codes": "codes are a map from cells of tables to levels, {0: N, 1: P}",
    "parents": "parents are a list of names",
    "mechanism": "a mechanism is a word or a map with its kind, {kind: flow}",
    "description": "a description is text",
}
_NAME = re.compile(r"[A-Za-z](?:[A-Za-z0-9 _()-]{0,62}[A-Za-z0-9_()-])?")
_Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]


class Variable(BaseModel):
    """A node of the graph: the values it can take, its parents, its equation.

    Parents are a set: they are kept in alphabetical order, so that the order in the file affects
    neither hashes nor equations.

    Args:
        name: Letters, digits, spaces, `_`, `-` and parentheses; at most 64.
        type: `continuous`, `binary`, `ordinal`, `categorical` or `image`.
        unit: The unit of a continuous variable, such as `year`.
        range: The lowest and highest value of a continuous variable.
        resolution: The lattice on which a continuous variable is recorded: 1 for whole years.
        levels: The values of a discrete variable, as text; those of a binary one are N and P by
            default.
        codes: The codes that tables use for the levels: {"0": "N", "1": "P"}. They determine how a
            table is read and its twins are written; no equation depends on them.
        parents: The names of the direct causes.
        mechanism: The kind of its equation; by default that of its type.
        description: A remark for readers; not part of the graph's content.

    Raises:
        GraphError: If a rule is broken, in one line.

    Example:
        >>> edema = Variable("Edema", "binary", parents=["Sex", "Age"])
        >>> edema.levels, edema.parents, edema.mechanism.options["coupling"]
        (('N', 'P'), ('Age', 'Sex'), 'monotone')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    name: StrictStr
    type: Literal["continuous", "binary", "ordinal", "categorical", "image"]
    unit: StrictStr | None = None
    range: tuple[_Number, _Number] | None = None
    resolution: Annotated[float, Field(strict=True, allow_inf_nan=False, gt=0)] | None = None
    levels: tuple[StrictStr, ...] = ()
    codes: Mapping[StrictStr, StrictStr] = FrozenDict()
    parents: tuple[StrictStr, ...] = ()
    mechanism: MechanismSpec
    description: StrictStr | None = None

    def __init__(self, name: str, type: str, **fields: Any) -> None:
        try:
            # Fill in the defaults of the type before the fields are checked.
            fields["mechanism"] = _mechanism(type, fields.get("mechanism"))
            if type == "binary":
                fields.setdefault("levels", ("N", "P"))
            if isinstance(fields.get("codes"), Mapping):
                fields["codes"] = {_code(key): level for key, level in fields["codes"].items()}
            super().__init__(name=name, type=type, **fields)
            _check_name(self.name)
            _check_continuous(self)
            _check_levels(self)
            _check_codes(self)
            _check_parents(self)
            _check_texts(self)
        except ValidationError as error:
            raise _fault(name, error) from None
        except GraphFault as fault:
            raise GraphFault(("variables", name, *fault.place), str(fault)) from None
        # The model is frozen: only the constructor sets fields.
        self.__dict__["parents"] = tuple(sorted(self.parents))
        self.__dict__["codes"] = FrozenDict(self.codes)

    @property
    def is_discrete(self) -> bool:
        """Whether it has levels."""
        return self.type in ("binary", "ordinal", "categorical")

    @property
    def is_image(self) -> bool:
        """Whether it is the radiograph."""
        return self.type == "image"

    @property
    def domain(self) -> dict[str, Any]:
        """The values it can take: all that an equation depends on in a parent."""
        return {
            "name": self.name,
            "type": self.type,
            "unit": self.unit,
            "range": self.range and list(self.range),
            "resolution": self.resolution,
            "levels": list(self.levels),
        }

    @property
    def content(self) -> dict[str, Any]:
        """The domain, codes if any, parents and mechanism: the content of a graph's hash."""
        return {
            **self.domain,
            **({"codes": dict(self.codes)} if self.codes else {}),
            "parents": list(self.parents),
            "mechanism": self.mechanism.to_dict(),
        }

    def level_of(self, text: str) -> str | None:
        """Return the level of a text in a table, directly or by its code, or None.

        Example:
            >>> edema = Variable("Edema", "binary", codes={0: "N", 1: "P"})
            >>> edema.level_of("1"), edema.level_of("P"), edema.level_of("2")
            ('P', 'P', None)
        """
        return text if text in self.levels else self.codes.get(text)

    def code_of(self, level: str) -> str:
        """Return the first code of a level, or the level if it has no code.

        Example:
            >>> Variable("Edema", "binary", codes={0: "N", 1: "P"}).code_of("P")
            '1'
        """
        return next((code for code, each in self.codes.items() if each == level), level)

    def replace(self, **fields: Any) -> "Variable":
        """Return a copy with some fields changed, checked again.

        Example:
            >>> Variable("Sex", "binary").replace(levels=("F", "M")).levels
            ('F', 'M')
        """
        return Variable(**({name: getattr(self, name) for name in Variable.model_fields} | fields))


def same_name(name: str) -> str:
    """Return a name in the spelling by which names are compared.

    Example:
        >>> same_name("pleural_effusion") == same_name("Pleural Effusion")
        True
    """
    return " ".join(re.split(r"[\s_-]+", name.strip().lower()))


def _code(key: Any) -> Any:
    """Return a code as text; whole numbers are allowed as codes."""
    if isinstance(key, int | float) and not isinstance(key, bool) and float(key).is_integer():
        return str(int(key))
    return key


def _mechanism(type: Any, value: Any) -> MechanismSpec | None:
    if not isinstance(type, str) or type not in KINDS:
        hint = nearest(type, TYPES)
        text = f"type {brief(type)} is not known{hint} ({_FIELD_RULES['type']})"
        raise GraphFault(("type",), text)
    try:
        return MechanismSpec.parse(KINDS[type][0] if value is None else value).for_type(type)
    except GraphFault as fault:
        raise GraphFault(("mechanism", *fault.place), str(fault)) from None


def _fault(name: Any, error: ValidationError) -> GraphFault:
    """Return the first error of pydantic as one line."""
    first = error.errors(include_url=False)[0]
    field, *inside = first["loc"]
    place = ("variables", name, field, *inside)
    if first["type"] == "extra_forbidden":
        hint = nearest(field, _FIELD_RULES) or f" (fields: {', '.join(list(_FIELD_RULES)[1:])})"
        return GraphFault(place, f"field {brief(field)} is not known{hint}")
    return GraphFault(place, f"{field} {brief(first['input'])}: {_FIELD_RULES[field]}")


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise GraphFault(
            (),
            "a name begins with a letter and has letters, digits, spaces, _, - and "
            "parentheses, at most 64: it becomes part of file names",
        )


def _check_continuous(variable: Variable) -> None:
    if variable.type != "continuous":
        for field in ("unit", "range", "resolution"):
            if getattr(variable, field) is not None:
                raise GraphFault((field,), f"only a continuous variable has a {field}; remove it")
        return
    if variable.range and not variable.range[0] < variable.range[1]:
        low, high = variable.range
        raise GraphFault(
            ("range",), f"range [{low:g}, {high:g}]: the lowest must be below the highest"
        )
    # Beyond these sizes squares and cubes of a number overflow.
    numbers = {"range": variable.range or (), "resolution": (variable.resolution or 1.0,)}
    for field, values in numbers.items():
        for value in values:
            if abs(value) > LARGEST or (field == "resolution" and value < 1 / LARGEST):
                text = (
                    f"{field} {value:g}: numbers are from {1 / LARGEST:g} to {LARGEST:g} in size"
                )
                raise GraphFault((field,), f"{text}; use another unit")


def _check_levels(variable: Variable) -> None:
    levels = variable.levels
    if not variable.is_discrete:
        if levels:
            raise GraphFault(("levels",), f"type {variable.type} has no levels; remove them")
        return
    if variable.type == "binary" and len(levels) != 2:
        raise GraphFault(
            ("levels",), f"a binary variable has two levels, not {len(levels)}; or type: ordinal"
        )
    if len(levels) < 2:
        raise GraphFault(
            ("levels",) if levels else (),
            f"type {variable.type} needs at least two levels: levels: [first, second]",
        )
    for position, level in enumerate(levels):
        if level in levels[:position]:
            raise GraphFault(
                ("levels", position), f"level {brief(level)} occurs twice; remove one"
            )
        if not level or level != level.strip() or len(level) > 64:
            raise GraphFault(
                ("levels", position),
                f"level {brief(level)} must be 1 to 64 characters without spaces at its ends",
            )


def _check_codes(variable: Variable) -> None:
    for code, level in variable.codes.items():
        place = ("codes", code)
        if level not in variable.levels:
            levels = ", ".join(variable.levels) or f"none, as it is {variable.type}"
            hint = nearest(level, variable.levels) or f" (levels: {levels})"
            raise GraphFault(place, f"code {brief(code)}: {brief(level)} is not a level{hint}")
        # A cell with this text could mean either level.
        if code in variable.levels and code != level:
            raise GraphFault(place, f"code {brief(code)} is a level itself; remove the code")
        if not code or code != code.strip() or len(code) > 64:
            text = "must be 1 to 64 characters without spaces at its ends"
            raise GraphFault(place, f"code {brief(code)} {text}")


def _check_parents(variable: Variable) -> None:
    for position, parent in enumerate(variable.parents):
        place = ("parents", position)
        if parent == variable.name:
            raise GraphFault(place, "it cannot be its own parent; remove it from parents")
        if parent in variable.parents[:position]:
            raise GraphFault(place, f"parent {brief(parent)} is listed twice; remove one")


def _check_texts(variable: Variable) -> None:
    texts = [*variable.levels, *variable.codes, variable.unit or "", (variable.description or "")]
    for text in texts:
        if not all(character.isprintable() or character in "\n\t" for character in text):
            raise GraphFault((), f"{brief(text)} has characters that cannot be printed")
