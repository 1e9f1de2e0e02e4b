"""Training for a given processor time, the same for every network."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from torch.optim import Optimizer

from causalcxr.common.files import atomic_write
from causalcxr.common.progress import progress
from causalcxr.mechanisms.base import Columns

__all__ = ["SHARES", "Loss", "steps", "train", "weights_file"]

#: (network, images in [-1, 1], parents, generator) -> the loss of a batch.
Loss = Callable[[nn.Module, Tensor, Columns, torch.Generator], Tensor]

#: The shares of the time after which weights are saved.
SHARES = (0.1, 0.25, 0.5, 1.0)
_BATCH = 32
_AVERAGE = 0.995


def steps(
    net: nn.Module,
    loss: Loss,
    optimisers: Sequence[Optimizer],
    images: Tensor,
    columns: Columns,
    *,
    minutes: float,
    seed: int = 0,
) -> Iterator[tuple[float, float]]:
    """Train a network in place; the learning rate falls to zero over the time.

    Minutes are processor time, so other work on the machine does not shorten the training.

    Args:
        net: The network.
        loss: Of a batch.
        optimisers: Of the network's parameters.
        images: Grey levels of 8 bits, (n, H, W).
        columns: The parents, each (n,).
        minutes: Of processor time.
        seed: Of batches and losses.

    Yields:
        After each step, the share of the time that has passed (at least 1 after the last step),
        and the loss.
    """
    rates = [[group["lr"] for group in each.param_groups] for each in optimisers]
    generator, start = torch.Generator().manual_seed(seed), time.process_time()
    share, n_steps = 0.0, 0
    while share < 1:
        rows = torch.randint(len(images), (_BATCH,), generator=generator)
        batch = {name: c[rows].float() for name, c in columns.items()}
        x = images[rows][:, None].float() / 127.5 - 1
        batch_loss = loss(net, x, batch, generator)
        factor = min(1.0, (1 - share) / 0.5, (n_steps + 1) / 30)
        for each, rate in zip(optimisers, rates, strict=True):
            each.zero_grad()
            for group, full in zip(each.param_groups, rate, strict=True):
                group["lr"] = full * factor
        batch_loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for each in optimisers:
            each.step()
        n_steps += 1
        share = (time.process_time() - start) / (60 * minutes)
        yield share, float(batch_loss.detach())


def train(
    net: nn.Module,
    loss: Loss,
    optimisers: Sequence[Optimizer],
    training_data: Callable[[], tuple[Tensor, Columns]],
    *,
    minutes: float,
    stem: Path,
    seed: int = 0,
) -> dict[str, float]:
    """Train a network in place, and save averages of its weights during training.

    If the final weights exist, they are loaded instead.

    Args:
        net: The network; it ends with the average of its weights.
        loss: Of a batch.
        optimisers: Of the network's parameters.
        training_data: Returns grey levels of 8 bits, (n, H, W), and the parents, each (n,); called
            only if the network has to be trained.
        minutes: Of processor time, see `steps`.
        stem: Of the files: weights `<stem>-<percent>.safetensors`, figures `<stem>.json`.
        seed: Of batches and losses.

    Returns:
        The number of steps, and the mean loss over the last tenth of them.
    """
    record = stem.with_name(stem.name + ".json")
    if record.exists():
        net.load_state_dict(load_file(weights_file(stem, 1.0)))
        net.eval().requires_grad_(False)
        return json.loads(record.read_text())
    images, columns = training_data()
    average = {name: p.detach().clone() for name, p in net.state_dict().items()}
    losses, remaining = [], list(SHARES)
    progress_of_steps = steps(net, loss, optimisers, images, columns, minutes=minutes, seed=seed)
    for share, batch_loss in progress(progress_of_steps, f"Training {stem.name}"):
        losses.append(batch_loss)
        with torch.no_grad():
            decay = min(_AVERAGE, len(losses) / (len(losses) + 10))
            for name, p in net.state_dict().items():
                average[name].lerp_(p, 1 - decay)
        while remaining and share >= remaining[0]:
            plain = {name: p.contiguous() for name, p in average.items()}
            atomic_write(weights_file(stem, remaining.pop(0)), save(plain))
    net.load_state_dict(average)
    net.eval().requires_grad_(False)
    last = losses[-max(1, len(losses) // 10) :]
    figures = {"steps": len(losses), "loss": sum(last) / len(last)}
    atomic_write(record, json.dumps(figures))
    return figures


def weights_file(stem: Path, share: float) -> Path:
    """Return the file of the weights after a share of the time."""
    return stem.with_name(f"{stem.name}-{100 * share:.0f}.safetensors")
