"""The causal graph as an inline SVG for a dark page: every variable is a button.

Boxes, curves and arrows are those of `causalcxr.graph.drawing`. A mark is shown by colour, by the
outline, by a sign in the corner and in the text for screen readers.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from functools import lru_cache
from html import escape
from itertools import pairwise
from pathlib import Path

from causalcxr.common.errors import GraphError
from causalcxr.graph.drawing import CAPTION, HEAD, TITLES, Scene, around, role, scene
from causalcxr.graph.graph import Graph
from causalcxr.graph.layout import Box, Point

__all__ = ["MARKS", "graph_legend", "graph_svg"]

MARKS = {"set": "set", "changed": "changed", "held": "held", "stale": "would be retrained"}

Edge = tuple[str, str]

_PX = 108  # pixels an inch: a name of 9 points is 13.5 pixels high
_MARGIN, _FAR = 0.16, 0.24  # inches: around the drawing, beside an arrow
_LINE = 0.145  # inches from line to line of a name
# The signs of the marks, drawn in a circle of radius 8: equals, a triangle, two bars, a turn.
_SIGNS = {
    "set": "M-4,-2H4M-4,2H4",
    "changed": "M0,-4L4,3H-4Z",
    "held": "M-2,-4V4M2,-4V4",
    "stale": "M3.4,-1.6A3.8,3.8 0 1 0 3.6,1.4M3.9,-4.4V-1.2H.8",
}
_STYLE = (Path(__file__).parent / "static" / "graph.css").read_text(encoding="utf-8").strip()


def graph_svg(
    graph: Graph,
    *,
    values: Mapping[str, str] | None = None,
    marks: Mapping[str, str] | None = None,
    chosen: str | Collection[str] | None = None,
    added: Collection[Edge] = (),
) -> str:
    """Return the graph as an SVG element.

    Each variable is `<g data-name role="button" tabindex="0" aria-label>`, each edge that is drawn
    `<path data-parent data-child>`. Colours are CSS variables `--graph-...` with defaults for a
    dark page. Everything is escaped.

    Args:
        graph: The graph.
        values: Name -> text under the name. The layout is the same for all levels.
        marks: Name -> `set`, `changed`, `held` or `stale`.
        chosen: The chosen variable, or several.
        added: Edges to highlight, parent first.

    Raises:
        GraphError: If a name or a mark is unknown.

    Example:
        >>> svg = graph_svg(Graph.load("mini"), values={"Sex": "F"}, marks={"sex": "set"})
        >>> 'aria-label="Sex: F. root, no parents, set."' in svg
        True
    """
    shown = {graph.find(name): _clean(value) for name, value in (values or {}).items()}
    marked = {graph.find(name): _checked(mark) for name, mark in (marks or {}).items()}
    names = [chosen] if isinstance(chosen, str) else chosen or ()
    pressed = {graph.find(name) for name in names}
    # The layout does not depend on the marks, so it is kept from call to call.
    drawing = _laid(graph, tuple(graph), _widest(graph, shown))
    frame = _frame(drawing)
    arrow = f"arrow-{graph.hash[:8]}"
    parts = [_panel(drawing, graph.image, frame)] if drawing.panel else []
    # Faint edges first and added ones last, so that the important ones lie on top.
    edges = sorted(drawing.paths, key=lambda edge: (edge not in drawing.faint, edge in added))
    parts += [_edge(drawing, edge, edge in added, frame, arrow) for edge in edges]
    parts += [
        _node(graph, name, drawing, frame, shown.get(name), marked.get(name, ""), name in pressed)
        for name in graph.order
    ]
    return _wrap(graph, frame, arrow, "".join(parts))


def graph_legend(graph: Graph, marks: Iterable[str] = ()) -> str:
    """Return the legend of a graph as an HTML list, to be placed below its SVG.

    Args:
        graph: The graph.
        marks: The marks in use.
    """
    roles = {role(graph, name) for name in graph}
    signs = {_checked(mark) for mark in marks}
    entries = [(kind, "", title) for kind, title in TITLES.items() if kind in roles]
    entries += [("caused", mark, title) for mark, title in MARKS.items() if mark in signs]
    items = "".join(
        f'<li><svg class="causal-graph" viewBox="0 0 34 20" aria-hidden="true">'
        f'<g class="{kind} {mark}"><rect class="box" x="2" y="4" width="22" height="14" rx="4"/>'
        f"{_sign(mark, 22, 8)}</g></svg>{escape(title)}</li>"
        for kind, mark, title in entries
    )
    return f'<ul class="graph-legend" aria-label="What the boxes mean">{items}</ul>'


def _clean(text: object) -> str:
    """Return a text without the characters that XML forbids."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(text))


