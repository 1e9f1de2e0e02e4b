"""What is observed: a classifier's figures in each group, as they are and with groups alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from causalcxr.audit.bootstrap import Validation, bootstrap
from causalcxr.audit.bootstrap_draws import BootstrapDraws
from causalcxr.audit.curves import reliability, roc_curve
from causalcxr.audit.groups import UNKNOWN, Balance, Groups, balance, levels_of
from causalcxr.audit.intervals import wilson
from causalcxr.audit.measures import MEASURES
from causalcxr.audit.thresholds import ThresholdRule
from causalcxr.audit.weighted_sums import PARTS, RankedScores
from causalcxr.common.alignment import rows_by_id
from causalcxr.common.errors import CausalCXRError

__all__ = ["GroupMeasures", "measure_groups"]


@dataclass(frozen=True, eq=False)
class GroupMeasures:
    """Hold a classifier's figures in groups of records.

    Args:
        table: A row a group and measure, with bootstrap bounds; of shares also `wilson_low` and
            `wilson_high`, which take records for independent.
        gaps: For each column of `by`, each level less its reference, the most frequent one.
        balanced: The gaps again, with groups made alike in other columns and in prevalence.
        balances: How that went, by column; one that could not be done is told by its message.
        threshold: The one threshold, and how it was chosen.
        draws: The draws of the bootstrap.
        roc: A frame a group: false and true positive rate, threshold.
        reliability: A frame a group: bins of scores, and how many of them were positive.
    """

    table: pd.DataFrame
    gaps: pd.DataFrame
    balanced: pd.DataFrame
    balances: Mapping[str, Balance | str]
    threshold: float
    draws: BootstrapDraws
    roc: Mapping[str, pd.DataFrame]
    reliability: Mapping[str, pd.DataFrame]


@rows_by_id("table", "scores", "labels", "patients")
def measure_groups(
    scores: np.ndarray,
    labels: np.ndarray,
    groups: Groups,
    table: pd.DataFrame,
    *,
    patients: np.ndarray,
    rule: ThresholdRule,
    validation: Validation | None,
    alike: Sequence[str],
    measures: Sequence[str] | None = None,
    draws: int = 2000,
    seed: int = 0,
) -> GroupMeasures:
    """Return what is observed.

    Args:
        scores: Shape (n,), 0 to 1.
        labels: Shape (n,), 0, 1 or NaN.
        groups: Of the rows.
        table: The columns of the rows, for balancing.
        patients: Who each row is of.
        rule: Of the threshold.
        validation: Where the rule is applied; the rows themselves if None.
        alike: Columns in which groups are made alike, beside the label.
        measures: Names; all by default.
        draws: Of the bootstrap.
        seed: Of these.
    """
    asked = {"patients": patients, "threshold": rule, "validation": validation}
    asked |= {"measures": measures, "draws": draws, "seed": seed, "threads": 2}
    found = bootstrap(scores, labels, groups, **asked)
    whole, gaps, balanced, balances = found.table(), [], [], {}
    for name in groups.by:
        levels = levels_of(table[name])
        reference = _reference(levels)
        part = {f"{name}={v}": groups.masks[f"{name}={v}"] for v in levels.categories}
        if len(part) < 2:
            continue
        chosen = bootstrap(scores, labels, part, **asked)
        gaps.append(_told(chosen, name, f"{name}={reference}"))
        others = [column for column in alike if column != name]
        try:
            made = balance(table, name, others, labels=labels) if others else "nothing to balance"
        except CausalCXRError as error:
            made = str(error)
        balances[name] = made
        if isinstance(made, Balance):
            known = {key: rows for key, rows in part.items() if not key.endswith(f"={UNKNOWN}")}
            weighed = bootstrap(scores, labels, known, weights=made.weights, **asked)
            balanced.append(_told(weighed, name, f"{name}={reference}"))
    curves = {key: groups.masks[key] for key in groups.names if groups.table["columns"][key] < 2}
    return GroupMeasures(
        _with_wilson(whole, scores, labels, groups, found.threshold),
        _joined(gaps),
        _joined(balanced),
        balances,
        found.threshold,
        found,
        {key: roc_curve(scores[rows], labels[rows]) for key, rows in curves.items()},
        {key: reliability(scores[rows], labels[rows]) for key, rows in curves.items()},
    )


def _reference(levels: pd.Categorical) -> str:
    """Return the most frequent level, a known one where there is one."""
    counts = pd.Series(levels).value_counts()
    known = counts.drop(UNKNOWN, errors="ignore")
    return str((known if len(known) else counts).idxmax())


def _told(found: BootstrapDraws, name: str, reference: str) -> pd.DataFrame:
    table = found.gaps(reference)
    table.insert(0, "by", name)
    table.insert(2, "reference", reference)
    return table


def _joined(parts: list[pd.DataFrame]) -> pd.DataFrame:
    if parts:
        return pd.concat(parts, ignore_index=True)
    names = ["by", "group", "reference", "measure", "gap", "se", "low", "high", "undefined", "p"]
    return pd.DataFrame(columns=names)


def _with_wilson(
    table: pd.DataFrame, scores: np.ndarray, labels: np.ndarray, groups: Groups, threshold: float
) -> pd.DataFrame:
    """Add numerator, denominator and Wilson bounds to the shares."""
    table, counts = table.copy(), {}
    if np.isnan(threshold):
        return table.assign(count=np.nan, of=np.nan, wilson_low=np.nan, wilson_high=np.nan)
    for group, rows in groups.masks.items():
        ranked = RankedScores(scores[rows], labels[rows])
        sums = ranked.sums(np.ones((1, int(rows.sum())), dtype=np.int32), threshold, PARTS)
        for name, measure in MEASURES.items():
            if measure.is_proportion:
                parts = (measure.numerator(sums)[0], measure.denominator(sums)[0])
                counts[group, name] = parts
    keys = list(zip(table["group"], table["measure"], strict=True))
    none = (np.nan, np.nan)
    found = np.array([counts.get(key, none) for key in keys], dtype=float).reshape(-1, 2)
    table["count"], table["of"] = found.T
    bounds = wilson(found[:, 0], found[:, 1])
    table["wilson_low"], table["wilson_high"] = bounds.low, bounds.high
    return table
