"""The values that a continuous variable can take: a lattice, or nine digits of its scale."""

import math

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.graph.graph import Variable
from causalcxr.graph.variables import LARGEST

__all__ = ["Rounding"]

_DIGITS = 9
_MOST = 300  # ten to a higher power is infinite


class Rounding(torch.nn.Module):
    """Round to what the variable records, so that 63.7 returns as exactly 63.7.

    With a resolution, to its multiples. Without, to nine digits of the variable's scale: far above
    what the last digits of a matrix product can change, so a value depends on neither batch size
    nor order (a value within one part in a million of a rounding edge may still move by one unit
    of the ninth digit).

    Args:
        variable: A continuous variable.
    """

    def __init__(self, variable: Variable) -> None:
        super().__init__()
        self.name = variable.name
        self.resolution = variable.resolution
        self.range = variable.range or (-math.inf, math.inf)
        digits = _DIGITS if self.resolution is None else _decimals(self.resolution)
        self.register_buffer("digits", torch.tensor(digits))

    def fit(self, x: Tensor) -> None:
        """Set the scale from the training values, shape (n,); a lattice has its own.

        Raises:
            MechanismError: If the values differ, but by too little for float64.
        """
        if self.resolution is not None:
            return
        spread = (x.max() - x.min()).item()
        if 0 < spread < 1 / LARGEST:
            raise MechanismError(
                f"variable {self.name!r}: all training values are within {spread:g} of each "
                f"other, less than {1 / LARGEST:g}; use another unit"
            )
        # Equal values have no spread: use their size, or 1 if they are 0.
        scale = x.std(correction=0).item() or x.abs().max().item() or 1.0
        self.digits.fill_(min(_DIGITS - math.ceil(math.log10(scale)), _MOST))

    def forward(self, x: Tensor) -> Tensor:
        """Return the nearest value that the variable can take, of the shape of x."""
        if self.resolution is not None:
            x = torch.round(x / self.resolution) * self.resolution
            low, high = self._ends()
        else:
            low, high = self.range
        return _decimal(x, int(self.digits)).clamp(low, high)

    def cell(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both ends of each value's cell, shape (n,); the outermost are unbounded."""
        low, high = self._ends()
        half = self.resolution / 2
        return (
            torch.where(x - half < low, -torch.inf, x - half),
            torch.where(x + half > high, torch.inf, x + half),
        )

    def forbidden(self, x: Tensor) -> Tensor:
        """Return which values the variable cannot take, shape (n,)."""
        is_bad = (x < self.range[0]) | (x > self.range[1])
        if self.resolution is not None:
            off = (torch.round(x / self.resolution) * self.resolution - x).abs()
            is_bad = is_bad | (off > 1e-9 * self.resolution + 1e-15 * x.abs())
        return is_bad

    @property
    def rule(self) -> str:
        """The values allowed, in words."""
        words = (
            "finite numbers" if self.resolution is None else f"multiples of {self.resolution:g}"
        )
        inside = "" if math.isinf(self.range[1]) else f" in [{self.range[0]:g}, {self.range[1]:g}]"
        return f"values must be {words}{inside}"

    def _ends(self) -> tuple[float, float]:
        """Return the first and the last lattice value inside the range."""
        r, (low, high) = self.resolution, self.range
        if math.isinf(low):
            return low, high
        return math.ceil(low / r - 1e-9) * r, math.floor(high / r + 1e-9) * r


def _decimals(number: float) -> int:
    """Return how many decimals a number is written with."""
    mantissa, _, exponent = f"{number:.12g}".partition("e")
    return max(0, len(mantissa.partition(".")[2]) - int(exponent or 0))


def _decimal(x: Tensor, digits: int) -> Tensor:
    """Round to decimals; dividing by a power of ten gives the double nearest to the decimal."""
    if digits >= 0:
        shifted = x * 10.0**digits
        return torch.where(shifted.isinf(), x, torch.round(shifted) / 10.0**digits)
    return torch.round(x / 10.0**-digits) * 10.0**-digits
