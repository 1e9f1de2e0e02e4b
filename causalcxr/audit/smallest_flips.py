"""The smallest plausible intervention that flips a decision, record by record.

Of several interventions, each flips some decisions. The plausibility of an intervention for a
record follows from the model's equations: log p(new value | parents) - log p(factual value |
parents), 0 if the new value is as likely as the factual one. The smallest intervention is the most
plausible one.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.classifiers import Classifier
from causalcxr.audit.column_names import named_columns
from causalcxr.audit.groups import find_groups
from causalcxr.audit.quality_checks import changed_by
from causalcxr.cohort.cohort import Cohort
from causalcxr.graph.interventions import Intervention, do
from causalcxr.scm.scm import SCM

__all__ = ["smallest_flips"]

_COLUMNS = ("group", "intervention", "records", "flipped", "smallest", "plausibility")


def smallest_flips(
    scorer: Classifier,
    model: SCM,
    cohort: Cohort,
    interventions: Sequence[Intervention | Mapping[str, Any]],
    scores: np.ndarray,
    threshold: float,
    *,
    by: Sequence[str] = (),
    seed: int = 0,
) -> pd.DataFrame:
    """Return, for each group, which decisions flip and under which intervention.

    Args:
        scorer: The classifier.
        model: A fitted model.
        cohort: The records.
        interventions: The interventions.
        scores: The factual scores, (n,).
        threshold: Threshold of the decisions.
        by: Columns of the groups.
        seed: Seed of the twins.

    Returns:
        A row a group and intervention: `group`, `intervention`, `records` that it changes,
        `flipped`, the share of these whose decision flips, `smallest`, the share of the group's
        flipped decisions for which it is the most plausible intervention that flips them, and
        `plausibility`, its median over flips; rows "any" are over all interventions together.
        Empty without interventions.
    """
    if not interventions:
        return pd.DataFrame(columns=_COLUMNS)
    actions = [a if isinstance(a, Intervention) else do(a) for a in interventions]
    answers = [_flips(scorer, model, cohort, a, scores, threshold, seed) for a in actions]
    changed, flipped, plausible = (np.stack(part, 1) for part in zip(*answers, strict=True))
    # The most plausible intervention that flips the decision on each record, -1 if none does.
    ranked = np.where(flipped, plausible, -np.inf)
    smallest = np.where(flipped.any(1), ranked.argmax(1), -1)
    masks = {"all": np.ones(len(cohort), dtype=bool)}
    # Per group, each intervention and then all together.
    if by:
        masks = find_groups(named_columns(model.graph, cohort), list(by)).masks
    rows: list[dict[str, object]] = []
    for group, mask in masks.items():
        parts = (changed[mask], flipped[mask], plausible[mask], smallest[mask])
        for k, action in enumerate(actions):
            rows.append({"group": group, "intervention": action.describe()} | _row(*parts, k))
        rows.append({"group": group, "intervention": "any"} | _row_of_any(*parts))
    return pd.DataFrame(rows, columns=_COLUMNS)


def _row(
    changed: np.ndarray, flipped: np.ndarray, plausible: np.ndarray, smallest: np.ndarray, k: int
) -> dict[str, object]:
    """Return the figures of intervention k in one group."""
    n, flips, has_flip = int(changed[:, k].sum()), flipped[:, k], smallest >= 0
    return {
        "records": n,
        "flipped": flips.sum() / n if n else np.nan,
        "smallest": float((smallest[has_flip] == k).mean()) if has_flip.any() else np.nan,
        "plausibility": float(np.median(plausible[flips, k])) if flips.any() else np.nan,
    }


def _row_of_any(
    changed: np.ndarray, flipped: np.ndarray, plausible: np.ndarray, smallest: np.ndarray
) -> dict[str, object]:
    """Return the figures of all interventions together in one group."""
    n, has_flip = int(changed.any(1).sum()), smallest >= 0
    # Rows of -1 index the last column; `has_flip` drops them.
    best = plausible[np.arange(len(smallest)), smallest][has_flip]
    return {
        "records": n,
        "flipped": has_flip.sum() / n if n else np.nan,
        "smallest": 1.0 if has_flip.any() else np.nan,
        "plausibility": float(np.median(best)) if has_flip.any() else np.nan,
    }


def _flips(
    scorer: Classifier,
    model: SCM,
    cohort: Cohort,
    action: Intervention,
    scores: np.ndarray,
    threshold: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return which records change, which decisions flip, and the plausibility of each twin."""
    action = action.among(cohort.index)
    graph, bound = model.graph, action.bind(model.graph)
    twin = model.counterfactual(cohort, action, seed=seed)
    before, after = cohort.columns(graph), twin.columns(graph, beyond_range=True)
    # A record that the intervention does not change cannot flip.
    changed = changed_by(bound.names, before, after)
    flips = changed & ((scorer.scores(twin) >= threshold) != (scores >= threshold))
    # Plausibility: only what was set is replaced; its parents keep their factual values.
    records = cohort.with_images(None)
    replaced = records.with_columns(graph, {n: after[n] for n in bound.names}, before)
    old, new = model.log_prob(records), model.log_prob(replaced)
    fitted = [n for n in bound.names if n in new]
    plausible = np.zeros(len(old))
    if fitted:
        plausible = sum((new[n] - old[n]).to_numpy() for n in fitted)
    return changed, flips, np.nan_to_num(plausible, nan=-np.inf)
