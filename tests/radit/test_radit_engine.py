"""The training engine: parts of a batch, memory, precision, reading ahead, optimisers, the log."""

import json
import multiprocessing
import os
import signal
import time
from dataclasses import replace

import pytest
import torch

from causalcxr.common.errors import MechanismError, ModelError
from causalcxr.common.tensors import load_tensors
from causalcxr.graph import Graph
from causalcxr.radit import train_run
from causalcxr.radit.batches import BatchOrder, MixedOrder, ahead
from causalcxr.radit.checkpoint import exclusive_folder
from causalcxr.radit.muon import Muon, orthogonal
from causalcxr.radit.optimisers import optimisers, rate, set_rate
from causalcxr.radit.parallel import Processes
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT, RadiTConfig

GRAPH = Graph.load("mini")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SHAPE = RadiTConfig(resolution=16, patch=4, width=32, depth=2, heads=2)
SHORT = TrainConfig(
    steps=12, batch=8, lr=1e-3, warmup=2, average=0.5, save_every=-1.0, log=4, precision="fp32"
)
IMAGES = torch.rand(32, 1, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1
COLUMNS = {
    v.name: torch.randint(0, 2, (32,), generator=torch.Generator().manual_seed(k)).double()
    for k, v in enumerate(PARENTS)
}


def fresh():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        return RadiT(SHAPE, PARENTS)


def trained(config=SHORT, images=IMAGES.__getitem__, **more):
    net = fresh()
    history = train(net, images, COLUMNS, config, seed=2, **more)
    return net, history


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def distance(a, b):
    return max((v - b.state_dict()[k]).abs().max().item() for k, v in a.state_dict().items())


# Kill -9


LONG = replace(SHORT, steps=20)


def train_in(folder):
    """Train some steps, and then wait for the end."""
    torch.set_num_threads(1)
    calls = []

    def slowly(rows):
        calls.append(rows)
        time.sleep(0.02 if len(calls) < 8 else 60)
        return IMAGES[rows]

    trained(LONG, slowly, folder=folder)


def killed(folder, step):
    """Train in a process of its own, and end it once a step is on the disk: whatever it does."""
    run = multiprocessing.get_context("fork").Process(target=train_in, args=(folder,))
    run.start()
    end = time.monotonic() + 60
    while not (step_of(folder) or 0) >= step:
        assert time.monotonic() < end
        time.sleep(0.02)
    os.kill(run.pid, signal.SIGKILL)
    run.join()
    assert run.exitcode == -signal.SIGKILL
    return step_of(folder)


def step_of(folder):
    path = folder / "checkpoint.safetensors"
    return int(load_tensors(path)[1]["step"]) if path.exists() else None


def test_killed_run_ends_like_an_uninterrupted_one(tmp_path):
    whole, _ = trained(LONG)
    first = killed(tmp_path, 3)
    second = killed(tmp_path, first + 3)
    assert 3 <= first < first + 3 <= second < 20
    resumed, _ = trained(LONG, folder=tmp_path)
    assert same(resumed, whole)
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows] == list(range(4, 21, 4))


# One writer


def hold(folder, ready, end):
    with exclusive_folder(folder):
        ready.set()
        end.wait(60)


def test_folder_of_another_process_is_refused(tmp_path):
    context = multiprocessing.get_context("fork")
    ready, end = context.Event(), context.Event()
    other = context.Process(target=hold, args=(tmp_path, ready, end))
    other.start()
    assert ready.wait(60)
    with pytest.raises(ModelError, match="another process is training here at this moment"):
        trained(folder=tmp_path)
    assert list(tmp_path.iterdir()) == [tmp_path / ".lock"]  # which the other process holds
    end.set()
    other.join()
    trained(replace(SHORT, steps=1), folder=tmp_path)
    assert {file.name for file in tmp_path.iterdir()} == {"checkpoint.safetensors", "train.jsonl"}


# Parts of a batch, memory


@pytest.mark.parametrize("optimiser", ["muon", "adamw"])
@pytest.mark.parametrize("micro", [3, 4, 8, 100])
def test_micro_batches_add_up_to_the_batch(micro, optimiser):
    config = replace(SHORT, optimiser=optimiser)
    whole, losses = trained(config)
    parts, theirs = trained(replace(config, micro=micro))
    assert theirs == pytest.approx(losses, abs=1e-6)
    assert distance(whole, parts) < 2e-6
    assert distance(whole, fresh()) > 5e-3


def test_recomputed_activations_change_nothing():
    assert same(trained()[0], trained(replace(SHORT, recompute=True))[0])


def out_of_memory(monkeypatch, most):
    true, seen = train_run.velocity_loss, []

    def loss(net, images, *args, **more):
        seen.append(len(images))
        if len(images) > most:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return true(net, images, *args, **more)

    monkeypatch.setattr(train_run, "velocity_loss", loss)
    return seen


