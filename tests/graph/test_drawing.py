"""Drawings: boxes apart, edges around boxes, names inside boxes, the same bytes each time."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from causalcxr.common.errors import GraphError
from causalcxr.graph import Graph, Variable
from causalcxr.graph.drawing import draw, role, scene
from causalcxr.graph.layout import Box, arrange

BUNDLED = ["cxr7", "cxr7-acquisition", "nih", "mini"]
PARTIAL = Graph.load("cxr7").remove_edge("Race", "Image")
SMALL = Graph([Variable("Age", "continuous"), Variable("Edema", "binary", parents=("Age",))])


def curve(points: tuple, count: int = 40) -> np.ndarray:
    """Follow an edge as it is drawn: curves between rows, straight within them."""
    t = np.linspace(0, 1, count)[:, None]
    parts = []
    for at, ((x0, y0), (x1, y1)) in enumerate(pairwise(points)):
        if at % 2:
            parts.append(np.array([[x0, y0]]) * (1 - t) + np.array([[x1, y1]]) * t)
            continue
        middle = (y0 + y1) / 2
        a, b, c, d = np.array([[x0, y0], [x0, middle], [x1, middle], [x1, y1]])
        parts.append(
            (1 - t) ** 3 * a + 3 * (1 - t) ** 2 * t * b + 3 * (1 - t) * t**2 * c + t**3 * d
        )
    return np.concatenate(parts)


def inside(points: np.ndarray, box: Box, slack: float = 0.01) -> np.ndarray:
    across = (points[:, 0] > box.left + slack) & (points[:, 0] < box.right - slack)
    return across & (points[:, 1] > box.bottom + slack) & (points[:, 1] < box.top - slack)


def crossings(graph: Graph) -> int:
    """Count the pairs of expert edges that cross between two rows."""
    whole = scene(graph)
    spans = []
    for edge, points in whole.paths.items():
        if edge not in whole.faint:
            spans += [(a, b) for at, (a, b) in enumerate(pairwise(points)) if at % 2 == 0]
    return sum(
        a[0][1] == b[0][1] and (a[0][0] - b[0][0]) * (a[1][0] - b[1][0]) < 0
        for a, b in combinations(spans, 2)
    )


@pytest.mark.parametrize("graph", [*map(Graph.load, BUNDLED), PARTIAL], ids=[*BUNDLED, "partial"])
@pytest.mark.parametrize("values", [{}, {"Age": "63", "Sex": "a very long value indeed"}])
def test_boxes_do_not_overlap(graph, values):
    boxes = scene(graph, values).boxes
    assert set(boxes) == set(graph.variables)
    for one, two in combinations(boxes.values(), 2):
        apart = abs(one.x - two.x) > (one.width + two.width) / 2 + 0.1
        assert apart or abs(one.y - two.y) > one.height + 0.3


@pytest.mark.parametrize("graph", [*map(Graph.load, BUNDLED), PARTIAL], ids=[*BUNDLED, "partial"])
def test_no_edge_crosses_a_box(graph):
    whole = scene(graph)
    for edge, points in whole.paths.items():
        way = curve(points)
        for name, box in whole.boxes.items():
            assert not inside(way, box).any(), (edge, name)


@pytest.mark.parametrize("graph", [*map(Graph.load, BUNDLED), PARTIAL], ids=[*BUNDLED, "partial"])
def test_edges_join_their_boxes_and_lead_downwards(graph):
    whole = scene(graph)
    for (parent, child), points in whole.paths.items():
        assert points[0][1] == pytest.approx(whole.boxes[parent].bottom)
        assert points[-1][1] == pytest.approx(whole.boxes[child].top)
        assert abs(points[0][0] - whole.boxes[parent].x) < whole.boxes[parent].width / 2
        assert abs(points[-1][0] - whole.boxes[child].x) < whole.boxes[child].width / 2
        assert all(above[1] > below[1] for above, below in pairwise(points))


def test_few_expert_edges_of_cxr7_cross():
    assert crossings(Graph.load("cxr7")) <= 24


def test_independent_chains_do_not_cross():
    edges = [("a", "d"), ("b", "c"), ("c", "e"), ("d", "f")]
    layers = {"a": 0, "b": 0, "c": 1, "d": 1, "e": 2, "f": 2}
    laid = arrange(layers, edges, dict.fromkeys(layers, 1.0))
    order = {name: box.x for name, box in laid.boxes.items()}
    signs = {order["a"] < order["b"], order["d"] < order["c"], order["f"] < order["e"]}
    assert len(signs) == 1


def test_frame_replaces_the_edges_of_an_image_with_all_parents():
    whole = scene(Graph.load("cxr7"))
    assert whole.panel is not None
    assert not any(child == "Image" for _, child in whole.paths)
    for name in Graph.load("cxr7").tabular:
        box = whole.boxes[name]
        assert whole.panel.left < box.left < box.right < whole.panel.right
        assert whole.panel.bottom < box.bottom < box.top < whole.panel.top
    assert whole.boxes["Image"].top < whole.panel.bottom


def test_edges_of_an_image_without_all_parents_are_faint():
    whole = scene(PARTIAL)
    assert whole.panel is None
    assert sum(child == "Image" for _, child in whole.faint) == 18
    assert ("Race", "Image") not in whole.paths


def test_roles_follow_the_structure():
    graph = Graph.load("cxr7")
    roles = {name: role(graph, name) for name in ("Sex", "Edema", "No Finding", "Image")}
    assert list(roles.values()) == ["root", "caused", "derived", "image"]


@pytest.mark.parametrize("graph", [Graph.load("cxr7"), Graph.load("mini"), SMALL])
def test_text_is_inside_boxes_and_figure(graph):
    figure = draw(graph, values={"Age": 63.0}, changed=["age"])
    renderer = FigureCanvasAgg(figure).get_renderer()
    (ax,) = figure.axes
    boxes = scene(graph, {"Age": "63"}).boxes.values()
    for text in ax.texts:
        extent = text.get_window_extent(renderer)
        assert figure.bbox.x0 <= extent.x0
        assert extent.x1 <= figure.bbox.x1
        (left, bottom), (right, top) = ax.transData.inverted().transform(extent.get_points())
        x, y = (left + right) / 2, (bottom + top) / 2
        for box in boxes:
            if box.left < x < box.right and box.bottom < y < box.top:
                assert box.left < left
                assert right < box.right
                assert box.bottom < bottom
                assert top < box.top


def test_values_and_changes_are_drawn():
    figure = draw(
        Graph.load("mini"), values={"sex": "F", "Age": 63.0, "View": np.nan}, changed=["SEX"]
    )
    texts = {text.get_text() for text in figure.axes[0].texts}
    assert {"F", "63", "unknown", "changed", "Pleural", "Effusion"} <= texts


@pytest.mark.parametrize("suffix", ["png", "svg", "pdf", "PNG"])
def test_drawing_twice_gives_equal_bytes(tmp_path, suffix):
    graph = Graph.load("mini")
    one, two = tmp_path / f"one.{suffix}", tmp_path / f"two.{suffix}"
    graph.draw(one)
    graph.draw(two)
    assert one.read_bytes() == two.read_bytes()
    starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
    assert one.read_bytes().startswith(starts[suffix.lower()])


def test_drawing_fits_given_axes():
    figure = Figure(figsize=(9, 3))
    left, right = figure.subplots(1, 2)
    assert draw(SMALL, ax=right) is figure
    assert right.texts
    assert not left.texts
    width, height = np.ptp(right.get_xlim()), np.ptp(right.get_ylim())
    size = right.get_window_extent().size
    assert width / height == pytest.approx(size[0] / size[1], rel=1e-6)


def test_unknown_name_or_format_is_refused(tmp_path):
    with pytest.raises(GraphError, match="did you mean 'Edema'"):
        draw(SMALL, changed=["Edma"])
    with pytest.raises(GraphError, match=r"a graph is drawn as \.png, \.svg, \.pdf"):
        draw(SMALL, tmp_path / "graph.jpg")
    (tmp_path / "file").touch()
    with pytest.raises(GraphError, match="cannot be written"):
        draw(SMALL, tmp_path / "file" / "graph.png")
