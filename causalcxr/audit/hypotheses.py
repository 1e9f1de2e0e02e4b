"""Hypotheses: every test of an audit in one table, in two families.

Declared hypotheses (primaries) are one family: Holm's correction bounds the probability of any
false rejection. All others are explored: the correction of Benjamini and Hochberg bounds the
expected share of false rejections.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from causalcxr.audit.group_measures import GroupMeasures
from causalcxr.audit.measures import MEASURES
from causalcxr.audit.multiple_testing import benjamini_hochberg, holm
from causalcxr.common.errors import AuditError, nearest

__all__ = ["hypotheses"]

_KINDS = {"total": "effect", "direct": "direct effect", "indirect": "indirect effect"}
_KINDS |= {"label stays": "effect where the label stays"}
_COMPARED = ("auroc", "tpr", "fpr", "selection_rate")


def hypotheses(
    effects: pd.DataFrame,
    flips: pd.DataFrame,
    observed: GroupMeasures | None,
    primaries: Sequence[str] = (),
    alpha: float = 0.05,
) -> pd.DataFrame:
    """Return a row a hypothesis.

    Args:
        effects: See `effect_table`.
        flips: See `flip_table`.
        observed: Measures of the groups, if labels are known.
        primaries: Names of declared hypotheses.
        alpha: Significance level of adjusted p-values.

    Returns:
        Indexed by name, such as `effect: Sex=F`; columns `estimate`, `low`, `high`, `p`, `family`
        (declared or explored), `size` of the family, `adjusted` p, and `told`, whether it
        is below the level.

    Raises:
        AuditError: If a declared hypothesis is unknown.
    """
    # Effects, then flips, then gaps: every hypothesis of the audit once.
    rows = [
        (f"{_KINDS[r.kind]}: {r.group}", r.mean, r.low, r.high, r.p)
        for r in effects.itertuples()
        if r.kind in _KINDS
    ]
    rows += [(f"flips: {r.group}", r.up - r.down, np.nan, np.nan, r.p) for r in flips.itertuples()]
    for word, gaps in (("gap", "gaps"), ("balanced gap", "balanced")):
        table = getattr(observed, gaps) if observed else pd.DataFrame(columns=["measure"])
        rows += [
            (
                f"{word} in {MEASURES[r.measure].words}: {r.group} - {r.reference}",
                r.gap,
                r.low,
                r.high,
                r.p,
            )
            for r in table[table["measure"].isin(_COMPARED)].itertuples()
        ]
    table = pd.DataFrame(rows, columns=["hypothesis", "estimate", "low", "high", "p"])
    # Undefined tests do not count: they would make the others stricter.
    table = table[table["p"].notna()].set_index("hypothesis")
    for name in primaries:
        if name not in table.index:
            hint = nearest(name, table.index) or f"; choose from {', '.join(table.index[:6])}, ..."
            raise AuditError(f"declared hypothesis {name!r} is unknown{hint}")
    # Declared hypotheses: Holm, against any false one. Explored: the expected share of false ones.
    declared = table.index.isin(list(primaries))
    table["family"] = np.where(declared, "declared", "explored")
    for rows, correct in ((declared, holm), (~declared, benjamini_hochberg)):
        family = correct(table.loc[rows, "p"].to_numpy(float))
        table.loc[rows, "size"], table.loc[rows, "adjusted"] = family.size, family.adjusted
    table["size"] = table["size"].astype(int)
    return table.assign(told=table["adjusted"] < alpha)
