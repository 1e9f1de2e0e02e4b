"""The equation of a flow: an increasing map between a value and its noise."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Equation, chunks
from causalcxr.mechanisms.cells import log_density, push_cell, truncated_normal

if TYPE_CHECKING:
    from causalcxr.mechanisms.flow import FlowMechanism

__all__ = ["FlowEquation"]


class FlowEquation(Equation):
    """An increasing map between a value and its noise u ~ N(0, 1), shape (n,).

    On a lattice, x stands for a cell: the posterior of u given x is N(0, 1) restricted to the
    image of that cell, and `abduct` draws from exactly that. The lift inside the cell is thereby
    part of u, and x returns bit for bit. The outermost cells of a range reach to infinity, as
    values beyond are recorded there.

    Args:
        mechanism: The mechanism with its parameters.
        context: Encoded parents, shape (n, d), or (1, 0) without parents.
    """

    def __init__(self, mechanism: "FlowMechanism", context: Tensor) -> None:
        self.mechanism = mechanism
        self.context = context

    @torch.no_grad()
    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n,): the one that gives x, or on a lattice a posterior draw."""
        x, missing = self._filled(x)
        lattice = self.mechanism.numbers.resolution is not None
        v = torch.from_numpy(draws.uniform()[:, 0]) if lattice else None
        u = torch.empty_like(x)
        # Chunk by chunk, so that memory does not grow with the records.
        for rows in chunks(len(x)):
            bound, ends = self._bind(rows), self.mechanism.ends(x[rows])
            # A cell has many noises: draw one of them. A point has one.
            if lattice:
                u[rows] = truncated_normal(*push_cell(bound, ends), v[rows])
            else:
                u[rows] = bound(ends[0])
        return self._finite(u, missing)

    @torch.no_grad()
    def predict(self, u: Tensor) -> Tensor:
        """Return x, shape (n,), rounded to what the variable records, inside its range."""
        missing = u.isnan()
        u = u.masked_fill(missing, 0.0)
        x = torch.empty_like(u)
        for rows in chunks(len(u)):
            z = self._bind(rows).inverse(u[rows])
            x[rows] = self.mechanism.rounding(self.mechanism.quantile.inverse(z))
        return self._finite(x, missing)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ N(0, 1), shape (n,)."""
        return torch.from_numpy(draws.normal()[:, 0])

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-density in raw units, or on a lattice the log-mass, shape (n,)."""
        x, missing = self._filled(x)
        parts = []
        for rows in chunks(len(x)):
            ends = self.mechanism.ends(x[rows])
            logp = log_density(self._bind(rows), ends)
            # A density depends on the units, a mass does not.
            if len(ends) == 1:
                logp = logp + self.mechanism.quantile.log_derivative(x[rows])
            parts.append(logp)
        return torch.cat(parts).masked_fill(missing, torch.nan) if parts else x

    def _bind(self, rows: slice) -> Any:
        context = self.context
        return self.mechanism.kernel.bind(context if len(context) == 1 else context[rows])

    def _finite(self, values: Tensor, missing: Tensor) -> Tensor:
        """Return values, NaN where they are missing.

        Raises:
            MechanismError: If a value is infinite or undefined.
        """
        overflowed = ~values.isfinite() & ~missing
        if overflowed.any():
            raise MechanismError(
                f"variable {self.mechanism.variable.name!r}: {int(overflowed.sum())} of "
                f"{len(values)} values are not finite; it or its parents are too far from the "
                "training values"
            )
        return values.masked_fill_(missing, torch.nan)

    def _filled(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return x with missing values filled by its middle, and which were missing."""
        x = self.mechanism.checked(x)
        missing = x.isnan()
        middle = self.mechanism.rounding(self.mechanism.quantile.inverse(torch.zeros(1).double()))
        return torch.where(missing, middle, x), missing
