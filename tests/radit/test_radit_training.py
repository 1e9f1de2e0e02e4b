"""Training RadiT: it learns, resumes bit for bit, and refuses damaged files."""

import json
import pickle
from dataclasses import replace

import pytest
import torch

from causalcxr.cohort import Cohort
from causalcxr.common.errors import MechanismError, ModelError
from causalcxr.common.tensors import load_tensors, pack_tensors, save_tensors
from causalcxr.graph import Graph
from causalcxr.graph.variables import Variable
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.train import TrainConfig, train
from causalcxr.radit.transformer import RadiT, RadiTConfig
from causalcxr.radit.weights import (
    BUNDLED,
    adopt_weights,
    content_hash,
    resolve,
    save_radit,
)

GRAPH = Graph.load("cxr7")
PARENTS = [GRAPH[p] for p in GRAPH["Image"].parents]
SHAPE = RadiTConfig(resolution=32, patch=8, width=32, depth=2, heads=2)
SHORT = TrainConfig(
    steps=20, batch=8, warmup=5, save_every=-1.0, precision="fp32"
)  # a checkpoint every step


@pytest.fixture(scope="module")
def data():
    cohort = Cohort.load("phantom", n=128, seed=0, size=32)
    columns = cohort.columns(GRAPH)
    films = torch.from_numpy(cohort.images[:]) * 2 - 1
    return films, {v.name: torch.from_numpy(columns[v.name]) for v in PARENTS}


def fresh(seed=0, shape=SHAPE):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return RadiT(shape, PARENTS)


def killed(films, after):
    """Return images that can be read for some steps, until the run is killed."""
    calls = []

    def images(rows):
        calls.append(rows)
        if len(calls) > after:
            raise KeyboardInterrupt
        return films[rows]

    return images


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


@pytest.mark.parametrize(
    ("patch", "width", "steps", "batch", "share"),
    [(8, 64, 150, 8, 0.3), pytest.param(4, 48, 250, 16, 0.2, marks=pytest.mark.slow)],
    ids=["small", "large"],
)
def test_loss_falls(data, patch, width, steps, batch, share):
    films, columns = data
    heads = width // 16
    net = fresh(shape=RadiTConfig(resolution=32, patch=patch, width=width, depth=2, heads=heads))

    def loss():
        generator = torch.Generator().manual_seed(9)
        with torch.no_grad():
            return velocity_loss(net, films, columns_f, generator).item()

    columns_f = {k: v.float() for k, v in columns.items()}
    before = loss()
    config = TrainConfig(
        steps=steps, batch=batch, warmup=25, average=0.98, log=50, precision="fp32"
    )
    history = train(net, lambda rows: films[rows], columns, config)
    assert before == pytest.approx(1.4, abs=0.2)
    assert loss() < before * share
    assert len(history) == steps // 50
    assert history[2] < history[1] < history[0]
    assert not any(p.requires_grad for p in net.parameters())
    assert not net.training


def test_killed_run_resumes_to_the_same_end(data, tmp_path):
    films, columns = data
    whole, broken, again = fresh(), fresh(), fresh()
    train(whole, lambda rows: films[rows], columns, SHORT, seed=3)
    with pytest.raises(KeyboardInterrupt):
        train(broken, killed(films, 10), columns, SHORT, seed=3, folder=tmp_path)
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == "10"
    train(again, lambda rows: films[rows], columns, SHORT, seed=3, folder=tmp_path)
    assert same(whole, again)
    assert load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"] == "20"


def test_spent_budget_resumes_to_the_same_end(data, tmp_path, monkeypatch):
    films, columns = data
    whole, part, again = fresh(), fresh(), fresh()
    config = replace(SHORT, save_every=60.0)
    train(whole, lambda rows: films[rows], columns, config)
    with monkeypatch.context() as patch:
        clock = iter(range(1000))  # a second passes whenever somebody looks
        patch.setattr("causalcxr.radit.train.time.monotonic", lambda: next(clock))
        train(part, lambda rows: films[rows], columns, config, folder=tmp_path, budget=15)
    step = int(load_tensors(tmp_path / "checkpoint.safetensors")[1]["step"])
    assert 5 < step < 10
    train(again, lambda rows: films[rows], columns, config, folder=tmp_path)
    assert same(whole, again)


