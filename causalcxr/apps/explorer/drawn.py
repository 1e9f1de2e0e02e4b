"""The graph with one patient's values: laid out once, the values written in afterwards.

To lay a graph out takes a second, and depends on the longest text of each box. So every box is
laid out for a placeholder of one length, and what takes its place is no longer than that.
"""

import re
from collections.abc import Mapping
from html import escape

from causalcxr.apps.explorer.graph_svg import graph_svg
from causalcxr.apps.explorer.question import Answer
from causalcxr.graph.graph import Graph

__all__ = ["drawn"]

_ROOM = 11  # characters
_BLANK = re.compile("¤(\\d+)¤+")  # in no name; and levels are not there when they are looked for


def drawn(graph: Graph, answer: Answer) -> str:
    """Return the graph as SVG: what each variable was and is, what was set, changed, held.

    Args:
        graph: The graph.
        answer: About one patient.

    Example:
        >>> from causalcxr.apps.explorer.question import Line, Question
        >>> lines = (Line("Sex", "set", "F", "M"), Line("Age", "same", "61 year", "61 year"))
        >>> svg = drawn(Graph.load("mini"), Answer(Question(), "", lines, True))
        >>> "F → M" in svg, "61 year" in svg
        (True, True)
    """
    blanks = {line.name: f"¤{k}".ljust(_ROOM, "¤") for k, line in enumerate(answer.lines)}
    svg = graph_svg(graph, values=blanks, marks=answer.marks)
    texts = list(_texts(graph, answer).values())
    return _BLANK.sub(lambda found: escape(texts[int(found[1])], quote=True), svg)


def _texts(graph: Graph, answer: Answer) -> Mapping[str, str]:
    """Return what is written under each name: what it was and is, where there is room."""
    texts = {}
    for line in answer.lines:
        both = f"{line.factual} → {line.twin}"
        room = max(_ROOM, *map(len, graph[line.name].levels or ("",)))
        fits = line.factual != line.twin and len(both) <= room
        texts[line.name] = both if fits else line.twin
    return texts
