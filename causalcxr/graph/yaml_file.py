"""Reading and writing the YAML of a graph, with the file and the line in every error."""

import functools
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from causalcxr.common.errors import GraphError, brief, nearest
from causalcxr.graph.mechanism_options import KINDS
from causalcxr.graph.mechanism_spec import GraphFault, MechanismSpec
from causalcxr.graph.variables import Variable

__all__ = ["SCHEMA", "Document", "Place", "compose", "locating_faults", "plain", "read", "write"]

SCHEMA = 1
WIDTH = 99
Place = tuple[str | int, ...]

_FIELDS = ("name", "schema", "description", "defaults", "variables")
_TRAPS = {"yes", "no", "on", "off", "true", "false"}
_DEPTH = 8
_PLAIN = re.compile(r"[A-Za-z](?:[A-Za-z0-9 _()/.%-]*[A-Za-z0-9_()/.%-])?")
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True)
class Document:
    """The text of a graph file, its name, and the variables it declares."""

    text: str
    source: str
    name: str | None
    defaults: Mapping[str, MechanismSpec]
    variables: tuple[Variable, ...]

    def located(self, fault: GraphFault) -> GraphError:
        """Return the error of a fault, with the file and the line."""
        return _located(fault, self.text, self.source)


def read(text: str, source: str) -> Document:
    """Read the YAML of a graph.

    Each variable is checked on its own; the graph checks the rules between variables.

    Args:
        text: YAML 1.2, without anchors, aliases and tags.
        source: The name of the file, for the messages.

    Raises:
        GraphError: One line with the file, the line, the variable, the value, the rule and the
            remedy.
    """
    with locating_faults(text, source):
        root = compose(text)
        content = plain(root)
        _check_top(content)
        defaults = _defaults(content.get("defaults"))
        variables = tuple(_variables(content["variables"], defaults))
    return Document(text, source, content.get("name"), defaults, variables)


@contextmanager
def locating_faults(text: str, source: str) -> Iterator[None]:
    """Turn the faults of a YAML file into errors with the file and the line.

    Args:
        text: The file.
        source: Its name.

    Raises:
        GraphError: For every `GraphFault` and every error of the YAML reader in the block.
    """
    try:
        yield
    except GraphFault as fault:
        raise _located(fault, text, source) from None
    except RecursionError:
        raise GraphError(f"{source}: nested too deeply") from None
    except _Anchored as fault:
        line = fault.problem_mark.line + 1
        raise GraphError(f"{source}:{line}: {fault.problem}") from None
    except MarkedYAMLError as fault:
        mark = fault.problem_mark or fault.context_mark
        line = mark.line + 1 if mark else 1
        what = " ".join(f"{fault.problem or 'not YAML'} {fault.context or ''}".split())
        tab = "; indent with spaces, not tabs" if "\\t" in what else ""
        raise GraphError(f"{source}:{line}: not valid YAML: {what[:120]}{tab}") from None
    except YAMLError as fault:
        what = " ".join(str(fault).split())
        raise GraphError(f"{source}: not valid YAML: {what[:120]}") from None


def write(name: str, variables: Mapping[str, Variable]) -> str:
    """Write a graph that was not loaded from a file."""
    entries = "\n".join(entry(variable, {}) for variable in variables.values())
    return f"name: {flow(name)}\nschema: {SCHEMA}\n\nvariables:\n{entries}\n"


def compose(text: str) -> Node:
    """Parse YAML to nodes with their places in the text; aliases are refused.

    An alias is the same node again. Ten lines of nested aliases can expand to a billion values,
    so each node is visited once.
    """
    root = YAML(typ="safe", pure=True).compose(text)
    if root is None:
        raise GraphFault((), "the file is empty; a graph has name, schema and variables")
    anchored = [node for node in _nodes(root) if node.anchor is not None]
    if anchored:
        first = min(anchored, key=lambda node: node.start_mark.index)
        problem = f"anchor or alias {first.anchor!r}: write the value out instead"
        raise _Anchored(problem=problem, problem_mark=first.start_mark)
    return root


class _Anchored(MarkedYAMLError):
    """An anchor or alias in a YAML file."""


def _nodes(root: Node) -> Iterator[Node]:
    """Yield every node once, even if aliases refer to it."""
    seen, ahead = {id(root)}, [root]
    while ahead:
        node = ahead.pop()
        yield node
        if isinstance(node, ScalarNode):
            continue
        for item in node.value:
            for each in item if isinstance(item, tuple) else (item,):
                if id(each) not in seen:
                    seen.add(id(each))
                    ahead.append(each)


