"""A small convolutional network that reads answers off films, by which benchmarks judge them.

Every film is standardised by itself (mean nought, deviation one), so that the network cannot lean
on the exposure, and reads films of another source as well as it can.
"""

from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import (
    binary_cross_entropy_with_logits,
    cross_entropy,
    huber_loss,
    pad,
)

from causalcxr.common.progress import progress

__all__ = ["Answers", "Reader", "train_reader"]

# Name -> one answer a film, (n,): booleans are yes or no, integers are levels, floats are numbers.
Answers = dict[str, np.ndarray]

_BATCH = 64
_WIDTHS = (24, 48, 96, 160)


def _conv(a: int, b: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b)]


class _Block(nn.Module):
    """Two convolutions beside a short cut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        inner = [*_conv(width, width), nn.ReLU(inplace=True), *_conv(width, width)]
        self.inner = nn.Sequential(*inner)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.inner(x)).relu()


class _Network(nn.Module):
    """Four stages that halve the film; a mean and a maximum over what is left of it.

    The mean reads what is everywhere (sex, edema), the maximum what is at one place (a fracture).
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
    """Return whether the processor multiplies in bf16."""
    able = torch.cpu.get_capabilities()
    return any(able.get(name, False) for name in ("amx_bf16", "avx512_bf16"))


class Reader:
    """A network, and what each of its outputs answers.

    Args:
        answers: Of the training films; they tell the questions, their levels and their scales.
        seed: Of the first weights.
    """

    def __init__(self, answers: Answers, seed: int = 0) -> None:
        self.columns: dict[str, slice] = {}
        self.kinds = {name: values.dtype.kind for name, values in answers.items()}
        self.scales: dict[str, tuple[float, float]] = {}
        width = 0
        for name, values in answers.items():
            k = int(values.max()) + 1 if self.kinds[name] == "i" else 1
            self.columns[name], width = slice(width, width + k), width + k
            if self.kinds[name] == "f":
                self.scales[name] = (float(values.mean()), float(values.std()))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.network = _Network(width).to(memory_format=torch.channels_last)

    def loss(self, films: Tensor, answers: dict[str, Tensor]) -> Tensor:
        """Return the sum of the questions' losses, each a mean over the films."""
        # Half precision halves the time where the processor has it (elsewhere it takes ten times
        # as long), and the films' eight bits keep their meaning.
        with torch.autocast("cpu", torch.bfloat16, enabled=_has_half()):
            out = self.network(films)
        out = out.float()
        total = out.new_zeros(())
        for name, true in answers.items():
            part = out[:, self.columns[name]]
            if self.kinds[name] == "b":
                total = total + binary_cross_entropy_with_logits(part[:, 0], true.float())
            elif self.kinds[name] == "i":
                total = total + cross_entropy(part, true)
            else:
                mean, deviation = self.scales[name]
                total = total + huber_loss(part[:, 0], (true.float() - mean) / deviation)
        return total

    @torch.no_grad()
    def read(self, films: np.ndarray) -> Answers:
        """Read films.

        Args:
            films: Shape (n, H, W) or (n, 1, H, W), uint8 or floats.

        Returns:
            Name -> log odds of yes, (n,); log odds of each level, (n, k); or the number, (n,).
        """
        self.network.eval()
        parts = torch.tensor(films).flatten(0, -3).split(500)
        out = torch.cat([self.network(_standardised(part)) for part in parts])
        read = {}
        for name, columns in self.columns.items():
            part = out[:, columns]
            if name in self.scales:
                mean, deviation = self.scales[name]
                part = part * deviation + mean
            read[name] = (part if self.kinds[name] == "i" else part[:, 0]).numpy()
        return read


def _standardised(films: Tensor) -> Tensor:
    """Return films (b, H, W) as (b, 1, H, W), each with mean 0 and standard deviation 1."""
    x = films.float()
    mean, deviation = x.mean((1, 2), keepdim=True), x.std((1, 2), keepdim=True)
    x = ((x - mean) / deviation.clamp(min=1e-3))[:, None]
    return x.contiguous(memory_format=torch.channels_last)


def _shifted(films: Tensor, generator: torch.Generator) -> Tensor:
    """Return films (b, 1, H, W) moved by up to a sixteenth of their side, all alike."""
    size = films.shape[-1]
    reach = size // 16
    x, y = torch.randint(2 * reach + 1, (2,), generator=generator).tolist()
    return pad(films, (reach,) * 4, mode="replicate")[..., y : y + size, x : x + size]


def _batches(n: int, epochs: int, generator: torch.Generator) -> Iterator[Tensor]:
    """Return the rows of each step: every film once an epoch, in another order each time."""
    for _ in range(epochs):
        order = torch.randperm(n, generator=generator)
        yield from (part for part in order.split(_BATCH) if len(part) == min(_BATCH, n))


def train_reader(films: np.ndarray, answers: Answers, epochs: int, seed: int = 0) -> Reader:
    """Train a reader.

    Args:
        films: Shape (n, H, W) or (n, 1, H, W), uint8 or floats.
        answers: What each film shows, see `Answers`.
        epochs: How often every film is seen.
        seed: Of the weights, the order and the shifts.
    """
    x = torch.tensor(films).flatten(0, -3)
    y = {name: torch.tensor(values) for name, values in answers.items()}
    reader, generator = Reader(answers, seed), torch.Generator().manual_seed(seed)
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
