"""The graph: structure, edits, hashes, differences, and YAML that keeps its comments."""

import copy
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from causalcxr.common.errors import CausalCXRError, GraphError
from causalcxr.common.files import atomic_write
from causalcxr.graph import Graph, Variable
from causalcxr.graph.graph import MechanismSpec

BUNDLED = ["cxr7", "cxr7-acquisition", "nih", "mini"]
EXPERT = {
    "Cardiomegaly": {"Age", "Race", "Sex"},
    "Edema": {"Age", "Race", "Sex"},
    "Pleural Other": {"Age", "Sex"},
    "Pneumonia": {"Age", "Sex"},
    "Fracture": {"Age", "Sex"},
    "Pneumothorax": {"Age", "Sex", "Fracture"},
    "Enlarged Cardiomediastinum": {"Cardiomegaly"},
    "Consolidation": {"Pneumonia"},
    "Pleural Effusion": {"Cardiomegaly", "Pleural Other", "Pneumonia"},
    "Support Devices": {"Pleural Effusion", "Pneumothorax"},
    "Atelectasis": {"Pleural Effusion", "Pneumothorax"},
    "Lung Opacity": {"Pleural Other", "Edema", "Atelectasis", "Consolidation"},
    "Lung Lesion": {"Lung Opacity"},
}
COMMENTED = """\
# head
name: small   # of a graph
schema: 1

variables:
  # roots
  Age: {type: continuous, range: [0, 105]}  # years
  Sex: {type: binary, levels: [F, M]}

  # findings
  Fracture:
    type: binary
    parents: [Age, Sex]  # both
  # the last
  Edema:
    type: binary
    parents:
      - Age  # because
      # between
      - Fracture
# foot
"""


@st.composite
def graphs(draw):
    """Draw a graph whose parents stand anywhere before their children."""
    count = draw(st.integers(1, 7))
    variables = []
    for number in range(count):
        parents = draw(st.sets(st.integers(0, max(number - 1, 0)), max_size=3)) if number else ()
        type = draw(st.sampled_from(["continuous", "binary", "ordinal", "categorical"]))
        fields = {}
        if type in ("ordinal", "categorical"):
            fields["levels"] = draw(
                st.sampled_from([("a", "b"), ("no", "yes", "1"), ("é: #", "-")])
            )
        if type == "continuous":
            fields["range"] = draw(st.sampled_from([None, (0, 105), (-1e-5, 1.5e7)]))
            fields["unit"] = draw(st.sampled_from([None, "year", "mm Hg: a"]))
        variables.append(
            Variable(f"V {number}", type, parents=[f"V {p}" for p in parents], **fields)
        )
    return Graph(draw(st.permutations(variables)), name="drawn")


def test_cxr7_has_the_published_29_edges():
    graph = Graph.load("cxr7")
    assert len(graph.tabular) == 19
    assert graph.image == "Image"
    assert sum(map(len, EXPERT.values())) == 29
    assert {name: set(graph.parents(name)) for name in EXPERT} == EXPERT
    assert graph.parents("View") == ("Dataset",)
    assert set(graph.parents("No Finding")) == set(EXPERT) - {"Support Devices"}
    assert set(graph.parents("Image")) == set(graph.tabular)
    assert graph.roots == ("Age", "Race", "Sex", "Dataset")


def test_acquisition_graph_adds_seven_edges():
    difference = Graph.load("cxr7").diff(Graph.load("cxr7-acquisition"))
    assert set(difference.added_edges) == {
        ("Age", "View"),
        ("Support Devices", "View"),
        ("Pleural Effusion", "View"),
        ("Edema", "View"),
        ("Edema", "Pleural Effusion"),
        ("Cardiomegaly", "Edema"),
        ("Age", "Atelectasis"),
    }
    assert not difference.removed_edges
    assert difference.stale == {"View", "Edema", "Pleural Effusion", "Atelectasis"}


def test_no_finding_of_nih_excludes_all_13_findings():
    graph = Graph.load("nih")
    assert len(graph.parents("No Finding")) == 13
    assert graph["View"].levels == ("AP", "PA")
    assert graph["Image"].mechanism.options["steps"] == 3000
    assert graph.parents("Pneumothorax") == ("Age", "Emphysema", "Sex")