def plain(node: Node, place: Place = ()) -> Any:
    """Return a node as plain Python; what YAML readers interpret differently is refused."""
    if len(place) > _DEPTH:
        raise GraphFault(place, "nested too deeply")
    if isinstance(node, ScalarNode):
        return _scalar(node, place)
    if str(node.tag) not in (f"{_TAG}map", f"{_TAG}seq"):
        raise GraphFault(place, f"tag {brief(str(node.tag))}: remove it, plain YAML has none")
    if isinstance(node, SequenceNode):
        return _sequence(node, place)
    content: dict[str, Any] = {}
    for key_node, value in node.value:
        key = plain(key_node, place) if isinstance(key_node, ScalarNode) else key_node
        if isinstance(key, int) and place[-1:] == ("codes",):  # tables may use numbers as codes
            key = str(key)
        if not isinstance(key, str):
            shown = brief(key) if not isinstance(key, Node) else "a list or map"
            raise GraphFault(place, f"key {shown} is not text; quote it")
        if key in content:
            line = key_node.start_mark.line + 1
            text = f"duplicate key {brief(key)} (again in line {line}); remove or rename one"
            raise GraphFault((*place, key), text)
        content[key] = plain(value, (*place, key))
    return content


def _sequence(node: SequenceNode, place: Place) -> list[Any]:
    traps = [item for item in node.value if _is_trap(item)]
    if traps:
        words = ", ".join(json.dumps(getattr(item, "value", "...")) for item in node.value[:6])
        where = (*place, node.value.index(traps[0]))
        text = f"{traps[0].value} unquoted is a truth value to some readers of YAML"
        raise GraphFault(where, f"{text}; quote them: [{words}]")
    return [plain(item, (*place, position)) for position, item in enumerate(node.value)]


def _is_trap(node: Node) -> bool:
    return isinstance(node, ScalarNode) and not node.style and node.value.lower() in _TRAPS


def _scalar(node: ScalarNode, place: Place) -> Any:
    if _is_trap(node):
        text = f"{node.value} unquoted is a truth value to some readers of YAML"
        raise GraphFault(place, f'{text}; quote it: "{node.value}"')
    kind = str(node.tag).removeprefix(_TAG)
    try:
        if kind == "int":
            return int(node.value.replace("_", ""), 10 if node.value.strip("+-").isdigit() else 0)
        if kind == "float":
            return float(re.sub(r"\.(?=inf|nan)", "", node.value.replace("_", "").lower()))
    except ValueError:
        return node.value
    if kind == "null":
        return None
    if kind == "str":
        return node.value
    raise GraphFault(place, f"{brief(node.value)} would be read as a {kind[:20]}; quote it")


def _check_top(content: Any) -> None:
    if not isinstance(content, dict):
        raise GraphFault((), "a graph is a map with name, schema and variables")
    for key in content:
        if key not in _FIELDS:
            hint = nearest(key, _FIELDS) or f" (fields: {', '.join(_FIELDS)})"
            raise GraphFault((key,), f"field {brief(key)} is not known{hint}")
    schema = content.get("schema", SCHEMA)
    if schema != SCHEMA or isinstance(schema, float):
        text = f"schema {brief(schema)} cannot be read by this version; write schema: {SCHEMA}"
        raise GraphFault(("schema",), text)
    for key in ("name", "description"):
        if key in content and not isinstance(content[key], str):
            raise GraphFault((key,), f"{key} {brief(content[key])} is not text; quote it")
    if not isinstance(content.get("variables"), dict) or not content["variables"]:
        where = ("variables",) if "variables" in content else ()
        raise GraphFault(where, "a graph needs variables: a map from each name to its declaration")


def _defaults(content: Any) -> dict[str, MechanismSpec]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise GraphFault(
            ("defaults",), "defaults are a map, such as continuous: {mechanism: flow}"
        )
    specs = {}
    for type, value in content.items():
        if type not in KINDS:
            hint = nearest(type, KINDS)
            text = f"defaults: type {brief(type)} is not known{hint} (types: {', '.join(KINDS)})"
            raise GraphFault(("defaults", type), text)
        try:
            specs[type] = MechanismSpec.parse(value, kind_key="mechanism").for_type(type)
        except GraphFault as fault:
            place = ("mechanism",) if fault.place == ("kind",) else fault.place
            raise GraphFault(("defaults", type, *place), f"defaults: {fault}") from None
    return specs


