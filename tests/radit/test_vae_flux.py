"""The whole path of a FLUX.2 autoencoder and of Rad-DINO, with tiny copies of random weights.

What is proven: the classes, the files, the adapters, the packing. Not what the real weights do.
"""

import json
import shutil
from dataclasses import replace

import pytest
import torch

from causalcxr.apps.cli.command import guarded
from causalcxr.apps.cli.main import app
from causalcxr.cohort import Cohort
from causalcxr.common.errors import ModelError
from causalcxr.common.tensors import load_tensors, save_tensors
from causalcxr.radit.flux import FluxCodec, add_adapters, load_flux, merge_adapters
from causalcxr.radit.perceptual import FeatureDistance
from causalcxr.radit.raddino import load_raddino
from causalcxr.radit.vae_train import VAETrainConfig, train_vae
from causalcxr.radit.vae_weights import load_codec, save_codec

diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

SHORT = VAETrainConfig(steps=6, batch=4, lr=3e-3, warmup=2, average=0.5, log=2, save_every=-1.0)


@pytest.fixture(scope="module")
def flux_folder(tmp_path_factory):
    """A FLUX.2 autoencoder of diffusers' class, 32 channels at an eighth, a few hidden ones."""
    folder = tmp_path_factory.mktemp("flux")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        vae = diffusers.AutoencoderKLFlux2(
            block_out_channels=(4, 4, 8, 8), layers_per_block=1, norm_num_groups=2
        )
    vae.save_pretrained(folder / "vae", safe_serialization=True)
    return folder


@pytest.fixture(scope="module")
def dino_folder(tmp_path_factory):
    """A Dinov2 of random weights for 28 pixels, with Rad-DINO's grey levels."""
    folder = tmp_path_factory.mktemp("dino")
    config = transformers.Dinov2Config(
        hidden_size=16, num_hidden_layers=4, num_attention_heads=2, image_size=28, patch_size=14
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        transformers.Dinov2Model(config).save_pretrained(folder, safe_serialization=True)
    words = {"image_mean": [0.5307] * 3, "image_std": [0.2583] * 3}
    (folder / "preprocessor_config.json").write_text(json.dumps(words))
    return folder


@pytest.fixture(scope="module")
def films():
    return torch.from_numpy(Cohort.load("phantom", n=16, seed=0, size=32).images[:]) * 2 - 1


def adapted(source, films, config=SHORT, **more):
    codec = load_flux(source)
    adapters = add_adapters(codec, rank=2)
    train_vae(codec, films.__getitem__, len(films), config, **more)
    merge_adapters(codec, adapters)
    return codec


def same(a, b):
    return all(torch.equal(v, b.state_dict()[k]) for k, v in a.state_dict().items())


def test_latents_have_128_channels_at_a_sixteenth(flux_folder, films):
    codec = load_flux(flux_folder)
    assert (codec.channels, codec.factor) == (128, 16)
    x = films[:2, :, :, :16]
    assert codec.encode(x).shape == (2, 128, 2, 1)
    assert codec.decode(codec.encode(x)).shape == x.shape
    assert torch.equal(codec.encode(x), codec.encode(x))
    whole = sum(p.numel() for p in load_flux(flux_folder / "vae").parameters())
    assert whole == sum(p.numel() for p in codec.parameters())


def test_packed_latents_are_those_of_diffusers(flux_folder, films):
    codec = load_flux(flux_folder)
    plain = codec.vae.encode(films[:1].expand(-1, 3, -1, -1)).latent_dist.mean
    packed = codec.posterior(films[:1])[0]
    for channel, row, column in ((0, 0, 0), (5, 1, 0), (31, 1, 1)):
        want = plain[0, channel, row::2, column::2]
        assert torch.equal(packed[0, 4 * channel + 2 * row + column], want)
    grey = codec.vae.decode(plain).sample.mean(1, keepdim=True)
    torch.testing.assert_close(codec.synthesise(packed), grey)


def test_new_adapters_change_nothing_and_are_trained_alone(flux_folder, films):
    codec, plain = load_flux(flux_folder), load_flux(flux_folder)
    adapters = add_adapters(codec, rank=2)
    names = [name for name, p in codec.named_parameters() if p.requires_grad]
    assert len(names) > 40
    assert all("lora_" in name for name in names)
    torch.testing.assert_close(codec.encode(films), plain.encode(films))
    with pytest.raises(ModelError, match="merge its adapters first"):
        save_codec(flux_folder / "c.safetensors", codec)
    merge_adapters(codec, adapters)
    assert codec.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.slow
def test_trained_adapters_are_saved_and_loaded(flux_folder, dino_folder, films, tmp_path):
    before = load_flux(flux_folder)
    before.normalise([films])
    error = float((before.decode(before.encode(films)) - films).abs().mean())
    distance = FeatureDistance(load_raddino(dino_folder))
    config = replace(SHORT, steps=30, lr=2e-2, perceptual=0.1)
    codec = adapted(flux_folder, films, config, perceptual=distance)
    assert float((codec.decode(codec.encode(films)) - films).abs().mean()) < 0.9 * error
    assert codec.encode(films).std((0, 2, 3), correction=0).sub(1).abs().max() < 1e-3
    save_codec(tmp_path / "c.safetensors", codec, base="random")
    back = load_codec(tmp_path / "c.safetensors")
    assert isinstance(back, FluxCodec)
    assert same(codec, back)
    assert torch.equal(back.encode(films), codec.encode(films))
    assert torch.equal(back.decode(back.encode(films)), codec.decode(codec.encode(films)))
    assert load_tensors(tmp_path / "c.safetensors")[1]["kind"] == "flux2-vae"


@pytest.mark.slow
def test_interrupted_training_of_adapters_ends_the_same(flux_folder, films, tmp_path):
    whole = adapted(flux_folder, films)
    codec = load_flux(flux_folder)
    add_adapters(codec, rank=2)
    calls = []

    def images(rows):
        calls.append(rows)
        if len(calls) > 3:
            raise KeyboardInterrupt
        return films[rows]

    with pytest.raises(KeyboardInterrupt):
        train_vae(codec, images, len(films), SHORT, folder=tmp_path)
    tensors, about = load_tensors(tmp_path / "checkpoint.safetensors")
    assert about["step"] == "3"
    assert not any(v.numel() > 1000 for v in tensors.values())  # the adapters alone
    assert same(whole, adapted(flux_folder, films, folder=tmp_path))


def test_command_trains_and_merges_adapters(flux_folder, dino_folder, tmp_path):
    out, path = tmp_path / "c.safetensors", tmp_path / "vae.yaml"
    path.write_text(
        f"out: {out}\ncohort: phantom:n=12,seed=1,size=32\ndevice: cpu\n"
        f"model: {{kind: flux2-vae, folder: {flux_folder}, rank: 2}}\n"
        f"perceptual: {{rad_dino: {dino_folder}, size: 28}}\n"
        "training: {steps: 2, batch: 12, log: 1}\n"
    )
    assert guarded(app, ["radit", "vae", str(path)]) == 0
    codec, card = load_codec(out), json.loads(out.with_suffix(".json").read_text())
    assert (codec.channels, card["steps_done"], card["kind"]) == (128, 2, "flux2-vae")
    assert card["started_from"] == str(flux_folder)
    assert not same(codec, load_flux(flux_folder))


def test_images_not_divisible_by_sixteen_are_refused(flux_folder):
    with pytest.raises(ValueError, match="sides that are multiples of 16"):
        load_flux(flux_folder).encode(torch.zeros(1, 1, 24, 32))


def spoiled(folder, tmp_path, fault):
    """Copy a folder and spoil one thing in it."""
    place = tmp_path / "copy"
    shutil.copytree(folder, place)
    file = next(place.glob("*.safetensors"))
    tensors, _ = load_tensors(file)
    name = max(tensors)
    if fault == "no config":
        (place / "config.json").unlink()
    if fault == "no json":
        (place / "config.json").write_text("pickled")
    if fault == "another class":
        words = json.loads((place / "config.json").read_text())
        (place / "config.json").write_text(
            json.dumps(words | {"_class_name": "AutoencoderKL", "architectures": ["BertModel"]})
        )
    if fault == "pickled":
        torch.save(tensors, place / "diffusion_pytorch_model.bin")
        file.unlink()
    if fault == "missing":
        save_tensors(file, {k: v for k, v in tensors.items() if k != name}, {"format": "pt"})
    if fault == "nan":
        tensors[name].view(-1)[0] = torch.nan
        file.unlink()
        save_tensors(file, tensors, {"format": "pt"})
    if fault == "cut":
        file.write_bytes(file.read_bytes()[:-9])
    return place


@pytest.mark.parametrize("kind", ["flux", "dino"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no config", "no config.json; use"),
        ("no json", "not the configuration of a network"),
        ("another class", "expected"),
        ("pickled", "pickled weights .* are refused"),
        ("missing", "1 tensors of .* are missing"),
        ("nan", "is not finite; copy the folder again"),
        ("cut", "cannot be loaded"),
    ],
)
def test_damaged_folder_is_refused(flux_folder, dino_folder, tmp_path, kind, fault, words):
    source, read = (
        (flux_folder / "vae", load_flux) if kind == "flux" else (dino_folder, load_raddino)
    )
    place = spoiled(source, tmp_path, fault)
    with pytest.raises(ModelError, match=words) as told:
        read(place)
    assert str(place) in str(told.value)
    assert "\n" not in str(told.value)


def test_autoencoder_with_other_channels_is_refused(tmp_path):
    vae = diffusers.AutoencoderKLFlux2(
        in_channels=1, block_out_channels=(4, 4), layers_per_block=1, norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
    )  # fmt: skip
    vae.save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="1 channels in, 3 out"):
        load_flux(tmp_path)


