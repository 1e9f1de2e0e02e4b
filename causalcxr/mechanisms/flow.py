"""Structural equations of continuous and ordinal variables: a conditional flow in one dimension.

Any increasing flow from N(0, 1) to p(x | parents) is the conditional quantile map, so a spline and
an ODE give the same counterfactual: the twin keeps the patient's quantile.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.graph.graph import Variable
from causalcxr.graph.mechanism_options import option_defaults
from causalcxr.mechanisms.base import Columns, Mechanism
from causalcxr.mechanisms.cnf import OPTIONS, REVERSIBLE, CNFKernel
from causalcxr.mechanisms.encoding import ParentEncoder
from causalcxr.mechanisms.flow_equation import FlowEquation
from causalcxr.mechanisms.parameter_network import Rates
from causalcxr.mechanisms.quantile import QuantileNormal, is_skewed
from causalcxr.mechanisms.rounding import Rounding
from causalcxr.mechanisms.spline import SplineKernel

__all__ = ["FlowMechanism"]

_RIDGE = 10.0  # the penalty of the first regression
_LEAST_SCALE = 0.01  # of the residuals that training starts from


class FlowMechanism(Mechanism):
    """Compute x = round(Q^-1(T^-1(u; parents))), u ~ N(0, 1).

    Q is a map of x alone: a line, a logarithm, or the quantile-to-normal map of the training
    values. T is an increasing map; the parents move either all of it or its location alone.
    Validation chooses both. A variable recorded on a lattice is trained on the exact mass of its
    cells. The levels of an ordinal variable are such a lattice: 0, 1, ..., K - 1.

    Args:
        variable: A continuous or ordinal variable.
        parents: Its parents.
        options: `transform` (spline, or cnf: slower, smooth), `bins` (of the spline), `training`,
            `solver` and `ode_steps` (of the cnf), `hidden`, and the options of the training loop.
    """

    defaults: ClassVar[Mapping[str, Any]] = option_defaults("flow")

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        super().__init__(variable, parents, **options)
        if variable.type not in ("continuous", "ordinal"):
            raise MechanismError(
                f"variable {variable.name!r} is {variable.type}: kind 'flow' needs a continuous "
                f"or ordinal variable; use kind 'discrete'"
            )
        self.numbers = _as_numbers(variable)
        self.encoder = ParentEncoder(self.parents)
        self.quantile = QuantileNormal()
        self.rounding = Rounding(self.numbers)
        self._form = "quantile"
        width, hidden = self.encoder.width, self.options["hidden"]
        if self.options["transform"] == "cnf":
            self.kernel = CNFKernel(width, hidden=hidden, **{k: self.options[k] for k in OPTIONS})
        else:
            self.kernel = SplineKernel(width, bins=self.options["bins"], hidden=hidden)

    def prepare(self, x: Tensor, parents: Columns) -> None:
        """Fit the map of x alone, the scale to round to, and the encoder of the parents."""
        self.encoder.prepare(parents)
        self.quantile.fit(x, self.numbers.resolution, self._form)
        self.rounding.fit(x)

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        self.kernel.reset(generator)

    def encode(self, parents: Columns) -> Tensor:
        """Return the parents as features."""
        return self.encoder(parents)

    def forms(self, x: Tensor) -> Sequence[str]:
        """Return the maps of x to compare; without parents, the quantile map suffices."""
        if not self.parents or not self.kernel.located:
            return ("quantile",)
        plain = ("line", "quantile")
        return ("log", *plain) if self.numbers.resolution is None and is_skewed(x) else plain

    def take(self, form: str) -> None:
        """Use this map of x from the next `prepare` on; see `forms`."""
        self._form = form

    @torch.no_grad()
    def start(self, x: Tensor, context: Tensor) -> None:
        """Start at the ridge regression of x on its parents, and the scale of its residuals."""
        if not self.parents or not self.kernel.located:
            return
        # Centre both, so that the penalty does not act on the intercept.
        z, conditioner = self.quantile(x), self.kernel.conditioner
        centre, mean = z.mean(), context.mean(0)
        features = context - mean
        # The normal equations with a ridge: collinear parents stay solvable.
        normal = features.T @ features + _RIDGE * torch.eye(len(mean), dtype=torch.float64)
        slope = torch.linalg.solve(normal, features.T @ (z - centre))
        residual = (z - centre - features @ slope).square().mean().sqrt()
        # The first two parameters are the location and minus the log of the scale.
        conditioner.straight.weight[0] = slope
        conditioner.bias[0] = centre - mean @ slope
        conditioner.bias[1] = -residual.clamp(min=_LEAST_SCALE).log()

    def plain_rates(self) -> Rates:
        """Return step factors under which the parents move the location of x and nothing else."""
        if not self.parents or not self.kernel.located:
            return {}
        conditioner = self.kernel.conditioner
        location = torch.arange(len(conditioner.bias)) == 0
        return conditioner.reached(location, self.encoder.flags)

    def null_rates(self) -> Rates:
        """Return step factors under which only the flags of seldom missing parents learn."""
        if not self.encoder.unlearned.any():
            return {}
        return self.kernel.conditioner.reacting(self.encoder.unlearned)

    def hide(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Hide parents at random."""
        return self.encoder.drop(context, generator)

    def losses(
        self, x: Tensor, context: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the loss of each row: -log p(x) or -log P(cell), or the flow matching error."""
        resolution = self.numbers.resolution
        # Matching needs points: a lattice value becomes a uniform draw from its cell.
        if self.kernel.pointwise and resolution is not None:
            generator = generator or torch.Generator().manual_seed(0)
            lift = torch.rand(len(x), generator=generator, dtype=torch.float64)
            ends = (self.quantile(x + resolution * (lift - 0.5)),)
        else:
            ends = self.ends(x)
        losses = self.kernel.losses(ends, context, generator)
        if self.kernel.pointwise or resolution is not None:
            return losses
        # Change of variables: the density in raw units.
        return losses - self.quantile.log_derivative(x)

    def ends(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return normal scores: of x, or of the two ends of its lattice cell, shape (n,) each."""
        if self.numbers.resolution is None:
            return (self.quantile(x),)
        return tuple(
            torch.where(end.isinf(), end, self.quantile(end)) for end in self.rounding.cell(x)
        )

    def forward(self, parents: Columns) -> "FlowEquation":
        """Return the equation."""
        if self.options["transform"] == "cnf" and self.options["solver"] == REVERSIBLE:
            from causalcxr.mechanisms.reversible import PairEquation  # which imports FlowEquation

            return PairEquation(self, self.encode(parents))
        return FlowEquation(self, self.encode(parents))

    def _forbidden(self, x: Tensor) -> Tensor:
        return self.rounding.forbidden(x)

    def _rule(self) -> str:
        return super()._rule() if self.variable.is_discrete else self.rounding.rule


def _as_numbers(variable: Variable) -> Variable:
    """Return the variable itself, or a continuous one of the positions of its levels."""
    if not variable.is_discrete:
        return variable
    most = float(len(variable.levels) - 1)
    return Variable(variable.name, "continuous", range=(0.0, most), resolution=1.0)
