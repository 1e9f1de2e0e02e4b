"""Latents on the disk: they come back, they go on where they stopped, others are refused."""

import json

import numpy as np
import pytest
import torch

from causalcxr.cohort import Cohort
from causalcxr.common.errors import CohortError, MechanismError, ModelError
from causalcxr.images.images import ArrayImages
from causalcxr.radit.latents import Latents, cache_latents
from causalcxr.radit.vae import RadVAEConfig
from causalcxr.radit.vae_weights import rad_vae

SHAPE = RadVAEConfig(latent=3, widths=(8, 16), depth=1)


@pytest.fixture(scope="module")
def cohort():
    return Cohort.load("phantom", n=21, seed=0, size=32)


@pytest.fixture(scope="module")
def codec(cohort):
    model = rad_vae(SHAPE)
    model.normalise([films(cohort)])
    return model.eval().requires_grad_(False)


def films(cohort):
    return torch.from_numpy(cohort.images[:]) * 2 - 1


def contents(folder):
    return {p.name: p.read_bytes() for p in folder.iterdir()}


class Mortal(torch.nn.Module):
    """A codec that dies after some batches."""

    def __init__(self, codec, batches):
        super().__init__()
        self.codec, self.left = codec, batches
        self.channels, self.factor, self.check = codec.channels, codec.factor, codec.check

    def state_dict(self, *words, **more):
        return self.codec.state_dict(*words, **more)

    def encode(self, images):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return self.codec.encode(images)


def test_latents_are_those_of_the_codec(cohort, codec, tmp_path):
    latents = cache_latents(codec, cohort, tmp_path, batch=4, shard=8, dtype="float32")
    want = codec.encode(films(cohort))
    assert (len(latents), latents.shape) == (21, (3, 8, 8))
    torch.testing.assert_close(latents[:], want)
    for rows in (5, slice(3, 19, 4), [20, 0, 8, 7], torch.tensor([9, 9]), np.arange(21) > 15):
        picked = rows if not isinstance(rows, int) else [rows]
        torch.testing.assert_close(latents[rows], want[picked])
    assert latents[[]].shape == (0, 3, 8, 8)
    assert [s["rows"] for s in latents.about["shards"]] == [8, 8, 5]
    assert str(latents) == "Latents(21 records, 3x8x8, float32)"
    with pytest.raises(CohortError, match="latents of 21 records"):
        latents[21]


def test_half_precision_rounds_the_latents(cohort, codec, tmp_path):
    latents = cache_latents(codec, cohort, tmp_path)
    want = codec.encode(films(cohort))
    assert latents[:].dtype == torch.float32
    off = (latents[:] - want).abs()
    assert 0 < off.max() < 2**-10 * want.abs().max()
    assert (tmp_path / "latents-00000.npy").stat().st_size == 21 * 3 * 64 * 2 + 128


def test_interrupted_command_resumes_to_the_same_bytes(cohort, codec, tmp_path):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    cache_latents(codec, cohort, whole, batch=4, shard=8)
    with pytest.raises(KeyboardInterrupt):
        cache_latents(Mortal(codec, 3), cohort, broken, batch=4, shard=8)
    assert sorted(contents(broken)) == ["latents-00000.npy", "manifest.json"]
    with pytest.raises(ModelError, match="8 of 21 records are encoded; run the command again"):
        Latents(broken)
    before = (broken / "latents-00000.npy").stat().st_mtime_ns
    cache_latents(Mortal(codec, 4), cohort, broken, batch=4, shard=8)
    assert contents(whole) == contents(broken)
    assert (broken / "latents-00000.npy").stat().st_mtime_ns == before
    cache_latents(Mortal(codec, 0), cohort, broken, batch=4, shard=8)  # nothing left to do


def test_another_codec_cohort_or_setting_is_refused(cohort, codec, tmp_path):
    cache_latents(codec, cohort, tmp_path)
    before, other = contents(tmp_path), rad_vae(SHAPE, seed=1)
    with pytest.raises(ModelError, match="these are latents of another codec"):
        cache_latents(other, cohort, tmp_path)
    with pytest.raises(ModelError, match="these are latents of another records"):
        cache_latents(codec, cohort.head(20), tmp_path)
    with pytest.raises(ModelError, match=r"another dtype \(float16, not float32\)"):
        cache_latents(codec, cohort, tmp_path, dtype="float32")
    with pytest.raises(ModelError, match="another codec"):
        Latents(tmp_path, other)
    with pytest.raises(ModelError, match="another records"):
        Latents(tmp_path, codec, cohort.at([1, 0]))
    assert contents(tmp_path) == before
    assert len(Latents(tmp_path, codec, cohort)) == 21


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("no manifest", "there is no such file"),
        ("no json", "no manifest of latents of version 1"),
        ("schema", "no manifest of latents of version 1"),
        ("no shard", "not a shard of latents"),
        ("cut", "not a shard of latents"),
        ("pickled", "not a shard of latents"),
        ("other shape", "not the shard that the manifest lists"),
    ],
)
def test_damaged_folder_is_refused(cohort, codec, tmp_path, fault, words):
    cache_latents(codec, cohort, tmp_path)
    manifest, shard = tmp_path / "manifest.json", tmp_path / "latents-00000.npy"
    if fault == "no manifest":
        manifest.unlink()
    if fault == "no json":
        manifest.write_text("[]")
    if fault == "schema":
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"schema": 9}))
    if fault == "no shard":
        shard.unlink()
    if fault == "cut":
        shard.write_bytes(shard.read_bytes()[:500])
    if fault == "pickled":
        np.save(shard, np.array([{}], dtype=object), allow_pickle=True)
    if fault == "other shape":
        np.save(shard, np.zeros((2, 3, 8, 8), np.float16))
    with pytest.raises(ModelError, match=words) as told:
        Latents(tmp_path)
    assert str(tmp_path) in str(told.value)
    assert "\n" not in str(told.value)


def test_check_names_a_changed_file(cohort, codec, tmp_path):
    latents = cache_latents(codec, cohort, tmp_path, shard=10)
    assert latents.check() == []
    path = tmp_path / "latents-00001.npy"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    assert Latents(tmp_path).check() == ["latents-00001.npy"]


def test_images_that_cannot_be_encoded_write_nothing(cohort, codec, tmp_path):
    out = tmp_path / "out"
    with pytest.raises(CohortError, match="not every record has an image"):
        cache_latents(codec, cohort.with_images(None), out)
    with pytest.raises(ModelError, match="dtype 'int8'"):
        cache_latents(codec, cohort, out, dtype="int8")
    with pytest.raises(MechanismError, match="sides that are multiples of 4"):
        cache_latents(codec, cohort.with_images(ArrayImages(np.zeros((21, 30, 32)))), out)
    wild = rad_vae(SHAPE)
    wild.spread.fill_(1e-9)
    with pytest.raises(ModelError, match=r"latents of record .* are not finite as float16"):
        cache_latents(wild, cohort, out)
    assert not out.exists()
