"""The worst subgroups: searched in one half of the patients, measured in the other.

The worst of many figures is bad by chance alone. So the search uses one half of the patients, and
the subgroups that it returns are measured in the other half, where nothing was selected.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalcxr.audit.bootstrap import bootstrap
from causalcxr.audit.groups import ALL, Groups, find_groups
from causalcxr.audit.measures import MEASURES, Measure, find_measures
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import AuditError

__all__ = ["worst_groups"]

_COLUMNS = ("group", "measure", "searched", "estimate", "low", "high", "rest")
_COLUMNS += ("n", "positives", "candidates")


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
    min_count: int = 10,
    most: int = 5,
    draws: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Return the subgroups that look worst in one half, and their figures in the other.

    Args:
        scores: Shape (n,).
        labels: 0 or 1, (n,).
        table: The columns, a row a record.
        columns: Columns whose levels and combinations are searched; none for no search.
        patients: Patient of each row.
        threshold: Threshold of the decisions.
        measure: Key of `MEASURES`; one of which more, or less, is better.
        depth: Largest number of columns in a combination.
        min_count: Positives and negatives that a subgroup needs in each half.
        most: Largest number of subgroups returned.
        draws: Bootstrap draws.
        seed: Seed of the halves and the draws.

    Returns:
        A row a subgroup: `group`, `measure`, `searched`, `estimate`, `low`, `high`, `rest` (all
        patients of the second half), `n`, `positives`, `candidates`; empty without columns.

    Raises:
        AuditError: If the measure has no better side, or no subgroup is large enough.
    """
    if not columns:
        return pd.DataFrame(columns=_COLUMNS)
    (searched,) = find_measures(measure)
    if not searched.better:
        sided = ", ".join(name for name, m in MEASURES.items() if m.better)
        raise AuditError(f"search: {measure!r} has no better side; choose one of {sided}")
    # Halve the patients, not the records.
    codes, distinct = pd.factorize(patients)
    in_first = np.random.default_rng(seed).permutation(len(distinct)) < len(distinct) // 2
    first = in_first[codes]
    # The same groups in both halves, so that what is searched can be measured.
    options = {"depth": depth, "few": min_count}
    halves = [
        find_groups(table[rows], columns, labels=labels[rows], patients=patients[rows], **options)
        for rows in (first, ~first)
    ]
    candidates = _candidates(halves, columns, min_count)
    # Search the first half: estimates only, no intervals.
    options = {"threshold": threshold, "measures": [measure], "seed": seed, "blocks": 0}
    estimates = bootstrap(
        scores[first],
        labels[first],
        {name: halves[0].masks[name] for name in candidates},
        patients=patients[first],
        draws=1,
        **options,
    ).estimate[:, 0]
    figures = _worst(estimates, candidates, searched, most)
    # Measure the worst subgroups in the other half.
    honest = bootstrap(
        scores[~first],
        labels[~first],
        {name: halves[1].masks[name] for name in [ALL, *figures.index]},
        patients=patients[~first],
        draws=draws,
        **options,
    ).table()
    honest, sizes = honest.set_index("group"), halves[1].table
    rows = [
        {
            "group": name,
            "measure": measure,
            "searched": figure,
            **honest.loc[name, ["estimate", "low", "high"]].to_dict(),
            "rest": honest.loc[ALL, "estimate"],
            "n": int(sizes.loc[name, "n"]),
            "positives": int(sizes.loc[name, "positives"]),
            "candidates": len(candidates),
        }
        for name, figure in figures.items()
    ]
    return pd.DataFrame(rows, columns=_COLUMNS)


def _candidates(halves: list[Groups], columns: Sequence[str], min_count: int) -> list[str]:
    """Return the groups that are large enough in both halves."""
    large = [set(g.table.index[~g.table["few"].to_numpy(bool)]) for g in halves]
    names = [name for name in halves[0].names if name != ALL and name in large[0] & large[1]]
    if not names:
        raise AuditError(
            f"search: no subgroup of {', '.join(columns)} has {min_count} positives and negatives "
            "in each half of the patients; give fewer columns or more records"
        )
    return names


def _worst(estimates: np.ndarray, names: Sequence[str], measure: Measure, most: int) -> pd.Series:
    """Return the worst figures by name, the worst first."""
    ranked = pd.Series(estimates * measure.better, names).sort_values()
    # `better` is 1 or -1, so that the worst come first; multiplying again restores the sign.
    return ranked.iloc[:most] * measure.better
