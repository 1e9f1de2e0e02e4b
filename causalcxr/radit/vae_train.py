"""Training an autoencoder: one plain loop, that goes on to the bit where it was killed.

It trains what asks for gradients: all of a Rad-VAE, the adapters of a FLUX.2 VAE. All random
numbers of a step are drawn from (seed, step). What is kept in the end is the moving average.
"""

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from causalcxr.common.errors import MechanismError, ModelError
from causalcxr.common.progress import progress, resuming
from causalcxr.radit.adversary import PatchAdversary, adaptive_weight, hinge
from causalcxr.radit.autoencoder import Autoencoder
from causalcxr.radit.batches import EPOCHS, BatchOrder
from causalcxr.radit.checkpoint import exclusive_folder, read_checkpoint, write_checkpoint
from causalcxr.radit.vae_loss import Losses, Perceptual, losses

__all__ = ["VAETrainConfig", "train_vae"]

_NORMALISED = 4096  # images over which latents are normalised, at most


@dataclass(frozen=True)
class VAETrainConfig:
    """How to train an autoencoder.

    Args:
        steps: Optimiser steps in all.
        batch: Images a step.
        lr: AdamW's learning rate.
        warmup: Steps of linear warm-up.
        decay: The last share of the steps, over which the rate falls to zero.
        average: Decay of the moving average of the weights, a step.
        kl: Weight of the divergence, in nats a pixel.
        perceptual: Weight of the perceptual distance, where there is one.
        adversary: Weight of the patch adversary; 0 for none.
        adversary_from: The step at which the adversary begins.
        log: Steps over which losses are averaged before they are told.
        save_every: Seconds between checkpoints.
    """

    steps: int = 20_000
    batch: int = 16
    lr: float = 1e-3
    warmup: int = 100
    decay: float = 0.4
    average: float = 0.999
    kl: float = 1e-3
    perceptual: float = 0.1
    adversary: float = 0.0
    adversary_from: int = 10_000
    log: int = 50
    save_every: float = 60.0

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "log"):
            if getattr(self, name) < 1:
                raise MechanismError(f"training: {name} is {getattr(self, name)}; at least 1")
        for name in ("lr", "kl", "perceptual", "adversary"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise MechanismError(f"training: {name} is {getattr(self, name)}; 0 or more")


class _Run:
    """What is learned: weights, their average, the adversary, the optimisers, the step."""

    def __init__(
        self, model: Autoencoder, config: VAETrainConfig, seed: int, identity: str
    ) -> None:
        self.model, self.config, self.seed, self.step = model, config, seed, 0
        self.identity = identity
        self.device = next(model.parameters()).device
        self.learned = {k: p for k, p in model.named_parameters() if p.requires_grad}
        self.average = {k: p.detach().clone() for k, p in self.learned.items()}
        self.optimiser = torch.optim.AdamW(
            self.learned.values(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.adversary: nn.Module | None = None
        if config.adversary:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adversary = PatchAdversary().to(self.device)
            self.against = torch.optim.AdamW(
                self.adversary.parameters(), lr=config.lr, betas=(0.5, 0.9), weight_decay=0.0
            )

    def parts(self) -> dict[str, object]:
        """Return all that a checkpoint holds."""
        net = {k: p.detach() for k, p in self.learned.items()}
        parts = {"net": net, "average": self.average, "optimiser": self.optimiser}
        if self.adversary is not None:
            parts |= {"adversary": self.adversary, "against": self.against}
        return parts

    def advance(self, images: Tensor, perceptual: Perceptual | None) -> dict[str, Tensor]:
        """Take one step and return its losses."""
        config = self.config
        generator = torch.Generator().manual_seed(self.seed * EPOCHS + self.step)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            found = losses(self.model, images, generator, perceptual)
            total = found.absolute + config.kl * found.divergence
            total = total + config.perceptual * found.perceptual
            told = {"absolute": found.absolute, "nats": found.divergence}
            told |= {"perceptual": found.perceptual} if perceptual else {}
            if self.adversary is not None and self.step >= config.adversary_from:
                adversarial = -self.adversary(found.image).float().mean()
                weight = config.adversary * adaptive_weight(total, adversarial, found.image)
                total = total + weight * adversarial
                told |= {"adversarial": adversarial}
        self._descend(self.optimiser, total, self.learned.values())
        if "adversarial" in told:
            told |= {"hinge": self._oppose(images, found)}
        self._follow()
        self.step += 1
        return {k: v.detach() for k, v in told.items()}

    def _oppose(self, images: Tensor, found: Losses) -> Tensor:
        """Let the adversary take a step of its own."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = hinge(self.adversary(images).float(), self.adversary(found.image.detach()))
        self._descend(self.against, loss, self.adversary.parameters())
        return loss

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor, weights: object) -> None:
        weights, config = list(weights), self.config
        left = (config.steps - self.step) / max(1.0, config.decay * config.steps)
        rate = min(1.0, (self.step + 1) / max(1, config.warmup), left)
        optimiser.param_groups[0]["lr"] = config.lr * rate
        optimiser.zero_grad(set_to_none=True)
        # A reconstruction is the adversary's to judge, not to change, and the other way round.
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average; early on it follows faster, so that the start is forgotten."""
        decay = min(self.config.average, (self.step + 1) / (self.step + 10))
        for key, weight in self.learned.items():
            self.average[key].lerp_(weight, 1 - decay)

    def write(self, path: Path) -> None:
        """Write a checkpoint, unless the weights have gone wild: then the last one stays."""
        if not all(weight.isfinite().all() for weight in self.learned.values()):
            raise MechanismError(
                f"autoencoder: weights are not finite at step {self.step}; lower lr or check the "
                "images"
            )
        write_checkpoint(path, self.parts(), {"step": str(self.step), "run": self.identity})


def _identity(
    model: Autoencoder, n: int, config: VAETrainConfig, seed: int, compared: bool
) -> str:
    """Return a hash of what a run starts from, but for its images."""
    told = (model.settings(), n, replace(config, save_every=0.0, log=1), seed, compared)
    digest = hashlib.sha256(repr(told).encode())
    for name, value in model.state_dict().items():
        digest.update(name.encode() + value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def train_vae(
    model: Autoencoder,
    images: Callable[[Tensor], Tensor],
    n: int,
    config: VAETrainConfig,
    *,
    seed: int = 0,
    folder: Path | None = None,
    perceptual: Perceptual | None = None,
    device: str | torch.device = "cpu",
    budget: float = float("inf"),
) -> list[dict[str, float]]:
    """Train an autoencoder in place, leave the average in it, and normalise its latents.

    Args:
        model: The autoencoder; what has gradients switched on is trained.
        images: Row numbers (B,) -> images (B, 1, H, W) in [-1, 1].
        n: How many images there are.
        config: How to train.
        seed: Of the order, the noise, and the adversary's first weights.
        folder: Where checkpoints and `train.jsonl` go; a run found there is taken up again.
        perceptual: A distance of pictures, on the same device.
        device: Where to train; bf16 on a graphics card.
        budget: Seconds after which the run stops early with a checkpoint; call again to go on.

    Returns:
        The mean losses of every `log` steps of this call.

    Raises:
        MechanismError: If a loss is not finite; the last checkpoint stays.
        ModelError: If the folder holds a checkpoint of another run.
    """
    if n < 1:
        raise MechanismError("autoencoder: there are no images to train on")
    identity = _identity(model, n, config, seed, perceptual is not None)
    run = _Run(model.to(device).train(), config, seed, identity)
    with exclusive_folder(folder) if folder else nullcontext():
        history = _loop(run, images, n, perceptual, folder, time.monotonic() + budget)
    _finish(run, images, n)
    return history


def _loop(
    run: _Run,
    images: Callable[[Tensor], Tensor],
    n: int,
    perceptual: Perceptual | None,
    folder: Path | None,
    until: float,
) -> list[dict[str, float]]:
    """Take the steps that are left, write checkpoints, and return the mean losses."""
    config, order, begun = run.config, BatchOrder(n, run.config.batch, run.seed), time.monotonic()
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    if checkpoint and checkpoint.exists():
        _take_up(run, checkpoint)
    history, recent, saved = [], [], begun
    resuming(run.step, config.steps, "steps")
    steps = range(run.step, config.steps)
    for step in progress(steps, "Training the autoencoder", "steps", done=run.step):
        if time.monotonic() > until:
            break
        recent.append(run.advance(images(order.rows(step)).to(run.device), perceptual))
        if len(recent) == config.log or run.step == config.steps:
            history.append(_mean(recent, run.step))
            recent = []
            if folder:
                seconds = round(time.monotonic() - begun, 1)
                _log(folder / "train.jsonl", {"step": run.step, **history[-1], "seconds": seconds})
        if checkpoint and time.monotonic() - saved > config.save_every:
            run.write(checkpoint)
            saved = time.monotonic()
    if checkpoint:
        run.write(checkpoint)
    return history


def _take_up(run: _Run, path: Path) -> None:
    """Go on from a checkpoint, unless it is another run's."""
    about = _words(path)
    if about and about.get("run") != run.identity:
        raise ModelError(
            f"{path}: the checkpoint is of another run (other settings, seed, starting weights "
            "or images); delete it to start anew, or write elsewhere"
        )
    run.step = int(read_checkpoint(path, run.parts())["step"])


def _words(path: Path) -> dict[str, str]:
    """Return the header of a checkpoint; nothing if it is none, which the reader then tells."""
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError):
        return {}


@torch.no_grad()
def _finish(run: _Run, images: Callable[[Tensor], Tensor], n: int) -> None:
    """Put the average in the place of the weights, and normalise the latents by it."""
    for key, weight in run.learned.items():
        weight.copy_(run.average[key])
    run.model.eval()
    rows = torch.arange(min(n, _NORMALISED)) * n // min(n, _NORMALISED)
    run.model.normalise(images(part).to(run.device) for part in rows.split(run.config.batch))
    run.model.requires_grad_(False)


def _mean(rows: list[dict[str, Tensor]], step: int) -> dict[str, float]:
    """Return the means of some losses, which must be finite."""
    told: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            told.setdefault(key, []).append(float(value))
    means = {key: sum(values) / len(values) for key, values in told.items()}
    for key, value in means.items():
        if not abs(value) < float("inf"):
            raise MechanismError(
                f"autoencoder: the loss {key!r} is {value} at step {step}; lower lr or check the "
                "images"
            )
    return means


def _log(path: Path, row: dict[str, float]) -> None:
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
