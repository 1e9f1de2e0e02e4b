"""`causalcxr radit calibrate`: weights with a calibration in their header."""

import json

import torch

from causalcxr.apps.cli.answer_screen import show_calibration
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.graph import Graph
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import save_radit, saved_calibration

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]


def run(words) -> int:
    return guarded(app, [str(word) for word in words], name="causalcxr")


def test_calibrate_writes_the_same_weights_with_a_calibration(tmp_path, capsys):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = RadiT(RadiTConfig(resolution=32, patch=8, width=32, depth=1, heads=2), PARENTS)
        torch.nn.init.normal_(net.unembed.weight, std=0.1)
    weights, out = tmp_path / "w.safetensors", tmp_path / "c.safetensors"
    save_radit(weights, net)
    words = ["radit", "calibrate", weights, "phantom:n=150,seed=1,size=32", "--out", out]
    assert run([*words, "--records", 4]) == 0
    assert "Weights of transport, calibrated without twins" in capsys.readouterr().out
    assert set(json.loads(saved_calibration(out))["variables"]) == {v.name for v in PARENTS}
    assert run(words) == 2
    assert "exists; choose another file, or add --overwrite" in capsys.readouterr().err


def test_table_of_weights_lists_variables_without_an_effect_below(capsys):
    row = {"slope": 0.5, "error": 0.1, "share": 0.4, "weight": 2.0, "threshold": 0.2}
    rows = [{"variable": "Sex", **row}, {"variable": "Race", **dict.fromkeys(row)}]
    show_calibration(rows, is_used=False)
    told = capsys.readouterr().out.splitlines()
    assert told[0].endswith("calibrated without twins (not used: guidance is a number)")
    assert told[2].split() == ["Sex", "0.5", "0.1", "0.4", "2", "0.2"]
    assert told[-1] == "no effect in the regression: Race"
