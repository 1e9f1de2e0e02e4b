"""The flow whose noise is the pair of states of a reversible solver: its inverse is algebra."""

import torch
from torch import Tensor

from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import chunks
from causalcxr.mechanisms.cells import push_cell, truncated_normal
from causalcxr.mechanisms.flow_equation import FlowEquation

__all__ = ["PairEquation"]


class PairEquation(FlowEquation):
    """An ODE between a value and its noise (u, q), shape (n, 2), the two halves of one number.

    Both start at the value. The solver returns through bit-exactly the same states, with any
    number of steps, at the cost of one velocity per step. The drawback: in the prior the two
    halves are equal, for an observed value they differ by the solver's error, which falls with
    the square of the number of steps. The other solvers have one number as noise and no such gap.

    Example:
        >>> import numpy as np
        >>> from causalcxr.graph import Variable
        >>> from causalcxr.mechanisms import build
        >>> spec = {"kind": "flow", "transform": "cnf", "solver": "reversible", "epochs": 1}
        >>> weight = build(Variable("Weight", "continuous", mechanism=spec), [])
        >>> x = torch.linspace(50, 90, 5, dtype=torch.float64)
        >>> _ = weight.fit(x, {}, seed=0)
        >>> noise = weight({}).abduct(x, Draws(np.arange(5, dtype=np.uint64)))
        >>> noise.shape, weight({}).predict(noise).tolist()
        (torch.Size([5, 2]), [50.0, 60.0, 70.0, 80.0, 90.0])
    """

    @torch.no_grad()
    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return the pair, shape (n, 2): that of x, or on a lattice a posterior draw."""
        x, missing = self._filled(x)
        lattice = self.mechanism.numbers.resolution is not None
        v = torch.from_numpy(draws.uniform()[:, 0]) if lattice else None
        u = torch.empty(len(x), 2, dtype=torch.float64)
        for rows in chunks(len(x)):
            bound, ends = self._bind(rows), self.mechanism.ends(x[rows])
            z = ends[0]
            # A posterior draw in the noise, mapped back to a point in the cell.
            if lattice:
                z = bound.inverse(truncated_normal(*push_cell(bound, ends), v[rows]))
            u[rows] = bound.carry(z)
        return u.masked_fill_(missing[:, None], torch.nan)

    @torch.no_grad()
    def predict(self, u: Tensor) -> Tensor:
        """Return x, shape (n,)."""
        missing = u.isnan()
        u = u.masked_fill(missing, 0.0)
        x = torch.empty(len(u), dtype=torch.float64)
        for rows in chunks(len(u)):
            z = self._bind(rows).carry_back(u[rows])
            x[rows] = self.mechanism.rounding(self.mechanism.quantile.inverse(z))
        return self._finite(x, missing.any(1))

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ N(0, 1), twice, shape (n, 2)."""
        return torch.from_numpy(draws.normal()).expand(-1, 2)
