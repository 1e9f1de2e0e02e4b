"""The configuration of training: what determines the weights, and how they are computed."""

from dataclasses import dataclass, fields, replace

from causalcxr.radit.config_checks import (
    check_choices,
    check_fractions,
    check_least,
    check_not_negative,
)
from causalcxr.radit.pairing import PAIRINGS

__all__ = ["TrainConfig"]

_CHOICES = {
    "optimiser": ("muon", "adamw"),
    "precision": ("auto", "fp32", "bf16", "pure-bf16"),
    "parallel": ("ddp", "fsdp"),
    "pairing": tuple(PAIRINGS),
    "noise": ("cpu", "device"),
}
# These change at most the rounding: they may differ when a run is resumed.
_HOW = ("micro", "compile", "recompute", "parallel", "ahead", "log", "save_every")


@dataclass(frozen=True)
class TrainConfig:
    """The configuration of a training run.

    Args:
        steps: The number of optimiser steps.
        batch: Images per step, over all processes.
        lr: AdamW's learning rate; Muon's is ten times as large.
        warmup: Steps of linear warm-up.
        decay: The last share of the steps, over which the rate falls to zero.
        average: Decay of the moving average of the weights, per step.
        hide: Rate at which variables are hidden.
        shift: Shift of the times towards noise, see `causalcxr.radit.flow.logit_normal`.
        sparse: Weight of the penalty on the effects of single variables on the velocity, see
            `causalcxr.radit.flow`; a step takes a quarter longer.
        pairing: The pairing of noise and images: `none`, as drawn; `ot`, the nearest within equal
            parents, among the images that one process computes at a time.
        save_every: Seconds between checkpoints.
        optimiser: `muon` for the matrices of the blocks and AdamW for the rest, or `adamw`.
        clip: The largest norm of a gradient.
        precision: `fp32`; `bf16`, products in bf16 of weights in fp32; `pure-bf16`, weights too;
            `auto`, the faster one of the first two, see `causalcxr.radit.precision`.
        micro: Images at a time; a process accumulates their gradients. 0 for the whole batch.
        compile: Whether torch compiles the blocks.
        recompute: Whether activations are recomputed for the gradient instead of being kept.
        parallel: The division of a run between processes: `ddp`, each has all the weights; `fsdp`,
            each has its part of weights, gradients and optimiser.
        noise: The device that draws noise: `cpu`, the same numbers everywhere; `device`, faster.
        ahead: Batches that a thread reads ahead.
        log: Steps over which a logged loss is averaged.

    Raises:
        MechanismError: If a value is not allowed.

    Example:
        >>> TrainConfig(batch=0)
        Traceback (most recent call last):
        causalcxr.common.errors.MechanismError: training: batch is 0; expected at least 1
    """

    steps: int = 6000
    batch: int = 32
    lr: float = 2e-3
    warmup: int = 100
    decay: float = 0.4
    average: float = 0.999
    hide: float = 0.05
    shift: float = 1.0
    sparse: float = 0.0
    pairing: str = "none"
    save_every: float = 60.0
    optimiser: str = "muon"
    clip: float = 1.0
    precision: str = "auto"
    micro: int = 0
    compile: bool = False
    recompute: bool = False
    parallel: str = "ddp"
    noise: str = "cpu"
    ahead: int = 0
    log: int = 100

    def __post_init__(self) -> None:
        check_least(self, {"steps": 1, "batch": 1, "log": 1, "micro": 0, "ahead": 0})
        check_not_negative(self, ("lr", "clip", "shift"), zero=False)
        check_not_negative(self, ("sparse",))
        check_fractions(self, ("decay", "average", "hide"))
        check_choices(self, _CHOICES)

    @property
    def identity(self) -> "TrainConfig":
        """The fields that determine the result; the others have their defaults."""
        # Reset what changes at most the rounding, so that it does not enter the hash.
        defaults = {field.name: field.default for field in fields(self)}
        return replace(self, **{name: defaults[name] for name in _HOW})
