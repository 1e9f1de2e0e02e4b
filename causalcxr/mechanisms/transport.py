"""Semi-discrete optimal transport from N(0, I_K) to K levels: x = argmax_k u_k + b_k.

The map is the gradient of the convex function max_k(u_k + b_k). With level k at the k-th unit
vector, it has the least squared distance among all couplings of N(0, I) with the distribution of
the levels. All integrals are over s, the largest value: its density where k wins is phi(s - b_k)
times the product of Phi(s - b_j) over j != k.

References:
    | Aurenhammer, Hoffmann & Aronov, Minkowski-type theorems and least-squares clustering,
    Algorithmica 1998 | Kitagawa, Merigot & Thibert, Convergence of a Newton algorithm for
    semi-discrete optimal transport, arXiv:1603.05579
"""

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

__all__ = ["draw_winner", "heights", "masses"]

_REACH = 8  # with the largest height at zero, the winner is outside (-8, 8) once in 1e15
# Of a panel of width one, about its middle.
_NODES, _WEIGHTS = (torch.from_numpy(a) / 2 for a in np.polynomial.legendre.leggauss(8))
_EDGES = torch.arange(-_REACH, _REACH, dtype=torch.float64)
_GRID = (_EDGES[:, None] + 0.5 + _NODES).flatten()
_GRID_WEIGHTS = _WEIGHTS.repeat(len(_EDGES))
_ROWS = 1024  # distributions at a time: the working set stays small
_NUMBERS = 2**26  # the most that one of its tensors may hold, for many levels
_STEPS = 50  # Newton needs about five
_TOLERANCE = 1e-10  # of the logarithm of every mass
_REFINE = 10  # steps of Newton: eight leave 1e-13
_LOG_ROOT = 0.5 * math.log(2 * math.pi)


@torch.no_grad()
def heights(log_probs: Tensor) -> Tensor:
    """Return b, shape (n, K), such that level k wins with its probability; the largest is 0.

    Args:
        log_probs: Normalised log-probabilities, shape (n, K), each at least log(1e-7).

    Example:
        >>> b = heights(torch.tensor([[0.6, 0.3, 0.1]], dtype=torch.float64).log())
        >>> [round(mass, 6) for mass in masses(b)[0].tolist()]
        [0.6, 0.3, 0.1]
    """
    return _once_each(log_probs, _solve)


@torch.no_grad()
def masses(b: Tensor) -> Tensor:
    """Return the probability that each level wins, shape (n, K).

    Args:
        b: Heights, shape (n, K), the largest of each row near 0, as the integral ends at 8.

    Example:
        >>> masses(torch.zeros(1, 4, dtype=torch.float64))[0].round(decimals=9).tolist()
        [0.25, 0.25, 0.25, 0.25]
    """
    return torch.cat([_moments(rows)[0] for rows in b.split(_rows_of(b.shape[1]))])


@torch.no_grad()
def draw_winner(b: Tensor, level: Tensor, v: Tensor) -> Tensor:
    """Return the winning value u_k + b_k given that level k wins, by inverting its distribution.

    Args:
        b: Heights, shape (n, K).
        level: The winners, shape (n,), int64.
        v: Uniform numbers, shape (n,).

    Returns:
        Shape (n,); equal v give equal values, and a larger v a larger value.

    Example:
        >>> b, level = torch.zeros(1, 2, dtype=torch.float64), torch.tensor([0])
        >>> s = draw_winner(b, level, torch.tensor([0.25], dtype=torch.float64))
        >>> abs(s.item()) < 1e-9  # the larger of two normals is below 0 once in four
        True
    """
    keyed = torch.cat((b, level[:, None].double()), 1)
    panels = _once_each(keyed, lambda rows: _panels(rows[:, :-1], rows[:, -1:].long()))
    size = _rows_of(b.shape[1])
    parts = zip(*(t.split(size) for t in (b, level, v, panels)), strict=True)
    return torch.cat([_invert(*part) for part in parts])


def _once_each(rows: Tensor, compute: Callable[[Tensor], Tensor]) -> Tensor:
    """Compute a function of each row, once for equal rows."""
    # Records with equal parents have equal rows.
    distinct, place = torch.unique(rows, dim=0, return_inverse=True)
    return torch.cat([compute(part) for part in distinct.split(_rows_of(rows.shape[1]))])[place]


