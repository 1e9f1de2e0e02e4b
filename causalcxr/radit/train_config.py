"""How to train: what decides the weights, and what decides only how they are computed."""

from dataclasses import dataclass, fields, replace

from causalcxr.common.errors import MechanismError, nearest
from causalcxr.radit.pairing import PAIRINGS

__all__ = ["TrainConfig"]

_CHOICES = {
    "optimiser": ("muon", "adamw"),
    "precision": ("fp32", "bf16", "pure-bf16"),
    "parallel": ("ddp", "fsdp"),
    "pairing": tuple(PAIRINGS),
    "noise": ("cpu", "device"),
}
# What changes rounding at most, and never what a run is: it may change when a run goes on.
_HOW = ("micro", "compile", "recompute", "parallel", "ahead", "log", "save_every")


@dataclass(frozen=True)
class TrainConfig:
    """How to train.

    Args:
        steps: Optimiser steps in all.
        batch: Images a step, over all processes.
        lr: AdamW's learning rate; Muon's is ten times as large.
        warmup: Steps of linear warm-up.
        decay: The last share of the steps, over which the rate falls to zero.
        average: Decay of the moving average of the weights, a step.
        hide: Rate at which variables are hidden.
        shift: Of the times towards noise, see `causalcxr.radit.flow.logit_normal`.
        sparse: Weight of the penalty on what single variables do to the velocity, see
            `causalcxr.radit.flow`; a quarter more work a step.
        pairing: Which noise goes with which image: `none`, as drawn; `ot`, the nearest within
            equal parents, among the images that one process computes at a time.
        save_every: Seconds between checkpoints.
        optimiser: `muon` for the matrices of the blocks and AdamW for the rest, or `adamw`.
        clip: The largest norm of a gradient.
        precision: `fp32`; `bf16`, products in bf16 of weights in fp32; `pure-bf16`, weights too.
        micro: Images at a time, of which a process adds up the gradients; 0 for all it has.
        compile: Whether torch compiles the blocks.
        recompute: Whether activations are computed again for the gradient instead of being kept.
        parallel: How several processes share a run: `ddp`, each has all the weights; `fsdp`, each
            has its part of weights, gradients and optimiser.
        noise: Where noise is drawn: `cpu`, the same numbers everywhere; `device`, sooner.
        ahead: Batches that a thread reads ahead.
        log: Steps over which a loss is averaged before it is told.

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
    precision: str = "fp32"
    micro: int = 0
    compile: bool = False
    recompute: bool = False
    parallel: str = "ddp"
    noise: str = "cpu"
    ahead: int = 0
    log: int = 100

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "batch": 1, "log": 1, "micro": 0, "ahead": 0}.items():
            if (value := getattr(self, name)) < least:
                raise MechanismError(f"training: {name} is {value}; expected at least {least}")
        for name in ("lr", "clip", "shift"):
            if not 0 < (value := getattr(self, name)) < float("inf"):
                raise MechanismError(f"training: {name} is {value}; expected more than 0")
        if not 0 <= self.sparse < float("inf"):
            raise MechanismError(f"training: sparse is {self.sparse}; expected 0 or more")
        for name in ("decay", "average", "hide"):
            if not 0 <= (value := getattr(self, name)) <= 1:
                raise MechanismError(f"training: {name} is {value}; expected 0 to 1")
        for name, words in _CHOICES.items():
            if (value := getattr(self, name)) not in words:
                raise MechanismError(
                    f"training: {name} is {value!r}; expected {' or '.join(words)}"
                    f"{nearest(value, words)}"
                )

    @property
    def identity(self) -> "TrainConfig":
        """What makes a run this run: all but how it is computed."""
        usual = {field.name: field.default for field in fields(self)}
        return replace(self, **{name: usual[name] for name in _HOW})
