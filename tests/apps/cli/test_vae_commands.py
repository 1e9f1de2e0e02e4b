"""`causalcxr radit vae` and `causalcxr radit encode`: what is written, what is refused."""

import json
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from benchmarks.gpu import radvae
from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.training import vae_job
from causalcxr.common.tensors import load_tensors
from causalcxr.radit.latents import Latents
from causalcxr.radit.vae_weights import load_codec

CONFIG = """\
out: OUT
cohort: phantom:n=14,seed=1,size=32
model: {kind: rad-vae, shape: tiny, latent: 3, widths: [8, 16], depth: 1}
training:
  steps: 6
  batch: 12
  log: 2
device: cpu
"""


def run(*words):
    return guarded(app, ["radit", *map(str, words)], name="causalcxr")


@pytest.fixture
def config(tmp_path):
    path = tmp_path / "vae.yaml"
    path.write_text(CONFIG.replace("OUT", str(tmp_path / "c.safetensors")))
    return path


def test_vae_and_encode_write_weights_card_sheet_and_latents(config, tmp_path, capsys):
    out = tmp_path / "c.safetensors"
    assert run("vae", config, "seed=3", "training.steps=4") == 0
    assert str(out) in capsys.readouterr().out
    codec, card = load_codec(out), json.loads(out.with_suffix(".json").read_text())
    assert (codec.channels, codec.factor) == (3, 4)
    assert (card["steps_done"], card["seed"], card["training"]["steps"]) == (4, 3, 4)
    assert card["data"]["images"] + card["held_out"]["images"] == 14
    assert 15 < card["held_out"]["psnr"] < 45
    assert len(card["held_out"]["latent_std"]) == 3
    assert card["command"].startswith("causalcxr")
    with Image.open(out.with_suffix(".png")) as sheet:
        assert min(sheet.size) > 300
    assert (tmp_path / "c.training" / "train.jsonl").exists()
    cohort = "phantom:n=9,seed=2,size=32"
    assert run("encode", out, cohort, "--out", tmp_path / "l", "--shard", "4") == 0
    assert "9" in capsys.readouterr().out
    latents = Latents(tmp_path / "l", codec)
    assert (len(latents), latents.shape) == (9, (3, 8, 8))


@pytest.mark.slow
def test_a_command_that_ran_out_of_time_is_resumed_with_the_same_bytes(
    config, tmp_path, monkeypatch
):
    monkeypatch.setattr(vae_job, "contact_sheet", lambda *words, **more: None)  # it takes a while
    one, two = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    assert run("vae", config, "minutes=0.000001") == 0
    assert json.loads(one.with_suffix(".json").read_text())["steps_done"] == 0
    assert run("vae", config) == run("vae", config, f"out={two}") == 0
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_a_killed_command_is_resumed_with_the_same_bytes(config, tmp_path):
    one, two = tmp_path / "c.safetensors", tmp_path / "d.safetensors"
    words = ["training.steps=24", "training.save_every=0"]
    command = [
        sys.executable,
        "-c",
        "from causalcxr.apps.cli.main import main; main()",
        "radit",
        "vae",
    ]
    checkpoint = tmp_path / "c.training" / "checkpoint.safetensors"
    with subprocess.Popen([*command, str(config), *words]) as process:
        while not checkpoint.exists() or int(load_tensors(checkpoint)[1]["step"]) < 5:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    assert not one.exists()
    assert run("vae", config, *words) == run("vae", config, *words, f"out={two}") == 0
    assert one.read_bytes() == two.read_bytes()
    rows = (tmp_path / "c.training" / "train.jsonl").read_text().splitlines()
    assert len(rows) >= 12


def test_features_by_name_give_a_perceptual_loss(config, tmp_path, monkeypatch):
    class Shades(torch.nn.Module):
        def maps(self, images):
            return [torch.cat([images, 1 - images], 1)]

    asked = []

    def load_features(name):
        asked.append(name)
        return Shades()

    fake = SimpleNamespace(load_features=load_features)
    monkeypatch.setitem(sys.modules, "causalcxr.radit.features", fake)
    assert run("vae", config, "perceptual={features: phantom}") == 0
    assert asked == ["phantom"]
    card = json.loads((tmp_path / "c.json").read_text())
    assert card["perceptual"] == {"features": "phantom"}
    assert 0 < card["losses"][0]["perceptual"] < 2


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("out:", "output:", r"vae.yaml:1: .*'output'.* not known.*'out'"),
        ("steps: 6", "step: 6", r"vae.yaml:5: .*'training.step'.* not known.*'steps'"),
        ("steps: 6", "steps: 0", "vae.yaml:[45]: .*steps"),
        ("steps: 6", "steps: many", "vae.yaml:5: .*steps"),
        ("rad-vae", "vqgan", "vae.yaml:3: .*vqgan"),
        ("latent: 3", "latent: 0", "vae.yaml:3: .*latent"),
        ("device: cpu", "device: gpu", "device 'gpu' is unavailable here"),
        ("size=32", "size=34", "sides that are multiples of 4"),
        ("n=14", "n=1", "there must be some of both"),
        ("shape: tiny", "shape: tinny", "did you mean 'tiny'"),
        ("device: cpu", "perceptual: {}", "vae.yaml:8: .*features or rad_dino"),
        ("device: cpu", "perceptual: {rad_dino: nowhere}", "nowhere: no config.json; use"),
        ("kind: rad-vae, shape: tiny, latent: 3, widths: [8, 16], depth: 1",
         "kind: flux2-vae, folder: nowhere", "nowhere: no config.json; use"),
    ],
)  # fmt: skip
def test_an_invalid_file_gives_one_line_and_no_files(config, tmp_path, capsys, old, new, words):
    config.write_text(config.read_text().replace(old, new, 1))
    assert run("vae", config) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert re.search(words, said)
    assert [p.name for p in tmp_path.iterdir()] == ["vae.yaml"]


def test_a_missing_codec_gives_one_line(tmp_path, capsys):
    assert run("encode", tmp_path / "none", "phantom:n=4,size=32", "--out", tmp_path / "l") == 2
    assert "no such file; train it with" in capsys.readouterr().err


def test_the_script_for_a_gpu_runs_at_a_tiny_size(tmp_path, monkeypatch):
    monkeypatch.setenv("OUT", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["radvae.py", "--tiny"])
    radvae.main()
    told = json.loads((tmp_path / "radvae.json").read_text())
    assert told["steps_done"] == 3
    assert told["at_32"]["images"] == told["at_64"]["images"] == 4
    assert told["trained_per_second"] > 0
    assert told["at_64"]["decoded_per_second"] > 0
    assert torch.isfinite(torch.tensor(told["at_64"]["psnr"]))
