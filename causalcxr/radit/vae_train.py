"""Training an autoencoder: one plain loop that resumes bit-exact after a kill.

It trains the weights that require gradients: all of a Rad-VAE, the adapters of a FLUX.2 VAE. All
random numbers of a step are drawn from (seed, step). The result is the moving average.
"""

import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from causalcxr.common.errors import MechanismError
from causalcxr.common.progress import progress, resuming
from causalcxr.radit.adversary import PatchAdversary, adaptive_weight, hinge
from causalcxr.radit.autoencoder import Autoencoder
from causalcxr.radit.batches import EPOCHS, BatchOrder
from causalcxr.radit.checkpoint import (
    exclusive_folder,
    read_checkpoint,
    run_identity,
    write_checkpoint,
)
from causalcxr.radit.config_checks import check_least, check_not_negative
from causalcxr.radit.schedule import average_decay, lr_share
from causalcxr.radit.train_log import TrainLog
from causalcxr.radit.vae_loss import Losses, Perceptual, losses

__all__ = ["VAETrainConfig", "train_vae"]

_NORMALISED = 4096  # the largest number of images over which latents are normalised


@dataclass(frozen=True)
class VAETrainConfig:
    """The configuration of training an autoencoder.

    Args:
        steps: The number of optimiser steps.
        batch: Images per step.
        lr: AdamW's learning rate.
        warmup: Steps of linear warm-up.
        decay: The last share of the steps, over which the rate falls to zero.
        average: Decay of the moving average of the weights, per step.
        kl: Weight of the divergence, in nats per pixel.
        perceptual: Weight of the perceptual distance, if there is one.
        adversary: Weight of the patch adversary; 0 for none.
        adversary_from: The step at which the adversary begins.
        log: Steps over which logged losses are averaged.
        save_every: Seconds between checkpoints.

    Raises:
        MechanismError: If a value is not allowed.
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
        check_least(self, {"steps": 1, "batch": 1, "log": 1})
        check_not_negative(self, ("lr", "kl", "perceptual", "adversary"))


class _VAERun:
    """The state of a run: weights, their average, the adversary, the optimisers, the step."""

    def __init__(
        self, model: Autoencoder, config: VAETrainConfig, seed: int, identity: str
    ) -> None:
        self.model, self.config, self.seed, self.step = model, config, seed, 0
        self.identity = identity
        self.device = next(model.parameters()).device
        # Frozen weights, such as those under adapters, are neither trained nor averaged.
        self.learned = {k: p for k, p in model.named_parameters() if p.requires_grad}
        self.average = {k: p.detach().clone() for k, p in self.learned.items()}
        self.optimiser = torch.optim.AdamW(
            self.learned.values(), lr=config.lr, betas=(0.9, 0.99), weight_decay=0.0
        )
        self.adversary: nn.Module | None = None
        if config.adversary:
            # The adversary's initial weights are seeded, and the global random state is restored.
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                self.adversary = PatchAdversary().to(self.device)
            self.against = torch.optim.AdamW(
                self.adversary.parameters(), lr=config.lr, betas=(0.5, 0.9), weight_decay=0.0
            )

    def parts(self) -> dict[str, object]:
        """Return the content of a checkpoint."""
        net = {k: p.detach() for k, p in self.learned.items()}
        parts = {"net": net, "average": self.average, "optimiser": self.optimiser}
        if self.adversary is not None:
            parts |= {"adversary": self.adversary, "against": self.against}
        return parts

    def advance(self, images: Tensor, perceptual: Perceptual | None) -> dict[str, Tensor]:
        """Take one step and return its losses."""
        config = self.config
        # Seeded by the step: a resumed run draws the same numbers.
        generator = torch.Generator().manual_seed(self.seed * EPOCHS + self.step)
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            parts = losses(self.model, images, generator, perceptual)
            total = parts.absolute + config.kl * parts.divergence
            total = total + config.perceptual * parts.perceptual
            logged = {"absolute": parts.absolute, "nats": parts.divergence}
            logged |= {"perceptual": parts.perceptual} if perceptual else {}
            # The adversary joins at a later step, weighted against the other losses.
            if self.adversary is not None and self.step >= config.adversary_from:
                adversarial = -self.adversary(parts.image).float().mean()
                weight = config.adversary * adaptive_weight(total, adversarial, parts.image)
                total = total + weight * adversarial
                logged |= {"adversarial": adversarial}
        # First the autoencoder, then the adversary on the same reconstruction.
        self._descend(self.optimiser, total, self.learned.values())
        if "adversarial" in logged:
            logged |= {"hinge": self._train_adversary(images, parts)}
        self._follow()
        self.step += 1
        return {k: v.detach() for k, v in logged.items()}

    def _train_adversary(self, images: Tensor, parts: Losses) -> Tensor:
        """Take one step of the adversary and return its loss."""
        with torch.autocast("cuda", torch.bfloat16, enabled=self.device.type == "cuda"):
            loss = hinge(self.adversary(images).float(), self.adversary(parts.image.detach()))
        self._descend(self.against, loss, self.adversary.parameters())
        return loss

    def _descend(self, optimiser: torch.optim.Optimizer, loss: Tensor, weights: object) -> None:
        weights, config = list(weights), self.config
        rate = lr_share(self.step, steps=config.steps, warmup=config.warmup, decay=config.decay)
        optimiser.param_groups[0]["lr"] = config.lr * rate
        optimiser.zero_grad(set_to_none=True)
        # Only these weights: the adversary's loss must not change the autoencoder, nor vice versa.
        for weight, gradient in zip(weights, torch.autograd.grad(loss, weights), strict=True):
            weight.grad = gradient
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimiser.step()

    @torch.no_grad()
    def _follow(self) -> None:
        """Move the average towards the weights."""
        decay = average_decay(self.step, self.config.average)
        for key, weight in self.learned.items():
            self.average[key].lerp_(weight, 1 - decay)

    def write(self, path: Path) -> None:
        """Write a checkpoint; if weights are not finite, raise an error and keep the last."""
        if not all(weight.isfinite().all() for weight in self.learned.values()):
            raise MechanismError(
                f"autoencoder: weights are not finite at step {self.step}; lower lr or check the "
                "images"
            )
        write_checkpoint(path, self.parts(), {"step": str(self.step), "run": self.identity})


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
        model: The autoencoder; weights that require gradients are trained.
        images: Row numbers (B,) -> images (B, 1, H, W) in [-1, 1].
        n: The number of images.
        config: The configuration.
        seed: Seed of the order, the noise, and the adversary's first weights.
        folder: The folder of checkpoints and `train.jsonl`; an interrupted run there is resumed.
        perceptual: A distance of images, on the same device.
        device: The device to train on; a graphics card computes in bf16.
        budget: Seconds after which the run stops early with a checkpoint; call again to resume.

    Returns:
        The mean losses of every `log` steps of this call.

    Raises:
        MechanismError: If a loss is not finite; the last checkpoint stays.
        ModelError: If the folder holds a checkpoint of another run.
    """
    if n < 1:
        raise MechanismError("autoencoder: there are no images to train on")
    # Neither the time between checkpoints nor the log changes the result: both may differ.
    settings = (model.settings(), n, replace(config, save_every=0.0, log=1), seed)
    identity = run_identity((*settings, perceptual is not None), model.state_dict())
    run = _VAERun(model.to(device).train(), config, seed, identity)
    with exclusive_folder(folder) if folder else nullcontext():
        history = _loop(run, images, n, perceptual, folder, time.monotonic() + budget)
    _finish(run, images, n)
    return history


