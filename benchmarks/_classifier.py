"""A small convolutional network that reads labels off images, by which benchmarks judge them."""

import numpy as np
import torch
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits

__all__ = ["logits", "train_classifier"]


def _network(outputs: int) -> nn.Module:
    def stage(a: int, b: int, stride: int = 2) -> nn.Module:
        return nn.Sequential(nn.Conv2d(a, b, 3, stride, 1), nn.BatchNorm2d(b), nn.GELU())

    stages = [stage(1, 24), stage(24, 48), stage(48, 96), stage(96, 128), stage(128, 128, 1)]
    return nn.Sequential(*stages, nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, outputs))


def train_classifier(
    images: np.ndarray, labels: np.ndarray, epochs: int, seed: int = 0
) -> nn.Module:
    """Train on images (n, 1, 64, 64) in [0, 1] and labels (n, k) of 0 and 1."""
    x = torch.from_numpy(np.rint(images * 255).astype(np.uint8))
    y = torch.from_numpy(labels).float()
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _network(y.shape[1])
    steps = epochs * len(x) // 128
    adam = torch.optim.AdamW(net.parameters(), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 4e-3, steps)
    for _ in range(steps):
        rows = torch.randint(len(x), (128,), generator=generator)
        loss = binary_cross_entropy_with_logits(net(x[rows].float() / 127.5 - 1), y[rows])
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return net.eval()


@torch.no_grad()
def logits(net: nn.Module, images: np.ndarray) -> np.ndarray:
    """Return the classifier's logits, (n, k)."""
    x = torch.from_numpy(images) * 2 - 1
    return torch.cat([net(part) for part in x.split(500)]).numpy()
