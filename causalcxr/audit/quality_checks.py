"""Quality checks: whether a pair of a record and its twin is accepted or rejected, and why.

- effectiveness: does an independent attribute reader see what was set? P(level | twin) for levels;
  for numbers, the share of the intended change that it sees. Not checked for attributes that the
  reader cannot read on unseen patients.
- round_trip: is the null twin, computed anew under the factual values, the record's own image?
- amplification: do non-descendants of the intervention stay as they were? The largest change of a
  probability (of a number, in standard deviations) over those that the reader can read.
- support: are there training records in the cells of the twin's parents?
- plausibility: how likely is what was set, under the model and the record's other values? The
  smallest P(level | parents) over the levels that were set.

References:
    Measuring axiomatic soundness of counterfactual image models (Monteiro et al.),
    arXiv:2303.01274. Mitigating attribute amplification in counterfactual image generation (Xia
    et al.), arXiv:2403.09422.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.audit.cross_fitted_reader import CrossFittedReader
from causalcxr.audit.reader_quality import unreadable
from causalcxr.cohort.cohort import Cohort
from causalcxr.common.errors import AuditError
from causalcxr.graph.graph import Graph
from causalcxr.images.resampling import at_a_time
from causalcxr.scm.support import equal

__all__ = ["CHECKS", "Gates", "amplification", "changed_by", "check_pairs"]

CHECKS = ("effectiveness", "round_trip", "amplification", "support", "plausibility")


@dataclass(frozen=True)
class Gates:
    """Limits of the quality checks; None switches a check off.

    Args:
        effectiveness: Smallest accepted probability of the level that was set.
        shift: Smallest accepted share of an intended change of a number.
        round_trip: Largest accepted mean difference between null twin and image, 0 to 1.
        amplification: Largest accepted change of a non-descendant.
        support: Whether twins in cells with too few training records are rejected.
        plausibility: Smallest accepted probability of a level that was set, given its parents.
        reader: Smallest AUROC, on unseen patients, of a reader whose answers are used (of numbers,
            the correlation must be 2 reader - 1). An attribute that it cannot read is not checked.

    Raises:
        AuditError: If a number is below zero.
    """

    effectiveness: float | None = 0.5
    shift: float | None = 0.2
    round_trip: float | None = 1e-3
    amplification: float | None = 0.5
    support: bool = True
    plausibility: float | None = 0.005
    reader: float | None = 0.6

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not 0 <= value < float("inf"):
                raise AuditError(f"quality checks: {name} is {value}; give 0 or more, or None")


def check_pairs(
    gates: Gates,
    graph: Graph,
    factual: Cohort,
    twin: Cohort,
    null: Cohort | None,
    *,
    acted: tuple[str, ...],
    reached: frozenset[str],
    flags: np.ndarray | None = None,
    plausibility: np.ndarray | None = None,
    reader: AttributeReader | CrossFittedReader | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the quality checks of every pair, and the changes of non-descendants.

    Args:
        gates: Limits of the checks.
        graph: Graph of the columns.
        factual: The records, a row a pair.
        twin: Their twins.
        null: Their null twins, if they were computed.
        acted: Variables that were set.
        reached: Variables that were set, and their descendants.
        flags: Rows whose twin has too little support in the training records, (n,).
        plausibility: P(what was set | parents) of each row, (n,).
        reader: Reads attributes from images; without it, effectiveness and amplification are not
            checked.

    Returns:
        A row a pair: the five figures (NaN where not checked), `why` it is rejected ("" if it is
        accepted), `valid`; and a row a non-descendant and level: how it changed.
    """
    # A pair needs a known factual value that the intervention changes.
    before, after = factual.columns(graph), twin.columns(graph, beyond_range=True)
    table = pd.DataFrame(index=twin.index)
    table["changed"] = np.any([~equal(before[n], after[n]) for n in acted], axis=0)
    table["known"] = np.all([~np.isnan(before[n]) for n in acted], axis=0)
    unseen, spread = np.zeros(len(twin), dtype=bool), pd.DataFrame()
    if reader is not None and twin.has_images:
        # What the reader sees: in what was set, and in non-descendants.
        first = reader.read(factual)
        second = _read_twins(reader, twin, first)
        spread = amplification(graph, first, second, reached, factual.patients)
        # What it cannot read is not checked.
        first, second = (
            answers.drop(columns=unreadable(reader, gates.reader), level="variable")
            for answers in (first, second)
        )
        table["effectiveness"], unseen = _effectiveness(
            gates, graph, (before, after), (first, second), acted
        )
        drift = _drift(graph, first, second, reached)
        table["amplification"] = drift.max(axis=1) if drift.shape[1] else np.nan
    # Round trip: how far the model is from giving an image back.
    if null is not None and null.has_images and factual.has_images:
        table["round_trip"] = _round_trip(factual, null)
    if flags is not None:
        table["support"] = (~flags).astype(float)
    if plausibility is not None:
        table["plausibility"] = plausibility
    # Checks that could not be made are columns of NaN, which reject nothing.
    table = table.reindex(columns=["changed", "known", *CHECKS]).astype(
        dict.fromkeys(CHECKS, float)
    )
    table["why"] = _why(gates, table, unseen)
    table["valid"] = table["why"] == ""
    return table, spread


