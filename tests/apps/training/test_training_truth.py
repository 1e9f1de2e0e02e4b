"""The truth during training, and the curve beside the card."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from causalcxr.apps.training import training_truth
from causalcxr.apps.training.training_curve import draw_curve, read_log
from causalcxr.apps.training.training_truth import truth_check
from causalcxr.common.errors import CohortError
from causalcxr.graph import Graph
from causalcxr.radit.codec import Pixels
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.sources.phantom import load

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]


@pytest.fixture(scope="module")
def check():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training_truth, "_POOL", 200)
        patch.setattr(training_truth, "_EACH", 2)
        source = SimpleNamespace(phantoms=load(n=2, size=32).images)
        yield truth_check([SimpleNamespace(phantoms=None), source], GRAPH, (32, 32))


def test_the_strongest_effects_are_checked(check):
    names = [each.variable for each in check.twins]
    assert len(names) == 8
    assert "Sex" in names[:2]
    assert "No Finding" not in names  # it is derived from the others
    changes = [each.change for each in check.twins]
    assert changes == sorted(changes, reverse=True)
    for each in check.twins:
        twin, factual = each.twin[each.variable], each.factual[each.variable]
        if each.variable == "Age":
            assert len(set((twin - factual).tolist())) == 1
        else:
            assert torch.equal(twin, 1 - factual)


def test_twins_of_a_network_without_effects_are_no_better_than_a_copy(check):
    net = RadiT(RadiTConfig(resolution=32, patch=8, width=32, depth=1, heads=2), PARENTS).eval()
    errors = check.errors(net.requires_grad_(False), Pixels())
    assert errors["truth"] == pytest.approx(1, abs=1e-6)
    assert {f"truth/{each.variable}" for each in check.twins} | {"truth"} == set(errors)


def test_truth_without_phantoms_is_refused():
    with pytest.raises(CohortError, match="truth needs phantoms"):
        truth_check([SimpleNamespace(phantoms=None)], GRAPH, (32, 32))


def test_the_curve_has_a_panel_for_each_kind_of_number(tmp_path):
    rows = [{"step": k, "loss": 1 / k} for k in range(1, 4)]
    path = tmp_path / "curve.png"
    draw_curve(rows, path)
    narrow = path.stat().st_size
    draw_curve([*rows, {"step": 3, "truth": 0.7, "held_out": 0.4}], path)
    assert path.stat().st_size > narrow > 1000
    path.unlink()
    draw_curve([{"step": 0, "precision": "fp32"}], path)
    assert not path.exists()


def test_a_line_that_a_kill_has_cut_off_is_left_out(tmp_path):
    log = tmp_path / "train.jsonl"
    assert read_log(log) == []
    log.write_text(json.dumps({"step": 1, "loss": 0.5}) + '\n{"step": 2, "lo')
    assert read_log(log) == [{"step": 1, "loss": 0.5}]
    assert np.isfinite(read_log(log)[0]["loss"])
