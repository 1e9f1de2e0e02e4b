"""One plain training loop, for a processor or a graphics card, that resumes where it was killed.

The block matrices learn by Muon (Jordan et al., 2024, in torch.optim), everything else by AdamW. All random numbers of a step are
drawn from (seed, step), so a resumed run sees the very numbers of an uninterrupted one.
"""

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from causalcxr.errors import MechanismError
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.transformer import RadiT
from causalcxr.tensors import load_tensors, save_tensors

__all__ = ["TrainConfig", "train"]

Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: Optimiser steps in all.
        batch: Images a step.
        lr: AdamW's learning rate; Muon's is ten times as large.
        warmup: Steps of linear warm-up.
        decay: The last share of the steps, over which the rate falls to zero.
        average: Half-life-free decay of the moving average of the weights.
        hide: Rate at which variables are hidden.
        save_every: Seconds between checkpoints.
    """

    steps: int = 6000
    batch: int = 32
    lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.4
    average: float = 0.999
    hide: float = 0.05
    save_every: float = 60.0


def _batches(n: int, batch: int, seed: int, start: int) -> Iterator[Tensor]:
    """Yield row numbers, each epoch in an order of its own, from a given step on."""
    batch = min(batch, n)
    per_epoch = n // batch
    step = start
    while True:
        epoch, k = divmod(step, per_epoch)
        order = torch.randperm(n, generator=torch.Generator().manual_seed(seed * 1_000_003 + epoch))
        for j in range(k, per_epoch):
            yield order[j * batch : (j + 1) * batch]
            step += 1


def _optimisers(net: RadiT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    matrices = [p for p in net.blocks.parameters() if p.ndim == 2 and min(p.shape) > 6]
    chosen = {id(p) for p in matrices}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=10 * config.lr, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate(step: int, config: TrainConfig) -> float:
    left = (config.steps - step) / max(1.0, config.decay * config.steps)
    return min(1.0, (step + 1) / config.warmup, left)


class _Run:
    """What a checkpoint holds: weights, their moving average, the optimisers' state and the step."""

    def __init__(self, net: RadiT, config: TrainConfig) -> None:
        self.net, self.step = net, 0
        self.average = {k: v.detach().clone() for k, v in net.state_dict().items()}
        self.optimisers = _optimisers(net, config)

    def tensors(self) -> dict[str, Tensor]:
        out = {f"net.{k}": v for k, v in self.net.state_dict().items()}
        out |= {f"average.{k}": v for k, v in self.average.items()}
        for i, optimiser in enumerate(self.optimisers):
            for j, state in optimiser.state_dict()["state"].items():
                out |= {f"optimiser.{i}.{j}.{k}": torch.as_tensor(v) for k, v in state.items()}
        return out

    def write(self, path: Path) -> None:
        save_tensors(path, self.tensors(), {"step": str(self.step)})

    def read(self, path: Path) -> None:
        tensors, about = load_tensors(path)
        self.step = int(about["step"])

        def under(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}

        self.net.load_state_dict(under("net."))
        for key, value in under("average.").items():
            self.average[key].copy_(value)
        for i, optimiser in enumerate(self.optimisers):
            state: dict[int, dict[str, Tensor]] = {}
            for key, value in under(f"optimiser.{i}.").items():
                j, name = key.split(".", 1)
                state.setdefault(int(j), {})[name] = value
            optimiser.load_state_dict({**optimiser.state_dict(), "state": state})

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average; early on it follows faster, so that the start is forgotten."""
        decay = min(decay, (self.step + 1) / (self.step + 10))
        for key, value in self.net.state_dict().items():
            self.average[key].lerp_(value, 1 - decay)


def _log(path: Path | None, **row: float) -> None:
    if path is not None:
        with path.open("a") as file:
            file.write(json.dumps(row) + "\n")


def train(
    net: RadiT,
    images: Callable[[Tensor], Tensor],
    columns: dict[str, Tensor],
    config: TrainConfig,
    *,
    seed: int = 0,
    folder: Path | None = None,
    progress: Progress | None = None,
    device: str | torch.device = "cpu",
    budget: float = float("inf"),
) -> list[float]:
    """Train a network in place and leave the moving average of its weights in it.

    Args:
        net: The network, as initialised or with adopted weights.
        images: Row numbers (B,) -> images (B, 1, H, W) in [-1, 1].
        columns: The parents of every image, each (n,).
        config: How to train.
        seed: Of the order, the times and the noise.
        folder: Where checkpoints and `train.jsonl` go; a run found there is taken up again.
        progress: Called with (step, steps, loss).
        device: Where to train.
        budget: Seconds after which the run stops early with a checkpoint; call again to go on.

    Returns:
        The running mean of the loss, one number per 100 steps.

    Raises:
        MechanismError: If the loss is not finite; the last checkpoint stays.
    """
    n = len(next(iter(columns.values())))
    net = net.to(device).train().requires_grad_(True)
    run, begun = _Run(net, config), time.monotonic()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    log = folder / "train.jsonl" if folder else None
    if checkpoint and checkpoint.exists():
        run.read(checkpoint)
    columns = {k: v.float().to(device) for k, v in columns.items()}
    history, recent, saved = [], [], begun
    for rows in _batches(n, config.batch, seed, run.step):
        if run.step >= config.steps or time.monotonic() - begun > budget:
            break
        generator = torch.Generator().manual_seed(seed * 1_000_003 + run.step)
        batch = {k: v[rows.to(device)] for k, v in columns.items()}
        loss = velocity_loss(net, images(rows).to(device), batch, generator, config.hide)
        for optimiser, scale in zip(run.optimisers, (10.0, 1.0), strict=True):
            optimiser.zero_grad(set_to_none=True)
            optimiser.param_groups[0]["lr"] = scale * config.lr * _rate(run.step, config)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        for optimiser in run.optimisers:
            optimiser.step()
        run.follow(config.average)
        run.step += 1
        recent.append(loss.detach())
        if len(recent) == 100 or run.step == config.steps:
            mean = float(torch.stack(recent).mean())
            if not mean < float("inf"):
                raise MechanismError(f"RadiT: loss is {mean} at step {run.step}; lower lr or check the images")
            history.append(mean)
            _log(log, step=run.step, loss=mean, seconds=round(time.monotonic() - begun, 1))
            recent = []
            if progress:
                progress(run.step, config.steps, mean)
        if checkpoint and time.monotonic() - saved > config.save_every:
            run.write(checkpoint)
            saved = time.monotonic()
    if checkpoint:
        run.write(checkpoint)
    net.load_state_dict(run.average)
    net.eval().requires_grad_(False)
    return history
