"""Training an autoencoder, and encoding a cohort with one.

The output: the weights, a card that documents them and the reconstruction error of held-out
images, a sheet of images beside their reconstructions, and a folder with checkpoint and log.
"""

import json
import platform
import time
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalcxr.apps.training.training_place import training_place
from causalcxr.apps.training.vae_config import FluxSpec, PerceptualSpec, VAEConfig
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.selection import load_cohort
from causalcxr.common.digests import file_digest
from causalcxr.common.errors import CohortError
from causalcxr.common.files import atomic_write
from causalcxr.common.tensors import device_of, load_tensors
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.images.images import Images
from causalcxr.radit.autoencoder import Autoencoder
from causalcxr.radit.flux import FluxCodec, add_adapters, load_flux, merge_adapters
from causalcxr.radit.latents import Latents, cache_latents
from causalcxr.radit.perceptual import FeatureDistance
from causalcxr.radit.raddino import load_raddino
from causalcxr.radit.vae_quality import quality
from causalcxr.radit.vae_train import train_vae
from causalcxr.radit.vae_weights import load_codec, rad_vae, save_codec

__all__ = ["encode_cohort", "train_autoencoder"]

_SHEET = 12  # images on the sheet, each beside its reconstruction
_HELD_OUT = 512  # held-out images of a loss, at most


def train_autoencoder(config: VAEConfig, command: str = "", *, overwrite: bool = False) -> Path:
    """Train, and write weights, card and sheet.

    The held-out images are those of the splits val and test, or of a tenth of the patients where
    there are no splits.

    Args:
        config: The run; the same call resumes an interrupted one.
        command: The command line, for the card.
        overwrite: Replace weights of another run, and train again from the start.

    Returns:
        The weights. After `minutes` they are those of the steps done so far, as the card says.

    Raises:
        CohortError: If the cohort has too few images.
        ModelError: If the model, the features or the device are unavailable.
        MechanismError: If a loss is not finite.
    """
    out = Path(config.out)
    with training_place(out, "checkpoint.safetensors", overwrite=overwrite):
        return _trained(config, command)


def _trained(config: VAEConfig, command: str) -> Path:
    """Train in a locked place, and write weights, card and sheet."""
    start, device, out = time.monotonic(), device_of(config.device), Path(config.out)
    codec, adapters = _model(config)
    records, held_out = _parts(load_cohort(config.cohort), config.seed)
    # Refuse a wrong image size before any image is read.
    codec.check(torch.empty(0, 1, *records.images.size))
    # Read once: every epoch needs all of them.
    images = records.images.in_memory()
    work = out.with_suffix(".training")
    losses = train_vae(
        codec,
        lambda rows: _scaled(images, rows.numpy()),
        len(images),
        config.training,
        seed=config.seed,
        folder=work,
        perceptual=_distance(config.perceptual, device),
        device=device,
        budget=60 * config.minutes,
    )
    # Merged, so that the saved weights need no adapters.
    if adapters is not None:
        merge_adapters(codec, adapters)
    about = {
        "command": command,
        "data": {"cohort": config.cohort, "source": records.source, "images": len(records)},
        "steps_done": int(load_tensors(work / "checkpoint.safetensors")[1]["step"]),
        "device": f"{device}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"python {platform.python_version()}",
        "minutes_of_this_run": round((time.monotonic() - start) / 60, 1),
        "losses": losses[-1:],
    }
    _write(config, codec.cpu(), held_out, about)
    return out


def encode_cohort(
    codec: Path,
    cohort: str,
    out: Path,
    *,
    batch: int = 32,
    shard: int = 4096,
    dtype: str = "float16",
    device: str = "auto",
) -> Latents:
    """Encode every image of a cohort; the same call resumes an interrupted one.

    Args:
        codec: Weights that `train_autoencoder` wrote.
        cohort: As the command line names a cohort.
        out: The folder to write; see `cache_latents`.
        batch: Images in a batch.
        shard: Records in a file.
        dtype: float16 or float32.
        device: cpu, cuda, or auto.
    """
    records = load_cohort(cohort).with_images_only()
    model = load_codec(codec).to(device_of(device))
    return cache_latents(model, records, out, batch=batch, shard=shard, dtype=dtype)


