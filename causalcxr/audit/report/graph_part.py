"""The graph under the intervention: what is set, what is held, what the change can reach."""

from collections import deque
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from causalcxr.audit.report.formatting import shortened
from causalcxr.graph.drawing import Scene, scene
from causalcxr.graph.layout import Box

if TYPE_CHECKING:
    from causalcxr.audit.audit_result import Audit
    from causalcxr.graph.graph import Graph

__all__ = ["GraphDrawing", "graph_drawing", "reach"]

_UNIT = 96  # of the picture, an inch
_HEAD = 6.5


@dataclass(frozen=True)
class GraphDrawing:
    """Hold a drawn graph, in units of the picture, y downwards.

    Args:
        width: Of the picture.
        height: Of the picture.
        nodes: Of each its place, lines of text, role (set, held, reached, other) and remark.
        edges: Of each its path, the tip of its head, and its role (cut, reached, other).
        panel: The frame of all causes of the image and the arrow below, or None.
        roles: The names of each role, in the order of the graph.
    """

    width: float
    height: float
    nodes: tuple[dict[str, Any], ...]
    edges: tuple[dict[str, Any], ...]
    panel: dict[str, Any] | None
    roles: Mapping[str, tuple[str, ...]]


def reach(graph: "Graph", done: Collection[str], held: Collection[str]) -> frozenset[str]:
    """Return what a change can reach: descendants by a way on which nothing is set or held.

    Example:
        >>> from causalcxr.graph import Graph
        >>> graph = Graph.parse(
        ...     "variables: {Age: {type: continuous}, "
        ...     "View: {type: binary, levels: [AP, PA], parents: [Age]}, "
        ...     "Edema: {type: binary, levels: [N, P], parents: [View]}}"
        ... )
        >>> sorted(reach(graph, ["Age"], [])), sorted(reach(graph, ["Age"], ["View"]))
        (['Edema', 'View'], [])
    """
    stopped, found, waiting = {*done, *held}, set(), deque(done)
    while waiting:
        for child in graph.children(waiting.popleft()):
            if child not in stopped and child not in found:
                found.add(child)
                waiting.append(child)
    return frozenset(found)


def graph_drawing(audit: "Audit") -> GraphDrawing:
    """Return the drawing of the graph under an audit's intervention."""
    graph, action = audit.pairs.graph, dict(audit.about["action"]["do"])
    done = {graph.find(name): value for name, value in action.items()}
    held = {graph.find(name) for name in audit.about.get("hold") or ()} - set(done)
    reached = reach(graph, done, held)
    remarks = {name: _remark(value) for name, value in done.items()}
    remarks |= dict.fromkeys(held, "held") | dict.fromkeys(reached, "can change")
    whole = scene(graph, remarks)
    roles = {
        name: "set" if name in done else "held" if name in held
        else "reached" if name in reached else "other"
        for name in graph.order
    }  # fmt: skip
    boxes = [*whole.boxes.values(), *([whole.panel] if whole.panel else [])]
    bends = [point for path in whole.paths.values() for point in path]
    left = min([b.left for b in boxes] + [x for x, _ in bends]) - 0.08
    right = max([b.right for b in boxes] + [x for x, _ in bends]) + 0.08
    top, bottom = max(b.top for b in boxes) + 0.08, min(b.bottom for b in boxes) - 0.08

    def at(x: float, y: float) -> tuple[float, float]:
        return round((x - left) * _UNIT, 1), round((top - y) * _UNIT, 1)

    def framed(box: Box) -> dict[str, float]:
        x, y = at(box.left, box.top)
        return {"x": x, "y": y, "width": box.width * _UNIT, "height": box.height * _UNIT}

    nodes = [
        framed(box)
        | {
            "name": name,
            "lines": whole.labels[name].split("\n"),
            "role": roles[name],
            "remark": remarks.get(name, ""),
        }
        for name, box in whole.boxes.items()
    ]
    edges = [
        {"path": _path([at(*p) for p in points]), "tip": at(*points[-1]), "edge": edge,
         "role": _edge_role(edge, roles)}
        for edge, points in whole.paths.items()
    ]  # fmt: skip
    edges.sort(key=lambda e: ("other", "cut", "reached").index(e["role"]))
    return GraphDrawing(
        round((right - left) * _UNIT, 1),
        round((top - bottom) * _UNIT, 1),
        tuple(nodes),
        tuple(edges),
        _panel(whole, graph, framed, at, any(r in ("set", "reached") for r in roles.values())),
        {r: tuple(n for n in graph.order if roles[n] == r) for r in ("set", "held", "reached")},
    )


def _remark(value: Any) -> str:
    if isinstance(value, Mapping):
        shift = value.get("shift")
        if isinstance(shift, int | float):
            return f"set: {shift:+g}"
        return "set: each its own" if "records" in value else "set: by a law"
    return shortened(f"set: {value:g}" if isinstance(value, float) else f"set: {value}", 16)


def _edge_role(edge: tuple[str, str], roles: Mapping[str, str]) -> str:
    """Return what becomes of an edge: those into what is set or held say nothing any more."""
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


def _panel(whole: Scene, graph: "Graph", framed: Any, at: Any, moved: bool) -> Any:
    if whole.panel is None:
        return None
    target = whole.boxes[graph.image]
    (x, start), (_, tip) = at(target.x, whole.panel.bottom), at(target.x, target.top + 0.03)
    return framed(whole.panel) | {"from": start, "tip": tip, "middle": x, "moved": moved}
