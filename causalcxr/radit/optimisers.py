"""Optimisers: Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all.

References:
    Decoupled Weight Decay Regularization (Loshchilov & Hutter), arXiv:1711.05101.
"""

import torch
from torch.optim import Optimizer

from causalcxr.radit.muon import Muon
from causalcxr.radit.schedule import lr_share
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT

__all__ = ["optimisers", "rate", "set_rate"]

_MUON = 10.0  # Muon's learning rate over AdamW's
_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.01  # of matrices; biases, scales and tables do not decay


def optimisers(
    net: RadiT, config: TrainConfig, *, fused: bool = False, half: bool | None = None
) -> list[Optimizer]:
    """Return the optimisers of a network; each group has its share of the learning rate.

    Args:
        net: The network; its `blocks` hold the matrices.
        config: Names the optimiser and the learning rate.
        fused: Whether AdamW works on all weights in one kernel.
        half: Whether Muon orthogonalises in bf16; by default on a graphics card only.
    """
    # The six modulations of a block are a table, whatever their shape: they do not count.
    matrices = [p for p in net.blocks.parameters() if p.ndim == 2 and min(p.shape) > 6]
    # Compare by identity: `in` would compare the values of tensors.
    chosen = {id(p) for p in matrices}
    rest = [p for p in net.parameters() if id(p) not in chosen]
    plain = [{"params": rest, "weight_decay": 0.0, "share": 1.0}]
    decaying = {"params": matrices, "weight_decay": _WEIGHT_DECAY}
    if config.optimiser == "adamw":
        plain.append({**decaying, "share": 1.0})
    out: list[Optimizer] = [
        torch.optim.AdamW(plain, lr=config.lr, betas=_BETAS, fused=fused or None)
    ]
    if config.optimiser == "muon":
        groups = [{**decaying, "share": _MUON}]
        out.append(Muon(groups, lr=_MUON * config.lr, momentum=0.95, half=half))
    return out


def rate(step: int, config: TrainConfig) -> float:
    """Return the share of the learning rate at a step; see `lr_share`.

    Example:
        >>> config = TrainConfig(steps=10, warmup=2, decay=0.4)
        >>> [rate(step, config) for step in (0, 1, 5, 8, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.25]
    """
    return lr_share(step, steps=config.steps, warmup=config.warmup, decay=config.decay)


def set_rate(chosen: list[Optimizer], step: int, config: TrainConfig) -> None:
    """Set the learning rate of every group of parameters for a step."""
    for optimiser in chosen:
        for group in optimiser.param_groups:
            group["lr"] = group["share"] * config.lr * rate(step, config)
