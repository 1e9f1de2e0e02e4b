"""Training for so many minutes of the processor, the same for every network."""

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

__all__ = ["SHARES", "Loss", "kept_at", "steps", "trained"]

#: (network, images in [-1, 1], parents, generator) -> the loss of a batch.
Loss = Callable[[nn.Module, Tensor, Columns, torch.Generator], Tensor]

#: The shares of the time after which weights are kept.
SHARES = (0.1, 0.25, 0.5, 1.0)
_BATCH = 32
_AVERAGE = 0.995


def steps(
    net: nn.Module,
    loss: Loss,
    chosen: Sequence[Optimizer],
    films: Tensor,
    columns: Columns,
    *,
    minutes: float,
    seed: int = 0,
) -> Iterator[tuple[float, float]]:
    """Train a network in place, the rate falling to nought with the time.

    Minutes are those of the processor, so that other work beside it takes nothing away.

    Args:
        net: The network.
        loss: Of a batch.
        chosen: Optimisers of the network's parameters.
        films: Grey levels of 8 bits, (n, H, W).
        columns: The parents, each (n,).
        minutes: How long.
        seed: Of batches and losses.

    Yields:
        After each step, the share of the time that is over, 1 or more at the last; and its loss.
    """
    rates = [[group["lr"] for group in each.param_groups] for each in chosen]
    generator, begun = torch.Generator().manual_seed(seed), time.process_time()
    done, count = 0.0, 0
    while done < 1:
        rows = torch.randint(len(films), (_BATCH,), generator=generator)
        batch = {name: c[rows].float() for name, c in columns.items()}
        x = films[rows][:, None].float() / 127.5 - 1
        found = loss(net, x, batch, generator)
        share = min(1.0, (1 - done) / 0.5, (count + 1) / 30)
        for each, rate in zip(chosen, rates, strict=True):
            each.zero_grad()
            for group, full in zip(each.param_groups, rate, strict=True):
                group["lr"] = full * share
        found.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for each in chosen:
            each.step()
        count += 1
        done = (time.process_time() - begun) / (60 * minutes)
        yield done, float(found.detach())


def trained(
    net: nn.Module,
    loss: Loss,
    chosen: Sequence[Optimizer],
    taught: Callable[[], tuple[Tensor, Columns]],
    *,
    minutes: float,
    stem: Path,
    seed: int = 0,
) -> dict[str, float]:
    """Train a network in place, and keep averages of its weights on the way.

    A network whose last weights are there is read instead of being trained again.

    Args:
        net: The network; it ends with the average of its weights.
        loss: Of a batch.
        chosen: Optimisers of the network's parameters.
        taught: Makes grey levels of 8 bits, (n, H, W), and the parents, each (n,); called only
            where there is something to train.
        minutes: How long, see `steps`.
        stem: Where weights go, `<stem>-<percent>.safetensors`, and figures, `<stem>.json`.
        seed: Of batches and losses.

    Returns:
        Steps, and the mean loss of the last tenth of them.
    """
    about = stem.with_name(stem.name + ".json")
    if about.exists():
        net.load_state_dict(load_file(kept_at(stem, 1.0)))
        net.eval().requires_grad_(False)
        return json.loads(about.read_text())
    films, columns = taught()
    average = {name: p.detach().clone() for name, p in net.state_dict().items()}
    losses, due = [], list(SHARES)
    taken = steps(net, loss, chosen, films, columns, minutes=minutes, seed=seed)
    for done, found in progress(taken, f"Training {stem.name}"):
        losses.append(found)
        with torch.no_grad():
            decay = min(_AVERAGE, len(losses) / (len(losses) + 10))
            for name, p in net.state_dict().items():
                average[name].lerp_(p, 1 - decay)
        while due and done >= due[0]:
            plain = {name: p.contiguous() for name, p in average.items()}
            atomic_write(kept_at(stem, due.pop(0)), save(plain))
    net.load_state_dict(average)
    net.eval().requires_grad_(False)
    last = losses[-max(1, len(losses) // 10) :]
    figures = {"steps": len(losses), "loss": sum(last) / len(last)}
    atomic_write(about, json.dumps(figures))
    return figures


def kept_at(stem: Path, share: float) -> Path:
    """Return the file of the weights after a share of the time."""
    return stem.with_name(f"{stem.name}-{100 * share:.0f}.safetensors")
