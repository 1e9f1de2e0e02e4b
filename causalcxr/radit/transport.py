"""Transport: edit an image along the flow without inverting it to noise.

The image z_0 = x moves from the factual variables c to those of the twin, c*, along the difference
of the two velocities. At each time t, from noise (0) to image (1), new noise n is drawn, and both
velocities are evaluated at states on the path from it:

    y = (1 - t) n + t x
    dz = w [ v(y + z - x, t; c*) - v(y, t; c) ] dt

The change is the mean of several such edits. Under equal variables both velocities are the same,
so the null intervention returns the image bit for bit with any network.

References:
    FlowEdit: Inversion-Free Text-Based Editing Using Pre-Trained Flow Models (Kulikov et al.),
    arXiv:2412.08629.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

__all__ = ["transport_change"]

Velocity = Callable[[Tensor, float], Tensor]


def transport_change(
    factual: Velocity,
    twin: Velocity,
    x: Tensor,
    noise: Callable[[int, int], Tensor],
    grid: list[float],
    *,
    edits: int,
    weight: float | Tensor,
) -> Tensor:
    """Return the difference between images and their twins, (B, C, H, W), float64.

    Args:
        factual: The velocity v(y, t; c) under the factual variables.
        twin: The velocity under the variables of the twins.
        x: The images, or their latents, (B, C, H, W), float64.
        noise: (edit, step) -> standard normal numbers of the shape of `x`.
        grid: Times from 0 to 1.
        edits: The number of edits that are averaged, 1 or more.
        weight: w; one for all images, or one for each, (B,).

    Example:
        >>> x = torch.zeros(1, 1, 2, 2, dtype=torch.float64)
        >>> still, brighter = (lambda y, t, b=b: b * torch.ones_like(y) for b in (0.0, 0.5))
        >>> normal = lambda edit, step: torch.zeros_like(x)
        >>> grid = [0.0, 0.5, 1.0]
        >>> transport_change(still, brighter, x, normal, grid, edits=2, weight=1.0).max()
        tensor(0.5000, dtype=torch.float64)
    """
    if isinstance(weight, Tensor):
        weight = weight.to(x).view(-1, 1, 1, 1)
    total = torch.zeros_like(x)
    for edit in range(edits):
        change = torch.zeros_like(x)
        for step, (t, later) in enumerate(pairwise(grid)):
            # Both velocities see the same noise: under equal variables they cancel exactly.
            y = (1 - t) * noise(edit, step) + t * x
            moved = twin(y + change, t).double() - factual(y, t).double()
            change = change + weight * (later - t) * moved
        total = total + change
    return total / edits
