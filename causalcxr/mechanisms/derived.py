"""Structural equations that are a rule without noise: the parents determine the variable."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from causalcxr.common.errors import GraphError, MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.graph import Variable
from causalcxr.graph.mechanism_options import option_defaults
from causalcxr.graph.mechanism_spec import MechanismSpec
from causalcxr.graph.rules import check_parent_types
from causalcxr.mechanisms.base import Columns, Equation, Mechanism

__all__ = ["DerivedEquation", "DerivedMechanism"]

_AFFIRMING = ("any_of", "at_least")
_DECIDED = -1.0  # the noise of a row that the rule decides


class DerivedMechanism(Mechanism):
    """Compute x = any(parents positive), or parent >= threshold, or the negation of either.

    The logic is Kleene's, with three values. A binary parent is positive at its second level. One
    positive parent decides, even if others are missing; without one, a missing parent leaves the
    rule undecided.

    Args:
        variable: A binary variable.
        parents: One or more binary variables; or one continuous variable and a threshold.
        options: `rule`: none_of (as in No Finding) or any_of; at_least or below, with a
            `threshold` in the parent's unit.

    Raises:
        MechanismError: If the rule does not fit these parents, or the threshold is not allowed.

    Example:
        >>> age = Variable("Age", "continuous", unit="year")
        >>> old = DerivedMechanism(Variable("Old", "binary"), [age], rule="at_least", threshold=65)
        >>> old.encode({"Age": torch.tensor([64.0, 65.0, float("nan")])})[:, 0].tolist()
        [0.0, 1.0, nan]
    """

    training_defaults: ClassVar[Mapping[str, Any]] = {}
    defaults: ClassVar[Mapping[str, Any]] = option_defaults("derived")

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        super().__init__(variable, parents, **options)
        spec = MechanismSpec("derived", {k: v for k, v in self.options.items() if v is not None})
        try:
            check_parent_types(spec.for_type(variable.type), self.parents)
        except GraphError as fault:
            raise MechanismError(f"variable {variable.name!r}: {fault}") from None

    def encode(self, parents: Columns) -> Tensor:
        """Return x where the rule decides and NaN where it does not, shape (n, 1)."""
        absent = [p.name for p in self.parents if p.name not in parents]
        if absent:
            raise MechanismError(f"variable {self.variable.name!r}: no column for {absent}")
        columns = torch.stack([parents[p.name] for p in self.parents], 1).double()
        threshold = self.options["threshold"]
        # Does each parent satisfy the condition? A missing one does not.
        holds = columns == 1 if threshold is None else columns >= threshold
        positive = holds.any(1).double()
        # Undecided: no parent holds, and a missing one might.
        positive[(positive == 0) & columns.isnan().any(1)] = torch.nan
        return (positive if self.options["rule"] in _AFFIRMING else 1 - positive)[:, None]

    def losses(
        self, x: Tensor, context: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return zeros: there is nothing to learn."""
        return torch.zeros_like(x)

    def forward(self, parents: Columns) -> "DerivedEquation":
        """Return the equation."""
        return DerivedEquation(self, self.encode(parents)[:, 0])


class DerivedEquation(Equation):
    """Compute x = the value that the rule gives, and u where the rule is undecided.

    The noise is -1 where the rule decides and the observed value where it does not. Where the
    rule becomes undecided under an intervention, x is missing.

    Args:
        mechanism: Checks values and names the variable in messages.
        decided: The value that the rule gives, NaN where undecided, shape (n,).
    """

    def __init__(self, mechanism: DerivedMechanism, decided: Tensor) -> None:
        self.mechanism = mechanism
        self.decided = decided

    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n,); a value that contradicts the rule is not kept in it."""
        x = self.mechanism.checked(x)
        return torch.where(self.decided.isnan() | x.isnan(), x, _DECIDED)

    def predict(self, u: Tensor) -> Tensor:
        """Return x, shape (n,)."""
        observed = torch.where(u >= 0, u, torch.nan)
        x = torch.where(self.decided.isnan(), observed, self.decided)
        return x.masked_fill(u.isnan(), torch.nan)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u, shape (n,): the rule has no randomness, an undecided row stays missing."""
        return torch.full((len(draws),), _DECIDED, dtype=torch.float64)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return 0 where x agrees with the rule, -inf where not, NaN where it is undecided."""
        x = self.mechanism.checked(x)
        agrees = torch.where(x == self.decided, 0.0, -torch.inf)
        return agrees.masked_fill(x.isnan() | self.decided.isnan(), torch.nan)
