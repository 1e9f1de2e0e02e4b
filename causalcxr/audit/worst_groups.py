"""The worst subgroup: looked for in one half of the patients, measured in the other.

The worst of many figures is bad by chance, too. So the search sees half of the patients only, and
what it finds is measured on the other half, whose figures nobody has chosen.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalcxr.audit.bootstrap import bootstrap
from causalcxr.audit.groups import ALL, find_groups
from causalcxr.audit.measures import MEASURES, find_measures
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import AuditError

__all__ = ["worst_groups"]


@rows_by_id("table", "scores", "labels", "patients")
def worst_groups(
    scores: np.ndarray,
    labels: np.ndarray,
    table: pd.DataFrame,
    columns: Sequence[str],
    *,
    patients: np.ndarray,
    threshold: float,
    measure: str = "auroc",
    depth: int = 2,
    few: int = 10,
    most: int = 5,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the subgroups that look worst in one half, and their figures in the other.

    Args:
        scores: Shape (n,).
        labels: 0 or 1, (n,).
        table: The columns, a row a record.
        columns: Among whose levels and combinations is searched; none for no search.
        patients: Who each row is of.
        threshold: Where it is decided.
        measure: What is worst, a key of `MEASURES` of which more is better, or less.
        depth: Columns in a combination at most.
        few: Positives and negatives that a subgroup needs in both halves.
        most: So many subgroups.
        draws: Of the bootstrap.
        seed: Of the halves and the draws.

    Returns:
        A row a subgroup: `group`, `measure`, `searched`, `estimate`, `low`, `high`, `rest` (all
        patients of the second half), `n`, `positives`, `candidates`; empty without columns.

    Raises:
        AuditError: If the measure has no better side, or no subgroup is large enough.
    """
    names = ["group", "measure", "searched", "estimate", "low", "high", "rest"]
    names += ["n", "positives", "candidates"]
    if not columns:
        return pd.DataFrame(columns=names)
    (asked,) = find_measures(measure)
    if not asked.better:
        sided = ", ".join(name for name, m in MEASURES.items() if m.better)
        raise AuditError(f"search: {measure!r} has no better side; choose one of {sided}")
    codes, known = pd.factorize(patients)
    half = np.random.default_rng(seed).permutation(len(known)) < len(known) // 2
    first = half[codes]
    halves = [
        find_groups(
            table[rows],
            columns,
            labels=labels[rows],
            patients=patients[rows],
            depth=depth,
            few=few,
        )
        for rows in (first, ~first)
    ]
    large = [set(g.table.index[~g.table["few"].to_numpy(bool)]) for g in halves]
    candidates = [name for name in halves[0].names if name != ALL and name in large[0] & large[1]]
    if not candidates:
        raise AuditError(
            f"search: no subgroup of {', '.join(columns)} has {few} positives and negatives in "
            "each half of the patients; take fewer columns or more records"
        )
    options = {"threshold": threshold, "measures": [measure], "seed": seed, "blocks": 0}
    found = bootstrap(
        scores[first],
        labels[first],
        {name: halves[0].masks[name] for name in candidates},
        patients=patients[first],
        draws=1,
        **options,
    )
    searched = pd.Series(found.estimate[:, 0] * asked.better, candidates).sort_values()
    chosen = list(searched.index[:most])
    honest = bootstrap(
        scores[~first],
        labels[~first],
        {name: halves[1].masks[name] for name in [ALL, *chosen]},
        patients=patients[~first],
        draws=draws,
        **options,
    ).table()
    told = honest.set_index("group")
    sizes = halves[1].table
    rows = [
        {
            "group": name,
            "measure": measure,
            "searched": searched[name] * asked.better,
            **told.loc[name, ["estimate", "low", "high"]].to_dict(),
            "rest": told.loc[ALL, "estimate"],
            "n": int(sizes.loc[name, "n"]),
            "positives": int(sizes.loc[name, "positives"]),
            "candidates": len(candidates),
        }
        for name in chosen
    ]
    return pd.DataFrame(rows, columns=names)
