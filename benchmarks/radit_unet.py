"""RadiT and the U-Net of diffusers, with equal numbers of parameters and equal training time.

    python -m benchmarks radit_unet          (10 minutes each; requires the extra latent)

The same images of 32 pixels, loss, batch, variables and embedding of the variables; AdamW for the
U-Net, and both optimisers of RadiT. Minutes are processor time on one thread, so other work does
not shorten the training. Samples with 16 steps given the variables of held-out phantoms are
evaluated on the bundled features. Draws `runs/radit_unet.png`: rows of the U-Net, then of RadiT.
"""

from pathlib import Path

import numpy as np
import torch

from benchmarks import Row
from benchmarks._distances import feature_vectors
from benchmarks._image_twins import GRAPH, bind_parents, record_draws
from benchmarks._phantom_images import phantom_images
from benchmarks.peers import training
from benchmarks.peers.unet import UNet
from causalcxr import Cohort
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.metrics import frechet, kernel
from causalcxr.radit.features import load_features
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.optimisers import optimisers
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT, RadiTConfig

__all__ = ["main"]

_SIDE = 32  # pixels: small enough for both to learn chests within minutes


def main(quick: bool = False) -> list[Row]:
    """Return one row per network."""
    try:
        import diffusers  # noqa: F401
    except ImportError:
        return [{"network": "skipped: diffusers is missing; install the extra latent"}]
    n, n_held_out, minutes = (256, 16, 0.05) if quick else (12_000, 600, 10.0)
    cohort, pixels = phantom_images(n=n, seed=105, size=_SIDE, enriched=1)
    columns = {k: torch.from_numpy(v) for k, v in cohort.columns(GRAPH).items() if k != "Image"}
    held_out, features = (
        Cohort.load("phantom", n=n_held_out, seed=202, size=_SIDE, enriched=1),
        load_features(),
    )
    target, config = (
        feature_vectors(features, held_out.images[:]),
        RadiTConfig.from_name("tiny", _SIDE, entry="tokens"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = {
            "U-Net": UNet(config, [GRAPH[p] for p in GRAPH["Image"].parents]),
            "RadiT": RadiT(config, [GRAPH[p] for p in GRAPH["Image"].parents]),
        }
    optimisers_of = {
        "U-Net": [torch.optim.AdamW(nets["U-Net"].parameters(), lr=1e-3, weight_decay=0.01)],
        "RadiT": optimisers(nets["RadiT"], TrainConfig()),
    }
    table, sheet = [], []
    for name, net in nets.items():
        grey = torch.from_numpy(pixels)
        steps = sum(
            1
            for _ in training.steps(
                net, velocity_loss, optimisers_of[name], grey, columns, minutes=minutes
            )
        )
        net.eval().requires_grad_(False)
        equation = bind_parents(net, held_out)
        noise = equation.sample_noise(record_draws(held_out, seed=3))
        samples = equation.predict(noise).clamp(0, 1).float().numpy()
        sheet.append(samples[:12])
        sample_features = feature_vectors(features, samples)
        table.append(
            {
                "network": name,
                "parameters": sum(p.numel() for p in net.parameters()),
                "minutes": minutes,
                "steps": steps,
                "Frechet": frechet(target, sample_features),
                "kernel": kernel(target, sample_features),
            }
        )
    rows = np.concatenate(sheet)
    contact_sheet(rows, [""] * len(rows), columns=12, path=Path("runs/radit_unet.png"))
    return table
