"""Structural equations of discrete variables: a softmax of the parents, and a coupling."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from causalcxr.common.errors import MechanismError
from causalcxr.graph.graph import Variable
from causalcxr.graph.mechanism_options import option_defaults
from causalcxr.mechanisms.base import Columns, Mechanism
from causalcxr.mechanisms.couplings import (
    COUPLINGS,
    DiscreteEquation,
    GumbelEquation,
    IndependentEquation,
    MonotoneEquation,
    TransportEquation,
    log_mass_of_levels,
)
from causalcxr.mechanisms.distinct_rows import per_distinct_row
from causalcxr.mechanisms.encoding import ParentEncoder
from causalcxr.mechanisms.parameter_network import ParameterNetwork, Rates

__all__ = [
    "DiscreteMechanism",
    "GumbelEquation",
    "IndependentEquation",
    "MonotoneEquation",
    "TransportEquation",
]

_FLOOR = 1e-6  # the least probability of a level


class DiscreteMechanism(Mechanism):
    """Compute the level x from p = softmax(theta(c)), c the encoded parents.

    `ParameterNetwork` computes theta.

    Without parents p is the training frequencies (to within 1e-6) and nothing needs training.

    Args:
        variable: A binary, ordinal or categorical variable.
        parents: Its parents.
        options: `coupling` (monotone, gumbel, ot, dequantised or independent; a categorical
            variable has no order, so its default is gumbel and monotone is not allowed), `hidden`,
            and the options of the training loop.
    """

    defaults: ClassVar[Mapping[str, Any]] = option_defaults("discrete")

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        # Gumbel by default, as monotone needs an order.
        if variable.type == "categorical":
            options = {"coupling": "gumbel", **options}
        super().__init__(variable, parents, **options)
        if not variable.is_discrete:
            raise MechanismError(
                f"variable {variable.name!r} is {variable.type}: kind 'discrete' needs a discrete "
                "variable"
            )
        if variable.type == "categorical" and self.options["coupling"] == "monotone":
            raise MechanismError(
                f"variable {variable.name!r} is categorical: its levels have no order, which the "
                f"coupling 'monotone' needs; use 'gumbel' or 'ot', or declare it ordinal"
            )
        # Without parents there is nothing to condition on: the frequencies are the model.
        k = len(variable.levels)
        self.encoder = ParentEncoder(self.parents)
        width = self.encoder.width
        self.conditioner = ParameterNetwork(width, k, self.options["hidden"]) if width else None
        self.register_buffer("log_frequency", torch.full((k,), 1 / k, dtype=torch.float64).log())

    def prepare(self, x: Tensor, parents: Columns) -> None:
        """Count the levels; a level never seen counts as a hundredth of a row."""
        self.encoder.prepare(parents)
        count = torch.bincount(x.long(), minlength=len(self.variable.levels)).double()
        self.log_frequency.copy_((count.clamp(min=1e-2) / count.clamp(min=1e-2).sum()).log())

    def reset(self, generator: torch.Generator) -> None:
        """Draw new weights."""
        if self.conditioner is not None:
            self.conditioner.reset(generator)

    def encode(self, parents: Columns) -> Tensor:
        """Return the parents as features."""
        return self.encoder(parents)

    def null_rates(self) -> Rates:
        """Return step factors under which only the flags of seldom missing parents learn."""
        if self.conditioner is None or not self.encoder.unlearned.any():
            return {}
        return self.conditioner.reacting(self.encoder.unlearned)

    def hide(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Hide parents at random."""
        return self.encoder.drop(context, generator)

    def log_probs(self, context: Tensor) -> Tensor:
        """Return log p, shape (n, K), or (1, K) without parents; every p is at least 1e-6."""
        logits = self.log_frequency[None]
        if self.conditioner is not None:
            logits = logits + self._theta(context)
        k = logits.shape[1]
        return (torch.softmax(logits, 1) * (1 - k * _FLOOR) + _FLOOR).log()

    def _theta(self, context: Tensor) -> Tensor:
        """Return the parents' part of the logits, shape (n, K)."""
        if torch.is_grad_enabled():
            return self.conditioner(context)
        (theta,) = self.conditioner.inferred(context, (len(self.variable.levels),))
        return theta.T.expand(len(context), -1)

    def losses(
        self, x: Tensor, context: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the cross-entropy of each row."""
        return log_mass_of_levels(self.log_probs(context), x).neg()

    def forward(self, parents: Columns) -> DiscreteEquation:
        """Return the equation; `log_probs` is its table of probabilities."""
        own = {p.name: parents[p.name] for p in self.parents if p.name in parents}
        log_probs = per_distinct_row(
            self.parents, own, lambda columns: self.log_probs(self.encode(columns))
        )
        return COUPLINGS[self.options["coupling"]](self, log_probs, own)
