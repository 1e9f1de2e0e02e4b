"""A small convolutional network that predicts labels from images, to evaluate other images.

Each image is standardised by itself (mean 0, standard deviation 1), so the network cannot use the
exposure, and transfers better to images of another source.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from causalcxr.common.progress import progress

__all__ = ["Labels", "Reader", "train_reader"]

# Name -> one label per image, (n,): booleans are binary, integers are levels, floats are numbers.
Labels = dict[str, np.ndarray]

_BATCH = 64
_WIDTHS = (24, 48, 96, 160)


def _conv(a: int, b: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b)]


class _Block(nn.Module):
    """Two convolutions with a residual connection."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = [*_conv(width, width), nn.ReLU(inplace=True), *_conv(width, width)]
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.inner(x)).relu()


class _Network(nn.Module):
    """Four stages, each halving the image, then a mean and a maximum over the remaining pixels.

    The mean detects what is spread over the image (sex, edema), the maximum what is in one place
    (a fracture).
    """

    def __init__(self, outputs: int) -> None:
        super().__init__()
        stages: list[nn.Module] = []
        for a, b in pairwise((1, *_WIDTHS)):
            stages += [
                *_conv(a, b, 5 if a == 1 else 3, stride=2),
                nn.ReLU(inplace=True),
                _Block(b),
            ]
        self.stages = nn.Sequential(*stages)
        self.out = nn.Linear(2 * _WIDTHS[-1], outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stages(x)
        return self.out(torch.cat([x.mean((2, 3)), x.amax((2, 3))], 1))


def _has_half() -> bool:
    """Return whether the processor has bf16 instructions."""
    capabilities = torch.cpu.get_capabilities()
    return any(capabilities.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


class Reader:
    """A network, and the label that each of its outputs predicts.

    Args:
        labels: Of the training images; they determine the outputs, their levels and scales.
        seed: Of the initial weights.
    """

    def __init__(self, labels: Labels, seed: int = 0) -> None:
        self.columns: dict[str, slice] = {}
        self.kinds = {name: values.dtype.kind for name, values in labels.items()}
        self.scales: dict[str, tuple[float, float]] = {}
        width = 0
        for name, values in labels.items():
            k = int(values.max()) + 1 if self.kinds[name] == "i" else 1
            self.columns[name], width = slice(width, width + k), width + k
            if self.kinds[name] == "f":
                self.scales[name] = (float(values.mean()), float(values.std()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = _Network(width).to(memory_format=torch.channels_last)

    def loss(self, images: Tensor, labels: dict[str, Tensor]) -> Tensor:
        """Return the sum of the losses of all labels, each a mean over the images."""
        # bf16 halves the time on processors that have it and takes ten times as long on others.
        # It is precise enough for images of 8 bits.
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_half()):
            out = self.network(images)
        out = out.float()
        total = out.new_zeros(())
        for name, target in labels.items():
            part = out[:, self.columns[name]]
            if self.kinds[name] == "b":
                total = total + F.binary_cross_entropy_with_logits(part[:, 0], target.float())
            elif self.kinds[name] == "i":
                total = total + F.cross_entropy(part, target)
            else:
                mean, deviation = self.scales[name]
                total = total + F.huber_loss(part[:, 0], (target.float() - mean) / deviation)
        return total

    @torch.no_grad()
    def result(self, images: np.ndarray) -> Labels:
        """Predict the labels of images.

        Args:
            images: Shape (n, H, W) or (n, 1, H, W), uint8 or floats.

        Returns:
            Name -> log odds, (n,); log odds of each level, (n, k); or the number, (n,).
        """
        self.network.eval()
        parts = torch.tensor(images).flatten(0, -3).split(500)
        out = torch.cat([self.network(_standardised(part)) for part in parts])
        result = {}
        for name, columns in self.columns.items():
            part = out[:, columns]
            if name in self.scales:
                mean, deviation = self.scales[name]
                part = part * deviation + mean
            result[name] = (part if self.kinds[name] == "i" else part[:, 0]).numpy()
        return result


def _standardised(images: Tensor) -> Tensor:
    """Return images (b, H, W) as (b, 1, H, W), each with mean 0 and standard deviation 1."""
    x = images.float()
    mean, deviation = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
    x = ((x - mean) / deviation.clamp(min=1e-3))[:, None]
    return x.contiguous(memory_format=torch.channels_last)


def _shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Return images (b, 1, H, W), all shifted by the same amount, up to 1/16 of their side."""
    size = images.shape[-1]
    reach = size // 16
    x, y = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    return F.pad(images, (reach,) * 4, mode="replicate")[..., y : y + size, x : x + size]


def _batches(n: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Return the rows of each step: every image once per epoch, in a new order each time."""
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator)
        yield from (part for part in order.split(_BATCH) if len(part) == min(_BATCH, n))


def train_reader(images: np.ndarray, labels: Labels, epochs: int, seed: int = 0) -> Reader:
    """Train a reader.

    Args:
        images: Shape (n, H, W) or (n, 1, H, W), uint8 or floats.
        labels: Of each image, see `Labels`.
        epochs: Passes over the images.
        seed: Of the weights, the order and the shifts.
    """
    x = torch.tensor(images).flatten(0, -3)
    y = {name: torch.tensor(values) for name, values in labels.items()}
    reader, generator = Reader(labels, seed), torch.Generator().manual_seed(seed)
    batches = list(_batches(len(x), epochs, generator))
    adam = torch.optim.AdamW(reader.network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 3e-3, len(batches))
    reader.network.train()
    for rows in progress(batches, "Training the reader"):
        loss = reader.loss(
            _shifted(_standardised(x[rows]), generator), {k: v[rows] for k, v in y.items()}
        )
        adam.zero_grad()
        loss.backward()
        adam.step()
        schedule.step()
    return reader