def _loop(
    run: _VAERun,
    images: Callable[[Tensor], Tensor],
    n: int,
    perceptual: Perceptual | None,
    folder: Path | None,
    until: float,
) -> list[dict[str, float]]:
    """Take the remaining steps, write checkpoints, and return the mean losses."""
    config, order, start = run.config, BatchOrder(n, run.config.batch, run.seed), time.monotonic()
    checkpoint = folder / "checkpoint.safetensors" if folder else None
    if checkpoint and checkpoint.exists():
        run.step = int(read_checkpoint(checkpoint, run.parts(), run=run.identity)["step"])
    log = TrainLog(folder / "train.jsonl" if folder else None, run.step)
    history, recent, saved = [], [], start
    resuming(run.step, config.steps, "steps")
    steps = range(run.step, config.steps)
    for step in progress(steps, "Training the autoencoder", "steps", done=run.step):
        if time.monotonic() > until:
            break
        recent.append(run.advance(images(order.rows(step)).to(run.device), perceptual))
        if len(recent) == config.log or run.step == config.steps:
            history.append(_mean(recent, run.step))
            recent = []
            seconds = round(time.monotonic() - start, 1)
            log.write(run.step, {**history[-1], "seconds": seconds})
        # Checkpoints follow the clock, not the steps: their cost stays a small share.
        if checkpoint and time.monotonic() - saved > config.save_every:
            run.write(checkpoint)
            saved = time.monotonic()
    if checkpoint:
        run.write(checkpoint)
    return history


@torch.no_grad()
def _finish(run: _VAERun, images: Callable[[Tensor], Tensor], n: int) -> None:
    """Replace the weights by their average, and normalise the latents."""
    for key, weight in run.learned.items():
        weight.copy_(run.average[key])
    run.model.eval()
    # Evenly spaced over the training set, as it may be sorted.
    rows = torch.arange(min(n, _NORMALISED)) * n // min(n, _NORMALISED)
    run.model.normalise(images(part).to(run.device) for part in rows.split(run.config.batch))
    run.model.requires_grad_(False)


def _mean(rows: list[dict[str, Tensor]], step: int) -> dict[str, float]:
    """Return the means of some losses.

    Raises:
        MechanismError: If one is not finite.
    """
    values_of: dict[str, list[float]] = {}
    for row in rows:
        for key, value in row.items():
            values_of.setdefault(key, []).append(float(value))
    means = {key: sum(values) / len(values) for key, values in values_of.items()}
    for key, value in means.items():
        # This is true for NaN too.
        if not abs(value) < float("inf"):
            raise MechanismError(
                f"autoencoder: the loss {key!r} is {value} at step {step}; lower lr or check the "
                "images"
            )
    return means