def changed_by(
    names: Iterable[str], before: Mapping[str, np.ndarray], after: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Return the rows in which the intervention changes a known value, (n,)."""
    names = tuple(names)
    changed = np.any([before[name] != after[name] for name in names], axis=0)
    return changed & np.all([~np.isnan(before[name]) for name in names], axis=0)


def amplification(
    graph: Graph,
    before: pd.DataFrame,
    after: pd.DataFrame,
    reached: frozenset[str],
    patients: pd.Series,
) -> pd.DataFrame:
    """Return how the reader's answers change for each non-descendant of the intervention.

    Returns:
        A row an attribute and level: `mean` change and `absolute` mean change of the probability
        (of a number, in its unit), each over the patients' means, with `se` of the mean.
    """
    rows = []
    for name, level in before:
        if name in reached or (graph[name].is_discrete and level == graph[name].levels[0]):
            continue
        change = (after[name, level] - before[name, level]).groupby(patients.to_numpy()).mean()
        # Over patients, whose records are not independent.
        se = change.std(ddof=1) / np.sqrt(len(change)) if len(change) > 1 else np.nan
        rows.append((name, level, change.mean(), change.abs().mean(), se, len(change)))
    names = ["variable", "level", "mean", "absolute", "se", "patients"]
    return pd.DataFrame(rows, columns=names)


def _read_twins(
    reader: AttributeReader | CrossFittedReader, twin: Cohort, before: pd.DataFrame
) -> pd.DataFrame:
    """Return what the reader sees in twins; a twin without an image equals its record."""
    rows = np.flatnonzero(twin.images.available)
    answers = before.copy()
    if len(rows):
        answers.iloc[rows] = reader.read(twin.at(rows)).to_numpy()
    return answers


def _effectiveness(
    gates: Gates,
    graph: Graph,
    columns: tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray]],
    read: tuple[pd.DataFrame, pd.DataFrame],
    acted: tuple[str, ...],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the smallest figure over what was set and can be read, and whether one is too low."""
    (before, after), (first, second) = columns, read
    shares, low = [np.full(len(second), np.nan)], np.zeros(len(second), dtype=bool)
    for name in acted:
        if name not in second.columns.get_level_values("variable"):
            continue
        share, least = np.full(len(second), np.nan), gates.effectiveness
        if graph[name].is_discrete:
            for level in second[name]:
                rows = after[name] == graph[name].levels.index(level)
                # Probability of the level that was set, as read from the twin.
                share[rows] = second[name, level].to_numpy()[rows]
        else:
            # The share of the intended shift that the reader sees.
            intended, least = after[name] - before[name], gates.shift
            seen = (second[name, ""] - first[name, ""]).to_numpy()
            np.divide(seen, intended, out=share, where=intended != 0)
        shares.append(share)
        low |= False if least is None else share < least
    # fmin ignores NaN: variables that cannot be read do not count.
    return np.fmin.reduce(shares), low


def _drift(
    graph: Graph, first: pd.DataFrame, second: pd.DataFrame, reached: frozenset[str]
) -> pd.DataFrame:
    """Return the absolute change of each non-descendant, a row a pair."""
    columns = [key for key in first if key[0] not in reached]
    change = (second[columns] - first[columns]).abs()
    for name, level in columns:
        if not graph[name].is_discrete:
            # In standard deviations, so that numbers and probabilities are comparable.
            change[name, level] /= max(first[name, level].std(), 1e-9)
    return change


def _round_trip(factual: Cohort, null: Cohort) -> np.ndarray:
    """Return the mean absolute difference of each image and its null twin, (n,)."""
    out = np.full(len(factual), np.nan)
    rows = np.flatnonzero(null.images.available & factual.images.available)
    step = at_a_time(null.images.size)
    for k in range(0, len(rows), step):
        part = rows[k : k + step]
        out[part] = np.abs(null.images[part] - factual.images[part]).mean((1, 2, 3))
    return out


def _why(gates: Gates, table: pd.DataFrame, unseen: np.ndarray) -> np.ndarray:
    """Return why each pair is rejected, reasons joined by commas."""
    rejected: dict[str, Any] = {
        "unknown before": ~table["known"],
        "unchanged": table["known"] & ~table["changed"],
        "effectiveness": unseen,
        "round trip": _beyond(table["round_trip"], gates.round_trip),
        "amplification": _beyond(table["amplification"], gates.amplification),
        "support": (table["support"] == 0) & gates.support,
        "plausibility": table["plausibility"] < (gates.plausibility or 0),
    }
    # All reasons are kept: a pair can fail several checks.
    why = np.full(len(table), "", dtype=object)
    for reason, rows in rejected.items():
        rows = np.broadcast_to(np.asarray(rows), len(table))
        why[rows] = [f"{text}, {reason}" if text else reason for text in why[rows]]
    return why


def _beyond(values: pd.Series, most: float | None) -> np.ndarray:
    return np.zeros(len(values), bool) if most is None else (values > most).to_numpy()