def test_rad_dino_maps_and_vectors_are_those_of_transformers(dino_folder, films):
    features = load_raddino(dino_folder)
    images = (films[:2, :, :28, :28] + 1) / 2
    maps, seen = features.maps(images), ((images - 0.5307) / 0.2583).expand(-1, 3, -1, -1)
    model = transformers.Dinov2Model.from_pretrained(dino_folder, local_files_only=True)
    found = model.eval()(seen, output_hidden_states=True)
    assert [m.shape for m in maps] == 4 * [(2, 16, 2, 2)]
    torch.testing.assert_close(maps[1][:, :, 1, 0], found.hidden_states[2][:, 3])
    torch.testing.assert_close(features(images), found.pooler_output)
    assert features(films[:3]).shape == (3, 16)  # 32 pixels are made 28


def test_rad_dino_gradients_reach_the_image_only(dino_folder, films):
    features = load_raddino(dino_folder)
    distance, y = FeatureDistance(features), films[:2].flip(3).requires_grad_()
    distance(y, films[:2]).backward()
    assert y.grad.abs().max() > 0
    assert not any(p.requires_grad for p in features.parameters())


def test_rad_dino_without_grey_levels_or_of_odd_size_is_refused(dino_folder, tmp_path):
    shutil.copytree(dino_folder, tmp_path / "copy")
    (tmp_path / "copy" / "preprocessor_config.json").unlink()
    with pytest.raises(ModelError, match="has no image_mean"):
        load_raddino(tmp_path / "copy")
    with pytest.raises(ModelError, match="size 30 is not a multiple of 14"):
        load_raddino(dino_folder, size=30)
