"""Transport: edit an image along the flow without inverting it to noise.

The image z_0 = x moves from the factual variables c to those of the twin, c*, along the difference
of the two velocities. At each time t, from noise (0) to image (1), new noise n is drawn, and both
velocities are evaluated at states on the path from it:

    y = (1 - t) n + t x
    dz = w(t) [ v(y + z - x, t; c*) - v(y, t; c) ] dt,    w(t) = w (5 / 6 + t / 3)

The weight rises with t, as networks underestimate details more than coarse changes; its mean is w.
The change is the mean of several such edits. Under equal variables both velocities are the same,
so the null intervention returns the image bit for bit with any network.

References:
    FlowEdit: Inversion-Free Text-Based Editing Using Pre-Trained Flow Models (Kulikov et al.),
    arXiv:2412.08629.
"""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor, nn

from causalcxr.radit.guidance import guided_velocity
from causalcxr.radit.solvers import times

__all__ = ["network_change", "transport_change"]

_RISE = 1 / 3  # of the weight, from noise to image, as a share of its mean

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
        weight: w, the mean weight; one for all images, or one for each, (B,).

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
            rising = 1 + _RISE * ((t + later) / 2 - 0.5)
            change = change + weight * rising * (later - t) * moved
        total = total + change
    return total / edits


def network_change(
    net: nn.Module,
    x: Tensor,
    before: dict[str, Tensor],
    after: dict[str, Tensor],
    noise: Callable[[int, int], Tensor],
    *,
    steps: int,
    edits: int,
    weight: float | Tensor,
) -> Tensor:
    """Return the change of images that one network makes, (B, C, H, W), float64.

    A network that knows the places of its variables changes the image there only.

    Args:
        net: The network.
        x: The images, or their latents, (B, C, H, W), float64.
        before: The factual variables, each (B,), where the network is.
        after: The variables of the twins.
        noise: See `transport_change`.
        steps: Steps of an edit.
        edits: The number of edits that are averaged.
        weight: See `transport_change`.
    """
    # Neither velocity is guided: the weight acts on their difference.
    change = transport_change(
        guided_velocity(net, before, len(x)),
        guided_velocity(net, after, len(x)),
        x,
        noise,
        times(steps, shift=1.0)[::-1],
        edits=edits,
        weight=weight,
    )
    if (mean := getattr(net, "mean", None)) is None:
        return change
    return change * mean.reach(before, after, x.shape[-2:])
