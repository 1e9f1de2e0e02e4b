"""Faults in a graph: each is one line with the place, the rule and the remedy."""

import re

import pytest

from causalcxr.common.errors import GraphError
from causalcxr.graph import Graph, Variable
from causalcxr.graph.graph import MechanismSpec

HEAD = "name: g\nschema: 1\nvariables:\n"
AGE = "  Age: {type: continuous}\n"  # line 4
BOMB = "a: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\nvariables: {A: {type: binary, levels: *c}}\n"

FAULTS = {
    "cycle": (
        HEAD + "  A: {type: binary, parents: [B]}\n  B:\n    type: binary\n    parents: [A]\n",
        r"g\.yaml:\d: variable '[AB]': cycle '(A' -> 'B' -> 'A|B' -> 'A' -> 'B)'; remove one",
    ),
    "unknown parent": (
        HEAD + AGE + "  Edema: {type: binary, parents: [agee]}\n",
        r"g\.yaml:5: variable 'Edema': parent 'agee' is not declared; did you mean 'Age'\?",
    ),
    "unknown parent without a near one": (
        HEAD + AGE + "  Edema: {type: binary, parents: [Zzz]}\n",
        r"5: variable 'Edema': parent 'Zzz' is not declared; declare it or remove it",
    ),
    "self-parent": (
        HEAD + "  A:\n    type: binary\n    parents:\n      - A\n",
        r":7: variable 'A': it cannot be its own parent; remove",
    ),
    "parent twice": (
        HEAD + AGE + "  E: {type: binary, parents: [Age, Age]}\n",
        r":5: variable 'E': parent 'Age' is listed twice; remove one",
    ),
    "duplicate variable": (
        HEAD + AGE + AGE,
        r":4: variable 'Age': duplicate key 'Age' \(again in line 5\); remove or rename one",
    ),
    "duplicate field": (
        HEAD + "  A: {type: binary, type: ordinal}\n",
        r":4: variable 'A': duplicate key 'type' \(again in line 4\)",
    ),
    "no": (
        HEAD + "  S:\n    type: binary\n    levels: [no, yes]\n",
        r':6: variable \'S\': no unquoted is a truth value .* quote them: \["no", "yes"\]',
    ),
    "off": (HEAD + "  S: {type: binary, levels: [On, OFF]}\n", r'quote them: \["On", "OFF"\]'),
    "true": (HEAD + "  S: {type: binary, levels: [true, False]}\n", r"quote them"),
    "a variable named on": (HEAD + "  on: {type: binary}\n", r'on unquoted .*; quote it: "on"'),
    "number as level": (
        HEAD + "  S: {type: binary, levels: [0, 1]}\n",
        r":4: variable 'S': levels 0: levels are a list of texts: quote numbers, \[\"0\"",
    ),
    "date as level": (
        HEAD + "  S: {type: binary, levels: [2020-01-01, x]}\n",
        r"timestamp; quote",
    ),
    "null as level": (HEAD + "  S: {type: binary, levels: [~, x]}\n", r"levels None: levels are"),
    "alias bomb": (BOMB, r"g\.yaml:1: anchor or alias 'a': write the value out instead"),
    "tag": (HEAD + "  A: !!python/object:os.system {type: binary}\n", r"variable 'A'"),
    "unknown field": (
        HEAD + "  A: {type: binary, parent: [B]}\n",
        r":4: variable 'A': field 'parent' is not known; did you mean 'parents'\?",
    ),
    "unknown top field": ("vars: {}\n", r"g\.yaml:1: field 'vars' is not known"),
    "unknown type": (
        HEAD + "  A: {type: binari}\n",
        r":4: variable 'A': type 'binari' is not known; did you mean 'binary'\?",
    ),
    "no type": (HEAD + "  A: {parents: []}\n", r":4: variable 'A': it needs a type"),
    "unknown kind": (
        HEAD + "  A: {type: continuous, mechanism: flwo}\n",
        r":4: variable 'A': mechanism 'flwo' is not known; did you mean 'flow'\?",
    ),
    "unknown option": (
        HEAD + "  A:\n    type: continuous\n    mechanism: {kind: flow,\n      bin: 3}\n",
        r":7: variable 'A': flow has no option 'bin'; did you mean 'bins'\?",
    ),
    "option of the wrong type": (
        HEAD + "  A: {type: continuous, mechanism: {kind: flow, epochs: 2.5}}\n",
        r"epochs 2.5 of flow must be a whole number, at least 1",
    ),
    "option not of the list": (
        HEAD + "  A: {type: continuous, mechanism: {kind: flow, transform: splines}}\n",
        r"transform 'splines' of flow must be one of spline, cnf; did you mean 'spline'\?",
    ),
    "kind for another type": (
        HEAD + "  A: {type: binary, mechanism: flow}\n",
        r"mechanism 'flow' does not suit the type binary; use discrete or derived",
    ),
    "monotone without an order": (
        HEAD
        + "  A: {type: categorical, levels: [x, y],"
        + " mechanism: {kind: discrete, coupling: monotone}}\n",
        r"needs levels in an order; use gumbel or type: ordinal",
    ),
    "empirical with parents": (
        HEAD + AGE + "  E: {type: continuous, parents: [Age], mechanism: empirical}\n",
        r":5: variable 'E': .*parents",
    ),
    "threshold of a level": (
        HEAD
        + "  B: {type: binary}\n"
        + "  A: {type: binary, parents: [B], mechanism: {kind: derived, rule: at_least, "
        + "threshold: 65}}\n",
        r":5: variable 'A': parent 'B' is ",
    ),
    "threshold of nothing": (
        HEAD + "  A: {type: binary, mechanism: {kind: derived, rule: at_least, threshold: 65}}\n",
        r":4: variable 'A': the rule 'at_least' reads one parent, not 0",
    ),
    "derived from nothing": (HEAD + "  A: {type: binary, mechanism: derived}\n", r"needs parents"),
    "derived from a number": (
        HEAD + AGE + "  A: {type: binary, parents: [Age], mechanism: derived}\n",
        r":5: variable 'A': parent 'Age' is continuous",
    ),
    "unknown type in defaults": (
        "defaults:\n  continous: {mechanism: flow}\n" + HEAD + AGE,
        r":2: defaults: type 'continous' is not known; did you mean 'continuous'\?",
    ),
    "unknown option in defaults": (
        "defaults:\n  binary: {mechanism: discrete, copling: gumbel}\n" + HEAD + AGE,
        r":2: defaults: discrete has no option 'copling'; did you mean 'coupling'\?",
    ),
    "image as a parent": (
        HEAD + "  I: {type: image}\n  A: {type: binary, parents: [I]}\n",
        r":5: variable 'A': parent 'I' is the image, which has no effects; remove it",
    ),
    "two images": (
        HEAD + "  I: {type: image}\n  J: {type: image}\n",
        r":5: variable 'J': a graph has one image, and 'I' is one already; remove one",
    ),
    "missing levels": (
        HEAD + "  A: {type: categorical}\n",
        r":4: variable 'A': .*levels: \[first",
    ),
    "one level": (HEAD + "  A: {type: ordinal, levels: [x]}\n", r"needs at least two levels"),
    "three levels of a binary": (
        HEAD + "  A: {type: binary, levels: [x, y, z]}\n",
        r"a binary variable has two levels, not 3; or type: ordinal",
    ),
    "level twice": (HEAD + "  A: {type: binary, levels: [x, x]}\n", r"level 'x' occurs twice"),
    "levels of a number": (HEAD + "  A: {type: continuous, levels: [x, y]}\n", r"has no levels"),
    "range reversed": (
        HEAD + "  A:\n    type: continuous\n    range: [105, 0]\n",
        r":6: variable 'A': range \[105, 0\]: the lowest must be below the highest",
    ),
    "range of words": (
        HEAD + "  A: {type: continuous, range: [low, high]}\n",
        r"variable 'A': range 'low': a range is two finite numbers",
    ),
    "range without end": (HEAD + "  A: {type: continuous, range: [0, .inf]}\n", r"finite numbers"),
    "range of a level": (HEAD + "  A: {type: binary, range: [0, 1]}\n", r"only a continuous"),
    "resolution of zero": (HEAD + "  A: {type: continuous, resolution: 0}\n", r"positive number"),
    "same name": (
        HEAD + "  Lung Lesion: {type: binary}\n  lung_lesion: {type: binary}\n",
        r":5: variable 'lung_lesion': its name and 'Lung Lesion' differ only in case",
    ),
    "unsafe name": (HEAD + '  "../A": {type: binary}\n', r":4: variable '\.\./A': a name begins"),
    "long name": (HEAD + f"  {'A' * 65}: {{type: binary}}\n", r"at most 64"),
    "name of a number": (HEAD + "  7: {type: binary}\n", r"key 7 is not text; quote it"),
    "empty": ("", r"g\.yaml:1: the file is empty"),
    "only comments": ("# nothing\n", r"the file is empty"),
    "a list": ("- a\n", r"a graph is a map"),
    "no variables": ("name: g\nvariables: {}\n", r":2: a graph needs variables"),
    "schema": ("schema: 2\n" + HEAD[8:], r":1: .*schema"),
    "schema as text": (
        "schema: one\nvariables: {A: {type: binary}}\n",
        r":1: schema 'one' cannot",
    ),
    "tab": (HEAD + "\tAge: {type: continuous}\n", r":4: not valid YAML: .*; indent with spaces"),
    "syntax": (HEAD + "  Age: {type: continuous\n", r":\d: not valid YAML"),
    "two documents": (HEAD + AGE + "---\n" + HEAD, r":5: not valid YAML"),
    "null character": ("a: \0", r"not valid YAML"),
    "deep": ("a: " + "[\n" * 2_000, r"nested too deeply|not valid YAML"),
    "deep but whole": (f"variables: {'[' * 20}{']' * 20}", r"nested too deeply"),
    "a long value": (
        HEAD + f"  A: {{type: {'x' * 10_000}}}\n",
        r"type 'xxx.*\.\.\.' is not known",
    ),
    "lines in a value": (HEAD + '  A: {type: "a\\nb"}\n', r"type 'a\\nb' is not known"),
    "unprintable": (HEAD + '  A: {type: continuous, unit: "\\x1b[2J"}\n', r"cannot be printed"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_gives_one_line_with_place_rule_and_remedy(fault):
    text, expected = FAULTS[fault]
    with pytest.raises(GraphError) as raised:
        Graph.parse(text, "g.yaml")
    message = str(raised.value)
    assert re.search(expected, message), message
    assert message.startswith("g.yaml")
    assert "\n" not in message
    assert len(message) < 400
    assert "pydantic" not in message


@pytest.mark.parametrize("letters", ["N, P", "F, M", "y, n", "AP, PA"])
def test_single_letters_are_valid_levels(letters):
    graph = Graph.parse(f"variables: {{A: {{type: binary, levels: [{letters}]}}}}")
    assert graph["A"].levels == tuple(letters.split(", "))


def test_quoted_truth_words_are_texts():
    graph = Graph.parse("variables: {A: {type: binary, levels: [\"no\", 'yes']}}")
    assert graph["A"].levels == ("no", "yes")
    assert '["no", "yes"]' in Graph(graph.variables).to_yaml()


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\xff\xfe", r"bad\.yaml:1: not UTF-8"),
        (b"name: g\nx: \xe9\n", r"bad\.yaml:2: not UTF-8; save the file with UTF-8"),
        (b"#" * 1_000_001, r"larger than 1,000,000 bytes"),
    ],
)
def test_error_names_the_file(tmp_path, content, expected):
    file = tmp_path / "bad.yaml"
    file.write_bytes(content)
    with pytest.raises(GraphError, match=expected):
        Graph.load(file)


