"""How noise selects a level: the couplings, and the exact posterior of the noise under each.

Everything about a discrete counterfactual that data cannot test is the coupling: how the levels
divide the space of the noise. Monotone, Gumbel and optimal transport agree where a variable has
two levels; under the independent coupling the observed level says nothing about the twin's.

References:
    | Pawlowski et al., Deep structural causal models for tractable counterfactual inference,
    arXiv:2006.06485 | Oberst & Sontag, Counterfactual off-policy evaluation with Gumbel-max SCMs,
    arXiv:1905.05824 | Maddison, Tarlow & Minka, A* sampling, arXiv:1411.0030 (top-down truncated
    Gumbels) | De Sousa Ribeiro et al., arXiv:2510.08294 (transport and identifiability) | for the
    dequantised flow see `dequantised`
"""

from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from causalcxr.common.random_numbers import Draws
from causalcxr.mechanisms.base import Columns, Equation, Mechanism
from causalcxr.mechanisms.cells import truncated_normal
from causalcxr.mechanisms.dequantised import draw_noise, to_lift
from causalcxr.mechanisms.transport import draw_winner, heights

__all__ = [
    "COUPLINGS",
    "DequantisedEquation",
    "DiscreteEquation",
    "GumbelEquation",
    "IndependentEquation",
    "MonotoneEquation",
    "TransportEquation",
    "log_mass_of_levels",
]

# Abducted noise keeps this share of its cell away from either edge. As no level is less probable
# than 1e-6, edges are at least 1e-12 from it, a thousand times what the last digits of a matrix
# product can move them, and the posterior is off by no more than 2e-6.
_MARGIN = 1e-6
_GAP = 1e-9  # by how much the observed level's Gumbel wins at least
_LEAD = 1e-7  # the same for normal noise, whose heights are solved to nine digits


class DiscreteEquation(Equation):
    """A distribution over K levels, and how noise selects one.

    A coupling has three methods: `_posterior` draws the noise of observed levels, `_levels`
    returns the levels of some noise, and `sample_noise` draws from the prior.

    Args:
        mechanism: Checks values and names the variable in messages.
        log_probs: Shape (n, K), or (1, K) where all rows share one distribution.
        parents: The columns of the parents, for a coupling that depends on more than p.
    """

    def __init__(
        self, mechanism: Mechanism, log_probs: Tensor, parents: Columns | None = None
    ) -> None:
        self.mechanism = mechanism
        self.log_probs = log_probs
        self.parents = parents or {}

    @torch.no_grad()
    def abduct(self, x: Tensor, draws: Draws) -> Tensor:
        """Return u, a draw of the posterior given the level x, shape (n,) or (n, K)."""
        x = self.mechanism.checked(x)
        u = self._posterior(x.nan_to_num().long(), draws)
        missing = x.isnan()
        return u.masked_fill_(missing if u.ndim == 1 else missing[:, None], torch.nan)

    @torch.no_grad()
    def predict(self, u: Tensor) -> Tensor:
        """Return the level, shape (n,)."""
        missing = u.isnan()
        level = self._levels(u).double()
        return level.masked_fill_(missing if u.ndim == 1 else missing.any(1), torch.nan)

    def log_prob(self, x: Tensor) -> Tensor:
        """Return the log-mass of x, shape (n,)."""
        x = self.mechanism.checked(x)
        log_mass = log_mass_of_levels(self.log_probs, x.nan_to_num())
        return log_mass.masked_fill(x.isnan(), torch.nan)

    def _posterior(self, level: Tensor, draws: Draws) -> Tensor:
        """Return noise given the level, shape (n,) or (n, K)."""
        raise NotImplementedError

    def _levels(self, u: Tensor) -> Tensor:
        """Return the level of each row of noise, shape (n,)."""
        raise NotImplementedError

    def _edges(self) -> Tensor:
        """Return the probability of each level or a lower one, shape (n, K) or (1, K)."""
        return self.log_probs.exp().cumsum(1)

    def _within(self, level: Tensor, v: Tensor) -> Tensor:
        """Return the number at the share v of the level's part of (0, 1), shape (n,)."""
        level = level[:, None]
        upper = self._edges().expand(len(level), -1).gather(1, level).squeeze(1)
        width = self.log_probs.exp().expand(len(level), -1).gather(1, level).squeeze(1)
        return upper - width * (_MARGIN + (1 - 2 * _MARGIN) * v)

    def _level_at(self, v: Tensor) -> Tensor:
        """Return the level in whose part of (0, 1) each number lies, shape (n,)."""
        return sum((v > edge).double() for edge in self._edges()[:, :-1].unbind(1))


