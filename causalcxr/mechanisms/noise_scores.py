"""The noise of an equation as one standard normal score, where it has one.

A flow has such a score as its noise. A monotone coupling has its rank; a Gumbel or transport
coupling of two levels has the difference of its two components, which alone selects the level.
Other couplings, rules and pairs of states have none.
"""

import torch
from torch import Tensor

from causalcxr.mechanisms.base import Equation, Mechanism
from causalcxr.mechanisms.cells import push_cell
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.mechanisms.empirical import EmpiricalMechanism
from causalcxr.mechanisms.flow import FlowMechanism
from causalcxr.mechanisms.reversible import PairEquation

__all__ = [
    "has_score_interval",
    "has_scores",
    "noise_from_scores",
    "score_interval",
    "score_shift",
    "scores_from_noise",
]

_ROOT_TWO = 2.0**0.5


def has_scores(mechanism: Mechanism) -> bool:
    """Return whether the noise can be read as one score, and be replaced by another."""
    if isinstance(mechanism, FlowMechanism):
        columns = {parent.name: torch.zeros(1).double() for parent in mechanism.parents}
        return not isinstance(mechanism(columns), PairEquation)
    if not isinstance(mechanism, DiscreteMechanism):
        return False
    coupling, levels = mechanism.options["coupling"], len(mechanism.variable.levels)
    return coupling == "monotone" or (levels == 2 and coupling in ("gumbel", "ot"))


def has_score_interval(mechanism: Mechanism) -> bool:
    """Return whether each value corresponds to an interval of scores, or to one score.

    Values of an empirical root do as well, and so do two levels under any coupling.
    """
    if isinstance(mechanism, EmpiricalMechanism):
        return mechanism.rounding is not None or mechanism.variable.type != "categorical"
    if isinstance(mechanism, DiscreteMechanism) and len(mechanism.variable.levels) == 2:
        return True
    return has_scores(mechanism)


def scores_from_noise(mechanism: Mechanism, u: Tensor) -> Tensor:
    """Return the score of each noise, shape (n,).

    Args:
        mechanism: An equation that has scores, see `has_scores`.
        u: Its noise, shape (n,) or (n, 2).
    """
    if isinstance(mechanism, FlowMechanism):
        return u
    if mechanism.options["coupling"] == "monotone":
        return torch.special.ndtri(u)
    difference = u[:, 1] - u[:, 0]
    if mechanism.options["coupling"] == "ot":
        return difference / _ROOT_TWO
    # The difference of two Gumbel variables is logistic; both tails keep their digits.
    low = torch.special.ndtri(torch.sigmoid(-difference.abs()))
    return torch.where(difference > 0, -low, low)


def noise_from_scores(mechanism: Mechanism, u: Tensor, scores: Tensor) -> Tensor:
    """Return the noise with other scores; what the score leaves open stays as it is.

    Args:
        mechanism: An equation that has scores, see `has_scores`.
        u: Its noise, shape (n,) or (n, 2).
        scores: The new scores, shape (n,).
    """
    if isinstance(mechanism, FlowMechanism):
        return scores
    if mechanism.options["coupling"] == "monotone":
        return torch.special.ndtr(scores)
    if mechanism.options["coupling"] == "ot":
        difference = scores * _ROOT_TWO
    else:
        difference = torch.special.log_ndtr(scores) - torch.special.log_ndtr(-scores)
    return torch.stack((u[:, 0], u[:, 0] + difference), 1)


def score_interval(mechanism: Mechanism, equation: Equation, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends of the scores that give x; all scores where x is missing.

    Args:
        mechanism: An equation that has intervals, see `has_score_interval`.
        equation: The same with its parents bound.
        x: Values, shape (n,).

    Returns:
        Two tensors of shape (n,), equal where one score gives x.
    """
    missing = x.isnan()
    if isinstance(mechanism, FlowMechanism):
        low, high = _flow_interval(mechanism, equation, x.nan_to_num())
    else:
        below, above = (
            _steps(equation, x)
            if isinstance(mechanism, EmpiricalMechanism)
            else _cells(equation, x)
        )
        low, high = torch.special.ndtri(below), torch.special.ndtri(above)
    return low.masked_fill(missing, -torch.inf), high.masked_fill(missing, torch.inf)


def _flow_interval(
    mechanism: FlowMechanism, equation: Equation, x: Tensor
) -> tuple[Tensor, Tensor]:
    ends = mechanism.ends(x)
    bound = mechanism.kernel.bind(equation.context)
    if len(ends) == 2:
        return push_cell(bound, ends)
    u = bound(ends[0])
    return u, u


def _cells(equation: Equation, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability below each level, and up to it, shape (n,) each."""
    level = x.nan_to_num().long()[:, None]
    edges = equation.log_probs.exp().cumsum(1).expand(len(x), -1)
    # The ends are exact: nothing lies below the first level or above the last.
    edges = torch.cat((torch.zeros(len(x), 1), edges[:, :-1], torch.ones(len(x), 1)), 1)
    return edges.gather(1, level)[:, 0], edges.gather(1, level + 1)[:, 0]


def _steps(equation: Equation, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the ends of the step of an empirical distribution, shape (n,) each."""
    values, ends = equation.values, equation.ends
    at = (torch.searchsorted(values, x.nan_to_num(), right=True) - 1).clamp(min=0)
    low = torch.where(at > 0, ends[(at - 1).clamp(min=0)], 0.0)
    return low, torch.where(at == len(values) - 1, 1.0, ends[at])


def score_shift(mechanism: Mechanism, equation: Equation, other: Equation) -> Tensor | None:
    """Return how far the distribution lies above another one, in normal scores, shape (n,).

    With c a threshold, it is the normal score of P(x > c) minus that of the other distribution.
    The threshold is the other's median; for levels, the edge where both sides are most alike.

    Args:
        mechanism: The mechanism of both.
        equation: The mechanism with its parents bound.
        other: The same with other values of the parents, such as a missing one.

    Returns:
        None where the levels have no order.
    """
    if isinstance(mechanism, FlowMechanism) and not mechanism.variable.is_discrete:
        both = (mechanism.kernel.bind(each.context) for each in (equation, other))
        mine, theirs = both
        n = max(len(equation.context), len(other.context))
        return -mine(theirs.inverse(torch.zeros(n, dtype=torch.float64)))
    if not isinstance(mechanism, DiscreteMechanism) or not has_score_interval(mechanism):
        return None
    above, theirs = (1 - each.log_probs.exp().cumsum(1)[:, :-1] for each in (equation, other))
    edge = int((theirs.mean(0) - 0.5).abs().argmin())
    return torch.special.ndtri(above[:, edge]) - torch.special.ndtri(theirs[:, edge])
