"""The part of the report about the graph: what is set, what is held, what can change."""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from causalcxr.audit.report.formatting import shortened
from causalcxr.graph.drawing import Scene, scene
from causalcxr.graph.layout import Box

if TYPE_CHECKING:
    from causalcxr.graph.graph import Graph

__all__ = ["GraphDrawing", "affected", "graph_drawing"]

_UNIT = 96  # units of the picture per inch
_HEAD = 6.5  # length of an arrow head


@dataclass(frozen=True)
class GraphDrawing:
    """Hold a drawn graph, in units of the picture, y downwards.

    Args:
        width: Width of the picture.
        height: Height of the picture.
        nodes: For each its place, lines of text, role (set, held, reached, other) and remark.
        edges: For each its path, the tip of its head, and its role (cut, reached, other).
        panel: The frame around all causes of the image and the arrow below, or None.
        roles: The names of the variables in each role, in the order of the graph.
    """

    width: float
    height: float
    nodes: tuple[dict[str, Any], ...]
    edges: tuple[dict[str, Any], ...]
    panel: dict[str, Any] | None
    roles: Mapping[str, tuple[str, ...]]


def affected(graph: "Graph", acted: Collection[str], held: Collection[str]) -> frozenset[str]:
    """Return the variables that can change: descendants by a path without set or held variables.

    Example:
        >>> from causalcxr.graph import Graph
        >>> graph = Graph.parse(
        ...     "variables: {Age: {type: continuous}, "
        ...     "View: {type: binary, levels: [AP, PA], parents: [Age]}, "
        ...     "Edema: {type: binary, levels: [N, P], parents: [View]}}"
        ... )
        >>> sorted(affected(graph, ["Age"], [])), sorted(affected(graph, ["Age"], ["View"]))
        (['Edema', 'View'], [])
    """
    fixed, reached, queue = {*acted, *held}, set(), deque(acted)
    while queue:
        for child in graph.children(queue.popleft()):
            if child not in fixed and child not in reached:
                reached.add(child)
                queue.append(child)
    return frozenset(reached)


def graph_drawing(
    graph: "Graph", action: Mapping[str, Any], hold: Collection[str] = ()
) -> GraphDrawing:
    """Return the drawing of a graph under an intervention.

    Args:
        graph: The graph.
        action: Names and values that are set, as in `Intervention.to_json`.
        hold: Names of the variables that keep their factual value.
    """
    # The role of each variable: set, held, reached or other.
    acted = {graph.find(name): value for name, value in action.items()}
    held = {graph.find(name) for name in hold} - set(acted)
    reached = affected(graph, acted, held)
    remarks = {name: _remark(value) for name, value in acted.items()}
    remarks |= dict.fromkeys(held, "held") | dict.fromkeys(reached, "can change")
    roles = {name: _role(name, acted, held, reached) for name in graph.order}
    layout = scene(graph, remarks)
    # The layout is in inches with y upwards, SVG has y downwards.
    left, right, top, bottom = _extent(layout)

    def at(x: float, y: float) -> tuple[float, float]:
        return round((x - left) * _UNIT, 1), round((top - y) * _UNIT, 1)

    def framed(box: Box) -> dict[str, float]:
        x, y = at(box.left, box.top)
        return {"x": x, "y": y, "width": box.width * _UNIT, "height": box.height * _UNIT}

    nodes = [
        framed(box)
        | {
            "name": name,
            "lines": layout.labels[name].split("\n"),
            "role": roles[name],
            "remark": remarks.get(name, ""),
        }
        for name, box in layout.boxes.items()
    ]
    edges = [
        {
            "path": _path([at(*p) for p in points]),
            "tip": at(*points[-1]),
            "edge": edge,
            "role": _edge_role(edge, roles),
        }
        for edge, points in layout.paths.items()
    ]
    # Reached edges last, so that they lie on top.
    edges.sort(key=lambda e: ("other", "cut", "reached").index(e["role"]))
    return GraphDrawing(
        round((right - left) * _UNIT, 1),
        round((top - bottom) * _UNIT, 1),
        tuple(nodes),
        tuple(edges),
        _panel(layout, graph, framed, at, any(r in ("set", "reached") for r in roles.values())),
        {r: tuple(n for n in graph.order if roles[n] == r) for r in ("set", "held", "reached")},
    )


def _role(
    name: str, acted: Collection[str], held: Collection[str], reached: Collection[str]
) -> str:
    if name in acted:
        return "set"
    if name in held:
        return "held"
    return "reached" if name in reached else "other"


def _extent(layout: Scene) -> tuple[float, float, float, float]:
    """Return left, right, top and bottom of everything that is drawn, with a margin."""
    boxes = [*layout.boxes.values(), *([layout.panel] if layout.panel else [])]
    bends = [x for path in layout.paths.values() for x, _ in path]
    left, right = min([b.left for b in boxes] + bends), max([b.right for b in boxes] + bends)
    top, bottom = max(b.top for b in boxes), min(b.bottom for b in boxes)
    return left - 0.08, right + 0.08, top + 0.08, bottom - 0.08


def _remark(value: Any) -> str:
    if isinstance(value, Mapping):
        shift = value.get("shift")
        if isinstance(shift, int | float):
            return f"set: {shift:+g}"
        return "set: one each" if "records" in value else "set: at random"
    return shortened(f"set: {value:g}" if isinstance(value, float) else f"set: {value}", 16)


def _edge_role(edge: tuple[str, str], roles: Mapping[str, str]) -> str:
    """Return the role of an edge: those into set or held variables are cut."""
    parent, child = edge
    if roles[child] in ("set", "held"):
        return "cut"
    return "reached" if roles[parent] in ("set", "reached") else "other"


def _path(points: list[tuple[float, float]]) -> str:
    """Return a curve that bends between rows and is straight through them."""
    words = [f"M{points[0][0]},{points[0][1]}"]
    for at, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        if at % 2:
            words.append(f"L{x1},{y1}")
            continue
        end = y1 - _HEAD * 0.8 if at == len(points) - 2 else y1
        middle = round((y0 + end) / 2, 1)
        words.append(f"C{x0},{middle} {x1},{middle} {x1},{end}")
    return "".join(words)


def _panel(layout: Scene, graph: "Graph", framed: Any, at: Any, moved: bool) -> Any:
    """Return the frame around all causes of the image, and the arrow from it to the image."""
    if layout.panel is None:
        return None
    target = layout.boxes[graph.image]
    (x, start), (_, tip) = at(target.x, layout.panel.bottom), at(target.x, target.top + 0.03)
    return framed(layout.panel) | {"from": start, "tip": tip, "middle": x, "moved": moved}
