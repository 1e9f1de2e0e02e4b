"""Bounds of an effect under a hidden cause of limited strength, for discrete causes.

The marginal sensitivity model limits how much the outcome says about the cause beyond the
observed variables: given those, the odds of the cause's value x differ by at most a factor of
Lambda between patients with different outcomes under x. It assumes nothing else about the hidden
cause. Then, among the patients whose cause has another value, the outcome under x has a
distribution whose ratio to the learned p(y | x, parents) lies between 1 / Lambda and Lambda.
The sharp bounds of the probability p of a level are

    min(Lambda p, 1 - (1 - p) / Lambda)    and    max(p / Lambda, 1 - Lambda (1 - p)),

and those of a mean give weight Lambda to the values above the quantile Lambda / (Lambda + 1), or
below 1 / (Lambda + 1), and 1 / Lambda to the others. Without a limit they are the bounds of
Frechet: 0 and 1.

References:
    | Tan, A distributional approach for causal inference using propensity scores, 2006
    | Dorn & Guo, Sharp sensitivity analysis for inverse propensity weighting via quantile
    balancing, arXiv:2102.04543
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.threads import over_rows
from causalcxr.mechanisms.discrete import DiscreteMechanism
from causalcxr.mechanisms.noise_scores import noise_from_scores, scores_from_noise
from causalcxr.scm.prediction import bind
from causalcxr.scm.questions.confounded_pairs import Pair
from causalcxr.scm.questions.confounded_twins import ConfoundedTwins

__all__ = ["OutcomeBounds", "level_bounds", "outcome_bounds", "reweighted"]


class OutcomeBounds(NamedTuple):
    """Bounds of the outcome of each record: its mean, or the probability of each level.

    Args:
        lower: Shape (n, K), K = 1 for a mean; NaN where the outcome is missing.
        upper: The same.
    """

    lower: Tensor
    upper: Tensor


def outcome_bounds(
    twins: ConfoundedTwins, pair: Pair, odds: Sequence[float]
) -> list[OutcomeBounds]:
    """Return the bounds of the outcome under the twins' action, for each odds ratio.

    Where the cause keeps its factual value, the twin has no hidden part: both bounds are its
    value. A mean has no bound without a limit of the odds ratio.

    Args:
        twins: The twins without a hidden cause.
        pair: The cause, discrete, and the outcome.
        odds: Odds ratios, at least 1; infinite for no limit.
    """
    moved, value = twins.moved(pair.cause), twins.columns[pair.outcome]
    variable = twins.model.graph[pair.outcome]
    if not variable.is_discrete:
        return _mean_bounds(twins, pair, odds, moved, value)
    p = _probabilities(twins, pair.outcome)
    kept = (value[:, None] == torch.arange(p.shape[1])).double()
    missing = value.isnan()[:, None].expand_as(p)
    bounds = []
    for ratio in odds:
        sides = (torch.where(moved[:, None], each, kept) for each in level_bounds(p, ratio))
        bounds.append(OutcomeBounds(*(side.masked_fill(missing, torch.nan) for side in sides)))
    return bounds


def level_bounds(p: Tensor, odds: float) -> tuple[Tensor, Tensor]:
    """Return the sharp bounds of probabilities whose ratio to p is limited.

    Args:
        p: Probabilities above zero, of any shape.
        odds: The largest ratio, at least 1.

    Example:
        >>> [round(each.item(), 3) for each in level_bounds(torch.tensor(0.2), 2.0)]
        [0.1, 0.4]
    """
    if odds == 1:
        return p, p
    if np.isinf(odds):
        return torch.zeros_like(p), torch.ones_like(p)
    lower = torch.maximum(p / odds, 1 - odds * (1 - p))
    upper = torch.minimum(odds * p, 1 - (1 - p) / odds)
    return lower.clamp(min=0.0), upper.clamp(max=1.0)


def reweighted(v: Tensor, odds: float) -> Tensor:
    """Return the scores moved upwards as far as the odds ratio allows, shape (n,).

    The distribution of standard normal scores gets the weight `odds` above its quantile
    odds / (odds + 1), and 1 / odds below it; the map from one to the other increases.

    Example:
        >>> reweighted(torch.zeros(1, dtype=torch.float64), 3.0).round(decimals=3).item()
        0.967
    """
    if odds == 1:
        return v
    # In terms of P(V > v), which keeps its digits for high scores.
    above = torch.special.ndtr(-v)
    is_far = above <= odds / (odds + 1)
    # The weight of the upper part is spread over the larger share of the records.
    low = -torch.special.ndtri(above / odds)
    high = torch.special.ndtri(odds * torch.special.ndtr(v))
    return torch.where(is_far, low, high)


def _mean_bounds(
    twins: ConfoundedTwins, pair: Pair, odds: Sequence[float], moved: Tensor, value: Tensor
) -> list[OutcomeBounds]:
    """Return the bounds of a number: the noise moves down or up, and the engine predicts."""
    mechanism = twins.model._mechanisms[pair.outcome]
    u, limited = twins.noise.values[pair.outcome], [each for each in odds if np.isfinite(each)]

    def block(rows: np.ndarray | slice) -> dict[tuple[float, int], Tensor]:
        scores = scores_from_noise(mechanism, u[rows])
        return {
            (ratio, sign): noise_from_scores(
                mechanism, u[rows], sign * reweighted(sign * scores, ratio)
            )
            for ratio in limited
            for sign in (-1, 1)
        }

    noises = over_rows(len(u), block) if limited else {}
    chosen = [torch.where(moved, noise, u) for noise in noises.values()]
    predicted = twins.with_noise(pair.outcome, chosen) if chosen else []
    numbers = dict(zip(noises, (each[pair.outcome] for each in predicted), strict=True))
    unlimited = torch.where(value.isnan(), torch.nan, torch.where(moved, torch.inf, value))
    numbers |= {(np.inf, -1): torch.where(moved, -unlimited, unlimited), (np.inf, 1): unlimited}
    return [OutcomeBounds(*(numbers[ratio, sign][:, None] for sign in (-1, 1))) for ratio in odds]


def _probabilities(twins: ConfoundedTwins, name: str) -> Tensor:
    """Return the learned probabilities of the levels under the twins' parents, shape (n, K)."""
    mechanism, columns = twins.model._mechanisms[name], twins.columns
    levels = len(twins.model.graph[name].levels)

    def block(rows: np.ndarray | slice) -> dict[str, Tensor]:
        parents = {p.name: columns[p.name][rows] for p in mechanism.parents}
        equation, n = bind(mechanism, parents), len(columns[name][rows])
        if isinstance(mechanism, DiscreteMechanism):
            return {"p": equation.log_probs.exp().expand(n, -1)}
        # The levels of a flow: the mass of their cells.
        each = [equation.log_prob(torch.full((n,), float(k)).double()) for k in range(levels)]
        return {"p": torch.stack(each, 1).exp()}

    return over_rows(len(columns[name]), block)["p"]
