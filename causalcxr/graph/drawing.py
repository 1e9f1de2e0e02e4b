"""Drawing a causal graph for a paper or a screen, with matplotlib alone."""

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch, Polygon
from matplotlib.path import Path as Curve
from matplotlib.textpath import TextPath

from causalcxr.common.errors import GraphError, brief
from causalcxr.common.figure import Page
from causalcxr.common.files import atomic_write
from causalcxr.graph.layout import Box, Point, arrange

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from causalcxr.graph.graph import Graph

__all__ = ["CAPTION", "HEAD", "TITLES", "Scene", "around", "draw", "role", "scene"]

_SUFFIXES = (".png", ".svg", ".pdf")
TITLES = {
    "root": "root",
    "caused": "effect",
    "derived": "derived by a rule",
    "image": "image",
}
_FACES = {"root": "#DCE8F4", "caused": "#FFFFFF", "derived": "#ECEAE4", "image": "#2B3A4A"}
_OUTLINES = {"root": "#3E6A97", "caused": "#5B6B7B", "derived": "#A29C8C", "image": "#2B3A4A"}
_INK, _PALE_INK, _WHITE = "#1C2733", "#6C7885", "#FFFFFF"
_EDGE, _FAINT, _PANEL = "#46566A", "#D3D0C6", "#F7F8FA"
_ACCENT, _ACCENT_FACE = "#C4501B", "#FCE8DC"

_SIZE, _SMALL = 9.0, 7.5  # points
_MARGIN, _PADDING = 0.18, 0.12  # inches
_EDGE_SPACE, _LEGEND_SPACE = 0.08, 0.16
_BETWEEN = 0.58  # from the foot of one row to the head of the next
HEAD = 0.085
CAPTION = "every variable above"


@dataclass(frozen=True)
class Scene:
    """The layout of a drawing, in inches, before anything is painted.

    Args:
        boxes: By name.
        paths: The points at which each edge bends.
        faint: The edges drawn in a light colour: of rules and of the image.
        panel: The frame around all causes of the image, if every variable is a parent of the
            image: one broad arrow then stands for all of those edges.
        labels: The lines of each box.
        legend: The width of the legend at the bottom.
    """

    boxes: Mapping[str, Box]
    paths: Mapping[tuple[str, str], tuple[Point, ...]]
    faint: frozenset[tuple[str, str]]
    panel: Box | None
    labels: Mapping[str, str]
    legend: float


def draw(
    graph: "Graph",
    path: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    changed: Iterable[str] = (),
    ax: "Axes | None" = None,
) -> Figure:
    """Draw a graph in layers, causes above effects.

    Colours show the role of a variable: a root, an effect, derived by a rule, the image. The edges
    of rules and of the image are light, so that the expert's edges stand out.

    Args:
        graph: The graph.
        path: Also write the drawing to this file: `.png`, `.svg` or `.pdf`.
        values: Texts below the names, such as one patient's record.
        changed: The names to highlight, such as those changed by an intervention.
        ax: Axes to draw on; by default those of a new figure.

    Returns:
        The figure.

    Raises:
        GraphError: If a name is unknown, or the file is of another format.

    Example:
        >>> from causalcxr.graph import Graph
        >>> type(draw(Graph.load("mini"), values={"Sex": "F"}, changed=["sex"])).__name__
        'Page'
    """
    if path is not None and Path(path).suffix.lower() not in _SUFFIXES:
        kinds = ", ".join(_SUFFIXES)
        raise GraphError(
            f"{path}: a graph is drawn as {kinds}; give the file one of these suffixes"
        )
    shown = {graph.find(name): _text(value) for name, value in (values or {}).items()}
    marked = {graph.find(name) for name in changed}
    drawing = scene(graph, shown, bool(marked))
    extent = _extent(drawing)
    if ax is None:
        ax = Page(figsize=(extent.width, extent.height)).add_axes((0, 0, 1, 1))
    size = ax.get_window_extent().size / ax.figure.dpi
    scale = min(size[0] / extent.width, size[1] / extent.height)
    _frame(ax, extent, size / scale)
    _paint(ax, graph, drawing, shown, marked, scale)
    figure = ax.figure
    if path is not None:
        _write(figure, Path(path))
    return figure


def role(graph: "Graph", name: str) -> str:
    """Return the role of a variable: `root`, `caused`, `derived` or `image`."""
    variable = graph[name]
    if variable.is_image:
        return "image"
    if variable.mechanism.kind == "derived":
        return "derived"
    return "caused" if variable.parents else "root"


