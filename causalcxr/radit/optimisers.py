"""Optimisers: Muon for the matrices of the blocks and AdamW for the rest, or AdamW for all.

References:
    Decoupled Weight Decay Regularization (Loshchilov & Hutter), arXiv:1711.05101.
"""

import torch
from torch.optim import Optimizer

from causalcxr.radit.muon import Muon
from causalcxr.radit.train_config import TrainConfig
from causalcxr.radit.transformer import RadiT

__all__ = ["optimisers", "rate", "set_rate"]

_MUON = 10.0  # Muon's learning rate over AdamW's
_BETAS = (0.9, 0.98)
_WEIGHT_DECAY = 0.01  # of matrices; what is added, scaled or looked up does not decay


def optimisers(net: RadiT, config: TrainConfig, *, fused: bool = False) -> list[Optimizer]:
    """Return the optimisers of a network; each group knows its share of the learning rate.

    Args:
        net: The network; its `blocks` hold the matrices.
        config: Says which, and the rate.
        fused: Whether AdamW works on all weights in one kernel.
    """
    # The six modulations of a block are a table, whatever their shape.
    matrices = [p for p in net.blocks.parameters() if p.ndim == 2 and min(p.shape) > 6]
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
        out.append(Muon(groups, lr=_MUON * config.lr, momentum=0.95))
    return out


def rate(step: int, config: TrainConfig) -> float:
    """Return the share of the learning rate at a step: warm-up, plateau, linear decay.

    Example:
        >>> config = TrainConfig(steps=10, warmup=2, decay=0.4)
        >>> [rate(step, config) for step in (0, 1, 5, 8, 9)]
        [0.5, 1.0, 1.0, 0.5, 0.25]
    """
    left = (config.steps - step) / max(1.0, config.decay * config.steps)
    return min(1.0, (step + 1) / max(1, config.warmup), left)


def set_rate(chosen: list[Optimizer], step: int, config: TrainConfig) -> None:
    """Give every group of parameters its learning rate of a step."""
    for optimiser in chosen:
        for group in optimiser.param_groups:
            group["lr"] = group["share"] * config.lr * rate(step, config)
