"""The graph as an SVG: all of it is there, no text can break it, no mark by colour alone."""

import re
from xml.etree import ElementTree

import pytest

from causalcxr import Graph, Variable
from causalcxr.apps.explorer.graph_svg import MARKS, graph_legend, graph_svg
from causalcxr.common.errors import GraphError
from causalcxr.graph.drawing import scene

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = """<img src=x onerror="alert(1)"> & 'Co' ]]>"""
CHAIN = Graph(
    [Variable("A", "binary"), Variable("B", "binary", parents=("A",)), Variable("C", "binary")],
    name="chain",
)


def nodes(svg: str) -> dict[str, ElementTree.Element]:
    found = ElementTree.fromstring(svg).iter(f"{SVG}g")
    return {node.get("data-name"): node for node in found if node.get("data-name") is not None}


def edges(svg: str) -> set[tuple[str, str]]:
    paths = ElementTree.fromstring(svg).iter(f"{SVG}path")
    return {(p.get("data-parent"), p.get("data-child")) for p in paths if p.get("data-parent")}


@pytest.mark.parametrize("name", ["cxr7", "cxr7-acquisition", "mini", "nih"])
def test_bundled_graphs_draw_every_variable_and_edge(name):
    graph = Graph.load(name)
    svg = graph_svg(graph)
    buttons = nodes(svg)
    assert list(buttons) == list(graph.order)
    assert {(b.get("role"), b.get("tabindex")) for b in buttons.values()} == {("button", "0")}
    drawn = set(graph.edges)
    if set(graph.parents(graph.image)) == set(graph.tabular):  # one broad arrow for all of these
        drawn = {edge for edge in drawn if edge[1] != graph.image}
        assert 'class="broad"' in svg
    assert edges(svg) == drawn
    assert svg.count("<marker") == 1
    assert svg.count("marker-end") == len(drawn)


def test_edge_starts_and_ends_at_its_boxes():
    whole = scene(CHAIN)
    svg = graph_svg(CHAIN)
    numbers = [float(n) for n in re.findall(r"-?[\d.]+", re.search(r'edge" d="([^"]+)"', svg)[1])]
    boxes = {
        name: [float(r.get(k)) for r in node.iter(f"{SVG}rect") for k in ("x", "y", "height")][3:]
        for name, node in nodes(svg).items()
    }
    (x, y), (a_x, a_y, a_height) = numbers[:2], boxes["A"]
    assert y == pytest.approx(a_y + a_height, abs=0.2)
    scale = a_height / whole.boxes["A"].height
    start = whole.paths["A", "B"][0]
    assert x - a_x == pytest.approx((start[0] - whole.boxes["A"].left) * scale, abs=0.2)
    assert numbers[-1] < boxes["B"][1]  # the head stands between the curve and the box
    assert boxes["B"][1] - numbers[-1] < 10


def test_values_and_marks_are_drawn_and_labelled():
    values = {"Sex": "F", "Age": "63"}
    marks = {"Sex": "set", "View": "held", "Image": "changed", "pleural effusion": "stale"}
    buttons = nodes(graph_svg(Graph.load("mini"), values=values, marks=marks, chosen="sex"))
    assert buttons["Sex"].get("aria-label") == "Sex: F. root, no parents, set."
    assert buttons["View"].get("aria-label") == "View. effect, parents: Age, held."
    effusion = buttons["Pleural Effusion"].get("aria-label")
    assert effusion == "Pleural Effusion. effect, parents: Age, Sex, would be retrained."
    assert "parents: every other variable, changed" in buttons["Image"].get("aria-label")
    assert [n for n, b in buttons.items() if b.get("aria-pressed") == "true"] == ["Sex"]
    texts = {n: [t.text for t in b.iter(f"{SVG}text")] for n, b in buttons.items()}
    assert texts["Sex"] == ["Sex", "F"]
    assert texts["Pleural Effusion"] == ["Pleural", "Effusion"]
    # Four signs of four shapes: the marks are told apart without their colours.
    signs = {n: [p.get("d") for p in b.iter(f"{SVG}path")] for n, b in buttons.items()}
    assert signs.pop("Age") == []
    assert len({tuple(each) for each in signs.values()}) == 4
    assert all(len(each) == 1 for each in signs.values())


def test_layout_is_the_same_for_all_levels():
    graph = Graph.load("cxr7")
    before, after = (
        re.sub(r"<text.*?</text>|aria-label=\"[^\"]*\"", "", graph_svg(graph, values=v))
        for v in ({"View": "AP", "Sex": "F"}, {"View": "LATERAL", "Sex": "M"})
    )
    assert before == after


def test_only_added_edges_are_highlighted():
    graph = CHAIN.add_edge("B", "C")
    paths = ElementTree.fromstring(graph_svg(graph, added=[("B", "C")])).iter(f"{SVG}path")
    kinds = {(p.get("data-parent"), p.get("class")) for p in paths if p.get("data-parent")}
    assert kinds == {("A", "edge"), ("B", "edge added")}


def test_hostile_texts_are_escaped():
    graph = Graph([Variable("Size (cm)", "binary"), Variable("B", "binary")], name=HOSTILE)
    svg = graph_svg(graph.add_edge("Size (cm)", "B"), values={"B": HOSTILE + "\x00\x0b\ud800"})
    assert edges(svg) == {("Size (cm)", "B")}
    told = ElementTree.fromstring(svg).get("aria-label")
    assert told == f"Causal graph {HOSTILE}: 2 variables, 1 edges"
    assert HOSTILE + 3 * "\ufffd" in nodes(svg)["B"].get("aria-label")
    assert [t.text for t in nodes(svg)["B"].iter(f"{SVG}text")] == ["B", HOSTILE + 3 * "\ufffd"]
    assert "<img" not in svg
    ElementTree.fromstring(graph_legend(graph, MARKS))


def test_legend_lists_the_marks_in_use():
    legend = graph_legend(Graph.load("mini"), ["stale"])
    words = ["".join(li.itertext()) for li in ElementTree.fromstring(legend)]
    assert words == ["root", "effect", "image", "would be retrained"]


def test_unknown_names_and_marks_are_refused():
    with pytest.raises(GraphError, match="no variable 'Dd'"):
        graph_svg(CHAIN, marks={"Dd": "set"})
    with pytest.raises(GraphError, match="mark 'odd' is unknown; use one of set, changed"):
        graph_svg(CHAIN, marks={"A": "odd"})
