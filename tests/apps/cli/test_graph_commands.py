"""`causalcxr graph`: what it prints, where, and with which status."""

import subprocess
import sys
from pathlib import Path

import pytest

from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.graph import app
from causalcxr.graph import Graph


def test_check_prints_a_line_for_each_valid_graph(capsys):
    assert guarded(app, ["check", "cxr7", "mini"]) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first == f"cxr7: ok, 20 variables, 61 edges, hash {Graph.load('cxr7').hash[:16]}"
    assert second.startswith("mini: ok, 5 variables, 7 edges, hash ")
    assert err == ""


def test_an_invalid_graph_gives_one_line_and_status_2(capsys, tmp_path):
    file = tmp_path / "bad.yaml"
    file.write_text("variables:\n  A: {type: binary, parents: [B]}\n")
    assert guarded(app, ["check", str(file)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    remedy = "parent 'B' is not declared; declare it or remove it from parents"
    assert err == f"error: {file}:2: variable 'A': {remedy}\n"


@pytest.mark.parametrize(
    "args", [["check", "no.yaml"], ["show", "cxr8"], ["diff", "cxr7", "x.yaml"]]
)
def test_a_missing_graph_gives_status_2(capsys, args):
    assert guarded(app, args) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("args", [["nonsense"], ["check"], ["diff", "cxr7"], ["show", "--nope"]])
def test_an_invalid_command_line_gives_status_2(capsys, args):
    assert guarded(app, args) == 2


def test_show_lists_every_variable(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    assert guarded(app, ["show", "cxr7"]) == 0
    out = capsys.readouterr().out
    for name in Graph.load("cxr7").tabular:
        assert name in out
    assert "0 to 105 year" in out
    assert "derived rule=none_of" in out
    assert "all of the above" in out


def test_levels_that_look_like_markup_are_shown_literally(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    file = tmp_path / "markup.yaml"
    file.write_text('variables: {A: {type: binary, levels: ["[bold]", "[/red]"]}}')
    assert guarded(app, ["show", str(file)]) == 0
    assert "[bold] [/red]" in capsys.readouterr().out


def test_show_draws_the_graph_to_a_file(capsys, tmp_path):
    file = tmp_path / "graph.png"
    assert guarded(app, ["show", "mini", "--out", str(file)]) == 0
    assert file.read_bytes().startswith(b"\x89PNG")
    assert guarded(app, ["show", "mini", "--out", str(tmp_path / "graph.doc")]) == 2
    assert "a graph is drawn as .png, .svg, .pdf" in capsys.readouterr().err


def test_diff_lists_what_is_trained_again(capsys):
    assert guarded(app, ["diff", "cxr7", "cxr7-acquisition"]) == 0
    out = capsys.readouterr().out
    assert "+ Edema -> Pleural Effusion" in out
    assert "to retrain: Atelectasis, Edema, Pleural Effusion, View" in out
    assert guarded(app, ["diff", "cxr7", "cxr7"]) == 0
    assert capsys.readouterr().out == "the graphs are equal\n"


def test_graph_commands_do_not_import_torch():
    code = (
        "import sys; from causalcxr.apps.cli.graph import app;"
        "from causalcxr.apps.cli.command import guarded;"
        "status = guarded(app, ['check', 'cxr7']);"
        "sys.exit(status or 10 * ('torch' in sys.modules) or 11 * ('pandas' in sys.modules))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(Graph, "load", lambda path: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        guarded(app, ["check", "cxr7"])