def test_finished_run_trains_nothing_again(data, tmp_path):
    films, columns = data
    one, two = fresh(), fresh()
    train(one, lambda rows: films[rows], columns, SHORT, folder=tmp_path)
    train(two, killed(films, 0), columns, SHORT, folder=tmp_path)
    assert same(one, two)


@pytest.mark.parametrize("change", ["steps", "seed", "weights", "rows"])
def test_checkpoint_of_another_run_is_refused(data, tmp_path, change):
    films, columns = data
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), killed(films, 2), columns, SHORT, folder=tmp_path)
    config = replace(SHORT, steps=30) if change == "steps" else SHORT
    net = fresh(seed=1) if change == "weights" else fresh()
    rows = {k: v[:200] for k, v in columns.items()} if change == "rows" else columns
    with pytest.raises(ModelError, match="is of another run"):
        train(net, killed(films, 0), rows, config, seed=change == "seed", folder=tmp_path)


def test_training_depends_on_the_seed_and_not_on_the_global_state(data):
    films, columns = data
    runs = []
    for seed, disturb in ((0, 1), (0, 2), (1, 1)):
        torch.manual_seed(disturb)
        before = torch.random.get_rng_state()
        runs.append(fresh())
        train(runs[-1], lambda rows: films[rows], columns, SHORT, seed=seed)
        assert torch.equal(before, torch.random.get_rng_state())
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_images_that_are_not_finite_keep_the_last_checkpoint(data, tmp_path):
    films, columns = data
    with pytest.raises(KeyboardInterrupt):
        train(fresh(), killed(films, 4), columns, SHORT, folder=tmp_path)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    with pytest.raises(MechanismError, match="not finite at step 5; lower lr or check the images"):
        train(fresh(), lambda rows: films[rows] * torch.nan, columns, SHORT, folder=tmp_path)
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before
    train(fresh(), lambda rows: films[rows], columns, SHORT, folder=tmp_path)


def test_images_that_are_not_finite_name_the_loss(data):
    films, columns = data
    with pytest.raises(MechanismError, match="the loss is nan at step 20"):
        train(fresh(), lambda rows: films[rows] * torch.nan, columns, SHORT)


def test_progress_and_log_receive_the_loss(data, tmp_path):
    films, columns = data
    progress_calls = []
    history = train(
        fresh(),
        lambda rows: films[rows],
        columns,
        replace(SHORT, steps=12, log=10, save_every=60.0),
        folder=tmp_path,
        progress=lambda *now: progress_calls.append(now),
    )
    assert [(step, of) for step, of, _ in progress_calls] == [(10, 12), (12, 12)]
    assert [loss for *_, loss in progress_calls] == history
    lines = [json.loads(line) for line in (tmp_path / "train.jsonl").read_text().splitlines()]
    assert [(line["step"], line["loss"]) for line in lines] == [
        (10, history[0]),
        (12, history[1]),
    ]


# Weights


def test_weights_return_bit_for_bit(tmp_path):
    net = fresh(1)
    save_radit(tmp_path / "w.safetensors", net, source="phantom")
    assert same(adopt_weights(tmp_path / "w.safetensors", SHAPE, PARENTS), net)


def test_same_tensors_give_the_same_bytes():
    words = {f"word {k}": "é" * k for k in range(12)}
    tensors = {"a": torch.arange(5), "b": torch.ones(3, 2)}
    files = {pack_tensors(tensors, dict(reversed(words.items()))) for _ in range(8)}
    assert files == {pack_tensors(tensors, words)}