def _variables(content: Any, defaults: Mapping[str, MechanismSpec]) -> Iterator[Variable]:
    for name, fields in content.items():
        place = ("variables", name)
        if not isinstance(fields, dict) or "type" not in fields:
            raise GraphFault(place, "it needs a type, such as {type: binary}")
        if "name" in fields:
            raise GraphFault((*place, "name"), "field 'name' is not known: the key is the name")
        fallback = defaults.get(fields["type"]) if isinstance(fields["type"], str) else None
        if "mechanism" not in fields and fallback:
            fields = {**fields, "mechanism": fallback}
        yield Variable(name, **fields)


def _located(fault: GraphFault, text: str, source: str) -> GraphError:
    """Return the error with the line of the deepest key of the fault that is in the file."""
    try:
        line = _line(compose(text), fault.place)
    except (YAMLError, GraphFault):
        line = 1
    return GraphError(f"{source}:{line}: {fault}")


def _line(node: Node, place: Place) -> int:
    line = node.start_mark.line + 1 if place else 1
    for key in place:
        if isinstance(node, MappingNode):
            pairs = [pair for pair in node.value if pair[0].value == key]
            if not pairs:
                break
            line, node = pairs[0][0].start_mark.line + 1, pairs[0][1]
        elif isinstance(node, SequenceNode):
            items = [each for at, each in enumerate(node.value) if key in (at, each.value)]
            if not items:
                break
            line, node = items[0].start_mark.line + 1, items[0]
        else:
            break
    return line


def entry(
    variable: Variable, defaults: Mapping[str, MechanismSpec], indent: int = 2, block: bool = True
) -> str:
    """Write the declaration of one variable, on one line if it fits."""
    fields = _fields_of(variable, defaults)
    margin = " " * indent
    key = f"{flow(variable.name)}: "
    line = f"{margin}{key}{flow(fields)}"
    # On one line if it fits, else a line for each field.
    if len(line) <= WIDTH or not block:
        return line
    rows = [f"{margin}{flow(variable.name)}:"]
    for name, value in fields.items():
        row = f"{margin}  {name}: {flow(value)}"
        if isinstance(value, list) and len(row) > WIDTH:
            hanging = " " * (indent + len(name) + 5)
            # A space inside a name must not become a line break.
            joined = ", ".join(flow(item).replace(" ", "\0") for item in value)
            lines = textwrap.wrap(f"[{joined}]", WIDTH - len(hanging), break_on_hyphens=False)
            row = f"{margin}  {name}: " + f"\n{hanging}".join(lines).replace("\0", " ")
        rows.append(row)
    return "\n".join(rows)


def _fields_of(variable: Variable, defaults: Mapping[str, MechanismSpec]) -> dict[str, Any]:
    fields: dict[str, Any] = {"type": variable.type}
    for field in ("unit", "range", "resolution", "levels", "codes", "parents", "description"):
        value = getattr(variable, field)
        if value not in (None, (), {}):
            kind = {tuple: list}.get(type(value), dict if isinstance(value, Mapping) else None)
            fields[field] = kind(value) if kind else value
    usual = defaults.get(variable.type) or MechanismSpec(KINDS[variable.type][0])
    if variable.mechanism != usual.for_type(variable.type):
        fields["mechanism"] = variable.mechanism.to_dict()
    return fields


@functools.singledispatch
def flow(value: Any) -> str:
    """Write a value on one line, quoted if a YAML reader could misread it."""
    text = str(value)
    ambiguous = text.lower() in _TRAPS | {"null", "y", "n"} and len(text) > 1
    return (
        text if _PLAIN.fullmatch(text) and not ambiguous else json.dumps(text, ensure_ascii=False)
    )


@flow.register(int)
@flow.register(float)
def _flow_number(value: float) -> str:
    return repr(int(value)) if float(value).is_integer() and abs(value) < 1e15 else repr(value)


@flow.register(list)
def _flow_list(value: list) -> str:
    return f"[{', '.join(map(flow, value))}]"


@flow.register(dict)
def _flow_dict(value: dict) -> str:
    return f"{{{', '.join(f'{flow(key)}: {flow(item)}' for key, item in value.items())}}}"