def test_out_of_memory_halves_the_images_at_a_time(monkeypatch, capsys, tmp_path):
    whole, _ = trained()
    seen = out_of_memory(monkeypatch, most=2)
    net, _ = trained(folder=tmp_path)
    assert seen[:7] == [8, 4, 2, 2, 2, 2, 2]
    assert distance(net, whole) < 2e-6
    said = capsys.readouterr().err.splitlines()
    words = "images at a time, accumulated to the same batch of 8"
    assert said == [f"out of memory at step 0: from now on {n} {words}" for n in (4, 2)]
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["micro"] == "2"


def test_out_of_memory_with_one_image_names_the_remedies(monkeypatch):
    out_of_memory(monkeypatch, most=0)
    with pytest.raises(MechanismError, match=r"out of memory with one image .* lower micro"):
        trained()


# Precision


@pytest.mark.parametrize(("precision", "far"), [("bf16", 0.02), ("pure-bf16", 0.1)])
def test_bf16_run_is_near_fp32_and_returns_fp32(precision, far):
    exact, losses = trained(replace(SHORT, optimiser="adamw"))
    net, theirs = trained(replace(SHORT, optimiser="adamw", precision=precision))
    assert {p.dtype for p in net.state_dict().values()} == {torch.float32}
    assert theirs == pytest.approx(losses, rel=0.02)
    assert 0 < distance(exact, net) < far


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_blocks_train_the_same():
    plain, _ = trained()
    assert distance(trained(replace(SHORT, compile=True))[0], plain) < 1e-5


def test_noise_of_the_device_is_part_of_the_identity():
    assert same(trained()[0], trained(replace(SHORT, noise="device"))[0])


# BatchOrder and reading ahead


def test_order_gives_each_record_once_per_epoch():
    order = BatchOrder(10, 4, seed=3)
    epochs = [torch.cat([order.rows(2 * e), order.rows(2 * e + 1)]).tolist() for e in range(40)]
    assert all(len(set(rows)) == 8 for rows in epochs)
    assert len({tuple(rows) for rows in epochs}) == 40
    assert set().union(*epochs) == set(range(10))
    assert torch.equal(BatchOrder(10, 4, seed=3).rows(55), order.rows(55))
    assert not torch.equal(BatchOrder(10, 4, seed=4).rows(55), order.rows(55))


def test_mixed_batches_keep_their_shares_and_each_source_its_epochs():
    order = MixedOrder([(9, 3), (4, 2)], seed=3)
    steps = [order.rows(step) for step in range(6)]
    assert order.batch == 5
    assert [[(row >= 9).item() for row in rows] for rows in steps] == [
        [False] * 3 + [True] * 2
    ] * 6
    assert sorted(torch.cat([rows[:3] for rows in steps[:3]]).tolist()) == list(range(9))
    assert sorted(torch.cat([rows[3:] for rows in steps[2:4]]).tolist()) == [9, 10, 11, 12]
    assert torch.equal(MixedOrder([(9, 3), (4, 2)], seed=3).rows(5), steps[5])
    # Two sources of equal length are shuffled in two ways.
    twice = MixedOrder([(30, 15), (30, 15)], seed=0).rows(0)
    assert not torch.equal(twice[:15], twice[15:] - 30)


def test_run_of_several_sources_resumes_to_the_same_end(tmp_path):
    parts = [(20, 6), (12, 2)]
    whole, _ = trained(parts=parts)
    assert not same(whole, trained()[0])
    trained(parts=parts, folder=tmp_path, budget=-1.0)
    with pytest.raises(ModelError, match="is of another run"):
        trained(parts=[(20, 5), (12, 3)], folder=tmp_path)
    assert same(trained(parts=parts, folder=tmp_path)[0], whole)


def test_reading_ahead_trains_the_same():
    assert same(trained()[0], trained(replace(SHORT, ahead=3))[0])


def test_error_of_reading_ahead_is_raised_at_its_step():
    def images(rows):
        if 4 in rows:
            raise OSError("disk")
        return rows

    batches = ahead(iter(torch.arange(20).split(2)), images, 2)
    assert [rows.tolist() for rows, _ in (next(batches), next(batches))] == [[0, 1], [2, 3]]
    with pytest.raises(OSError, match="disk"):
        next(batches)


def test_processes_divide_a_batch_evenly():
    assert [Processes(k, 4).rows(8) for k in range(4)] == [
        slice(2 * k, 2 * k + 2) for k in range(4)
    ]
    with pytest.raises(ModelError, match=r"batch of 6 cannot be divided between 4 processes"):
        Processes(1, 4).rows(6)


# Optimisers