def test_texts_and_tensors_of_many_types_return(tmp_path):
    tensors = {
        "half": torch.rand(3).half(),
        "empty": torch.zeros(0, 4),
        "turned": torch.rand(4, 5).T,
        "flag": torch.tensor([True, False]),
        "whole": torch.tensor(7),
    }
    save_tensors(tmp_path / "t.safetensors", tensors, {"name": "Zoë"})
    back, about = load_tensors(tmp_path / "t.safetensors")
    assert about == {"name": "Zoë"}
    assert set(back) == set(tensors)
    assert all(torch.equal(back[k], v) and back[k].dtype == v.dtype for k, v in tensors.items())


def test_pickle_is_refused_unopened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was opened",))

    path = tmp_path / "w.safetensors"
    path.write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(ModelError, match=r"not a safetensors file .* pickled weights are refused"):
        adopt_weights(path, SHAPE, PARENTS)
    torch.save({"weight": torch.zeros(3)}, path)
    with pytest.raises(ModelError, match="pickled weights are refused"):
        adopt_weights(path, SHAPE, PARENTS)


@pytest.mark.parametrize("cut", [0, 7, 500, -1])
def test_truncated_file_is_refused(tmp_path, cut):
    path = tmp_path / "w.safetensors"
    save_radit(path, fresh())
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(ModelError, match="not a safetensors file"):
        adopt_weights(path, SHAPE, PARENTS)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_tensor_that_is_not_finite_is_named(tmp_path, value):
    net, path = fresh(), tmp_path / "w.safetensors"
    with torch.no_grad():
        net.final.weight[3, 5] = value
    save_radit(path, net)
    with pytest.raises(ModelError, match=r"tensor 'final.weight' is not finite"):
        adopt_weights(path, SHAPE, PARENTS)


def test_weights_of_another_shape_name_both_shapes(tmp_path):
    path = tmp_path / "w.safetensors"
    save_radit(path, fresh())
    with pytest.raises(ModelError, match=r"resolution=32.*the graph asks for.*resolution=64"):
        adopt_weights(path, RadiTConfig.from_name("tiny", 64), PARENTS)


@pytest.mark.parametrize("fault", ["no header", "header", "missing", "shape", "conditioner"])
def test_inconsistent_file_is_refused(tmp_path, fault):
    path, net = tmp_path / "w.safetensors", fresh()
    save_radit(path, net)
    tensors, about = load_tensors(path)
    if fault == "no header":
        del about["config"]
    if fault == "header":
        about["config"] = '{"colour": 3}'
    if fault == "missing":
        del tensors["blocks.1.qkv.weight"]
    if fault == "shape":
        tensors["embed.weight"] = torch.zeros(2, 2)
    if fault == "conditioner":
        del tensors["conditioner.embeddings.0.nothing"], tensors["conditioner.embeddings.0.weight"]
    save_tensors(path, tensors, about | {"content": content_hash(tensors)})
    words = "does not hold the shape" if "header" in fault else "do not fit the header"
    with pytest.raises(ModelError, match=words):
        adopt_weights(path, SHAPE, PARENTS)


def test_unknown_bundled_name_lists_the_bundled_ones(tmp_path):
    with pytest.raises(
        ModelError, match=r"weights 'fantom' at 64 pixels: no such file.*bundled: "
    ):
        resolve("fantom", 64)
    save_radit(tmp_path / "w.safetensors", fresh())
    assert resolve(str(tmp_path / "w.safetensors"), 64) == tmp_path / "w.safetensors"


@pytest.mark.parametrize(
    "path", sorted(BUNDLED.glob("phantom-*.safetensors")), ids=lambda p: p.stem
)
def test_bundled_weights_fit_the_expert_graph(path):
    config = RadiTConfig(**json.loads(load_tensors(path)[1]["config"]))
    net = adopt_weights(path, config, PARENTS)
    assert f"-{config.resolution}" in path.stem
    assert net.unembed.weight.abs().max() > 0