def _model(config: VAEConfig) -> tuple[Autoencoder, Any]:
    """Return the network before training, and its adapters, if any."""
    if not isinstance(config.model, FluxSpec):
        return rad_vae(config.model.config(), config.seed), None
    codec = load_flux(config.model.folder)
    return codec, add_adapters(codec, config.model.rank, config.seed)


def _distance(spec: PerceptualSpec | None, device: str) -> FeatureDistance | None:
    """Return the perceptual distance, if there is one."""
    if spec is None:
        return None
    if spec.rad_dino is not None:
        return FeatureDistance(load_raddino(spec.rad_dino, spec.size).to(device))
    # Imported only where a perceptual distance uses it.
    from causalcxr.radit.features import load_features

    return FeatureDistance(load_features(spec.features).to(device))


def _parts(cohort: Cohort, seed: int) -> tuple[Cohort, Cohort]:
    """Return the training and the held-out records; no patient is in both."""
    cohort = cohort.with_images_only()
    # By patient, as splits are; without splits, a tenth is held out.
    if cohort.splits is None:
        cohort = cohort.assign_splits((0.9, 0.1, 0.0), seed)
    is_training = (cohort.splits == "train").to_numpy()
    if is_training.all() or not is_training.any():
        n = int(is_training.sum())
        raise CohortError(
            f"{cohort.source}: {n} images to learn from and {len(cohort) - n} held out; there "
            "must be some of both"
        )
    return cohort.select(is_training), cohort.select(~is_training)


def _scaled(images: Images, rows: np.ndarray) -> Tensor:
    """Return images (k, 1, H, W) in [-1, 1]."""
    return torch.from_numpy(images[rows]) * 2 - 1


def _batches(images: Images, batch: int) -> Iterator[Tensor]:
    """Yield some of the images, spread over all of them."""
    # Evenly spread, then in batches of nearly equal size.
    n = min(len(images), _HELD_OUT)
    rows = np.arange(n) * len(images) // n
    return (_scaled(images, part) for part in np.array_split(rows, -(-n // batch)))


def _sheet(codec: Autoencoder, cohort: Cohort, path: Path) -> None:
    """Draw images, each beside its reconstruction."""
    first = cohort.head(_SHEET)
    images = _scaled(first.images, np.arange(len(first)))
    reconstructions = codec.decode(codec.encode(images)).clamp(-1, 1)
    both = torch.stack([images, reconstructions], 1).flatten(0, 1)
    captions = [word for name in first.records for word in (str(name), "reconstruction")]
    marks = [mark for synthetic in first.images.synthetic for mark in (synthetic, True)]
    contact_sheet(((both + 1) / 2).numpy(), captions, columns=6, path=path, synthetic=marks)


def _write(config: VAEConfig, codec: Autoencoder, held_out: Cohort, about: dict[str, Any]) -> None:
    """Write weights, card and sheet."""
    out = Path(config.out)
    save_codec(out, codec, source=about["data"]["source"], steps=str(about["steps_done"]))
    losses = quality(codec, _batches(held_out.images, config.training.batch))
    card = _card(config, codec) | about | {"held_out": losses}
    atomic_write(out.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    _sheet(codec, held_out, out.with_suffix(".png"))


def _card(config: VAEConfig, codec: Autoencoder) -> dict[str, Any]:
    """Return the card of the weights that were just written."""
    return {
        "weights": Path(config.out).name,
        "sha256": file_digest(Path(config.out)),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "kind": config.model.kind,
        "started_from": config.model.folder if isinstance(codec, FluxCodec) else None,
        "network": codec.settings(),
        "latents": {"channels": codec.channels, "factor": codec.factor},
        "parameters": sum(p.numel() for p in codec.parameters()),
        "training": asdict(config.training),
        "perceptual": config.perceptual and config.perceptual.model_dump(exclude_none=True),
        "seed": config.seed,
        "use": "Images made with these weights are synthetic and not for clinical use.",
    }
