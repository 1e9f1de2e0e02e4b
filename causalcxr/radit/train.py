"""One plain training loop, for a processor or a graphics card, that resumes where it was killed.

The block matrices learn by Muon, everything else by AdamW. All random numbers of a step are drawn
from (seed, step), so a resumed run sees the very numbers of an uninterrupted one.

References:
    Muon: an optimizer for hidden layers (Jordan et al., 2024), kellerjordan.github.io/posts/muon.
"""

import hashlib
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from causalcxr.errors import MechanismError, ModelError
from causalcxr.radit.flow import velocity_loss
from causalcxr.radit.transformer import RadiT
from causalcxr.tensors import load_tensors, save_tensors

__all__ = ["TrainConfig", "train"]

Progress = Callable[[int, int, float], None]

_LOG = 100  # steps over which a loss is averaged before it is told
_MUON = 10.0  # Muon's learning rate over AdamW's
_EPOCHS = 1_000_003  # keeps the seeds of one run's epochs and steps apart from the next run's


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: Optimiser steps in all.
        batch: Images a step.
        lr: AdamW's learning rate; Muon's is ten times as large.
        warmup: Steps of linear warm-up.
        decay: The last share of the steps, over which the rate falls to zero.
        average: Decay of the moving average of the weights, a step.
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
        generator = torch.Generator().manual_seed(seed * _EPOCHS + epoch)
        order = torch.randperm(n, generator=generator)
        for j in range(k, per_epoch):
            yield order[j * batch : (j + 1) * batch]
            step += 1


def _optimisers(net: RadiT, config: TrainConfig) -> list[torch.optim.Optimizer]:
    """Return Muon for the matrices of the blocks (not the six modulations) and AdamW."""
    matrices = [p for p in net.blocks.parameters() if p.ndim == 2 and min(p.shape) > 6]
    chosen = {id(p) for p in matrices}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    return [
        torch.optim.Muon(matrices, lr=_MUON * config.lr, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=config.lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate(step: int, config: TrainConfig) -> float:
    """Return the share of the learning rate at a step: warm-up, plateau, linear decay."""
    left = (config.steps - step) / max(1.0, config.decay * config.steps)
    return min(1.0, (step + 1) / max(1, config.warmup), left)


def _identity(net: RadiT, columns: dict[str, Tensor], config: TrainConfig, seed: int) -> str:
    """Return a hash of what a run starts from, but for its images."""
    digest = hashlib.sha256(repr((net.config, replace(config, save_every=0.0), seed)).encode())
    for tensors in (net.state_dict(), columns):
        for name, value in tensors.items():
            digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return digest.hexdigest()


class _Run:
    """What a checkpoint holds: weights, their moving average, the optimisers' state, the step."""

    def __init__(self, net: RadiT, config: TrainConfig, identity: str) -> None:
        self.net, self.step, self.identity = net, 0, identity
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
        """Write a checkpoint, unless the weights have gone wild: then the last one stays."""
        tensors = self.tensors()
        if not all(value.isfinite().all() for value in tensors.values()):
            raise MechanismError(
                f"RadiT: weights are not finite at step {self.step}; lower lr or check the images"
            )
        save_tensors(path, tensors, {"step": str(self.step), "run": self.identity})

    def read(self, path: Path) -> None:
        """Take up a checkpoint.

        Raises:
            ModelError: If it is damaged, or of a run with other settings, seed, weights or rows.
        """
        tensors, about = load_tensors(path)
        if about.get("run", self.identity) != self.identity or "step" not in about:
            raise ModelError(
                f"{path}: the checkpoint is of another run (other settings, seed, starting "
                "weights or records); delete it to start anew, or write elsewhere"
            )
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

    def advance(self, loss: Tensor, config: TrainConfig) -> None:
        """Take one optimiser step and move the average."""
        for optimiser, scale in zip(self.optimisers, (_MUON, 1.0), strict=True):
            optimiser.zero_grad(set_to_none=True)
            optimiser.param_groups[0]["lr"] = scale * config.lr * _rate(self.step, config)
        loss.backward()
        nn.utils.clip_grad_norm_(self.net.parameters(), 1.0)
        for optimiser in self.optimisers:
            optimiser.step()
        self.follow(config.average)
        self.step += 1

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average; early on it follows faster, so that the start is forgotten."""
        decay = min(decay, (self.step + 1) / (self.step + 10))
        for key, value in self.net.state_dict().items():
            self.average[key].lerp_(value, 1 - decay)


def _log(path: Path, **row: float) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _mean(losses: list[Tensor], step: int) -> float:
    """Return the mean of some losses, which must be finite."""
    mean = float(torch.stack(losses).mean())
    if not mean < float("inf"):
        raise MechanismError(
            f"RadiT: the loss is {mean} at step {step}; lower lr or check the images"
        )
    return mean


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
        The mean loss of every 100 steps of this call.

    Raises:
        MechanismError: If the loss is not finite; the last checkpoint stays.
        ModelError: If the folder holds a checkpoint of another run.
    """
    n, begun = len(next(iter(columns.values()))), time.monotonic()
    run = _Run(net.to(device), config, _identity(net, columns, config, seed))
    net.train().requires_grad_(True)
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    if checkpoint and checkpoint.exists():
        run.read(checkpoint)
    columns = {k: v.float().to(device) for k, v in columns.items()}
    history, recent, saved = [], [], begun
    for rows in _batches(n, config.batch, seed, run.step):
        if run.step >= config.steps or time.monotonic() - begun > budget:
            break
        generator = torch.Generator().manual_seed(seed * _EPOCHS + run.step)
        batch = {k: v[rows.to(device)] for k, v in columns.items()}
        loss = velocity_loss(net, images(rows).to(device), batch, generator, config.hide)
        run.advance(loss, config)
        recent.append(loss.detach())
        if len(recent) == _LOG or run.step == config.steps:
            history.append(_mean(recent, run.step))
            recent = []
            if folder:
                seconds = round(time.monotonic() - begun, 1)
                _log(folder / "train.jsonl", step=run.step, loss=history[-1], seconds=seconds)
            if progress:
                progress(run.step, config.steps, history[-1])
        if checkpoint and time.monotonic() - saved > config.save_every:
            run.write(checkpoint)
            saved = time.monotonic()
    if checkpoint:
        run.write(checkpoint)
    net.load_state_dict(run.average)
    net.eval().requires_grad_(False)
    return history