def _two_variables():
    """Sex changes the left half of an image, and age its brightness; the view mirrors both."""
    n = 512
    draw = torch.Generator().manual_seed(0)
    sex, view = (torch.randint(0, 2, (n,), generator=draw).double() for _ in range(2))
    age = torch.rand(n, generator=draw, dtype=torch.float64) * 100
    image = torch.randn(n, 1, 16, 16, generator=draw) * 0.1
    left, right = image[..., :8], image[..., 8:]
    for half, mirrored in ((left, 0), (right, 1)):
        half += ((sex == 1) & (view == mirrored)).float().view(-1, 1, 1, 1) * 0.8
    image += (age / 100).float().view(-1, 1, 1, 1) * 0.4
    return image, {"Sex": sex, "View": view, "Age": age}


VARIABLES = [GRAPH["Sex"], GRAPH["View"], GRAPH["Age"]]
PLACES = {"resolution": 16, "patch": 4, "width": 32, "depth": 1, "heads": 2, "entry": "places"}


def test_mean_image_finds_effects_and_places():
    images, columns = _two_variables()
    mean = RadiT(RadiTConfig(**PLACES), VARIABLES).mean
    assert not mean.is_fitted
    mean.fit(lambda rows: images[rows], columns)
    assert mean.is_fitted
    assert mean.interacting in ("Sex", "View")
    women = {"Sex": torch.zeros(2), "View": torch.tensor([0.0, 1.0]), "Age": torch.full((2,), 50)}
    effect = mean(women | {"Sex": torch.ones(2)}) - mean(women)
    assert effect[0, 0, :, :8].mean() == pytest.approx(0.8, abs=0.05)
    assert effect[0, 0, :, 8:].abs().mean() < 0.02
    assert effect[1, 0, :, 8:].mean() == pytest.approx(0.8, abs=0.05)
    older = mean(women | {"Age": torch.full((2,), 75.0)}) - mean(women)
    assert older.mean() == pytest.approx(0.1, abs=0.02)
    # Missing values count as average, and the batch changes nothing.
    missing = mean({name: torch.full((1,), torch.nan) for name in columns})
    assert missing.mean() == pytest.approx(float(images.mean()), abs=0.02)
    assert torch.allclose(mean({k: v[:1] for k, v in women.items()})[0], mean(women)[0])


def test_mean_image_follows_a_bend():
    """A child's chest grows until 16 and then stays: powers of the age bend both ages alike."""
    age = torch.linspace(0, 100, 4000, dtype=torch.float64)
    images = (age.clamp(max=16) / 16).view(-1, 1, 1, 1).float() * torch.ones(1, 1, 16, 16)
    images += 0.1 * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    mean = RadiT(RadiTConfig(**PLACES), [GRAPH["Age"]]).mean
    mean.fit(lambda rows: images[rows], {"Age": age})
    grown = mean({"Age": torch.tensor([2.0, 12.0, 25.0, 45.0, 90.0])}).mean((1, 2, 3))
    assert grown.tolist() == pytest.approx([0.125, 0.75, 1, 1, 1], abs=0.06)


def test_gates_are_local_where_the_effect_is():
    images, columns = _two_variables()
    chosen = {"Sex": columns["Sex"], "Age": torch.rand(512, dtype=torch.float64)}
    front = columns["View"] == 0
    net = RadiT(RadiTConfig(**PLACES), [GRAPH["Sex"], GRAPH["Age"]])
    net.mean.fit(lambda rows: images[front][rows], {k: v[front] for k, v in chosen.items()})
    sex, age = net.mean.gates
    assert sex[:, :2].min() > 0.9
    assert sex[:, 2:].max() < 0.5
    assert age.mean() < 0.3
    # A change of sex reaches its places only; nothing changes where nothing was set.
    before = {"Sex": torch.tensor([0.0, 0.0, torch.nan]), "Age": torch.full((3,), 50.0)}
    after = before | {"Sex": torch.tensor([0.0, 1.0, torch.nan])}
    reach = net.mean.reach(before, after, (16, 16))
    assert reach.shape == (3, 1, 16, 16)
    assert not reach[[0, 2]].any()
    assert reach[1, 0, :, :6].min() > 0.9
    assert reach[1, 0, :, 10:].max() < 0.5