def _quoted(text: str) -> str:
    return escape(_clean(text), quote=True)


def _checked(mark: str) -> str:
    if mark not in MARKS:
        raise GraphError(f"mark {mark!r} is unknown; use one of {', '.join(MARKS)}")
    return mark


def _widest(graph: Graph, values: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return for each variable the longest text that may appear under its name."""
    if not values:
        return ()
    levels = {name: (*graph[name].levels, values.get(name, "")) for name in graph}
    return tuple((name, max(texts, key=len)) for name, texts in levels.items())


@lru_cache(maxsize=64)
def _laid(graph: Graph, names: tuple[str, ...], texts: tuple[tuple[str, str], ...]) -> Scene:
    """Lay a graph out and keep the layout: this takes most of a second."""
    return scene(graph, dict(texts))


def _frame(drawing: Scene) -> Box:
    """Return the frame of everything, in inches."""
    boxes = [*drawing.boxes.values(), *([drawing.panel] if drawing.panel else [])]
    return around(boxes, drawing.paths.values(), _MARGIN)


def _at(frame: Box, point: Point) -> str:
    """Return a point in pixels, with y downwards."""
    return f"{(point[0] - frame.left) * _PX:.1f},{(frame.top - point[1]) * _PX:.1f}"


def _rect(frame: Box, box: Box, kind: str, radius: float, grown: float = 0.0) -> str:
    x, y = _at(frame, (box.left - grown, box.top + grown)).split(",")
    width, height = (box.width + 2 * grown) * _PX, (box.height + 2 * grown) * _PX
    return (
        f'<rect class="{kind}" x="{x}" y="{y}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="{(radius + grown) * _PX:.1f}"/>'
    )


def _panel(drawing: Scene, image: str, frame: Box) -> str:
    """Draw the frame around all causes of the image, and the arrow that stands for their edges."""
    panel, target = drawing.panel, drawing.boxes[image]
    tip, neck, half = target.top + 0.03, target.top + 0.2, 0.055
    points = [(-half, panel.bottom), (-half, neck), (-0.16, neck), (0, tip)]
    points += [(0.16, neck), (half, neck), (half, panel.bottom)]
    outline = " ".join(_at(frame, (target.x + x, y)) for x, y in points)
    beside = (target.x + _FAR, (panel.bottom + target.top) / 2 - 0.04)
    x, y = _at(frame, beside).split(",")
    return (
        f'{_rect(frame, panel, "panel", 0.14)}<polygon class="broad" points="{outline}"/>'
        f'<text class="caption" x="{x}" y="{y}" aria-hidden="true">{CAPTION}</text>'
    )


def _edge(drawing: Scene, edge: Edge, added: bool, frame: Box, arrow: str) -> str:
    points = drawing.paths[edge]
    d = f"M{_at(frame, points[0])}"
    for at, (start, end) in enumerate(pairwise(points)):
        # Odd pieces are straight; even ones are curves that leave and arrive vertically.
        if at % 2:
            d += f"L{_at(frame, end)}"
            continue
        # The last curve ends at the base of the arrow head.
        low = end[1] + (HEAD * 0.8 if at == len(points) - 2 else 0.0)
        middle = (start[1] + low) / 2
        bend = [(start[0], middle), (end[0], middle), (end[0], low)]
        d += "C" + " ".join(_at(frame, point) for point in bend)
    kind = f"edge{' faint' * (edge in drawing.faint)}{' added' * added}"
    # A wider line in the colour of the background, so that crossing edges can be told apart.
    halo = "" if edge in drawing.faint else f'<path class="halo" d="{d}"/>'
    parent, child = map(_quoted, edge)
    return (
        f'{halo}<path class="{kind}" d="{d}" marker-end="url(#{arrow})" data-parent="{parent}" '
        f'data-child="{child}"/>'
    )


def _node(
    graph: Graph,
    name: str,
    drawing: Scene,
    frame: Box,
    value: str | None,
    mark: str,
    pressed: bool,
) -> str:
    box, kind = drawing.boxes[name], role(graph, name)
    lines = drawing.labels[name].split("\n")
    # With a value the name moves up to make room.
    middle = box.y if value is None else box.y + 0.09
    texts = ""
    for number, line in enumerate(lines):
        y = middle + ((len(lines) - 1) / 2 - number) * _LINE - 0.045
        texts += _text(frame, (box.x, y), line, "name")
    if value is not None:
        texts += _text(frame, (box.x, box.bottom + 0.075), value, "value")
    x, y = map(float, _at(frame, (box.right - 0.02, box.top - 0.02)).split(","))
    return (
        f'<g class="{kind} {mark}" data-name="{_quoted(name)}" data-mark="{mark}" '
        f'role="button" tabindex="0" aria-pressed="{str(pressed).lower()}" '
        f'aria-label="{_quoted(_spoken(graph, name, value, mark))}">'
        f"{_rect(frame, box, 'ring', 0.09, 0.045)}{_rect(frame, box, 'box', 0.09)}{texts}"
        f"{_sign(mark, x, y)}</g>"
    )


def _text(frame: Box, place: Point, text: str, kind: str) -> str:
    x, y = _at(frame, place).split(",")
    return f'<text class="{kind}" x="{x}" y="{y}">{escape(_clean(text))}</text>'


def _sign(mark: str, x: float, y: float) -> str:
    if not mark:
        return ""
    place = f"translate({x:.1f} {y:.1f})"
    return f'<g class="sign" transform="{place}"><circle r="8"/><path d="{_SIGNS[mark]}"/></g>'


def _spoken(graph: Graph, name: str, value: str | None, mark: str) -> str:
    """Return the text of a variable for screen readers."""
    parents = graph.parents(name)
    has_all = len(parents) > 1 and len(parents) == len(graph) - 1
    causes = "every other variable" if has_all else ", ".join(parents) or "none"
    words = [TITLES[role(graph, name)], f"parents: {causes}" if parents else "no parents"]
    words += [MARKS[mark]] if mark else []
    return f"{name}{'' if value is None else f': {value}'}. {', '.join(words)}."


def _wrap(graph: Graph, frame: Box, arrow: str, content: str) -> str:
    width, height = frame.width * _PX, frame.height * _PX
    long, half = HEAD * _PX, HEAD * _PX * 0.42
    about = f"Causal graph {graph.name}: {len(graph)} variables, {len(graph.edges)} edges"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="causal-graph" role="group" '
        f'aria-label="{_quoted(about)}" style="--natural:{width:.0f}px" '
        f'viewBox="0 0 {width:.1f} {height:.1f}"><style>{_STYLE}</style><defs>'
        f'<marker id="{arrow}" markerUnits="userSpaceOnUse" markerWidth="{long:.1f}" '
        f'markerHeight="{2 * half:.1f}" refX="{long * 0.2:.1f}" refY="{half:.1f}" orient="auto">'
        f'<path class="head" d="M0,0L{long:.1f},{half:.1f}L0,{2 * half:.1f}Z"/></marker></defs>'
        f"{content}</svg>"
    )
