"""A monotone map from a variable's units to normal scores, from its training quantiles."""

import torch
from torch import Tensor, nn

from causalcxr.mechanisms.lookup import count_up_to

__all__ = ["QuantileNormal", "Standard", "is_skewed"]

_SMALLEST = 1e-3  # of the smallest training value: below it the logarithm becomes a straight line
_LARGEST = 700.0  # exp of more is infinite

_TIE = 1e-9  # knots closer than this fraction of the spread are merged
_TAIL = 4  # a tail's slope is the secant over this many gaps, less noisy than the last gap


class QuantileNormal(nn.Module):
    """Map x to z so that the training values are about standard normal.

    Piecewise linear between knots (quantiles against normal scores), linear with a positive slope
    beyond them, so a value outside the training range still maps to a finite z and back. Without
    it, the tail of a skewed variable would be outside the box in which a spline can bend.

    Two simpler forms keep a smooth distribution smooth: "line" maps the mean to 0 and the standard
    deviation to 1; "log" does the same for log x, so that no twin of a positive number is
    negative.

    Args:
        knots: The number of knots. Ties are merged; the buffers keep this size, and are filled up
            along the right tail.

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
        self.register_buffer("floor", torch.zeros((), dtype=torch.float64))

    def fit(self, x: Tensor, resolution: float | None = None, form: str = "quantile") -> None:
        """Place the knots.

        Args:
            x: Training values, shape (n,); NaN is left out. Without any value, the map stays the
                identity.
            resolution: The step of the lattice on which values are recorded, if any: ties are
                spread evenly over their cell.
            form: "quantile", "line", or "log", which needs values above zero.
        """
        x = x[~torch.isnan(x)].double().sort().values
        if len(x) == 0:
            return
        # The logarithm needs a floor; other forms have none.
        self.floor.fill_(_SMALLEST * x[0] if form == "log" else 0.0)
        # A straight line in curved units: every gap has the same slope.
        if form != "quantile":
            line = torch.linspace(-1.0, 1.0, len(self.x), dtype=torch.float64)
            centre, scale = _moments(_curved(x, self.floor))
            self._place(centre + scale * line, line)
            return
        if resolution is not None:
            x = _spread(x, resolution)
        xs, zs = _knots(x, len(self.x))
        if len(xs) == 1:  # a single value: any width is correct
            width = resolution or max(abs(xs.item()), 1.0)
            xs, zs = torch.stack((xs - width, xs + width)).flatten(), torch.tensor([-1.0, 1.0])
        self._place(xs, zs.double())

    def _place(self, xs: Tensor, zs: Tensor) -> None:
        """Write the knots into the buffers, filled up along the right tail."""
        far = min(_TAIL, len(xs) - 1)
        left = (zs[far] - zs[0]) / (xs[far] - xs[0])
        right = (zs[-1] - zs[-1 - far]) / (xs[-1] - xs[-1 - far])
        # Unused knots lie along the right tail, where they change nothing.
        more = torch.arange(1, len(self.x) - len(xs) + 1, dtype=torch.float64)
        xs = torch.cat((xs, xs[-1] + more / right))
        zs = torch.cat((zs, zs[-1] + more))
        self.x.copy_(xs)
        self.z.copy_(zs)
        self.slope.copy_(torch.cat((left[None], zs.diff() / xs.diff(), right[None])))

    def forward(self, x: Tensor) -> Tensor:
        """Return z, of the shape of x."""
        x = _curved(x, self.floor)
        i = count_up_to(self.x, x)
        k = (i - 1).clamp(min=0)
        return self.z[k] + self.slope[i] * (x - self.x[k])

    def inverse(self, z: Tensor) -> Tensor:
        """Return x, of the shape of z."""
        i = count_up_to(self.z, z)
        k = (i - 1).clamp(min=0)
        return _straightened(self.x[k] + (z - self.z[k]) / self.slope[i], self.floor)

    def log_derivative(self, x: Tensor) -> Tensor:
        """Return log dz/dx, of the shape of x."""
        y = _curved(x, self.floor).contiguous()
        slope = self.slope[torch.searchsorted(self.x, y, right=True)].log()
        return slope - x.clamp(min=self.floor).log() if self.floor > 0 else slope


class Standard(nn.Module):
    """Map x to (x - mean) / sd, or log x to the same where that is less skewed.

    Example:
        >>> standard = Standard()
        >>> standard.fit(torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64))
        >>> round(standard(torch.tensor([10.0], dtype=torch.float64)).item(), 6)
        0.0
    """

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("floor", torch.zeros((), dtype=torch.float64))
        self.register_buffer("centre", torch.zeros((), dtype=torch.float64))
        self.register_buffer("scale", torch.ones((), dtype=torch.float64))

    def fit(self, x: Tensor) -> None:
        """Set mean and standard deviation from the training values, shape (n,), without NaN."""
        x = x[~torch.isnan(x)].double()
        if len(x) == 0:
            return
        self.floor.zero_()
        # Skewed values are standardised on the log scale.
        if is_skewed(x):
            self.floor.fill_(_SMALLEST * x.min())
        centre, scale = _moments(_curved(x, self.floor))
        self.centre.copy_(centre)
        self.scale.copy_(scale)

    def forward(self, x: Tensor) -> Tensor:
        """Return the standardised values, of the shape of x."""
        return (_curved(x, self.floor) - self.centre) / self.scale


def is_skewed(x: Tensor) -> bool:
    """Return whether all values, shape (n,), are above zero and their logarithm is less skewed."""
    return bool((x > 0).all()) and _skewness(x.log()) < _skewness(x)


def _curved(x: Tensor, floor: Tensor) -> Tensor:
    """Return log x, a straight line below the floor; x itself where the floor is zero."""
    if floor == 0:
        return x
    return torch.where(x > floor, x.clamp(min=floor).log(), floor.log() + (x - floor) / floor)


def _straightened(y: Tensor, floor: Tensor) -> Tensor:
    """Return the inverse of `_curved`."""
    if floor == 0:
        return y
    low = floor.log()
    return torch.where(y > low, y.clamp(low, _LARGEST).exp(), floor * (1 + y - low))


def _moments(x: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation; if that is zero, a width of the value's own size."""
    centre, scale = x.mean(), x.std(correction=0)
    return centre, scale if scale > _TIE * centre.abs() else centre.abs().clamp(min=1.0)