def scene(graph: "Graph", values: Mapping[str, str] | None = None, changed: bool = False) -> Scene:
    """Return the layout of a graph: boxes, paths of edges, the frame of the image's causes."""
    values = values or {}
    image = graph.image
    framed = image is not None and set(graph.parents(image)) == set(graph.tabular)
    names = [name for name in graph.order if not (framed and name == image)]
    edges = [edge for edge in graph.edges if edge[1] in names]
    faint = frozenset(edge for edge in edges if role(graph, edge[1]) in ("derived", "image"))
    labels = {name: _label(name) for name in graph.order}
    widths = {
        name: max(_width(labels[name], _SIZE), _width(values.get(name, ""), _SMALL)) + 2 * _PADDING
        for name in graph.order
    }
    widths = {name: max(width, 0.62) for name, width in widths.items()}
    height = 0.46 + (0.13 if values else 0.0)
    laid = arrange(
        {name: graph.layers[name] for name in names},
        edges,
        widths,
        faint=faint,
        height=height,
        step=height + _BETWEEN,
    )
    panel, boxes = None, dict(laid.boxes)
    if framed:
        panel = around(laid.boxes.values(), laid.paths.values(), _MARGIN)
        below = panel.bottom - 0.46 - height / 2
        boxes[image] = Box(panel.x, below, max(widths[image], 1.0), height)
    legend = sum(entry[3] for entry in _legend(graph, changed))
    return Scene(boxes, laid.paths, faint, panel, labels, legend)


def around(boxes: Iterable[Box], paths: Iterable[Sequence[Point]], margin: float) -> Box:
    """Return the frame around boxes and edges, in inches."""
    boxes, across = list(boxes), [x for path in paths for x, _ in path]
    left = min([box.left for box in boxes] + across) - margin
    right = max([box.right for box in boxes] + across) + margin
    top = max(box.top for box in boxes) + margin
    bottom = min(box.bottom for box in boxes) - margin
    return Box((left + right) / 2, (top + bottom) / 2, right - left, top - bottom)


def _extent(drawing: Scene) -> Box:
    """Return the frame of everything, the legend below included."""
    drawn = around(drawing.boxes.values(), drawing.paths.values(), _MARGIN)
    panel = drawing.panel or drawn
    top = max(drawn.top, panel.top) + _EDGE_SPACE
    bottom = drawn.bottom - (0.0 if drawing.panel else _MARGIN) - _LEGEND_SPACE
    caption = 2 * (0.3 + _width(CAPTION, _SMALL)) if drawing.panel else 0.0
    width = max(panel.width + 2 * _EDGE_SPACE, drawing.legend + 2 * _MARGIN, caption)
    return Box(panel.x, (top + bottom) / 2, width, top - bottom)


def _frame(ax: "Axes", extent: Box, size: tuple[float, float]) -> None:
    """Make one unit of the axes one inch of the scene."""
    ax.set_xlim(extent.x - size[0] / 2, extent.x + size[0] / 2)
    ax.set_ylim(extent.y - size[1] / 2, extent.y + size[1] / 2)
    ax.set_axis_off()


def _label(name: str) -> str:
    """Break a long name into two lines of similar length."""
    words = name.split()
    if len(name) <= 12 or len(words) < 2:
        return name
    breaks = [(" ".join(words[:at]), " ".join(words[at:])) for at in range(1, len(words))]
    return "\n".join(min(breaks, key=lambda lines: max(map(len, lines))))


def _text(value: Any) -> str:
    if value is None or value != value:
        return "unknown"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _width(text: str, size: float) -> float:
    lines = [line for line in text.split("\n") if line.strip()]
    points = [TextPath((0, 0), line, size=size).get_extents().width for line in lines]
    return float(max(points, default=0.0)) / 72


# Painting


def _paint(
    ax: "Axes",
    graph: "Graph",
    drawing: Scene,
    values: Mapping[str, str],
    changed: set[str],
    scale: float,
) -> None:
    if drawing.panel is not None:
        _paint_panel(ax, drawing, graph.image, scale)
    ordered = sorted(drawing.paths, key=lambda edge: edge not in drawing.faint)
    for level, edge in enumerate(ordered):
        _paint_edge(
            ax, drawing.paths[edge], edge in drawing.faint, 2 + level / len(ordered), scale
        )
    for name, box in drawing.boxes.items():
        _paint_box(ax, box, role(graph, name), name in changed, scale)
        _paint_label(ax, box, drawing.labels[name], role(graph, name), scale, values.get(name))
    frame = _extent(drawing)
    _paint_legend(ax, _legend(graph, bool(changed)), frame.x, frame.bottom + 0.14, scale)


def _paint_panel(ax: "Axes", drawing: Scene, image: str, scale: float) -> None:
    panel, target = drawing.panel, drawing.boxes[image]
    ax.add_patch(_rounded(panel, _PANEL, "#D9DEE5", 0.8 * scale, zorder=0, radius=0.14))
    tip, neck, half = target.top + 0.03, target.top + 0.2, 0.055
    points = [(-half, panel.bottom), (-half, neck), (-0.16, neck), (0, tip)]
    points += [(0.16, neck), (half, neck), (half, panel.bottom)]
    arrow = [(target.x + x, y) for x, y in points]
    ax.add_patch(Polygon(arrow, closed=True, facecolor="#C9D0D9", edgecolor="none", zorder=1))
    ax.text(
        target.x + 0.24,
        (panel.bottom + target.top) / 2,
        CAPTION,
        fontsize=_SMALL * scale,
        color=_PALE_INK,
        style="italic",
        va="center",
    )


