"""Edits of the text of a graph in place, which keep the comments of its file.

A YAML library that loads, changes and dumps a file moves or drops comments. Here the parser only
locates the entries; text that is not edited stays as it is, spaces included.
"""

from collections.abc import Mapping, Sequence

from ruamel.yaml.nodes import MappingNode, Node

from causalcxr.graph.mechanism_spec import MechanismSpec
from causalcxr.graph.variables import Variable
from causalcxr.graph.yaml_file import WIDTH, Document, compose, entry, flow, read

__all__ = ["edited"]

Span = tuple[int, int]


def edited(document: Document, after: Mapping[str, Variable]) -> str:
    """Return the document's text with the changes that the new variables require."""
    before = {variable.name: variable for variable in document.variables}
    text = document.text
    for name in before.keys() - after.keys():
        text = _drop_variable(text, name)
    for name, variable in after.items():
        if name not in before:
            text = _add_variable(text, variable, document.defaults)
        elif variable != before[name]:
            text = _change_variable(text, before[name], variable, document.defaults)
    return text


def matches(text: str, after: Mapping[str, Variable]) -> bool:
    """Return whether a text declares exactly these variables, in this order."""
    return read(text, "").variables == tuple(after.values())


def _drop_variable(text: str, name: str) -> str:
    variables = _variables(text)
    spans = [(key.start_mark.index, _end(value, text)) for key, value in variables.value]
    position = [key.value for key, _ in variables.value].index(name)
    return _drop(text, spans, position, variables.flow_style)


def _add_variable(text: str, variable: Variable, defaults: Mapping[str, MechanismSpec]) -> str:
    variables = _variables(text)
    key, value = variables.value[-1]
    indent = key.start_mark.column
    block = not variables.flow_style
    item = entry(variable, defaults, indent, block)
    return _append(text, (key.start_mark.index, _end(value, text)), item.lstrip(), block, indent)


def _change_variable(
    text: str, before: Variable, after: Variable, defaults: Mapping[str, MechanismSpec]
) -> str:
    if before.replace(parents=after.parents, mechanism=after.mechanism) != after or (
        before.mechanism != after.mechanism
    ):
        return _replace_variable(text, after, defaults)
    for parent in sorted(set(after.parents) - set(before.parents)):
        text = _add_parent(text, after.name, parent)
    for parent in sorted(set(before.parents) - set(after.parents)):
        text = _drop_parent(text, after.name, parent)
    return text


def _replace_variable(text: str, after: Variable, defaults: Mapping[str, MechanismSpec]) -> str:
    variables = _variables(text)
    key, value = _pair(variables, after.name)
    block = not variables.flow_style
    item = entry(after, defaults, key.start_mark.column, block).lstrip()
    return text[: key.start_mark.index] + item + text[_end(value, text) :]


def _drop_parent(text: str, name: str, parent: str) -> str:
    parents = _pair(_pair(_variables(text), name)[1], "parents")[1]
    spans = [(item.start_mark.index, _end(item, text)) for item in parents.value]
    if len(spans) == 1:
        return text[: parents.start_mark.index] + "[]" + text[_end(parents, text) :]
    position = [item.value for item in parents.value].index(parent)
    return _drop(text, spans, position, parents.flow_style)


def _add_parent(text: str, name: str, parent: str) -> str:
    declaration = _pair(_variables(text), name)[1]
    pair = _pair(declaration, "parents")
    # No parents yet: add the line at the end of the declaration.
    if pair is None:
        key, value = declaration.value[-1]
        span, block = (key.start_mark.index, _end(value, text)), not declaration.flow_style
        return _append(text, span, f"parents: [{flow(parent)}]", block, key.start_mark.column)
    # An empty list: write the name into it.
    if not pair[1].value:
        start = pair[1].start_mark.index
        return f"{text[:start]}[{flow(parent)}]{text[pair[1].end_mark.index :]}"
    # Add to the list, in the style in which it is written.
    last, block = pair[1].value[-1], not pair[1].flow_style
    span = (last.start_mark.index, _end(last, text))
    indent = pair[1].start_mark.column + (0 if block else 1)
    return _append(text, span, f"- {flow(parent)}" if block else flow(parent), block, indent)


def _drop(text: str, spans: Sequence[Span], position: int, is_flow: bool) -> str:
    """Remove one item: its lines in a block, the item and its comma in a flow."""
    start, end = spans[position]
    if not is_flow:
        start, end = text.rfind("\n", 0, start) + 1, _line_end(text, end) + 1
    elif position + 1 < len(spans):
        end = spans[position + 1][0]
    elif position:
        start = spans[position - 1][1]
    return text[:start] + text[end:]


def _append(text: str, last: Span, item: str, block: bool, indent: int) -> str:
    """Add an item after the last one, on a separate line in a block."""
    if block:
        end = _line_end(text, last[1])
        return f"{text[:end]}\n{' ' * indent}{item}{text[end:]}"
    begin = text.rfind("\n", 0, last[1]) + 1
    full = _line_end(text, last[1]) - begin + len(item) + 2 > WIDTH
    comma = f",\n{' ' * indent}" if full else ", "
    return text[: last[1]] + comma + item + text[last[1] :]


def _variables(text: str) -> MappingNode:
    return _pair(compose(text), "variables")[1]


def _pair(node: Node, key: str) -> tuple[Node, Node] | None:
    return next((pair for pair in node.value if pair[0].value == key), None)


def _end(node: Node, text: str) -> int:
    """Return the end of a node's own text, without the comments that follow it."""
    while isinstance(node.value, list) and node.value and not node.flow_style:
        last = node.value[-1]
        node = last[1] if isinstance(last, tuple) else last
    start, end = node.start_mark.index, node.end_mark.index
    return start + len(text[start:end].rstrip())


def _line_end(text: str, index: int) -> int:
    end = text.find("\n", index)
    return len(text) if end < 0 else end
