"""A monotone map from a variable's own units to normal scores, read off its training quantiles."""

import torch
from torch import Tensor, nn

from causalcxr.mechanisms.lookup import count_up_to

__all__ = ["QuantileNormal"]

_TIE = 1e-9  # knots nearer than this fraction of the spread are one knot
_TAIL = 4  # a tail's slope is the secant over this many gaps, steadier than the last gap alone


class QuantileNormal(nn.Module):
    """Map x to z so that the training values look standard normal.

    Piecewise linear between knots (quantiles against normal scores), linear with a positive slope
    beyond them, so a value never met in training still maps to a finite z and back. A skewed
    variable would otherwise spend its tail outside the box in which a spline can bend.

    Args:
        knots: How many knots are kept. Ties merge; the buffers keep this size, filled along the
            right tail.

    Example:
        >>> quantile = QuantileNormal()
        >>> quantile.fit(torch.linspace(0, 10, 1001, dtype=torch.float64))
        >>> round(quantile(torch.tensor([5.0], dtype=torch.float64)).item(), 6)
        0.0
    """

    def __init__(self, knots: int = 64) -> None:
        super().__init__()
        line = torch.linspace(-1.0, 1.0, knots, dtype=torch.float64)
        self.register_buffer("x", line.clone())
        self.register_buffer("z", line.clone())
        self.register_buffer("slope", torch.ones(knots + 1, dtype=torch.float64))

    def fit(self, x: Tensor, resolution: float | None = None) -> None:
        """Place the knots.

        Args:
            x: Training values, shape (n,); NaN is left out. None at all leaves the identity.
            resolution: The lattice step, if values are recorded on one: ties are spread evenly
                over their cell.
        """
        x = x[~torch.isnan(x)].double().sort().values
        if len(x) == 0:
            return
        if resolution is not None:
            x = _spread(x, resolution)
        xs, zs = _knots(x, len(self.x))
        if (
            len(xs) == 1
        ):  # one value only: any width will do, the value's own scale is as good as any
            width = resolution or max(abs(xs.item()), 1.0)
            xs, zs = torch.stack((xs - width, xs + width)).flatten(), torch.tensor([-1.0, 1.0])
        self._place(xs, zs.double())

    def _place(self, xs: Tensor, zs: Tensor) -> None:
        """Write the knots into the buffers, filled up along the right tail."""
        far = min(_TAIL, len(xs) - 1)
        left = (zs[far] - zs[0]) / (xs[far] - xs[0])
        right = (zs[-1] - zs[-1 - far]) / (xs[-1] - xs[-1 - far])
        more = torch.arange(1, len(self.x) - len(xs) + 1, dtype=torch.float64)
        xs = torch.cat((xs, xs[-1] + more / right))
        zs = torch.cat((zs, zs[-1] + more))
        self.x.copy_(xs)
        self.z.copy_(zs)
        self.slope.copy_(torch.cat((left[None], zs.diff() / xs.diff(), right[None])))

    def forward(self, x: Tensor) -> Tensor:
        """Return z, of the shape of x."""
        i = count_up_to(self.x, x)
        k = (i - 1).clamp(min=0)
        return self.z[k] + self.slope[i] * (x - self.x[k])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x, of the shape of z."""
        i = count_up_to(self.z, z)
        k = (i - 1).clamp(min=0)
        return self.x[k] + (z - self.z[k]) / self.slope[i]

    def log_derivative(self, x: Tensor) -> Tensor:
        """Return log dz/dx, of the shape of x."""
        return self.slope[torch.searchsorted(self.x, x.contiguous(), right=True)].log()


def _spread(x: Tensor, resolution: float) -> Tensor:
    """Spread sorted, tied values evenly over their cells."""
    first = torch.searchsorted(x, x)
    count = torch.searchsorted(x, x, right=True) - first
    lift = (torch.arange(len(x)) - first + 0.5) / count
    return x + resolution * (lift - 0.5)


def _knots(x: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return knots of sorted values and their normal scores, ties merged."""
    many = max(8, min(most, len(x) // 20))
    beyond = torch.tensor(
        min(0.25, 5.0 / len(x)), dtype=torch.float64
    )  # about five values past a knot
    reach = -torch.special.ndtri(beyond).clamp(min=-4.0)
    zs = torch.linspace(-1.0, 1.0, many, dtype=torch.float64) * reach
    at = torch.special.ndtr(zs) * (len(x) - 1)
    low = at.floor().long().clamp(max=len(x) - 1)
    high = (low + 1).clamp(max=len(x) - 1)
    xs = torch.lerp(x[low], x[high], at - low)
    tie = _TIE * max((x[-1] - x[0]).item(), 1e-12 * x.abs().max().item(), 1e-300)
    group = torch.cat((torch.zeros(1, dtype=torch.long), (xs.diff() > tie).cumsum(0)))
    size = torch.bincount(group).double()
    return (
        torch.zeros_like(size).index_add_(0, group, xs) / size,
        torch.zeros_like(size).index_add_(0, group, zs) / size,
    )