class MonotoneEquation(DiscreteEquation):
    """Compute x = #{k : u > edge_k}, u ~ U(0, 1), edge_k the probability of level k or lower.

    This is the monotone flow of the dequantised variable, piecewise linear with unit base: the
    posterior of u given x = k is uniform on the cell (edge_{k-1}, edge_k). The coupling is
    comonotone: the twin moves up or down the order as little as the two distributions allow, so
    P(0 -> 1) = max(0, p* - p) / (1 - p) for a binary variable.
    """

    def _posterior(self, level: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n,), uniform on the cell of the level."""
        return self._within(level, torch.from_numpy(draws.uniform()[:, 0]))

    def _levels(self, u: Tensor) -> Tensor:
        return self._level_at(u)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ U(0, 1), shape (n,)."""
        return torch.from_numpy(draws.uniform()[:, 0])


class GumbelEquation(DiscreteEquation):
    """Compute x = argmax_k log p_k + u_k, u_k ~ Gumbel(0).

    Posterior given x = k, top down: the maximum T ~ Gumbel(0) whatever k, u_k = T - log p_k, and
    every other is a Gumbel truncated to stay below T.
    """

    def _posterior(self, level: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n, K)."""
        logp = self.log_probs
        g = torch.from_numpy(draws.gumbel(logp.shape[1] + 1))
        # The maximum, and every level's value before it is truncated.
        top, free = g[:, :1], g[:, 1:] + logp
        # A Gumbel truncated at the maximum, in closed form.
        below = -torch.logaddexp(-top, -free)
        won = torch.minimum(below, top - _GAP).scatter(1, level[:, None], top)
        return won - logp

    def _levels(self, u: Tensor) -> Tensor:
        return (u + self.log_probs).argmax(1)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ Gumbel(0), shape (n, K)."""
        return torch.from_numpy(draws.gumbel(self.log_probs.shape[1]))


class TransportEquation(DiscreteEquation):
    """Compute x = argmax_k u_k + b_k, u ~ N(0, I_K), the heights b such that level k has p_k.

    Posterior given x = k, top down and without rejection: the winning value s = u_k + b_k from
    its distribution in one dimension, then each other u_j, which given s is a standard normal
    below s - b_j and independent of the rest.

    Example:
        >>> from causalcxr.graph import Variable
        >>> from causalcxr.mechanisms import build
        >>> spec = {"kind": "discrete", "coupling": "ot"}
        >>> view = build(Variable("View", "binary", levels=("AP", "PA"), mechanism=spec), [])
        >>> x = torch.tensor([0.0, 1.0, 1.0, 1.0], dtype=torch.float64)
        >>> _ = view.fit(x, {}, seed=0)
        >>> noise = view({}).abduct(x, Draws(np.arange(4, dtype=np.uint64)))
        >>> noise.shape, view({}).predict(noise).tolist()
        (torch.Size([4, 2]), [0.0, 1.0, 1.0, 1.0])
    """

    @cached_property
    def heights(self) -> Tensor:
        """The heights b, shape (n, K), or (1, K) where all rows share one distribution."""
        return heights(self.log_probs.detach())

    def _posterior(self, level: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n, K)."""
        b, own = self.heights.expand(len(level), -1), level[:, None]
        v = torch.from_numpy(draws.uniform(b.shape[1]))
        # The winning value first, then the others, each below it.
        s = draw_winner(b, level, v.gather(1, own)[:, 0])[:, None]
        highest = s - b - _LEAD
        u = truncated_normal(torch.full_like(highest, -torch.inf), highest, v)
        return u.scatter(1, own, s - b.gather(1, own))

    def _levels(self, u: Tensor) -> Tensor:
        return (u + self.heights).argmax(1)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ N(0, I_K), shape (n, K)."""
        return torch.from_numpy(draws.normal(self.log_probs.shape[1]))