def test_muon_takes_orthogonal_steps():
    generator = torch.Generator().manual_seed(0)
    for shape in ((3, 40, 16), (2, 16, 40)):
        x = torch.randn(shape, generator=generator, dtype=torch.float64)
        u, _, v = torch.linalg.svd(x, full_matrices=False)
        y = orthogonal(x)
        values = torch.linalg.svdvals(y)
        assert 0.3 < values.min() < values.max() < 1.3
        cosine = (y * (u @ v)).sum((1, 2)) / (y.norm(dim=(1, 2)) * (u @ v).norm(dim=(1, 2)))
        assert cosine.min() > 0.95


def test_muon_agrees_with_torch_within_bf16():
    generator = torch.Generator().manual_seed(0)
    ours = torch.randn(48, 16, generator=generator).requires_grad_()
    start = ours.detach().clone()
    theirs = start.clone().requires_grad_()
    a = Muon([ours], lr=0.1, weight_decay=0.01)
    b = torch.optim.Muon([theirs], lr=0.1, weight_decay=0.01)
    for _ in range(4):
        gradient = torch.randn(48, 16, generator=generator)
        ours.grad, theirs.grad = gradient.clone(), gradient.clone()
        a.step()
        b.step()
    assert (ours - theirs).abs().max() < 0.02 * (ours - start).abs().max()


def test_every_weight_has_one_optimiser_and_matrices_decay():
    net = fresh()
    for name in ("muon", "adamw"):
        chosen = optimisers(net, replace(SHORT, optimiser=name))
        groups = [group for each in chosen for group in each.param_groups]
        given = [id(p) for group in groups for p in group["params"]]
        assert sorted(given) == sorted(id(p) for p in net.parameters())
        for group in groups:
            in_blocks = {id(p) for p in net.blocks.parameters() if min(p.shape) > 6}
            assert (group["weight_decay"] > 0) == (id(group["params"][0]) in in_blocks)
        set_rate(chosen, 3, SHORT)
        shares = {group["lr"] / SHORT.lr for group in groups}
        assert shares == ({1.0, 10.0} if name == "muon" else {1.0})


def test_learning_rate_rises_stays_and_falls():
    config = TrainConfig(steps=100, warmup=10, decay=0.5)
    rates = [rate(step, config) for step in range(100)]
    assert rates[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert set(rates[10:51]) == {1.0}
    assert rates[50:] == pytest.approx([(100 - k) / 50 for k in range(50, 100)])


# What is told


def test_watch_sees_the_average_and_is_logged(tmp_path):
    seen = []

    def watch(step, net):
        seen.append((step, {k: v.clone() for k, v in net.state_dict().items()}, net.training))
        return {"seen": float(len(seen))}

    net, _ = trained(folder=tmp_path, watch=watch, watch_every=5)
    short, _ = trained()
    assert same(net, short)  # to be watched changes nothing
    assert [(step, training) for step, _, training in seen] == [(5, False), (10, False)]
    # Five steps with a constant average weight: the average is not the weights themselves.
    stopped, _ = trained(replace(SHORT, steps=5, decay=0.0))
    assert all(torch.equal(v, seen[0][1][k]) for k, v in stopped.state_dict().items())
    rows = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [(r["step"], r["seen"]) for r in rows if "seen" in r] == [(5, 1.0), (10, 2.0)]


def test_log_drops_later_steps_and_torn_lines_on_resume(
    tmp_path,
):
    trained(replace(SHORT, log=1), folder=tmp_path, budget=-1.0)
    log = tmp_path / "train.jsonl"
    log.write_text('{"step": 0, "loss": 1}\n{"step": 7, "loss": 2}\n{"step": 8, "lo')
    trained(replace(SHORT, log=6), folder=tmp_path)
    rows = [json.loads(line) for line in log.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0, 6, 12]
    assert rows[-1]["images_per_second"] > 0
    assert rows[-1]["rate"] == pytest.approx(rate(11, SHORT))


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("steps", 0, "steps is 0; expected at least 1"),
        ("micro", -1, "micro is -1; expected at least 0"),
        ("lr", float("nan"), "lr is nan; expected more than 0"),
        ("hide", 1.5, "hide is 1.5; expected 0 to 1"),
        (
            "precision",
            "bf61",
            "precision is 'bf61'; expected auto or fp32 or bf16 or pure-bf16; did you",
        ),
    ],
)
def test_invalid_setting_names_value_and_rule(field, value, words):
    with pytest.raises(MechanismError) as caught:
        replace(SHORT, **{field: value})
    assert words in str(caught.value)


def test_settings_of_the_computation_may_change_on_resume(tmp_path):
    trained(folder=tmp_path, budget=-1.0)
    changed = replace(SHORT, micro=4, log=2, ahead=1, recompute=True, save_every=5.0)
    net, _ = trained(changed, folder=tmp_path)
    assert distance(net, trained()[0]) < 2e-6
    with pytest.raises(ModelError, match="is of another run"):
        trained(replace(SHORT, optimiser="adamw"), folder=tmp_path)