def test_byte_order_mark_and_windows_lines_are_accepted(tmp_path):
    file = tmp_path / "bom.yaml"
    file.write_bytes(b"\xef\xbb\xbfvariables:\r\n  A: {type: binary}\r\n")
    assert Graph.load(file).name == "bom"
    assert Graph.parse("\ufeffvariables: {A: {type: binary}}").order == ("A",)


def test_missing_file_or_folder_is_refused(tmp_path):
    with pytest.raises(GraphError, match="there is no such file"):
        Graph.load(tmp_path / "none.yaml")
    with pytest.raises(GraphError, match="this is a folder"):
        Graph.load(tmp_path)
    with pytest.raises(GraphError, match="no bundled graph 'cxr8'; did you mean 'cxr7'"):
        Graph.load("cxr8")


def test_invalid_edits_are_refused():
    graph = Graph.load("cxr7")
    with pytest.raises(GraphError, match="cycle"):
        graph.add_edge("Lung Lesion", "Pneumonia")
    with pytest.raises(GraphError, match="is in graph 'cxr7' already"):
        graph.add_edge("Age", "Edema")
    with pytest.raises(GraphError, match=r"no edge 'Sex' -> 'View'.*parents of 'View': Dataset"):
        graph.remove_edge("Sex", "View")
    with pytest.raises(GraphError, match="is the image"):
        graph.add_edge("Image", "View")
    with pytest.raises(GraphError, match="own parent"):
        graph.add_edge("View", "View")
    with pytest.raises(GraphError, match="one image"):
        graph.with_variable(Variable("Second", "image"))
    with pytest.raises(GraphError, match="at least one variable"):
        Graph([])
    with pytest.raises(GraphError, match="differ only in case"):
        Graph([Variable("A", "binary"), Variable("A", "binary")])


def test_cycle_is_printed_along_its_edges():
    with pytest.raises(GraphError) as raised:
        Graph.load("cxr7").add_edge("Consolidation", "Pneumonia")
    assert re.search(r"'(\w+)' -> '(\w+)' -> '\1'", str(raised.value))


def test_same_rules_apply_without_a_file():
    with pytest.raises(GraphError, match=r"^variable 'A': field 'colour' is not known"):
        Variable("A", "binary", colour="red")
    with pytest.raises(GraphError, match=r"^variable 3: name 3: a name is text"):
        Variable(3, "binary")
    with pytest.raises(GraphError, match=r"type \['binary'\] is not known"):
        Variable("A", ["binary"])
    with pytest.raises(GraphError, match="lr inf of flow must be a positive number"):
        MechanismSpec("flow", {"lr": float("inf")})
    with pytest.raises(GraphError, match="epochs True"):
        MechanismSpec("flow", {"epochs": True})
