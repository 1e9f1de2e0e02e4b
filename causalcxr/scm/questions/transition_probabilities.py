"""Transition probabilities of a discrete variable: P(twin = j | fact = k) under each coupling.

A structural equation gives a variable the distribution p under its factual parents and q under its
counterfactual ones. Data can identify both, but not their joint distribution: that is the
coupling. This module has the conditional probabilities of each coupling in closed form, and the
bounds that hold for any coupling.

References:
    | Oberst & Sontag, Counterfactual off-policy evaluation with Gumbel-max SCMs, arXiv:1905.05824
    (the Gumbel-max coupling, there by simulation) | Tian & Pearl, Probabilities of causation:
    bounds and identification, Annals of Mathematics and Artificial Intelligence 28, 2000
"""

import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from causalcxr.mechanisms.transport import heights

__all__ = [
    "COUPLINGS",
    "MOST_TRANSPORTED",
    "extreme_mean",
    "gumbel",
    "independent",
    "monotone",
    "transport",
    "upper_bounds",
]

_REACH = 8.0  # the highest value lies outside (-8, 8) with probability 1e-15
_S_NODES, _S_WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(96))
_W_NODES, _W_WEIGHTS = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(24))
_CROSSED = 2**24  # pairs of levels in memory at once in `gumbel`, over its rows
_NUMBERS = 2**20  # in memory in one step of the quadrature
#: The largest number of levels for `transport`: its time grows with the square of this number, and
#: is a third of a second per row here.
MOST_TRANSPORTED = 50


def monotone(p: Tensor, q: Tensor, level: Tensor) -> Tensor:
    """Return P(twin = j | fact = level) if the noise is one uniform number, levels in order.

    The noise of a level is uniform on its cell of p, so the probability is the share of that cell
    that each cell of q covers. For a binary, P(0 -> 1) = max(0, q - p) / (1 - p).

    Args:
        p: Probabilities under the factual parents, shape (n, K), all positive.
        q: Probabilities under the counterfactual parents, shape (n, K).
        level: The position of the factual level, shape (n,), int64.

    Returns:
        Shape (n, K); rows sum to one.

    Example:
        >>> p, q = torch.tensor([[0.8, 0.2]]), torch.tensor([[0.5, 0.5]])
        >>> [round(x, 3) for x in monotone(p, q, torch.tensor([0]))[0].tolist()]
        [0.625, 0.375]
    """
    upper, ends = p.cumsum(1), q.cumsum(1)
    high = upper.gather(1, level[:, None])
    low = high - p.gather(1, level[:, None])
    overlap = torch.minimum(high, ends) - torch.maximum(low, ends - q)
    return _normal(overlap.clamp(min=0))