def test_places_adopt_levels_by_name(tmp_path):
    images, columns = _two_variables()
    net = RadiT(RadiTConfig(**PLACES), VARIABLES)
    settings = TrainConfig(steps=2, batch=8, precision="fp32")
    train(net, lambda rows: images[rows], columns, settings, folder=tmp_path / "run")
    save_radit(tmp_path / "net.safetensors", net)
    same = adopt_weights(tmp_path / "net.safetensors", net.config, VARIABLES)
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([0.2, 0.7])
    some = {k: v[:2].float() for k, v in columns.items()}
    assert torch.equal(same(x, t, columns=some), net(x, t, columns=some))
    # Levels in another order, a new variable, and one that is gone.
    swapped = Variable("Sex", "binary", levels=("M", "F"))
    others = [swapped, GRAPH["View"], GRAPH["Edema"]]
    other = adopt_weights(tmp_path / "net.safetensors", net.config, others)
    there = {"Sex": 1 - some["Sex"], "View": some["View"], "Edema": torch.zeros(2)}
    gone = some | {"Age": torch.full((2,), torch.nan)}
    assert torch.allclose(other.mean(there), net.mean(gone), atol=1e-6)
    assert other.mean.gates[2].eq(1).all()
    assert torch.equal(other.mean.gates[0], net.mean.gates[0])
    # Training fits the mean image again, to the variables that are there.
    new = {"Sex": 1 - columns["Sex"], "View": columns["View"], "Edema": columns["Sex"] * 0}
    train(other, lambda rows: images[rows], new, settings)
    assert [m.name for m in other.mean.meanings] == ["Sex", "View", "Edema"]
    assert (other.mean(there) - net.mean(gone)).abs().max() < 0.2


def test_a_network_that_predicts_the_image_returns_the_velocity_to_it():
    shape = {"resolution": 16, "patch": 8, "width": 32, "depth": 1, "heads": 2}
    net = RadiT(RadiTConfig(**shape, predicts="image"), [])
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([0.0, 0.5])
    # Initially the predicted image is zero.
    assert torch.allclose(net(x, t), -x / (1 - t).view(-1, 1, 1, 1))
    assert net(x, torch.ones(2)).isfinite().all()
    with pytest.raises(ModelError, match="predicts is 'noise'; expected velocity or image"):
        RadiTConfig(**shape, predicts="noise")


def test_a_network_grows_to_a_higher_resolution(tmp_path):
    images, columns = _two_variables()
    net = RadiT(RadiTConfig(**PLACES), VARIABLES)
    train(net, lambda rows: images[rows], columns, TrainConfig(steps=3, batch=8))
    save_radit(tmp_path / "net.safetensors", net)
    larger = RadiTConfig(**PLACES | {"resolution": 32, "patch": 8})
    grown = adopt_weights(tmp_path / "net.safetensors", larger, VARIABLES)
    # It starts by computing at the lower resolution.
    x, t = torch.randn(2, 1, 16, 16), torch.tensor([0.2, 0.7])
    some = {k: v[:2].float() for k, v in columns.items()}
    expected = net(x, t, columns=some).repeat_interleave(2, -1).repeat_interleave(2, -2)
    doubled = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
    assert torch.allclose(grown(doubled, t, columns=some), expected, atol=1e-5)
    assert torch.equal(grown.mean(some), net.mean(some))
    with pytest.raises(ModelError, match="the graph asks for"):
        adopt_weights(
            tmp_path / "net.safetensors", RadiTConfig(**PLACES | {"patch": 8}), VARIABLES
        )