def _rows_of(levels: int) -> int:
    """Return the number of rows computed at a time."""
    return max(1, min(_ROWS, _NUMBERS // (levels * max(levels, len(_GRID)))))


def _solve(log_probs: Tensor) -> Tensor:
    """Solve for the heights by Newton's method; each row stops once it has converged."""
    # Start from the solution for two levels, each against the most probable one.
    top = log_probs.argmax(1, keepdim=True)
    share = torch.sigmoid(log_probs - log_probs.gather(1, top))
    b = math.sqrt(2) * torch.special.ndtri(share)  # exact for two levels
    active = torch.arange(len(b))
    for _ in range(_STEPS):
        mass, slope = _moments(b[active])
        short = log_probs[active] - mass.log()
        unsolved = short.abs().amax(1) > _TOLERANCE
        if not unsolved.any():
            break
        active, short, mass, slope = (t[unsolved] for t in (active, short, mass, slope))
        # Only differences of heights matter: keep the most probable level at zero.
        fixed = torch.zeros_like(mass, dtype=torch.bool).scatter(1, top[active], True)
        # Newton on the logarithms of the masses: errors are relative, also of rare levels.
        slope = slope / mass[:, :, None]
        slope = slope.masked_fill(fixed[:, :, None] | fixed[:, None, :], 0.0)
        slope = slope + torch.diag_embed(fixed.double())
        # A step of at most 1 in any height, so that a far start does not overshoot.
        step = torch.linalg.solve(slope, short.masked_fill(fixed, 0.0))
        b[active] += step / step.abs().amax(1, keepdim=True).clamp(min=1.0)
    return b


def _moments(b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the masses, (n, K), and their derivatives by the heights, (n, K, K)."""
    z = _GRID - b[:, :, None]
    below = torch.special.ndtr(z)
    # Level k wins at s with density phi_k times the product of the others' Phi.
    hazard = _phi(z) / below
    weighted = hazard * (below.prod(1) * _GRID_WEIGHTS)[:, None]
    # What level k loses when level j rises: both values at the same s.
    lost = weighted @ hazard.transpose(1, 2)
    lost.diagonal(dim1=1, dim2=2).zero_()
    return weighted.sum(2), torch.diag_embed(lost.sum(2)) - lost


def _panels(b: Tensor, level: Tensor) -> Tensor:
    """Return the mass of the winning value in each panel of width one, shape (n, panels)."""
    density = _density(b, level, _GRID.expand(len(b), -1))
    return (density * _GRID_WEIGHTS).unflatten(1, (len(_EDGES), -1)).sum(2)


def _density(b: Tensor, level: Tensor, s: Tensor) -> Tensor:
    """Return the density of the winning value s, shape (n, m), not normalised; level (n, 1)."""
    z = s[:, None] - b[:, :, None]
    won = torch.zeros_like(b, dtype=torch.bool).scatter(1, level, True)[:, :, None]
    return torch.where(won, _phi(z), torch.special.ndtr(z)).prod(1)


def _invert(b: Tensor, level: Tensor, v: Tensor, panels: Tensor) -> Tensor:
    """Return the quantile v of the winning value: its panel, then Newton inside brackets."""
    # The panel in which the mass from below reaches the share v.
    level, reached = level[:, None], panels.cumsum(1)
    target = v[:, None] * reached[:, -1:]
    at = (reached < target).sum(1, keepdim=True).clamp(max=len(_EDGES) - 1)
    inside = panels.gather(1, at)
    target = target - (reached.gather(1, at) - inside)
    start = _EDGES[at]
    # The position in that panel, by Newton's method; bisection where a step leaves the bracket.
    low, high = torch.zeros_like(target), torch.ones_like(target)
    t = (target / inside).clamp(0.0, 1.0)
    for _ in range(_REFINE):
        points = torch.cat((start + t * (0.5 + _NODES), start + t), 1)
        density = _density(b, level, points)
        over = t * (density[:, :-1] * _WEIGHTS).sum(1, keepdim=True) - target
        low, high = torch.where(over < 0, t, low), torch.where(over < 0, high, t)
        newton = t - over / density[:, -1:]
        t = torch.where((newton >= low) & (newton <= high), newton, (low + high) / 2)
    return (start + t)[:, 0]


def _phi(z: Tensor) -> Tensor:
    return torch.exp(-0.5 * z.square() - _LOG_ROOT)
