"""Structural equations of variables with levels: abduction draws the exact posterior of the noise.

Everything about a discrete counterfactual that the data cannot test is the coupling, i.e. which
noise space the levels carve up. Two are offered; they agree where a variable has two levels.

References:
    | Pawlowski et al., Deep structural causal models for tractable counterfactual inference,
    arXiv:2006.06485 | Oberst & Sontag, Counterfactual off-policy evaluation with Gumbel-max SCMs,
    arXiv:1905.05824 | Maddison, Tarlow & Minka, A* sampling, arXiv:1411.0030 (top-down truncated
    Gumbels)
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from causalcxr.errors import MechanismError
from causalcxr.graph import Variable
from causalcxr.mechanisms.base import Columns, Equation, Mechanism
from causalcxr.mechanisms.conditioner import Conditioner
from causalcxr.mechanisms.encoding import ParentEncoder
from causalcxr.noise import Draws

__all__ = ["DiscreteMechanism", "GumbelEquation", "MonotoneEquation"]

_FLOOR = 1e-6  # no level is less probable than this, whatever the network says
# Abducted noise keeps this share of its cell away from either edge. With _FLOOR, edges are at
# least 1e-12 away: a thousand times the last-digit differences between batch sizes, and the
# posterior is off by no more than 2e-6.
_MARGIN = 1e-6
_GAP = 1e-9  # by how much the observed level's Gumbel wins at least


class DiscreteMechanism(Mechanism):
    """Compute the level x from p = softmax(b + A c + B relu(W c + w)), c the encoded parents.

    Without parents p is the training frequencies (to within 1e-6) and nothing needs training.

    Args:
        variable: A binary, ordinal or categorical variable.
        parents: Its parents.
        options: `coupling` (monotone, or gumbel; a categorical variable has no order and needs
            gumbel), `hidden`, and the options of the training loop.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"coupling": ("monotone", "gumbel"), "hidden": 32}

    def __init__(self, variable: Variable, parents: Sequence[Variable], **options: Any) -> None:
        if variable.type == "categorical":
            options = {"coupling": "gumbel", **options}
        super().__init__(variable, parents, **options)
        if not variable.is_discrete:
            raise MechanismError(
                f"variable {variable.name!r} is {variable.type}: kind 'discrete' needs levels"
            )
        if variable.type == "categorical" and self.options["coupling"] == "monotone":
            raise MechanismError(
                f"variable {variable.name!r} is categorical: its levels have no order for the "
                f"coupling 'monotone'; use 'gumbel', or declare it ordinal"
            )
        k = len(variable.levels)
        self.encoder = ParentEncoder(self.parents)
        width = self.encoder.width
        self.conditioner = Conditioner(width, k, self.options["hidden"]) if width else None
        self.register_buffer("log_frequency", torch.full((k,), 1 / k, dtype=torch.float64).log())

    def prepare(self, x: Tensor, parents: Columns) -> None:
        """Count the levels; a level never seen counts as a hundredth of a row."""
        self.encoder.prepare(parents)
        count = torch.bincount(x.long(), minlength=len(self.variable.levels)).double()
        self.log_frequency.copy_((count.clamp(min=1e-2) / count.clamp(min=1e-2).sum()).log())

    def reset(self, generator: torch.Generator) -> None:
        """Draw the weights anew."""
        if self.conditioner is not None:
            self.conditioner.reset(generator)

    def encode(self, parents: Columns) -> Tensor:
        """Return the parents as features."""
        return self.encoder(parents)

    def augment(self, context: Tensor, generator: torch.Generator) -> Tensor:
        """Hide parents at random."""
        return self.encoder.drop(context, generator)

    def log_probs(self, context: Tensor) -> Tensor:
        """Return log p, shape (n, K), or (1, K) without parents; every p is at least 1e-6."""
        logits = self.log_frequency[None]
        if self.conditioner is not None:
            logits = logits + self.conditioner(context)
        k = logits.shape[1]
        return (torch.softmax(logits, 1) * (1 - k * _FLOOR) + _FLOOR).log()

    def losses(
        self, x: Tensor, context: Tensor, generator: torch.Generator | None = None
    ) -> Tensor:
        """Return the cross-entropy of each row."""
        return _pick(self.log_probs(context), x).neg()

    def forward(self, parents: Columns) -> "DiscreteEquation":
        """Return the equation; `log_probs` is its table of probabilities."""
        kind = MonotoneEquation if self.options["coupling"] == "monotone" else GumbelEquation
        return kind(self, self.log_probs(self.encode(parents)))