@pytest.mark.parametrize("name", BUNDLED)
def test_unchanged_bundled_graph_is_written_as_its_file(name):
    graph = Graph.load(name)
    file = Path(__file__).parents[2] / "graphs" / f"{name}.yaml"
    assert graph.to_yaml() == file.read_text(encoding="utf-8")
    assert Graph.parse(Graph(graph.variables).to_yaml()) == graph


def test_ancestors_and_descendants_exclude_the_names():
    graph = Graph.load("cxr7")
    assert graph.ancestors("Consolidation") == {"Pneumonia", "Age", "Sex"}
    assert graph.descendants("Lung Opacity") == {"Lung Lesion", "No Finding", "Image"}
    assert "Lung Opacity" not in graph.descendants("Edema", "Lung Opacity")
    assert graph.children("Race") == ("Cardiomegaly", "Edema", "Image")
    assert graph.layers["Age"] == 0
    assert graph.layers["Image"] == max(graph.layers.values())


@pytest.mark.parametrize("spelling", ["Pleural Effusion", "pleural_effusion", "PLEURAL-EFFUSION"])
def test_find_returns_the_canonical_name(spelling):
    graph = Graph.load("cxr7")
    assert graph.find(spelling) == "Pleural Effusion"
    assert graph[spelling].name == "Pleural Effusion"
    assert spelling in graph


def test_unknown_name_is_refused_with_the_nearest():
    with pytest.raises(
        GraphError, match="no variable 'Edma' in graph 'cxr7'; did you mean 'Edema'"
    ):
        Graph.load("cxr7").find("Edma")


def test_own_mechanism_precedes_default_and_built_in():
    graph = Graph.parse("""
defaults: {binary: {mechanism: discrete, coupling: gumbel, epochs: 5}}
variables:
  A: {type: binary}
  B: {type: binary, mechanism: discrete}
  C: {type: categorical, levels: [x, y]}
  D: {type: continuous, mechanism: {kind: flow, transform: cnf, lr: 1}}
""")
    assert graph["A"].mechanism == MechanismSpec("discrete", {"coupling": "gumbel", "epochs": 5})
    assert graph["B"].mechanism == MechanismSpec("discrete", {"coupling": "monotone"})
    assert graph["C"].mechanism == MechanismSpec("discrete", {"coupling": "gumbel"})
    assert graph["D"].mechanism == MechanismSpec("flow", {"transform": "cnf", "lr": 1.0})
    assert graph["A"].levels == ("N", "P")


def test_edit_returns_a_new_graph_and_undoing_restores_the_hash():
    graph = Graph.load("cxr7")
    edited = graph.add_edge("support devices", "view").remove_edge("Fracture", "Pneumothorax")
    assert ("Support Devices", "View") not in graph.edges
    assert edited != graph
    assert (
        edited.add_edge("Fracture", "Pneumothorax").remove_edge("Support Devices", "View") == graph
    )


def test_edited_edge_makes_two_equations_stale():
    graph = Graph.load("cxr7")
    edited = graph.add_edge("Support Devices", "View").remove_edge("Fracture", "Pneumothorax")
    difference = graph.diff(edited)
    assert difference.stale == {"View", "Pneumothorax"}
    assert "to retrain: Pneumothorax, View" in str(difference)
    assert not graph.diff(graph)
    assert str(graph.diff(graph)) == "the graphs are equal"


def test_changed_levels_of_a_parent_make_children_stale():
    graph = Graph.load("cxr7")
    changed = graph.with_variable(
        graph["Race"].replace(levels=("Asian", "Black", "Other", "White"))
    )
    assert graph.diff(changed).stale == {"Race", "Cardiomegaly", "Edema", "Image"}
    assert "~ Race: levels [Asian, Black, White] ->" in str(graph.diff(changed))


def test_more_solver_steps_make_nothing_stale():
    graph = Graph.load("mini")
    options = {**graph["Image"].mechanism.options, "solver_steps": 32}
    changed = graph.with_variable(
        graph["Image"].replace(mechanism=MechanismSpec("radit", options))
    )
    assert changed.hash != graph.hash
    assert graph.diff(changed)
    assert graph.diff(changed).stale == frozenset()


def test_hash_ignores_order_comments_and_names():
    one = Graph.parse(
        "{name: a, variables: {A: {type: binary, description: x}, B: {type: binary}}}"
    )
    two = Graph.parse("variables:\n  B: {type: binary, levels: [N, P]} # b\n  A: {type: binary}\n")
    assert one.hash == two.hash
    assert one == two
    assert hash(one) == hash(two)
    assert len(one.hash) == 64


