"""Guidance: a stronger say for some variables, by leaving them out and going the other way.

    v = v(all) + (w - 1) (v(all) - v(all but S))

With S all variables this is classifier-free guidance. A question about an intervention guides what
is intervened on and its descendants only; the rest stays at weight one.

References:
    Classifier-Free Diffusion Guidance (Ho & Salimans), arXiv:2207.12598.
    Decoupled guidance for counterfactuals (Xia et al.), arXiv:2506.14399.
"""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from causalcxr.radit.transformer import RadiT

__all__ = ["guided_velocity"]


def guided_velocity(
    net: RadiT, columns: dict[str, Tensor], rows: int, weight: float, names: Iterable[str]
) -> Callable[[Tensor, float], Tensor]:
    """Return the velocity at (x, t) under variables, some of them guided.

    Args:
        net: The network.
        columns: The variables, each (B,), float32, where the network is.
        rows: B.
        weight: w; 1 guides nothing.
        names: S, the variables to guide; those the network does not read are passed over.
    """
    condition = net.embed_condition(columns, rows)
    chosen = {n: torch.full_like(columns[n], torch.nan) for n in names if n in columns}
    plain = weight == 1 or not chosen
    without = None if plain else net.embed_condition(columns | chosen, rows)

    def velocity(x: Tensor, t: float) -> Tensor:
        x, t = x.float(), torch.full((rows,), t, device=x.device)
        v = net(x, t, condition)
        if without is None:
            return v
        return v + (weight - 1) * (v - net(x, t, without))

    return velocity
