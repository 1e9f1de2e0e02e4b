"""RadiT beside diffusers' U-Net of as many parameters, each trained for as long on one thread.

    python -m benchmarks radit_unet          (10 minutes each; needs the extra latent)

The same films of 32 pixels, loss, batch, variables and embedding of them, AdamW for the U-Net and
both of RadiT's optimisers. Minutes are those of the processor, so that other work beside it takes
nothing away. Samples by 16 steps under the variables of held-out phantoms, judged by the
bundled features. Draws `runs/radit_unet.png`: rows of U-Net, then of RadiT.
"""

from pathlib import Path

import numpy as np
import torch

from benchmarks import Row
from benchmarks._distances import vectors
from benchmarks._films import filmed
from benchmarks._twins import GRAPH, bound, chance
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

_SIDE = 32  # pixels: in some minutes both learn what a chest is


def main(quick: bool = False) -> list[Row]:
    """Return a row a network."""
    try:
        import diffusers  # noqa: F401
    except ImportError:
        return [{"network": "skipped: diffusers is not here; install the extra latent"}]
    n, m, minutes = (256, 16, 0.05) if quick else (12_000, 600, 10.0)
    cohort, films = filmed(n=n, seed=105, size=_SIDE, enriched=1)
    columns = {k: torch.from_numpy(v) for k, v in cohort.columns(GRAPH).items() if k != "Image"}
    held, features = Cohort.load("phantom", n=m, seed=202, size=_SIDE, enriched=1), load_features()
    true, config = (
        vectors(features, held.images[:]),
        RadiTConfig.from_name("tiny", _SIDE, entry="tokens"),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        nets = {
            "U-Net": UNet(config, [GRAPH[p] for p in GRAPH["Image"].parents]),
            "RadiT": RadiT(config, [GRAPH[p] for p in GRAPH["Image"].parents]),
        }
    how = {
        "U-Net": [torch.optim.AdamW(nets["U-Net"].parameters(), lr=1e-3, weight_decay=0.01)],
        "RadiT": optimisers(nets["RadiT"], TrainConfig()),
    }
    table, sheet = [], []
    for name, net in nets.items():
        grey = torch.from_numpy(films)
        steps = sum(
            1
            for _ in training.steps(net, velocity_loss, how[name], grey, columns, minutes=minutes)
        )
        net.eval().requires_grad_(False)
        equation = bound(net, held)
        noise = equation.sample_noise(chance(held, seed=3))
        made = equation.predict(noise).clamp(0, 1).float().numpy()
        sheet.append(made[:12])
        got = vectors(features, made)
        table.append(
            {
                "network": name,
                "parameters": sum(p.numel() for p in net.parameters()),
                "minutes": minutes,
                "steps": steps,
                "Frechet": frechet(true, got),
                "kernel": kernel(true, got),
            }
        )
    rows = np.concatenate(sheet)
    contact_sheet(rows, [""] * len(rows), columns=12, path=Path("runs/radit_unet.png"))
    return table
