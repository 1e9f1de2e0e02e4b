"""The graph with the values of one patient: laid out once, values inserted afterwards.

A layout takes a second and depends on the longest text of each box. So every box is laid out for
a placeholder of fixed length, and the text that replaces it is never longer.
"""

import re
from collections.abc import Mapping
from html import escape

from causalcxr.apps.explorer.graph_svg import graph_svg
from causalcxr.apps.explorer.question import TwinAnswer
from causalcxr.graph.graph import Graph

__all__ = ["patient_graph_svg"]

_ROOM = 11  # characters
_PLACEHOLDER = re.compile("¤(\\d+)¤+")  # occurs in no name; levels are inserted afterwards


def patient_graph_svg(graph: Graph, answer: TwinAnswer) -> str:
    """Return the graph as SVG with factual and twin values, and marks: set, changed, held.

    Args:
        graph: The graph.
        answer: The twin of one patient.

    Example:
        >>> from causalcxr.apps.explorer.question import Line, Question
        >>> lines = (Line("Sex", "set", "F", "M"), Line("Age", "same", "61 year", "61 year"))
        >>> answer = TwinAnswer(Question(), "", lines, True)
        >>> svg = patient_graph_svg(Graph.load("mini"), answer)
        >>> "F → M" in svg, "61 year" in svg
        (True, True)
    """
    placeholders = {line.name: f"¤{k}".ljust(_ROOM, "¤") for k, line in enumerate(answer.lines)}
    svg = graph_svg(graph, values=placeholders, marks=answer.marks)
    texts = list(_texts(graph, answer).values())
    return _PLACEHOLDER.sub(lambda match: escape(texts[int(match[1])], quote=True), svg)


def _texts(graph: Graph, answer: TwinAnswer) -> Mapping[str, str]:
    """Return the text below each name: both values if there is room, otherwise the twin's."""
    texts = {}
    for line in answer.lines:
        both = f"{line.factual} → {line.twin}"
        room = max(_ROOM, *map(len, graph[line.name].levels or ("",)))
        fits = line.factual != line.twin and len(both) <= room
        texts[line.name] = both if fits else line.twin
    return texts