class DiscreteEquation(Equation):
    """A law over K levels, and how noise picks one.

    Args:
        mechanism: Checks values and names the variable in messages.
        log_probs: Shape (n, K), or (1, K) where all rows share one law.
    """

    def __init__(self, mechanism: DiscreteMechanism, log_probs: Tensor) -> None:
        self.mechanism = mechanism
        self.log_probs = log_probs

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-mass of x, shape (n,)."""
        x = self.mechanism.checked(x)
        return _pick(self.log_probs, x.nan_to_num()).masked_fill(x.isnan(), torch.nan)


class MonotoneEquation(DiscreteEquation):
    """Compute x = #{k : u > edge_k}, u ~ U(0, 1), edge_k the probability of level k or lower.

    This is the monotone flow of the dequantised variable, piecewise linear with unit base: the
    posterior of u given x = k is uniform on the cell (edge_{k-1}, edge_k). The coupling is
    comonotone: of two laws, the twin moves up or down the order as little as it must, so P(0 -> 1)
        = max(0, p* - p) / (1 - p) for a binary.
    """

    @torch.no_grad()
    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n,), uniform on the cell of x."""
        x = self.mechanism.checked(x)
        missing = x.isnan()
        level = x.nan_to_num().long()[:, None]
        upper = self._edges().expand(len(x), -1).gather(1, level).squeeze(1)
        width = self.log_probs.exp().expand(len(x), -1).gather(1, level).squeeze(1)
        v = _MARGIN + (1 - 2 * _MARGIN) * torch.from_numpy(draws.uniform()[:, 0])
        return (upper - width * v).masked_fill_(missing, torch.nan)

    @torch.no_grad()
    def predict(self, u: Tensor) -> Tensor:
        """Return the level, shape (n,)."""
        inner = self._edges()[:, :-1]
        x = sum((u > edge).double() for edge in inner.unbind(1))
        return x.masked_fill_(u.isnan(), torch.nan)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ U(0, 1), shape (n,)."""
        return torch.from_numpy(draws.uniform()[:, 0])

    def _edges(self) -> Tensor:
        return self.log_probs.exp().cumsum(1)


class GumbelEquation(DiscreteEquation):
    """Compute x = argmax_k log p_k + u_k, u_k ~ Gumbel(0).

    Posterior given x = k, top down: the maximum T ~ Gumbel(0) whatever k, u_k = T - log p_k, and
    every other is a Gumbel truncated to stay below T.
    """

    @torch.no_grad()
    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n, K)."""
        x = self.mechanism.checked(x)
        missing = x.isnan()
        level = x.nan_to_num().long()[:, None]
        logp = self.log_probs
        g = torch.from_numpy(draws.gumbel(logp.shape[1] + 1))
        top, free = g[:, :1], g[:, 1:] + logp
        below = -torch.logaddexp(-top, -free)
        won = torch.minimum(below, top - _GAP).scatter(1, level, top)
        return (won - logp).masked_fill_(missing[:, None], torch.nan)

    @torch.no_grad()
    def predict(self, u: Tensor) -> Tensor:
        """Return the level, shape (n,)."""
        missing = u.isnan().any(1)
        return (u + self.log_probs).argmax(1).double().masked_fill_(missing, torch.nan)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ Gumbel(0), shape (n, K)."""
        return torch.from_numpy(draws.gumbel(self.log_probs.shape[1]))


def _pick(log_probs: Tensor, x: Tensor) -> Tensor:
    """Return the entry of each row's level, shape (n,)."""
    if len(log_probs) == 1:
        return log_probs[0][x.long()]
    return -functional.nll_loss(log_probs, x.long(), reduction="none")
