"""The recording of a patient: labels that miss a disease, and values that are missing.

Both are known functions of the values, of the data set and of their own noise, so a twin is
recorded as its patient would have been. The image shows the true findings, whatever the labels.

Whether a value is recorded depends on the data set and on the value (`tables.RECORDED`): race in
MIMIC-CXR and CheXpert-Plus alone, sex and age seldom in VinDr-CXR, the view often not in
ReXGradient. A present finding is recorded wherever a data set labels it; an absent one is recorded
as absent as rarely as in CXR7-1M, and by only four of the data sets. No Finding is N if a recorded
finding contradicts it, P in as many records as are published, and otherwise missing.
"""

from collections.abc import Mapping
from functools import lru_cache

import numpy as np

from causalcxr.common.random_numbers import Draws
from causalcxr.sources.phantom.population import none_of, population
from causalcxr.sources.phantom.tables import (
    DATASETS,
    FINDINGS,
    LEVELS,
    LOOKED_FOR,
    N_RECORDS,
    NEGATIVES,
    NO_FINDING,
    PATHOLOGIES,
    RECORDED,
    WRITES_NEGATIVES,
)
from causalcxr.sources.phantom.world import World

__all__ = ["in_group", "record", "recording_probabilities"]

Columns = dict[str, np.ndarray]


def in_group(world: World, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which records belong to the under-diagnosed group, (n,) bool."""
    parts = [columns[name] == LEVELS[name].index(level) for name, level in world.group.items()]
    return np.logical_and.reduce(parts)


def record(
    world: World,
    columns: Mapping[str, np.ndarray],
    draws: Draws,
    set_values: Mapping[str, np.ndarray] | None = None,
) -> Columns:
    """Return the columns as they are recorded, (n,) each, NaN where missing.

    Args:
        world: The world: its under-diagnosis, and whether values are missing.
        columns: The true values, (n,) each.
        draws: The random numbers of the records.
        set_values: For variables set by intervention, where the value is recorded, (n,) bool
            each; it is recorded without error.
    """
    set_values = set_values or {}
    table = _labels(world, columns, draws, set_values)
    if world.missing:
        table = _with_gaps(world, table, draws, set_values)
    return table | {
        name: np.where(is_recorded, columns[name], np.nan)
        for name, is_recorded in set_values.items()
    }


def _labels(
    world: World,
    columns: Mapping[str, np.ndarray],
    draws: Draws,
    set_values: Mapping[str, np.ndarray],
) -> Columns:
    """Return the columns with the labels of the reader, who misses findings of the group."""
    labels = dict(columns)
    if not world.underdiagnosis:
        return labels
    group = in_group(world, columns)
    for name in PATHOLOGIES:
        if name not in set_values:
            missed = draws.on(f"phantom missed {name}").uniform()[:, 0] < world.underdiagnosis
            labels[name] = np.where(group & missed, 0.0, columns[name])
    return labels | {"No Finding": none_of.predict(None, labels)}


def _with_gaps(
    world: World, labels: Columns, draws: Draws, set_values: Mapping[str, np.ndarray]
) -> Columns:
    """Return the labels with NaN where a value is not recorded."""
    dataset = labels["Dataset"].astype(int)
    table = dict(labels)
    for name, probabilities in recording_probabilities(world).items():
        # One column of probabilities applies to all values, and to numbers.
        level = labels[name].astype(int) if probabilities.shape[1] > 1 else 0
        is_recorded = set_values.get(name)
        if is_recorded is None:
            u = draws.on(f"phantom recorded {name}").uniform()[:, 0]
            is_recorded = u < probabilities[dataset, level]
        table[name] = np.where(is_recorded, labels[name], np.nan)
    # A recorded pathology implies that No Finding is N.
    ill = np.logical_or.reduce([table[name] == 1 for name in PATHOLOGIES])
    table["No Finding"][ill] = 0.0
    return table


def recording_probabilities(world: World) -> dict[str, np.ndarray]:
    """Return the probability that a value is recorded, (7 data sets, levels), or (7, 1).

    Example:
        >>> recording_probabilities(World())["Race"][:2, 0].tolist()
        [0.78, 0.0]
    """
    return _recording(population(world).healthy)


@lru_cache(maxsize=8)
def _recording(healthy: float) -> dict[str, np.ndarray]:
    """Return the probabilities that give the published counts.

    Args:
        healthy: The fraction of No Finding.
    """
    writers = np.array(list(DATASETS.values())) @ WRITES_NEGATIVES
    probabilities = dict(RECORDED)
    for name, (prevalence, _) in FINDINGS.items():
        absent = NEGATIVES[name] / N_RECORDS / ((1 - prevalence) * writers)
        probabilities[name] = np.stack([absent * WRITES_NEGATIVES, LOOKED_FOR[name]], 1)
    share = min(1.0, NO_FINDING / N_RECORDS / healthy)
    probabilities["No Finding"] = np.stack([np.zeros(7), np.full(7, share)], 1)
    return probabilities