class DequantisedEquation(DiscreteEquation):
    """Compute x = argmax_k y_k, y the end of the rectified flow from u ~ N(0, I_K) to the levels.

    Posterior given x = k: draw a point in the cell of k (the lift), and carry it back to the
    noise. The lift thereby stays in the noise. For K = 2 the twins have the distribution of the
    monotone coupling; for more levels they are near those of transport, without a closed form.

    Example:
        >>> from causalcxr.graph import Variable
        >>> from causalcxr.mechanisms import build
        >>> spec = {"kind": "discrete", "coupling": "dequantised"}
        >>> race = Variable("Race", "categorical", levels=("a", "b", "c"), mechanism=spec)
        >>> race, x = build(race, []), torch.tensor([0, 1, 2, 2], dtype=torch.float64)
        >>> _ = race.fit(x, {}, seed=0)
        >>> noise = race({}).abduct(x, Draws(np.arange(4, dtype=np.uint64)))
        >>> noise.shape, race({}).predict(noise).tolist()
        (torch.Size([4, 3]), [0.0, 1.0, 2.0, 2.0])
    """

    def _posterior(self, level: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n, K)."""
        return draw_noise(level, self.log_probs.detach(), draws)

    def _levels(self, u: Tensor) -> Tensor:
        return to_lift(u, self.log_probs.detach()).argmax(1)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ N(0, I_K), shape (n, K)."""
        return torch.from_numpy(draws.normal(self.log_probs.shape[1]))


class IndependentEquation(DiscreteEquation):
    """Draw x anew under other parents, and return the observed x under the same parents.

    u = (v, w) is uniform on the square, and x is the level in whose part of (0, 1) the number
    v + h(w, parents) modulo 1 lies. The hash h makes the rotations under different parents
    independent of each other, so the twin has the distribution of its own parents whatever was
    observed. Parents are the same if every value is the same bit for bit, or missing in both.

    Example:
        >>> from causalcxr.graph import Variable
        >>> from causalcxr.mechanisms import build
        >>> spec = {"kind": "discrete", "coupling": "independent"}
        >>> edema = build(Variable("Edema", "binary", mechanism=spec), [])
        >>> x = torch.tensor([0.0, 1.0, float("nan")], dtype=torch.float64)
        >>> _ = edema.fit(x, {}, seed=0)
        >>> edema({}).predict(edema({}).abduct(x, Draws(np.arange(3, dtype=np.uint64)))).tolist()
        [0.0, 1.0, nan]
    """

    def _posterior(self, level: Tensor, draws: Draws) -> Tensor:
        """Return u, shape (n, 2)."""
        free, w = torch.from_numpy(draws.uniform(2)).unbind(1)
        # Subtract the rotation that `_levels` adds.
        v = (self._within(level, free) - self._rotation(w)) % 1.0
        return torch.stack((v, w), 1)

    def _levels(self, u: Tensor) -> Tensor:
        v, w = u.unbind(1)
        return self._level_at((v + self._rotation(w)) % 1.0)

    def sample_noise(self, draws: Draws) -> Tensor:
        """Return u ~ U(0, 1)^2, shape (n, 2)."""
        return torch.from_numpy(draws.uniform(2))

    def _rotation(self, w: Tensor) -> Tensor:
        """Return h(w, parents), uniform on (0, 1), shape (n,); equal bits give equal values."""
        h = w.numpy()
        for column in self.parents.values():
            # Equal values need equal bits: -0.0 becomes 0.0, and every NaN the same NaN.
            value = np.where(np.isnan(column.numpy()), np.nan, column.numpy() + 0.0)
            # "turn" is part of the stream of random numbers: another word, other twins.
            h = Draws(_bits(h), stream="turn", draw=_bits(value).view(np.int64)).uniform()[:, 0]
        return torch.from_numpy(h)


COUPLINGS: dict[str, type[DiscreteEquation]] = {
    "monotone": MonotoneEquation,
    "gumbel": GumbelEquation,
    "ot": TransportEquation,
    "dequantised": DequantisedEquation,
    "independent": IndependentEquation,
}


def log_mass_of_levels(log_probs: Tensor, x: Tensor) -> Tensor:
    """Return the entry of each row's level, shape (n,)."""
    if len(log_probs) == 1:
        return log_probs[0][x.long()]
    return -functional.nll_loss(log_probs, x.long(), reduction="none")


def _bits(numbers: np.ndarray) -> np.ndarray:
    """Return the 64 bits of each number."""
    return np.ascontiguousarray(numbers, dtype=np.float64).view(np.uint64)
