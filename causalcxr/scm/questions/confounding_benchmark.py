"""How strong the observed parents are, on the scale of a hidden cause.

What would the correlation of two noises be if an observed parent W had not been observed? Write
eta for the shift of a variable's distribution, in normal scores, between the equation that knows W
and the same equation with W missing. Without W, the score of the variable is
(eta + noise) / sqrt(1 + var(eta)), so W explains the share var(eta) / (1 + var(eta)) of it, and
leaving W out would correlate the scores of two children of W by

    rho = cov(eta_1, eta_2) / sqrt((1 + var(eta_1)) (1 + var(eta_2)))

This is the benchmark of Cinelli & Hazlett on the scale of normal scores, which discrete variables
have too. It needs no new fit, since the equations have learned what they predict without W.

References:
    | Cinelli & Hazlett, Making sense of sensitivity: extending omitted variable bias, 2020,
    doi 10.1111/rssb.12348
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from causalcxr.common.threads import over_rows
from causalcxr.mechanisms.noise_scores import score_shift
from causalcxr.scm.prediction import bind
from causalcxr.scm.questions.confounded_pairs import Pair

if TYPE_CHECKING:
    from causalcxr.scm.scm import SCM

__all__ = ["parent_strengths"]


def parent_strengths(
    model: "SCM", columns: Mapping[str, Tensor], pair: Pair
) -> list[dict[str, float | str]]:
    """Return the strength of each parent of the outcome, other than the cause.

    Args:
        model: The model.
        columns: The factual values, (n,) each.
        pair: The cause and the outcome.

    Returns:
        One row for each parent: `share_of_cause` and `share_of_outcome`, the shares of their
        normal scores that it explains beyond their other parents, and `rho`, the correlation that
        leaving it out would induce. NaN where a variable has no scores.
    """
    graph, rows = model.graph, []
    for parent in graph[pair.outcome].parents:
        if parent == pair.cause or columns[parent].isnan().all():
            continue
        mine, theirs = (
            _shift(model, columns, name, parent) for name in (pair.cause, pair.outcome)
        )
        spread = [float(np.var(eta)) for eta in (mine, theirs)]
        shares = [each / (1 + each) for each in spread]
        together = float(np.mean((mine - mine.mean()) * (theirs - theirs.mean())))
        rows.append(
            {
                "parent": parent,
                "share_of_cause": shares[0],
                "share_of_outcome": shares[1],
                "rho": together / float(np.sqrt((1 + spread[0]) * (1 + spread[1]))),
            }
        )
    return rows


def _shift(model: "SCM", columns: Mapping[str, Tensor], name: str, parent: str) -> np.ndarray:
    """Return the shift by a parent in the records that have it, (n,); zero if it is no parent."""
    mechanism, observed = model._mechanisms.get(name), ~columns[parent].isnan()
    if mechanism is None or parent not in model.graph[name].parents:
        return np.zeros(int(observed.sum()))
    chosen = observed.nonzero()[:, 0].numpy()

    def block(rows: np.ndarray | slice) -> dict[str, Tensor]:
        facts = {p.name: columns[p.name][chosen[rows]] for p in mechanism.parents}
        hidden = {**facts, parent: torch.full_like(facts[parent], torch.nan)}
        shift = score_shift(mechanism, bind(mechanism, facts), bind(mechanism, hidden))
        return {"eta": torch.full_like(facts[parent], torch.nan) if shift is None else shift}

    return over_rows(len(chosen), block)["eta"].numpy()