def test_edit_keeps_comments_in_place():
    graph = Graph.parse(COMMENTED, "small.yaml")
    edited = (
        graph.add_edge("Sex", "Edema")
        .remove_edge("Fracture", "Edema")
        .remove_edge("Sex", "Fracture")
        .with_variable(Variable("Smoker", "binary", levels=("no", "yes"), parents=("Age",)))
    )
    expected = (
        COMMENTED.replace("parents: [Age, Sex]", "parents: [Age]")
        .replace("      - Fracture\n", "      - Sex\n")
        .replace(
            "# foot", '  Smoker: {type: binary, levels: ["no", "yes"], parents: [Age]}\n# foot'
        )
    )
    assert edited.to_yaml() == expected
    assert Graph.parse(edited.to_yaml()) == edited


def test_removal_of_a_variable_keeps_other_comments():
    text = Graph.parse(COMMENTED).without_variable("Sex").to_yaml()
    assert "Sex" not in text
    assert "# roots" in text
    assert "# findings" in text
    assert text.startswith("# head\nname: small   # of a graph\n")


def test_removing_and_adding_all_edges_restores_the_graph():
    graph = edited = Graph.load("cxr7-acquisition")
    edges = [edge for edge in graph.edges if edge[1] != "No Finding"]
    for edge in edges:
        edited = edited.remove_edge(*edge)
    assert Graph.parse(edited.to_yaml()) == edited
    for edge in reversed(edges):
        edited = edited.add_edge(*edge)
    assert Graph.parse(edited.to_yaml()) == edited == graph


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs())
def test_order_puts_parents_first(graph):
    place = {name: position for position, name in enumerate(graph.order)}
    assert sorted(graph.order) == sorted(graph.variables)
    assert all(place[parent] < place[child] for parent, child in graph.edges)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(graphs(), st.data())
def test_undoing_an_edit_restores_any_graph(graph, data):
    assert Graph.parse(graph.to_yaml()) == graph
    loaded = Graph.parse(graph.to_yaml())
    names = st.sampled_from(graph.order)
    parent, child = data.draw(names), data.draw(names)
    try:
        edited = loaded.add_edge(parent, child)
    except GraphError:
        closes = parent == child or parent in graph.descendants(child)
        assert closes or parent in graph.parents(child)
        return
    assert edited.hash != graph.hash
    assert Graph.parse(edited.to_yaml()) == edited
    again = Graph.parse(edited.to_yaml()).remove_edge(parent, child)
    assert again.hash == graph.hash
    assert Graph.parse(again.to_yaml()) == graph


def test_copied_or_pickled_graph_is_equal():
    graph = Graph.load("cxr7").add_edge("Age", "Atelectasis")
    assert copy.deepcopy(graph) is graph
    assert pickle.loads(pickle.dumps(graph)) == graph
    assert pickle.loads(pickle.dumps(graph["View"])) == graph["View"]


def test_graph_is_immutable():
    graph = Graph.load("mini")
    with pytest.raises(AttributeError):
        graph.name = "other"
    with pytest.raises(TypeError):
        graph.variables["Age"] = graph["Sex"]
    with pytest.raises(ValueError, match="frozen"):
        graph["Age"].unit = "month"


def test_save_writes_only_the_complete_file(tmp_path):
    file = Graph.load("mini").save(tmp_path / "deep" / "mini.yaml")
    assert Graph.load(file) == Graph.load("mini")
    assert [each.name for each in file.parent.iterdir()] == ["mini.yaml"]


def test_failed_save_keeps_the_old_file(tmp_path, monkeypatch):
    file = atomic_write(tmp_path / "note", "old")

    def fail(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        atomic_write(file, "new")
    with pytest.raises(CausalCXRError, match="cannot be written"):
        Graph.load("mini").save(file)
    assert file.read_text() == "old"
    assert list(tmp_path.iterdir()) == [file]


def test_import_of_graphs_loads_nothing_heavy():
    code = (
        "import sys, causalcxr.graph, causalcxr.graph.interventions;"
        "causalcxr.graph.Graph.load('cxr7');"
        "print(sorted({'torch', 'pandas', 'networkx', 'matplotlib'} & set(sys.modules)))"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stdout.strip() == "[]"
