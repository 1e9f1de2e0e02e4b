"""Features of columns, with which a regression predicts the mean image."""

from dataclasses import dataclass

import torch
from torch import Tensor

from causalcxr.graph.variables import Variable

__all__ = ["Meaning", "differs"]

# Hat functions of a number. Children grow and adults hardly change: powers would bend both alike.
_KNOTS = 12


def differs(a: Tensor, b: Tensor) -> Tensor:
    """Return where two columns differ, (B,) bool; missing values are equal."""
    return (a != b) & ~(a.isnan() & b.isnan())


@dataclass(frozen=True)
class Meaning:
    """The meaning of a column: the levels of a discrete variable, or the range of a number.

    Example:
        >>> Meaning("Age", range=(0.0, 110.0)).features(torch.tensor([15.0]))[0, 1:4]
        tensor([0.0000, 0.5000, 0.5000])
    """

    name: str
    levels: tuple[str, ...] = ()
    range: tuple[float, float] = (-1.0, 1.0)
    knots: int = _KNOTS  # hat functions of a number; 0 for three powers, as in older files

    @classmethod
    def from_variable(cls, variable: Variable) -> "Meaning":
        """Return the meaning of a variable's column."""
        if variable.is_discrete:
            return cls(variable.name, tuple(variable.levels))
        low, high = variable.range or (-1.0, 1.0)
        return cls(variable.name, range=(float(low), float(high)))

    @property
    def width(self) -> int:
        """The number of features."""
        return len(self.levels) or (1 + self.knots if self.knots else 3)

    def features(self, x: Tensor) -> Tensor:
        """Return the features of a column (n,), (n, width); NaN where it is missing."""
        if self.levels:
            codes = torch.arange(len(self.levels), device=x.device)
            out = (x[:, None] == codes).to(x.dtype)
            return torch.where(x.isnan()[:, None], torch.nan, out)
        low, high = self.range
        unit = ((x - low) / (high - low))[:, None]
        if not self.knots:
            return torch.cat([unit, unit**2, unit**3], 1)
        places = torch.linspace(0, 1, self.knots, dtype=x.dtype, device=x.device)
        # Where a hat's coefficient is dropped, the line goes straight on.
        hats = (1 - (unit - places).abs() * (self.knots - 1)).clamp(min=0)
        return torch.cat([unit, hats], 1)
