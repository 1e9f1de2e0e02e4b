"""Structural equations of roots: the empirical distribution of the training values."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from causalcxr.common.errors import GraphError, MechanismError
from causalcxr.common.random_numbers import Draws
from causalcxr.graph.graph import Variable
from causalcxr.graph.mechanism_spec import MechanismSpec
from causalcxr.graph.rules import check_parent_types
from causalcxr.mechanisms.base import Columns, Equation, Mechanism
from causalcxr.mechanisms.rounding import Rounding

__all__ = ["EmpiricalEquation", "EmpiricalMechanism"]

_MARGIN = 1e-6  # abducted ranks stay this share of their step away from its ends


class EmpiricalMechanism(Mechanism):
    """Compute x = the value at rank u of the training rows, u ~ U(0, 1): nothing is smoothed.

    The fitted equation holds every distinct training value and its count: a model that is passed
    on discloses them. The buffers take the size of what is loaded.

    Args:
        variable: A continuous, binary, ordinal or categorical variable.
        parents: None; this mechanism is for roots.

    Raises:
        MechanismError: If there are parents, or an option is given.

    Example:
        >>> age = EmpiricalMechanism(Variable("Age", "continuous", mechanism="empirical"), [])
        >>> _ = age.fit(torch.tensor([40.0, 40.0, 71.0, 71.0]), {}, seed=0)
        >>> ranks = torch.tensor([[0.1, 0.0], [0.9, 0.0]], dtype=torch.float64)
        >>> age({}).predict(ranks).tolist()
        [40.0, 71.0]
    """

    training_defaults: ClassVar[Mapping[str, Any]] = {}

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        super().__init__(variable, parents, **options)
        try:
            check_parent_types(MechanismSpec("empirical").for_type(variable.type), self.parents)
        except GraphError as fault:
            raise MechanismError(f"variable {variable.name!r}: {fault}") from None
        self.rounding = None if variable.is_discrete else Rounding(variable)
        self.register_buffer("values", torch.zeros(1, dtype=torch.float64))
        self.register_buffer("counts", torch.ones(1, dtype=torch.float64))

    def prepare(self, x: Tensor, parents: Columns) -> None:
        """Count the distinct values."""
        self.values, counts = x.double().unique(sorted=True, return_counts=True)
        self.counts = counts.double()
        if self.rounding is not None:
            self.rounding.fit(x)

    def encode(self, parents: Columns) -> Tensor:
        """Return no features, shape (1, 0): a root has no parents."""
        return torch.zeros(1, 0, dtype=torch.float64)

    def losses(
        self, x: Tensor, context: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return -log of the share of each value, infinite for one not in the training rows."""
        return EmpiricalEquation(self).log_prob(x).neg()

    def forward(self, parents: Columns) -> "EmpiricalEquation":
        """Return the equation."""
        return EmpiricalEquation(self)

    def _forbidden(self, x: Tensor) -> Tensor:
        return super()._forbidden(x) if self.rounding is None else self.rounding.forbidden(x)

    def _rule(self) -> str:
        return super()._rule() if self.rounding is None else self.rounding.rule

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args: Any) -> None:
        for name in ("values", "counts"):
            if (loaded := state_dict.get(prefix + name)) is not None:
                setattr(self, name, torch.empty_like(loaded))
        super()._load_from_state_dict(state_dict, prefix, *args)


class EmpiricalEquation(Equation):
    """Compute x = value at rank u + offset, noise (u, offset), shape (n, 2).

    u ~ U(0, 1); ties share a step of the empirical distribution, and the posterior of u given x is
    uniform on it. The offset is zero under the prior. A value that no training row has gets the
    end of the step below and, as offset, its distance to that step's value: so it returns exactly
    too, although it has no mass under the model.

    Args:
        mechanism: The fitted mechanism.
    """

    def __init__(self, mechanism: EmpiricalMechanism) -> None:
        self.mechanism = mechanism
        self.values = mechanism.values
        self.ends = mechanism.counts.cumsum(0) / mechanism.counts.sum()

    @torch.no_grad()
    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return the noise, shape (n, 2)."""
        x = self.mechanism.checked(x)
        at = self._step(x)
        # The step of the distribution function at this value.
        high = self.ends[at]
        low = torch.where(at > 0, self.ends[at - 1], 0.0)
        v = torch.from_numpy(draws.uniform()[:, 0])
        # A value between steps: the rank is near the end of the step below, the rest is the
        # offset.
        offset = x - self.values[at]
        v = torch.where(offset == 0, _MARGIN + (1 - 2 * _MARGIN) * v, 1 - _MARGIN)
        u = torch.stack((low + (high - low) * v, offset), 1)
        return u.masked_fill_(x.isnan()[:, None], torch.nan)

    @torch.no_grad()
    def predict(self, u: Tensor) -> Tensor:
        """Return x, shape (n,)."""
        rank, offset = u.unbind(1)
        at = torch.searchsorted(self.ends, rank.contiguous()).clamp(max=len(self.values) - 1)
        x, rounding = self.values[at], self.mechanism.rounding
        moved = x + offset if rounding is None else rounding(x + offset)
        return torch.where(offset == 0, x, moved).masked_fill_(rank.isnan(), torch.nan)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return ranks from U(0, 1) without an offset, shape (n, 2)."""
        rank = torch.from_numpy(draws.uniform()[:, 0])
        return torch.stack((rank, torch.zeros_like(rank)), 1)

    @torch.no_grad()
    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log of the share of training rows with this value, -inf if there are none."""
        x = self.mechanism.checked(x)
        at = self._step(x)
        share = (self.mechanism.counts / self.mechanism.counts.sum()).log()[at]
        share = torch.where(self.values[at] == x, share, -torch.inf)
        return share.masked_fill_(x.isnan(), torch.nan)

    def _step(self, x: Tensor) -> Tensor:
        """Return the position of the largest training value up to x, or else of the smallest."""
        filled = torch.where(x.isnan(), self.values[0], x)
        return (torch.searchsorted(self.values, filled, right=True) - 1).clamp(min=0)
