"""Rad-VAE on a graphics card: training, reconstruction error and images per second.

    OUT=out python benchmarks/gpu/radvae.py          the large shape, 256-pixel phantoms
    OUT=out python benchmarks/gpu/radvae.py --tiny   seconds, to check that it works

Writes `rad-vae.safetensors`, its card (.json) and sheet (.png), and `radvae.json`: images per
second of encoding and decoding, and the reconstruction error on held-out images. The network is
fully convolutional, so weights trained at 256 pixels also work at 512; `at_512` has the error
there. The same command resumes an interrupted run.
"""

import argparse
import json
import os
import platform
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from causalcxr.apps.training.vae_config import VAEConfig
from causalcxr.apps.training.vae_job import train_autoencoder
from causalcxr.cohort import Cohort
from causalcxr.common.files import atomic_write
from causalcxr.radit.autoencoder import Autoencoder
from causalcxr.radit.vae_quality import quality
from causalcxr.radit.vae_weights import load_codec


def training_config(out: Path, tiny: bool) -> VAEConfig:
    """Return the configuration of the training."""
    cohort = "phantom:n=14,seed=1,size=32" if tiny else "phantom:n=6000,seed=1,size=256"
    model = {"kind": "rad-vae", "shape": "tiny" if tiny else "large"}
    schedule = {"steps": 3, "batch": 12, "log": 1} if tiny else {"steps": 12_000, "batch": 32}
    large_only = {} if tiny else {"lr": 3e-4, "adversary": 0.5, "adversary_from": 4000}
    return VAEConfig(
        out=str(out / "rad-vae.safetensors"),
        cohort=cohort,
        model=model,
        training=schedule | large_only,
        minutes=1 if tiny else 5,
    )


def rate(work: Callable[[Tensor], Tensor], batch: Tensor, repeats: int) -> float:
    """Return the images per second of some work, the best of a few calls."""
    best = 0.0
    for repeat in range(repeats + 1):
        start = time.perf_counter()
        work(batch)
        if batch.is_cuda:
            torch.cuda.synchronize()
        if repeat:  # the first call warms up
            best = max(best, len(batch) / (time.perf_counter() - start))
    return round(best, 1)


@torch.no_grad()
def measure(codec: Autoencoder, side: int, device: str, tiny: bool) -> dict[str, Any]:
    """Return speed and reconstruction error at some resolution, in full precision."""
    images = Cohort.load("phantom", n=4 if tiny else 64, seed=2, size=side).images
    batch = torch.from_numpy(images[: 4 if tiny else 32]).to(device) * 2 - 1
    held_out = (torch.from_numpy(images[[k]]).to(device) * 2 - 1 for k in range(len(images)))
    return {
        "encoded_per_second": rate(codec.encode, batch, 1 if tiny else 3),
        "decoded_per_second": rate(codec.decode, codec.encode(batch), 1 if tiny else 3),
        **quality(codec, held_out),
    }


def main() -> None:
    """Train, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="a small network, a few steps")
    tiny, out = parser.parse_args().tiny, Path(os.environ.get("OUT", "out"))
    device = "cuda" if torch.cuda.is_available() else "cpu"
    config = training_config(out, tiny)
    weights = train_autoencoder(config, "benchmarks/gpu/radvae.py")
    card = json.loads(weights.with_suffix(".json").read_text())
    log = (weights.with_suffix(".training") / "train.jsonl").read_text().splitlines()
    before, last = (json.loads(line) for line in log[-2:])
    images = (last["step"] - before["step"]) * config.training.batch
    # Seconds are logged to a tenth, and tiny steps are shorter.
    seconds = max(0.1, last["seconds"] - before["seconds"])
    codec = load_codec(weights).to(device)
    small, large = (32, 64) if tiny else (256, 512)
    report = {
        "device": torch.cuda.get_device_name() if device == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "parameters": card["parameters"],
        "steps_done": card["steps_done"],
        "minutes_of_this_run": card["minutes_of_this_run"],
        "trained_per_second": round(images / seconds, 1),
        "last_logged": last,
        f"at_{small}": measure(codec, small, device, tiny),
        f"at_{large}": measure(codec, large, device, tiny),
    }
    print(atomic_write(out / "radvae.json", json.dumps(report, indent=1) + "\n"))


if __name__ == "__main__":
    main()