def _skewness(x: Tensor) -> float:
    """Return the absolute value of the third standardised moment."""
    centre, scale = _moments(x)
    return ((x - centre) / scale).pow(3).mean().abs().item()


def _spread(x: Tensor, resolution: float) -> Tensor:
    """Spread sorted, tied values evenly over their cells."""
    first = torch.searchsorted(x, x)
    count = torch.searchsorted(x, x, right=True) - first
    lift = (torch.arange(len(x)) - first + 0.5) / count
    return x + resolution * (lift - 0.5)


def _knots(x: Tensor, most: int) -> tuple[Tensor, Tensor]:
    """Return knots of sorted values and their normal scores, ties merged."""
    n_knots = max(8, min(most, len(x) // 20))
    # About five values lie beyond the last knot.
    beyond = torch.tensor(min(0.25, 5.0 / len(x)), dtype=torch.float64)
    reach = -torch.special.ndtri(beyond).clamp(min=-4.0)
    zs = torch.linspace(-1.0, 1.0, n_knots, dtype=torch.float64) * reach
    # The quantiles at even normal scores, interpolated between sorted values.
    at = torch.special.ndtr(zs) * (len(x) - 1)
    low = at.floor().long().clamp(max=len(x) - 1)
    high = (low + 1).clamp(max=len(x) - 1)
    xs = torch.lerp(x[low], x[high], at - low)
    # Knots that nearly coincide become one, at their mean: a slope must stay finite.
    tie = _TIE * max((x[-1] - x[0]).item(), 1e-12 * x.abs().max().item(), 1e-300)
    group = torch.cat((torch.zeros(1, dtype=torch.long), (xs.diff() > tie).cumsum(0)))
    size = torch.bincount(group).double()
    return (
        torch.zeros_like(size).index_add_(0, group, xs) / size,
        torch.zeros_like(size).index_add_(0, group, zs) / size,
    )
