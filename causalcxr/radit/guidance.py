"""Guidance: another say for some variables, by comparing with what the others alone would do.

With d what the variables S do to the velocity, r its root mean square at a place of 4 x 4 pixels,
w the guidance and h the threshold,

    d = v(all) - v(all but S),    v = v(all but S) + w max(0, 1 - (h / r)^2) d

Weights above one give S a stronger say; with S all variables that is classifier-free guidance. A
threshold takes away what is weak, and hardly what is strong: a network that has not seen
everything lets one variable change its velocity a little everywhere, and a twin then drifts where
it should have stayed. It is the non-negative garrote of one coefficient, place by place.

A question about an intervention guides what is intervened on and its descendants only; the rest
stays at weight one and no threshold.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans), arXiv:2207.12598.
    Decoupled guidance for counterfactuals (Xia et al.), arXiv:2506.14399.
    Better Subset Regression Using the Nonnegative Garrote (Breiman), Technometrics 37, 1995.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from causalcxr.radit.flow import PLACE
from causalcxr.radit.transformer import RadiT

__all__ = ["guided_velocity", "strong"]


def guided_velocity(
    net: RadiT,
    columns: dict[str, Tensor],
    rows: int,
    weight: float,
    names: Iterable[str],
    threshold: float = 0.0,
) -> Callable[[Tensor, float], Tensor]:
    """Return the velocity at (x, t) under variables, some of them guided.

    Args:
        net: The network.
        columns: The variables, each (B,), float32, where the network is.
        rows: B.
        weight: w; 1 guides nothing.
        names: S, the variables to guide; those the network does not read are passed over.
        threshold: h, in units of the velocity; 0 keeps all that they do.
    """
    condition = net.embed_condition(columns, rows)
    chosen = {n: torch.full_like(columns[n], torch.nan) for n in names if n in columns}
    plain = (weight == 1 and not threshold) or not chosen
    without = None if plain else net.embed_condition(columns | chosen, rows)

    def velocity(x: Tensor, t: float) -> Tensor:
        x, t = x.float(), torch.full((rows,), t, device=x.device)
        v = net(x, t, condition)
        if without is None:
            return v
        base = net(x, t, without)
        if threshold:
            return base + weight * strong(v - base, threshold)
        return v + (weight - 1) * (v - base)

    return velocity


def strong(change: Tensor, threshold: float) -> Tensor:
    """Return changes (B, C, H, W) where they are strong, and nought where they are weak.

    Args:
        change: What is to be thinned out.
        threshold: The root mean square at a place of 4 x 4 pixels up to which nothing is kept.

    Example:
        >>> change = torch.full((1, 1, 4, 8), 0.1)
        >>> change[..., 4:] = 1.0
        >>> strong(change, 0.5)[0, 0, 0, ::4]
        tensor([0.0000, 0.7500])
    """
    height, width = change.shape[2:]
    places = (min(PLACE, height), min(PLACE, width))
    power = avg_pool2d(change.square().mean(1, keepdim=True), places, ceil_mode=True)
    kept = (1 - threshold**2 / power.clamp(min=1e-12)).clamp(min=0)
    return change * interpolate(kept, scale_factor=places)[..., :height, :width]