def _paint_edge(
    ax: "Axes", points: tuple[Point, ...], faint: bool, zorder: float, scale: float
) -> None:
    (x, top) = points[-1]
    vertices, codes = [points[0]], [Curve.MOVETO]
    for at, (start, end) in enumerate(pairwise(points)):
        if at % 2:
            vertices, codes = [*vertices, end], [*codes, Curve.LINETO]
            continue
        low = end[1] + (HEAD * 0.8 if at == len(points) - 2 else 0.0)
        middle = (start[1] + low) / 2
        vertices += [(start[0], middle), (end[0], middle), (end[0], low)]
        codes += [Curve.CURVE4] * 3
    curve = Curve(vertices, codes)
    colour, width = (_FAINT, 0.9) if faint else (_EDGE, 1.05)
    style = {"facecolor": "none", "capstyle": "butt"}
    if not faint:  # a halo, so that edges can be followed through crossings
        ax.add_patch(PathPatch(curve, edgecolor=_PANEL, lw=2.3 * scale, zorder=zorder, **style))
    ax.add_patch(PathPatch(curve, edgecolor=colour, lw=width * scale, zorder=zorder, **style))
    head = [(x, top), (x - HEAD * 0.42, top + HEAD), (x + HEAD * 0.42, top + HEAD)]
    ax.add_patch(Polygon(head, closed=True, facecolor=colour, edgecolor="none", zorder=zorder + 1))


def _paint_box(ax: "Axes", box: Box, kind: str, changed: bool, scale: float) -> None:
    face = _ACCENT_FACE if changed and kind != "image" else _FACES[kind]
    outline, width = (_ACCENT, 2.0) if changed else (_OUTLINES[kind], 1.0)
    ax.add_patch(_rounded(box, face, outline, width * scale, zorder=5, radius=0.09))


def _paint_label(
    ax: "Axes", box: Box, label: str, kind: str, scale: float, value: str | None
) -> None:
    """Write the lines on baselines, so that descenders do not shift them."""
    colour, pale = (_WHITE, "#D5DCE4") if kind == "image" else (_INK, _PALE_INK)
    lines = label.split("\n")
    middle = box.y if value is None else box.y + 0.09
    style = {"ha": "center", "va": "baseline", "zorder": 6}
    for number, line in enumerate(lines):
        y = middle + ((len(lines) - 1) / 2 - number) * 0.14 - 0.36 * _SIZE / 72
        ax.text(box.x, y, line, fontsize=_SIZE * scale, color=colour, **style)
    if value is not None:
        y = box.bottom + 0.075
        ax.text(box.x, y, value, fontsize=_SMALL * scale, color=pale, **style)


def _rounded(
    box: Box, face: str, outline: str, width: float, zorder: float, radius: float
) -> FancyBboxPatch:
    return FancyBboxPatch(
        (box.left, box.bottom),
        box.width,
        box.height,
        boxstyle=f"round,pad=0,rounding_size={radius}",
        facecolor=face,
        edgecolor=outline,
        linewidth=width,
        zorder=zorder,
    )


def _legend(graph: "Graph", changed: bool) -> list[tuple[str, str, str, float]]:
    """Return the face, outline, title and width of each entry of the legend."""
    kinds = {role(graph, name) for name in graph} - {"image"}
    entries = [(_FACES[kind], _OUTLINES[kind], TITLES[kind]) for kind in TITLES if kind in kinds]
    entries += [(_ACCENT_FACE, _ACCENT, "changed")] * changed
    return [(*entry, 0.25 + _width(entry[2], _SMALL) + 0.22) for entry in entries]


def _paint_legend(ax: "Axes", legend: list, centre: float, y: float, scale: float) -> None:
    x = centre - (sum(entry[3] for entry in legend) - 0.22) / 2
    for face, outline, title, width in legend:
        swatch = Box(x + 0.09, y, 0.18, 0.12)
        ax.add_patch(_rounded(swatch, face, outline, 0.9 * scale, zorder=5, radius=0.03))
        style = {"fontsize": _SMALL * scale, "color": _PALE_INK, "va": "center_baseline"}
        ax.text(x + 0.25, y, title, **style)
        x += width


def _write(figure: Figure, path: Path) -> None:
    buffer = io.BytesIO()
    kind = path.suffix.lower().removeprefix(".")
    # Without dates and random ids, so that the same graph gives the same bytes.
    metadata = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}.get(kind)
    fixed = {"svg.hashsalt": "causalcxr", "pdf.fonttype": 42}
    with matplotlib.rc_context(fixed):
        figure.savefig(buffer, format=kind, dpi=200, metadata=metadata)
    try:
        atomic_write(path, buffer.getvalue())
    except OSError as fault:
        reason = fault.strerror or brief(fault)
        raise GraphError(f"{path}: cannot be written ({reason})") from None
