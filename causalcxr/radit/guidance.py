"""Guidance: a stronger effect of some variables, relative to the velocity without them.

With d the effect of the variables S on the velocity, r its root mean square at a place of 4 x 4
pixels, w the guidance and h the threshold,

    d = v(all) - v(all but S),    v = v(all but S) + w max(0, 1 - (h / r)^2) d

Weights above one strengthen the effect of S; if S is all variables, this is classifier-free
guidance. A threshold removes weak effects and hardly changes strong ones: in a network trained on
limited data, one variable changes the velocity a little everywhere, and a twin drifts where it
should not change. It is the non-negative garrote of one coefficient, place by place.

For an intervention, only the variables intervened on and their descendants are guided; the others
keep weight one and no threshold.

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

__all__ = ["guided_velocity", "soft_threshold", "typical_strength"]


def guided_velocity(
    net: RadiT,
    columns: dict[str, Tensor],
    rows: int,
    weight: float = 1.0,
    names: Iterable[str] = (),
    threshold: float = 0.0,
) -> Callable[[Tensor, float], Tensor]:
    """Return the velocity at (x, t) under variables, some of them guided.

    Args:
        net: The network.
        columns: The variables, each (B,), float32, where the network is.
        rows: B.
        weight: w; 1 is no guidance.
        names: S, the variables to guide; names that the network does not have are ignored.
        threshold: h, in units of the velocity; 0 keeps all effects.
    """
    # Embed once: the conditions do not change along the path.
    condition = net.embed_condition(columns, rows)
    hidden = {n: torch.full_like(columns[n], torch.nan) for n in names if n in columns}
    # Without guidance the second call of the network is spared.
    plain = (weight == 1 and not threshold) or not hidden
    without = None if plain else net.embed_condition(columns | hidden, rows)

    def velocity(x: Tensor, t: float) -> Tensor:
        x, t = x.float(), torch.full((rows,), t, device=x.device)
        v = net(x, t, condition)
        if without is None:
            return v
        base = net(x, t, without)
        if threshold:
            return base + weight * soft_threshold(v - base, threshold)
        # The formula above for h = 0.
        return v + (weight - 1) * (v - base)

    return velocity


def soft_threshold(change: Tensor, threshold: float | Tensor, *, smooth: bool = False) -> Tensor:
    """Return changes (B, C, H, W) where they are strong, and zero where they are weak.

    Args:
        change: The changes.
        threshold: The root mean square at a place of 4 x 4 pixels up to which a change is zero;
            one for all images, or one for each, (B,).
        smooth: Whether the share that is kept changes gradually from place to place, so that no
            edge of a place is visible in the image.

    Example:
        >>> change = torch.full((1, 1, 4, 8), 0.1)
        >>> change[..., 4:] = 1.0
        >>> soft_threshold(change, 0.5)[0, 0, 0, ::4]
        tensor([0.0000, 0.7500])
    """
    height, width = change.shape[2:]
    least = torch.as_tensor(threshold, dtype=change.dtype, device=change.device).view(-1, 1, 1, 1)
    power = _power(change)
    # One factor per place, 0 where the strength is at or below the threshold.
    kept = (1 - least**2 / power.clamp(min=1e-12)).clamp(min=0)
    places = (min(PLACE, height), min(PLACE, width))
    # Back to pixels; places at the edge may reach beyond the image, so cut.
    mode = "bilinear" if smooth else "nearest"
    return change * interpolate(kept, scale_factor=places, mode=mode)[..., :height, :width]


def typical_strength(change: Tensor) -> Tensor:
    """Return the strength of changes (B, C, H, W) where most of the change is, (B,).

    With r the root mean square at a place of 4 x 4 pixels, this is sqrt(sum r^4 / sum r^2): the
    root of the mean of r^2, each place weighted by its share of the change. A change that fills
    the image and one that fills a corner have the same strength where they act.

    Example:
        >>> change = torch.zeros(1, 1, 8, 8)
        >>> change[..., :4, :4] = 0.5
        >>> typical_strength(change)
        tensor([0.5000])
    """
    power = _power(change).flatten(1)
    return (power.square().sum(1) / power.sum(1).clamp(min=1e-12)).sqrt()


def _power(change: Tensor) -> Tensor:
    """Return the mean square at each place of 4 x 4 pixels, (B, 1, h, w)."""
    # An image smaller than a place is one place.
    places = [min(PLACE, side) for side in change.shape[2:]]
    return avg_pool2d(change.square().mean(1, keepdim=True), places, ceil_mode=True)
