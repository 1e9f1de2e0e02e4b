"""Training for a given processor time, the same for every network."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from io import BytesIO
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
_SAVE_EVERY = 30.0  # seconds of processor time between checkpoints


def steps(
    net: nn.Module,
    loss: Loss,
    optimisers: Sequence[Optimizer],
    images: Tensor,
    columns: Columns,
    *,
    minutes: float,
    seed: int = 0,
    generator: torch.Generator | None = None,
    used: float = 0.0,
    done: int = 0,
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
        generator: Of batches and losses, instead of the seed.
        used: The seconds of processor time that are used already.
        done: The number of steps that are done already.

    Yields:
        After each step, the share of the time that has passed (at least 1 after the last step),
        and the loss.
    """
    rates = [[group["lr"] for group in each.param_groups] for each in optimisers]
    generator = generator or torch.Generator().manual_seed(seed)
    start, n_steps = time.process_time() - used, done
    share = used / (60 * minutes)
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


class _State:
    """All that an interrupted training needs to resume."""

    def __init__(
        self, net: nn.Module, optimisers: Sequence[Optimizer], generator: torch.Generator
    ) -> None:
        self.net, self.optimisers, self.generator = net, optimisers, generator
        self.losses: list[float] = []
        self.used = 0.0  # seconds of processor time
        self.average: dict[str, Tensor] = {}

    def start(self) -> None:
        """Start the average at the network's weights, unless there is one."""
        if not self.average:
            self.average = {name: p.detach().clone() for name, p in self._weights().items()}

    def add(self, batch_loss: float) -> None:
        """Add a step to the losses and to the average."""
        self.losses.append(batch_loss)
        decay = min(_AVERAGE, len(self.losses) / (len(self.losses) + 10))
        with torch.no_grad():
            for name, p in self._weights().items():
                if p.is_floating_point():
                    self.average[name].lerp_(p, 1 - decay)

    def save(self, path: Path) -> None:
        """Save the state."""
        content = BytesIO()
        parts = [each.state_dict() for each in self.optimisers]
        states = (self.net.state_dict(), parts, self.generator.get_state())
        torch.save((*states, self.average, self.losses, self.used), content)
        atomic_write(path, content.getvalue())

    def load(self, path: Path) -> None:
        """Load a saved state."""
        weights, parts, random, self.average, self.losses, self.used = torch.load(path)
        self.net.load_state_dict(weights)
        for each, part in zip(self.optimisers, parts, strict=True):
            rates = [group["lr"] for group in each.param_groups]
            each.load_state_dict(part)
            for group, rate in zip(each.param_groups, rates, strict=True):
                group["lr"] = rate
        self.generator.set_state(random)

    def _weights(self) -> dict[str, Tensor]:
        return self.net.state_dict()


def train(
    net: nn.Module,
    loss: Loss,
    optimisers: Sequence[Optimizer],
    training_data: Callable[[], tuple[Tensor, Columns]],
    *,
    minutes: float,
    stem: Path,
    seed: int = 0,
    prepare: Callable[[nn.Module, Tensor, Columns], None] | None = None,
) -> dict[str, float]:
    """Train a network in place, and save averages of its weights during training.

    If the final weights exist, they are loaded instead. An interrupted training resumes from its
    last checkpoint, `<stem>.training`.

    Args:
        net: The network; it ends with the average of its weights.
        loss: Of a batch.
        optimisers: Of the network's parameters.
        training_data: Returns grey levels of 8 bits, (n, H, W), and the parents, each (n,); called
            only if the network has to be trained.
        minutes: Of processor time, see `steps`.
        stem: Of the files: weights `<stem>-<percent>.safetensors`, figures `<stem>.json`.
        seed: Of batches and losses.
        prepare: Called with the network, images and parents before the first step; its time
            counts.

    Returns:
        The number of steps, and the mean loss over the last tenth of them.
    """
    record = stem.with_name(stem.name + ".json")
    if record.exists():
        net.load_state_dict(load_file(weights_file(stem, 1.0)))
        net.eval().requires_grad_(False)
        return json.loads(record.read_text())
    images, columns = training_data()
    start = time.process_time()
    state = _State(net, optimisers, torch.Generator().manual_seed(seed))
    checkpoint = stem.with_name(stem.name + ".training")
    if checkpoint.exists():
        state.load(checkpoint)
    elif prepare is not None:
        prepare(net, images, columns)
        state.used = time.process_time() - start
    state.start()
    remaining = [share for share in SHARES if 60 * minutes * share > state.used]
    todo = steps(
        net,
        loss,
        optimisers,
        images,
        columns,
        minutes=minutes,
        generator=state.generator,
        used=state.used,
        done=len(state.losses),
    )
    for share, batch_loss in progress(todo, f"Training {stem.name}"):
        state.add(batch_loss)
        while remaining and share >= remaining[0]:
            plain = {name: p.contiguous() for name, p in state.average.items()}
            atomic_write(weights_file(stem, remaining.pop(0)), save(plain))
        if 60 * minutes * share > state.used + _SAVE_EVERY:
            state.used = 60 * minutes * share
            state.save(checkpoint)
    average, losses = state.average, state.losses
    net.load_state_dict(average)
    net.eval().requires_grad_(False)
    last = losses[-max(1, len(losses) // 10) :]
    figures = {"steps": len(losses), "loss": sum(last) / len(last)}
    atomic_write(record, json.dumps(figures))
    checkpoint.unlink(missing_ok=True)
    return figures


def weights_file(stem: Path, share: float) -> Path:
    """Return the file of the weights after a share of the time."""
    return stem.with_name(f"{stem.name}-{100 * share:.0f}.safetensors")
