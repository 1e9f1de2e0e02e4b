"""Models whose images change with their parents, without the training that this would take."""

import torch

from causalcxr import SCM

__all__ = ["with_effects"]


def with_effects(model: SCM, scale: float = 0.05, seed: int = 3) -> SCM:
    """Return a model after its image network got random weights on top of its own.

    A few steps of training leave the weights so small that twins equal their radiographs when
    they are written. With these, every twin differs from its radiograph by several grey levels.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weights in model.fitted[model.graph.image].mechanism.net.parameters():
            noise = torch.randn(weights.shape, generator=generator, dtype=weights.dtype)
            weights.add_(scale * noise)
    return model
