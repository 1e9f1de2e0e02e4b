"""Train the bundled features: a small network predicts 19 variables of enriched phantoms.

    python -m benchmarks radit_features

Training images are shifted, and their contrast and brightness are changed. Writes
`runs/features-phantom.safetensors` and its card; prints how well the variables of held-out images
are predicted.
"""

import json
from pathlib import Path

import numpy as np
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, mse_loss

from benchmarks import Row, stopwatch
from benchmarks._image_twins import GRAPH
from benchmarks._phantom_images import phantom_images
from causalcxr import Cohort
from causalcxr.common.digests import file_digest
from causalcxr.common.files import atomic_write
from causalcxr.common.progress import progress
from causalcxr.radit.features import Features, save_features

__all__ = ["main"]

_OUT = Path("runs/features-phantom.safetensors")
_BATCH = 64


def _targets(cohort: Cohort) -> tuple[list[str], Tensor]:
    """Return one column per level or number, (n, k): 0 or 1, and age from -1 to 1."""
    names, out = [], []
    for name, column in cohort.columns(GRAPH).items():
        variable = GRAPH[name]
        if variable.is_image:
            continue
        if not variable.is_discrete:
            out.append(column / 50 - 1)
            names.append(name)
            continue
        for k, level in enumerate(variable.levels[1:], 1):
            out.append(column == k)
            names.append(f"{name}={level}")
    return names, torch.from_numpy(np.stack(out, 1)).float()


def _augmented(x: Tensor, generator: torch.Generator) -> Tensor:
    """Shift all images (b, 1, H, W) equally, and change contrast and brightness of each."""
    dy, dx = torch.randint(-4, 5, (2,), generator=generator).tolist()
    power = (0.3 * torch.randn(len(x), 1, 1, 1, generator=generator)).exp()
    return x.roll((dy, dx), (2, 3)).clamp(1e-3, 1) ** power


def main(quick: bool = False) -> list[Row]:
    """Return how well each variable is predicted."""
    n, epochs = (256, 1) if quick else (12_000, 5)
    cohort, pixels = phantom_images(n=n, seed=105, size=64, enriched=1)
    held_out, held_out_pixels = phantom_images(n=max(64, n // 12), seed=106, size=64, enriched=1)
    names, y = _targets(cohort)
    numbers = torch.tensor([name == "Age" for name in names])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        features = Features()
        head = nn.Linear(192, len(names))
    parameters = [*features.parameters(), *head.parameters()]
    adam = torch.optim.AdamW(parameters, weight_decay=0.02)
    generator = torch.Generator().manual_seed(0)
    batches = [
        rows
        for _ in range(epochs)
        for rows in torch.randperm(n, generator=generator).split(_BATCH)
    ]
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, len(batches))
    x = torch.from_numpy(pixels)
    with stopwatch() as watch:
        for rows in progress(batches, "Training the features"):
            out = head(features(_augmented(x[rows][:, None].float() / 255, generator)))
            loss = binary_cross_entropy_with_logits(out[:, ~numbers], y[rows][:, ~numbers])
            loss = loss + 0.2 * mse_loss(out[:, numbers], y[rows][:, numbers])
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
    features.eval()
    with torch.no_grad():
        held_out_images = torch.from_numpy(held_out_pixels)[:, None].float() / 255
        predictions = torch.cat(
            [head(features(part)) for part in held_out_images.split(250)]
        ).numpy()
    targets = _targets(held_out)[1].numpy()
    rows: list[Row] = []
    for k, name in enumerate(names):
        if name == "Age":
            rows.append(
                {
                    "read": name,
                    "figure": float(np.corrcoef(predictions[:, k], targets[:, k])[0, 1]),
                }
            )
        elif 0 < targets[:, k].mean() < 1:
            rows.append(
                {"read": name, "figure": float(roc_auc_score(targets[:, k], predictions[:, k]))}
            )
    save_features(_OUT, features)
    card = {
        "weights": "features-phantom.safetensors",
        "sha256": file_digest(_OUT),
        "parameters": sum(p.numel() for p in features.parameters()),
        "data": f"{n} enriched phantoms of 64 pixels, seed 105; {epochs} epochs",
        "command": "python -m benchmarks radit_features",
        "minutes": round(watch.seconds / 60, 1),
        "AUROC on held-out enriched phantoms (Age: correlation)": {
            row["read"]: round(row["figure"], 3) for row in rows
        },
        "use": "Distances between images of phantoms and of this kind. Not for clinical use.",
    }
    atomic_write(_OUT.with_suffix(".json"), json.dumps(card, indent=1) + "\n")
    return rows