def gumbel(p: Tensor, q: Tensor, level: Tensor) -> Tensor:
    """Return P(twin = j | fact = level) if the noise is one Gumbel number per level.

    With G a Gumbel number, exp(-G) / p is an exponential waiting time of rate p, and the shortest
    one determines the level. Given that k was first, at a time t ~ Exp(1), the others are
    memoryless; under q the time of j is divided by r_j = q_j / p_j. The time t is integrated
    out:

        P(k -> k) = r_k / M(r_k)
        P(k -> j) = q_j * integral of dt / M(t)^2 from r_k to r_j, and 0 where r_j <= r_k
        M(t) = sum over i of max(q_i, p_i t)

    M is linear between two neighbouring ratios a < b, so the integral there is
    (b - a) / (M(a) M(b)).

    Args:
        p: Probabilities under the factual parents, shape (n, K), all positive.
        q: Probabilities under the counterfactual parents, shape (n, K).
        level: The position of the factual level, shape (n,), int64.

    Returns:
        Shape (n, K); rows sum to one.

    Example:
        >>> p, q = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[0.3, 0.3, 0.4]])
        >>> [round(x, 3) for x in gumbel(p, q, torch.tensor([0]))[0].tolist()]
        [0.5, 0.115, 0.385]
    """
    # Split the rows, to bound the memory of the pairs of levels.
    size = max(1, _CROSSED // p.shape[1] ** 2)
    if len(p) > size:
        parts = zip(*(t.split(size) for t in torch.broadcast_tensors(p, q)), strict=True)
        levels = level.split(size)
        return torch.cat([gumbel(*part, at) for part, at in zip(parts, levels, strict=True)])
    # Levels by how much the intervention raises them.
    ratio = q / p
    ordered, order = ratio.sort(1)
    mass = torch.maximum(q[:, None, :], p[:, None, :] * ordered[:, :, None]).sum(2)
    steps = ordered.diff(dim=1) / (mass[:, 1:] * mass[:, :-1])
    reached = torch.cat((torch.zeros_like(steps[:, :1]), steps.cumsum(1)), 1)
    integral = torch.empty_like(reached).scatter_(1, order, reached)
    at = level[:, None]
    # Only levels raised more than the factual one can take over from it.
    moved = q * (integral - integral.gather(1, at)).clamp(min=0)
    here = torch.empty_like(mass).scatter_(1, order, mass)
    return _normal(moved.scatter(1, at, (ratio / here).gather(1, at)))


@torch.no_grad()
def transport(p: Tensor, q: Tensor, level: Tensor) -> Tensor:
    """Return P(twin = j | fact = level) if the noise follows optimal transport.

    The level is argmax_i u_i + b_i, u ~ N(0, I), with heights b that give p, and b + d that give
    q. Given that k was the maximum with the value s, level j is now the maximum with the value
    s + w if d_k < w < d_j, and every u_i is below s - b_i + min(0, w - d_i). So the probability
    that k stays is an integral over s, and that of j an integral over s and w: Gauss-Legendre
    quadrature between neighbouring d's, where the integrand is smooth. Two levels follow
    `monotone`.

    Args:
        p: Probabilities under the factual parents, shape (n, K), each at least 1e-7.
        q: Probabilities under the counterfactual parents, shape (n, K), likewise.
        level: The position of the factual level, shape (n,), int64.

    Returns:
        Shape (n, K); rows sum to one.

    Example:
        >>> p, q = torch.tensor([[0.6, 0.3, 0.1]]), torch.tensor([[0.3, 0.3, 0.4]])
        >>> [round(x, 3) for x in transport(p, q, torch.tensor([0]))[0].tolist()]
        [0.5, 0.127, 0.373]
    """
    if p.shape[1] == 2:
        return monotone(p, q, level)
    k = p.shape[1]
    rows = torch.cat((p, q, level[:, None]), 1).double()
    distinct, place = torch.unique(rows, dim=0, return_inverse=True)
    size = max(1, _NUMBERS // (k * len(_S_NODES) * len(_W_NODES)))
    return torch.cat([_moves(*part.split((k, k, 1), 1)) for part in distinct.split(size)])[place]


def _moves(p: Tensor, q: Tensor, level: Tensor) -> Tensor:
    """Return the transition probabilities of distinct rows; level (n, 1)."""
    level, b = level.long(), heights(p.log())
    # Only the differences of heights move a level.
    d = heights(q.log()) - b
    s = _REACH * _S_NODES
    own = d.gather(1, level)
    lost = torch.zeros_like(d, dtype=torch.bool).scatter(1, level, True)
    # phi(s - b_k) ds, without its constant, as rows are normalised at the end.
    start = (-0.5 * (s - b.gather(1, level)).square()).exp() * _S_WEIGHTS
    below = torch.special.ndtr(s - b[:, :, None] + (own - d).clamp(max=0)[:, :, None])
    # The factual level wins again if no other overtakes it.
    stay = (start * below.masked_fill(lost[:, :, None], 1.0).prod(1)).sum(1)
    moved = torch.zeros_like(d)
    for low, high in zip(*_pieces(d), strict=True):  # of w, between neighbouring d's
        w = low[:, None] + (high - low)[:, None] * (_W_NODES + 1) / 2
        drop = (w[:, None] - d[:, :, None]).clamp(max=0)
        z = (s[:, None] + drop[:, :, None]) - b[:, :, None, None]  # (n, K, S, W)
        under = torch.special.ndtr(z).masked_fill(lost[:, :, None, None], 1.0)
        weight = start[:, :, None] * _W_WEIGHTS * ((high - low) / 2)[:, None, None]
        rest = under.prod(1) * weight
        hazard = (-0.5 * z.square()).exp() / (math.sqrt(2 * math.pi) * under.clamp(min=1e-300))
        # A piece contributes to j only if w is above d_k and below d_j in it.
        counts = (own <= low[:, None]) & (d >= high[:, None]) & ~lost
        moved += torch.where(counts, (hazard * rest[:, None]).sum((2, 3)), 0.0)
    return _normal(moved.scatter(1, level, stay[:, None]))


def _pieces(d: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
    ordered = d.sort(1).values
    return ordered[:, :-1].unbind(1), ordered[:, 1:].unbind(1)


def independent(p: Tensor, q: Tensor, level: Tensor) -> Tensor:
    """Return P(twin = j | fact = level) if each setting of the parents has noise of its own.

    Fact and twin are then independent: the answer is q.

    Args:
        p: Probabilities under the factual parents, shape (n, K).
        q: Probabilities under the counterfactual parents, shape (n, K).
        level: The position of the factual level, shape (n,), int64.
    """
    return q.expand(len(level), -1)


#: The couplings, by the names that a graph gives them.
COUPLINGS: Mapping[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "monotone": monotone,
    "gumbel": gumbel,
    "ot": transport,
    "independent": independent,
}


def upper_bounds(p: Tensor, q: Tensor, level: Tensor) -> Tensor:
    """Return the bound of P(twin = j | fact = level) for any coupling, min(1, q_j / p_level).

    This is the Frechet-Hoeffding bound on the joint distribution, min(p_k, q_j), given the fact.
    The lower bound max(0, p_k + q_j - 1) is what remains if every other level has its upper bound.
    Each row between these bounds that sums to one belongs to some coupling of p and q.

    Args:
        p: Probabilities under the factual parents, shape (n, K), all positive.
        q: Probabilities under the counterfactual parents, shape (n, K).
        level: The position of the factual level, shape (n,), int64.

    Returns:
        Shape (n, K).
    """
    return (q / p.gather(1, level[:, None])).clamp(max=1.0)


def extreme_mean(upper: Tensor, value: Tensor, *, largest: bool) -> Tensor:
    """Return the extreme mean of a value over all distributions below some upper bounds.

    The best levels are filled first, each up to its bound, until the probabilities sum to one.

    Args:
        upper: The bound of each level, shape (..., K), with a sum of at least one.
        value: The value of each level, shape (..., K), broadcast against `upper`.
        largest: Whether to return the largest mean, or the smallest.

    Returns:
        Shape (...).

    Example:
        >>> upper, value = torch.tensor([0.7, 0.5, 1.0]), torch.tensor([3.0, 2.0, 0.0])
        >>> [round(extreme_mean(upper, value, largest=b).item(), 2) for b in (True, False)]
        [2.7, 0.0]
    """
    upper, value = torch.broadcast_tensors(upper, value)
    value, order = value.sort(-1, descending=largest)
    filled = upper.gather(-1, order).cumsum(-1).clamp(max=1.0)
    weight = torch.cat((filled[..., :1], filled.diff(dim=-1)), -1)
    return (weight * value).sum(-1)


def _normal(weights: Tensor) -> Tensor:
    """Return rows normalised to a sum of one."""
    return weights / weights.sum(1, keepdim=True)
