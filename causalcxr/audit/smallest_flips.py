"""The smallest plausible intervention that flips a decision, record by record.

Of several single questions, each flips some decisions. How plausible a question is for a record is
told by the model's own equations: log p(new value | parents) - log p(factual value | parents), 0
where the new value is as likely as what was observed. The smallest one is the most plausible.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.classifiers import Classifier
from causalcxr.audit.column_names import described
from causalcxr.audit.groups import find_groups
from causalcxr.audit.quality_checks import changed_by
from causalcxr.cohort.cohort import Cohort
from causalcxr.graph.interventions import Intervention, do
from causalcxr.scm.scm import SCM

__all__ = ["smallest_flips"]


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
    """Return, for each group, which decisions flip and by what.

    Args:
        scorer: The classifier.
        model: A fitted model.
        cohort: The records.
        interventions: The questions.
        scores: The factual scores, (n,).
        threshold: Where it is decided.
        by: Columns of the groups.
        seed: Of the twins.

    Returns:
        A row a group and question: `group`, `intervention`, `records` that it changes, `flipped`
        share of these, `smallest`, the share of the group's flipped decisions for which it is the
        most plausible question that flips, and `plausibility`, its median where it flips; the rows
        "any" tell of all questions together. Empty without questions.
    """
    names = ["group", "intervention", "records", "flipped", "smallest", "plausibility"]
    if not interventions:
        return pd.DataFrame(columns=names)
    actions = [a if isinstance(a, Intervention) else do(a) for a in interventions]
    found = [_asked(scorer, model, cohort, a, scores, threshold, seed) for a in actions]
    changed, flipped, plausible = (np.stack(part, 1) for part in zip(*found, strict=True))
    ranked = np.where(flipped, plausible, -np.inf)
    first = np.where(flipped.any(1), ranked.argmax(1), -1)
    table = described(model.graph, cohort)[0]
    rows = []
    for group, mask in (
        find_groups(table, list(by)).masks.items() if by else [("all", slice(None))]
    ):
        some, flips, why, small = (x[mask] for x in (changed, flipped, plausible, first))
        hit = small >= 0
        for k, action in enumerate(actions):
            n, at = int(some[:, k].sum()), flips[:, k]
            rows.append(
                {
                    "group": group,
                    "intervention": action.describe(),
                    "records": n,
                    "flipped": at.sum() / n if n else np.nan,
                    "smallest": float((small[hit] == k).mean()) if hit.any() else np.nan,
                    "plausibility": float(np.median(why[at, k])) if at.any() else np.nan,
                }
            )
        best = why[np.arange(len(small)), small][hit]
        rows.append(
            {
                "group": group,
                "intervention": "any",
                "records": int(some.any(1).sum()),
                "flipped": hit.sum() / some.any(1).sum() if some.any() else np.nan,
                "smallest": 1.0 if hit.any() else np.nan,
                "plausibility": float(np.median(best)) if hit.any() else np.nan,
            }
        )
    return pd.DataFrame(rows, columns=names)


def _asked(
    scorer: Classifier,
    model: SCM,
    cohort: Cohort,
    action: Intervention,
    scores: np.ndarray,
    threshold: float,
    seed: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return whether a question changes each record, flips it, and how plausible it is."""
    action = action.among(cohort.index)
    graph, bound = model.graph, action.bind(model.graph)
    twin = model.counterfactual(cohort, action, seed=seed)
    before, after = cohort.columns(graph), twin.columns(graph, beyond_range=True)
    changed = changed_by(bound.names, before, after)
    flips = changed & ((scorer.scores(twin) >= threshold) != (scores >= threshold))
    bare = cohort.with_images(None)
    asked = bare.with_columns(graph, {n: after[n] for n in bound.names}, before)
    old, new = model.log_prob(bare), model.log_prob(asked)
    learned = [n for n in bound.names if n in new]
    plausible = (
        sum((new[n] - old[n]).to_numpy() for n in learned) if learned else np.zeros(len(old))
    )
    return changed, flips, np.nan_to_num(plausible, nan=-np.inf)
