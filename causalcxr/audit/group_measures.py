"""Measures of a classifier in each group, as observed and after balancing."""

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
    """Hold the measures of a classifier in groups of records.

    Args:
        table: A row a group and measure, with bootstrap bounds; shares also have `wilson_low` and
            `wilson_high`, which assume independent records.
        gaps: For each column of `by`, each level minus the reference, the most frequent level.
        balanced: The gaps after balancing other columns and prevalence.
        balances: The balance of each column, or the message why it could not be balanced.
        threshold: The common threshold.
        draws: The bootstrap draws.
        roc: A frame a group: false and true positive rate, threshold.
        reliability: A frame a group: bins of scores, and their share of positives.
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
    """Return the measures of each group.

    Args:
        scores: Shape (n,), 0 to 1.
        labels: Shape (n,), 0, 1 or NaN.
        groups: Groups of the rows.
        table: The columns of the rows, for balancing.
        patients: Patient of each row.
        rule: How the threshold is chosen.
        validation: Data on which the rule chooses; the rows themselves if None.
        alike: Columns to balance, beside the label.
        measures: Names; all by default.
        draws: Bootstrap draws.
        seed: Seed of the draws.
    """
    # The same seed everywhere: all bootstraps share the draws of patients.
    options = {"patients": patients, "threshold": rule, "validation": validation}
    options |= {"measures": measures, "draws": draws, "seed": seed, "threads": 2}
    result = bootstrap(scores, labels, groups, **options)
    gaps, balanced, balances = [], [], {}
    for name in groups.by:
        levels = levels_of(table[name])
        masks = {f"{name}={v}": groups.masks[f"{name}={v}"] for v in levels.categories}
        if len(masks) < 2:
            continue
        # Gaps: levels against the reference, drawn together.
        reference = f"{name}={_reference(levels)}"
        gaps.append(_gap_table(bootstrap(scores, labels, masks, **options), name, reference))
        # The same gaps, with weights that balance the other columns and the label.
        others = [column for column in alike if column != name]
        try:
            balances[name] = (
                balance(table, name, others, labels=labels) if others else "nothing to balance"
            )
        except CausalCXRError as error:
            # Balancing is impossible: the reason takes the place of the weights.
            balances[name] = str(error)
            continue
        if isinstance(balances[name], Balance):
            # Records of unknown level have no weight.
            known = {key: rows for key, rows in masks.items() if not key.endswith(f"={UNKNOWN}")}
            weights = balances[name].weights
            weighted = bootstrap(scores, labels, known, weights=weights, **options)
            balanced.append(_gap_table(weighted, name, reference))
    # Curves of all records and of single columns; combinations would be too many to read.
    curves = {key: groups.masks[key] for key in groups.names if groups.table["columns"][key] < 2}
    return GroupMeasures(
        _with_wilson(result.table(), scores, labels, groups, result.threshold),
        _joined(gaps),
        _joined(balanced),
        balances,
        result.threshold,
        result,
        {key: roc_curve(scores[rows], labels[rows]) for key, rows in curves.items()},
        {key: reliability(scores[rows], labels[rows]) for key, rows in curves.items()},
    )


def _reference(levels: pd.Categorical) -> str:
    """Return the most frequent level, "unknown" only if there is no other."""
    counts = pd.Series(levels).value_counts()
    known = counts.drop(UNKNOWN, errors="ignore")
    return str((known if len(known) else counts).idxmax())


def _gap_table(result: BootstrapDraws, name: str, reference: str) -> pd.DataFrame:
    table = result.gaps(reference)
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
    """Return the table with numerator, denominator and Wilson bounds of the shares."""
    table, counts = table.copy(), {}
    if np.isnan(threshold):
        return table.assign(count=np.nan, of=np.nan, wilson_low=np.nan, wilson_high=np.nan)
    for group, rows in groups.masks.items():
        # Counts of records, unweighted: a Wilson interval needs whole successes and trials.
        ranked = RankedScores(scores[rows], labels[rows])
        sums = ranked.sums(np.ones((1, int(rows.sum())), dtype=np.int32), threshold, PARTS)
        for name, measure in MEASURES.items():
            if measure.is_proportion:
                parts = (measure.numerator(sums)[0], measure.denominator(sums)[0])
                counts[group, name] = parts
    keys = list(zip(table["group"], table["measure"], strict=True))
    # Measures that are not proportions keep NaN.
    undefined = (np.nan, np.nan)
    pairs = np.array([counts.get(key, undefined) for key in keys], dtype=float).reshape(-1, 2)
    table["count"], table["of"] = pairs.T
    bounds = wilson(pairs[:, 0], pairs[:, 1])
    table["wilson_low"], table["wilson_high"] = bounds.low, bounds.high
    return table
