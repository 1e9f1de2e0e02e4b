"""The runs for a graphics card work at a tiny size on a processor."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def run_tiny(script, folder):
    """Run a script of the queue at its tiny size, and return its results."""
    env = {**os.environ, "OUT": str(folder), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, str(ROOT / "benchmarks/gpu" / f"{script}.py"), "--tiny"]
    process = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads((folder / f"{script}.json").read_text())


@pytest.mark.slow
def test_utilisation_reports_rates_and_resumes(tmp_path):
    table = run_tiny("utilisation", tmp_path)
    assert len(table["rows"]) == 2
    for row in table["rows"]:
        share = row["flop_per_second"] / row["dense_flop_per_second"]
        assert row["utilisation"] == pytest.approx(share, abs=1e-3)
        assert 0 < share < 1.5
    assert run_tiny("utilisation", tmp_path)["rows"] == table["rows"]


@pytest.mark.slow
def test_throughput_null_twin_equals_the_image(tmp_path):
    (row,) = run_tiny("throughput", tmp_path)["rows"]
    assert row["null_largest_change"] == 0
    assert row["twins_per_second"] > 0


def test_flops_agree_with_torch():
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    sys.path.insert(0, str(ROOT / "benchmarks/gpu"))
    from utilisation import PARENTS, forward_flops

    from causalcxr.radit.transformer import Condition, RadiT, RadiTConfig

    for size in ("tiny", "S"):
        config = RadiTConfig.from_name(size, 32, channels=16)
        net = RadiT(config, PARENTS).to("meta")
        x = torch.zeros(2, 16, 32, 32, device="meta")
        t = torch.zeros(2, device="meta")
        condition = Condition(torch.zeros(2, 1 + len(PARENTS), config.width, device="meta"))
        with FlopCounterMode(display=False) as counter, torch.no_grad():
            net(x, t, condition)
        assert 2 * forward_flops(config) == pytest.approx(counter.get_total_flops(), rel=0.01)
