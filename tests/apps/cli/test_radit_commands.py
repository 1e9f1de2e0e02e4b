"""`causalcxr radit train`: what it writes, what it refuses, and the scripts that call it."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.apps.training import radit_watch, training_truth
from causalcxr.apps.training.radit_config import RunConfig, overridden, read_config
from causalcxr.apps.training.radit_data import load_data
from causalcxr.apps.training.radit_watch import Board, RunBar
from causalcxr.cohort import Cohort
from causalcxr.common.errors import ModelError
from causalcxr.graph import Graph
from causalcxr.images.resampling import Resampling
from causalcxr.radit.codec import Pixels
from causalcxr.radit.latents import cache_latents
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiTConfig
from causalcxr.radit.vae import RadVAEConfig
from causalcxr.radit.vae_weights import rad_vae, save_codec
from causalcxr.radit.weights import adopt_weights
from causalcxr.sources.store.writing import write

ROOT = Path(__file__).parents[3]
SCRIPTS = ROOT / "benchmarks" / "gpu"
GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
TEXT = """\
out: weights.safetensors
cohort: phantom:n=16,seed=1
resolution: 32
network: {width: 32, depth: 1, heads: 2}
device: cpu
training: {steps: 3, batch: 8, precision: fp32}
"""


@pytest.fixture(autouse=True)
def two_solver_steps(monkeypatch):
    """Sheets of samples in a few seconds."""
    monkeypatch.setattr(radit_watch, "_STEPS", 2)


def command(out, *changes):
    file = out.parent / "run.yaml"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(TEXT)
    return guarded(app, ["radit", "train", str(file), f"out={out}", *changes], name="causalcxr")


def card_of(out):
    return json.loads(out.with_suffix(".json").read_text())


def test_train_writes_weights_card_and_samples(tmp_path, capsys):
    out = tmp_path / "new" / "w.safetensors"
    assert command(out, "validation=.25", "samples=2", "training.log=1") == 0
    assert capsys.readouterr().out.strip() == str(out)
    card = card_of(out)
    net = adopt_weights(out, RadiTConfig(**card["network"]), PARENTS)
    assert card["parameters"] == sum(p.numel() for p in net.parameters())
    assert card["steps_done"] == 3
    learned = card["data"]["records"]
    assert card["data"] == {"source": "phantom", "records": learned, "n": 16, "seed": 1}
    assert card["held_out_images"] == 16 - learned
    assert 0.5 < card["held_out_loss"] < 3
    assert card["network"]["resolution"] == 32
    assert card["training"]["steps"] == 3
    assert card["command"].startswith("causalcxr")
    fields = {"weights", "sha256", "date", "commit", "graph", "graph_hash", "seed", "device"}
    assert fields | {"use"} <= set(card)
    work = out.with_suffix(".training")
    for sheet in (out.with_suffix(".png"), work / "samples-0000002.png"):
        with Image.open(sheet) as picture:
            assert min(picture.size) > 300
    rows = [json.loads(line) for line in (work / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if "loss" in row] == [1, 2, 3]
    assert [row["step"] for row in rows if "held_out" in row] == [2]


@pytest.mark.slow
def test_a_command_that_ran_out_of_time_is_resumed_with_the_same_bytes(tmp_path):
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert command(one, "minutes=0") == 0
    assert card_of(one)["steps_done"] == 0
    assert command(one) == command(two) == 0
    assert card_of(one)["steps_done"] == 3
    assert one.read_bytes() == two.read_bytes()


@pytest.mark.slow
def test_cached_latents_train_the_same_weights(tmp_path):
    codec = rad_vae(RadVAEConfig.from_name("tiny", latent=2), seed=0)
    cohort = Cohort.load("phantom", n=16, seed=1, size=32)
    codec.normalise([torch.from_numpy(cohort.images[:]) * 2 - 1])
    save_codec(tmp_path / "codec.safetensors", codec)
    cache_latents(codec, cohort, tmp_path / "latents", dtype="float32")
    changes = [f"codec={tmp_path / 'codec.safetensors'}", "network.patch=1", "validation=.25"]
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert command(one, *changes) == 0
    assert command(two, *changes, f"latents={tmp_path / 'latents'}") == 0
    card = card_of(one)
    assert card["network"]["channels"] == 2
    assert card["network"]["resolution"] == 32 // codec.factor
    assert np.isclose(card["loss_of_this_run"], card_of(two)["loss_of_this_run"]).all()
    with Image.open(one.with_suffix(".png")) as sheet:
        assert min(sheet.size) > 300


def test_larger_images_are_shrunk_to_the_resolution(tmp_path):
    cohort = Cohort.load("phantom", n=8, seed=1, size=64)
    small = Resampling((64, 64), (32, 32)).shrink(cohort.images[:][:, 0])
    folders = (write(cohort, tmp_path / "store"), cohort.save(tmp_path / "saved"))
    for spec in (*map(str, folders), "phantom:n=8,seed=1,size=64"):
        config = RunConfig(out=str(tmp_path / "w"), cohort=spec, resolution=32)
        data = load_data(config, GRAPH, Pixels(), "cpu")
        pixels = data.images(torch.arange(8))[:, 0]
        np.testing.assert_allclose(pixels, 2 * small - 1, atol=1e-3)


@pytest.mark.slow
def test_a_store_trains_the_same_weights_as_its_cohort(tmp_path):
    cohort = Cohort.load("phantom", n=16, seed=1, size=32)
    store = write(cohort, tmp_path / "store")
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert command(one, f"cohort={store}") == command(two) == 0
    assert card_of(one)["loss_of_this_run"] == pytest.approx(
        card_of(two)["loss_of_this_run"], abs=1e-4
    )
    assert one.with_suffix(".training").joinpath("checkpoint.safetensors").exists()


@pytest.mark.slow
def test_the_error_of_twins_is_logged_shown_and_drawn(tmp_path, monkeypatch):
    monkeypatch.setattr(training_truth, "_POOL", 60)
    monkeypatch.setattr(training_truth, "_EACH", 1)
    out = tmp_path / "w.safetensors"
    assert command(out, "truth=2", "samples=3", "validation=.25", "training.log=1") == 0
    log = out.with_suffix(".training") / "train.jsonl"
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows if "truth" in row] == [2]
    assert [row["step"] for row in rows if "held_out" in row] == [3]
    assert card_of(out)["error_of_twins_over_a_copy"]["truth"] > 0
    with Image.open(tmp_path / "w-curve.png") as picture:
        assert picture.size[0] > 1.5 * picture.size[1]


@pytest.mark.slow
def test_several_cohorts_share_every_batch(tmp_path):
    real = Cohort.load("phantom", n=40, seed=5, size=64)
    columns = real.columns(GRAPH)
    columns["Race"][:] = np.nan  # a variable that this source does not have
    store = write(real.with_columns(GRAPH, columns), tmp_path / "store")
    mixed = (
        "cohort=[{from: 'phantom:n=30,seed=1,randomised=1', share: .75},"
        f" {{from: '{store}', share: .25}}]"
    )
    out, again = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    more = ["validation=.2", "samples=2", "training.log=1"]
    assert command(out, mixed, *more) == 0
    card = card_of(out)
    assert [each["in_a_batch"] for each in card["data"]["sources"]] == [6, 2]
    assert card["data"]["source"] == "enriched phantom + phantom"
    parts = [card["held_out_loss_1"], card["held_out_loss_2"]]
    assert card["held_out_loss"] == pytest.approx(np.average(parts, weights=[3, 1]))
    # A run that stops and resumes has the same weights, and renders no image again.
    assert command(again, mixed, *more, "minutes=0") == 0
    assert command(again, mixed, *more) == 0
    assert out.read_bytes() == again.read_bytes()
    kept = list((tmp_path / "b.training" / "images").glob("*.pixels"))
    assert sorted(file.stat().st_size for file in kept) == [30 * 32**2, 2 * 40 * 32**2]


def test_images_prepared_before_training_give_the_same_weights(tmp_path):
    one, two = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert command(one, "workers=1") == command(two) == 0
    assert one.read_bytes() == two.read_bytes()
    checks = [
        np.fromfile(next(tmp_path.glob(f"{k}.training/images/*.checks")), "u4") for k in "ab"
    ]
    assert checks[0].all()
    assert len(checks[0]) == 16


def test_the_bar_shows_loss_speed_and_time_left(capsys, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    with RunBar(8, show=False) as bar:
        speeds, words = [], []
        for now[0], k in ((100.0, 500), (170.0, 570), (230.0, 690)):
            speeds.append(bar.step(k, 1000, 0.5))
            words.append(bar.words)
    assert speeds == [0.0, 8.0, 16.0]
    assert words == [
        "RadiT: 500 of 1,000 steps (50%), loss 0.5000",
        "RadiT: 570 of 1,000 steps (57%), 7:10 left, loss 0.5000, 8 images/s",
        "RadiT: 690 of 1,000 steps (69%), 3:32 left, loss 0.5000, 16 images/s",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (["size=huge"], "no size 'huge'"),
        (["network={patch: 5}"], "not a multiple of the patch"),
        (["network={widht: 5}"], "network: no field 'widht'; did you mean 'width'?"),
        (["network={patch: wide}"], "network {'patch': 'wide'"),
        (["device=gpu"], "device 'gpu' is unavailable here"),
        (["weights=none"], "no such file and not bundled"),
        (["codec=none"], "none: no such file"),
        (["latents=none"], "latents need the codec"),
        (["cohort=phantom:n=4,colour=3"], "does not take all of size, n, colour"),
        (
            ["cohort=phantom:n=4,size=32", "resolution=64"],
            "32 x 32 pixels, smaller than the model",
        ),
        (
            ["cohort=[{from: 'phantom:n=20', share: .5}]"],
            "the shares sum to 0.5; they must sum to 1",
        ),
        (
            ["cohort=[{from: phantom, share: 2}]"],
            "cohort.0.share: 2 (from the command line); it should be less",
        ),
        (
            ["cohort=[{form: phantom, share: 1}]"],
            "'cohort.0.form' is not known (from the command line); did you mean 'from'",
        ),
        (["cohort=[{from: 'phantom:n=2', share: .5}, {from: phantom, share: .5}]"], "takes 4"),
        (["resolution=[32, 40]", "network.patch=8"], "its images are square"),
        (["graph=nothing"], "nothing"),
    ],
)
def test_an_invalid_run_gives_one_line_and_no_files(tmp_path, capsys, changes, words):
    out = tmp_path / "w.safetensors"
    assert command(out, *changes) == 2
    said = capsys.readouterr().err
    assert words in said
    assert said.count("\n") == 1
    assert not out.exists()


# The file


@pytest.mark.parametrize(
    ("text", "changes", "words"),
    [
        ("", [], "run.yaml: the file is empty; it needs out and cohort"),
        ("- a", [], "run.yaml:1: this is a map with out and cohort"),
        ("out: a\n", [], "run.yaml:1: 'cohort' is missing; add cohort: ..."),
        (
            "out: a\ncohrt: p\n",
            [],
            "run.yaml:2: field 'cohrt' is not known; did you mean 'cohort'?",
        ),
        (
            "out: a\ncohort: p\ntraining:\n  steps: 3\n  lr: x\n",
            [],
            "run.yaml:5: training.lr: 'x'; it should be a valid number",
        ),
        (
            "out: a\ncohort: p\ntraining:\n  stepz: 3\n",
            [],
            "run.yaml:4: field 'training.stepz' is not known; did you mean 'steps'?",
        ),
        (
            "out: a\ncohort: p\ntraining: {batch: 0}\n",
            [],
            "run.yaml:3: training: batch is 0; expected at least 1",
        ),
        (
            "out: a\ncohort: p\nresolution: [64, 5]\n",
            [],
            "run.yaml:3: resolution.1: 5; it should be greater than or equal to 8",
        ),
        ("out: a\ncohort: p\n", ["training.lr=x"], "training.lr: 'x' (from the command line); "),
        (
            "out: a\ncohort: p\n",
            ["training.optimiser=muonn"],
            "optimiser is 'muonn'; expected muon or adamw; did you mean 'muon'?",
        ),
        ("out: a\ncohort: p\n", ["steps"], "'steps' is no KEY=VALUE"),
        ("out: a\ncohort: p\n", ["training=[3"], "not valid YAML"),
        ("out: a\nout: b\n", [], "run.yaml:1: duplicate key 'out'"),
    ],
)
def test_an_invalid_file_gives_line_value_rule_and_remedy(tmp_path, text, changes, words):
    file = tmp_path / "run.yaml"
    file.write_text(text)
    with pytest.raises(ModelError) as caught:
        read_config(file, RunConfig, changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_changes_replace_values_of_the_file(tmp_path):
    file = tmp_path / "run.yaml"
    file.write_text(TEXT + "tensorboard: true\n")
    changes = ["cohort=phantom:n=3,seed=2", "training.lr=1e-3", "weights=", "network.depth=2"]
    config = read_config(file, RunConfig, changes)
    assert (config.cohort, config.weights, config.tensorboard) == ("phantom:n=3,seed=2", "", True)
    assert config.training == TrainConfig(steps=3, batch=8, lr=1e-3, precision="fp32")
    assert config.network == {"width": 32, "depth": 2, "heads": 2}
    assert overridden({"a": 1}, []) == {"a": 1}


def test_the_example_in_the_docs_is_valid(tmp_path):
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    (tmp_path / "run.yaml").write_text(page.split("```yaml\n")[1].split("```")[0])
    config = read_config(tmp_path / "run.yaml", RunConfig)
    assert set(config.model_fields_set) == set(RunConfig.model_fields)
    told = page.split("```yaml\n")[1].split("```")[0]
    assert all(f"  {name}: " in told for name in TrainConfig.__dataclass_fields__)


def test_missing_tensorboard_gives_one_line(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    board = Board(tmp_path / "board")
    board.add(1, {"loss": 1.0})
    board.close()
    said = capsys.readouterr().err
    assert "tensorboard is not installed" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "board").exists()


# The queue


def run_script(name, out, **more):
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    words = {"TINY": "1", "OUT": str(out), "DEVICE": "cpu", "OMP_NUM_THREADS": "1", "PATH": path}
    done = subprocess.run(
        [str(SCRIPTS / name)],
        cwd=out,
        env=os.environ | words | more,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("side", [64, 128])
def test_the_tiny_script_of_phantoms_writes_weights(tmp_path, side):
    out = tmp_path / f"phantom-{side}.safetensors"
    assert run_script(f"phantom{side}.sh", tmp_path) == str(out)
    assert card_of(out)["steps_done"] == 2
    assert card_of(out)["network"]["resolution"] == side
    assert out.with_suffix(".png").exists()


@pytest.mark.slow
def test_the_tiny_script_of_nih_writes_weights(tmp_path, data):
    out = tmp_path / "nih-128.safetensors"
    assert run_script("nih128.sh", tmp_path, NIH=str(data / "nih"), START="") == str(out)
    assert card_of(out)["steps_done"] == 2
    assert card_of(out)["data"]["source"] == "nih + enriched phantom"


@pytest.mark.parametrize("name", ["phantom64", "phantom128", "nih128"])
def test_configurations_of_the_queue_are_valid(name):
    config = read_config(SCRIPTS / f"{name}.yaml", RunConfig)
    assert config.training.precision == "auto"
    assert config.size == "mini"
    assert config.minutes <= 9
