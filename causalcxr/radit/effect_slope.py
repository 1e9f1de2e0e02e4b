"""How large an effect of a flow is, beside the same effect in a regression of images.

    s = sum_i <g F_i, M_i> / sum_i <g M_i, M_i>

F_i is the change that transport makes of record i if one variable has another value, M_i the
change of the regression's mean image, and g the share of each place that the regression keeps.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from causalcxr.radit.guidance import typical_strength
from causalcxr.radit.mean_image import MeanImage
from causalcxr.radit.transformer import RadiT
from causalcxr.radit.transport import network_change

__all__ = ["EffectSlope"]

Columns = dict[str, Tensor]
_STEPS = 8
_AT_ONCE = 32  # records


@dataclass(frozen=True)
class EffectSlope:
    """The slope of one variable's effect in a flow on its effect in a regression.

    Args:
        products: <g F, M>, (n,).
        squares: <g M, M>, (n,).
        power: The mean of M^2, (1, 1, h, w).
    """

    products: Tensor
    squares: Tensor
    power: Tensor

    @classmethod
    def measured(
        cls,
        net: RadiT,
        mean: MeanImage,
        name: str,
        images: Tensor,
        facts: Columns,
        others: Columns,
        generator: torch.Generator,
    ) -> "EffectSlope":
        """Return the effect of one variable in the flow and in the regression."""
        expected = (mean(others) - mean(facts)).double()
        size = expected.shape[-2:]
        kept = interpolate(mean.gates[None, mean.names.index(name), None], size).double()
        products, power = [], expected.square()
        starts = range(0, len(images), _AT_ONCE) if expected.any() else ()
        for start in starts:
            part = slice(start, start + _AT_ONCE)
            before, after = ({n: c[part] for n, c in each.items()} for each in (facts, others))
            x = images[part].double()

            def noise(edit: int, step: int, x: Tensor = x) -> Tensor:
                return torch.randn(x.shape, generator=generator, dtype=x.dtype)

            # One edit at weight 1, without a threshold.
            change = network_change(
                net, x, before, after, noise, steps=_STEPS, edits=1, weight=1.0
            )
            change = adaptive_avg_pool2d(change, size)
            products.append((kept * change * expected[part]).flatten(1).sum(1))
        return cls(
            torch.cat(products) if products else torch.zeros(len(images), dtype=torch.float64),
            (kept * power).flatten(1).sum(1),
            power.mean((0, 1), keepdim=True),
        )

    @property
    def numbers(self) -> tuple[float, float, float, float]:
        """Slope, its standard error, the local share and the size of the effect."""
        whole = self.squares.sum()
        if not whole:
            return (torch.nan, torch.nan, torch.nan, 0.0)
        # The jackknife: leave out one record at a time.
        others = (self.products.sum() - self.products) / (whole - self.squares).clamp(min=1e-12)
        n = len(others)
        error = ((n - 1) / n * (others - others.mean()).square().sum()).sqrt()
        error = error if n > 1 else torch.tensor(torch.nan)
        strength = self.power.sqrt()
        share = strength.square().mean().sqrt() / typical_strength(strength)[0]
        size = self.power.sum().sqrt()
        return (float(self.products.sum() / whole), float(error), float(share), float(size))
