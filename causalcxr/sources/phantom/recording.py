"""What is written down of a patient: labels that miss a disease, and values that are left blank.

Both are known functions of the values, of the data set and of recording noise of their own, so a
twin is recorded as its patient would have been. The film shows what is there, whatever is written.

Whether a value is recorded depends on the data set and on the value (`tables.RECORDED`): race in
MIMIC-CXR and CheXpert-Plus alone, sex and age seldom in VinDr-CXR, the view often not in
ReXGradient. A finding that is there is recorded wherever it is looked for; one that is not there
is written to be absent as rarely as in CXR7-1M, and by four of the data sets alone. No Finding is
N where a recorded finding denies it, P in as many records as are published, and else blank.
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

__all__ = ["in_group", "record", "recording_chances"]

Columns = dict[str, np.ndarray]


def in_group(world: World, columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return which records belong to the group that is under-diagnosed, (n,) bool."""
    parts = [columns[name] == LEVELS[name].index(level) for name, level in world.group.items()]
    return np.logical_and.reduce(parts)


def record(
    world: World,
    columns: Mapping[str, np.ndarray],
    draws: Draws,
    told: Mapping[str, np.ndarray] | None = None,
) -> Columns:
    """Return the columns as they are written down, (n,) each, NaN where they are left blank.

    Args:
        world: Its under-diagnosis and whether values are missing.
        columns: What is true, (n,) each.
        draws: The random numbers of the records.
        told: Variables that were set by hand, and where the value is known, (n,) bool each. What
            was set by hand is written down as it was set.
    """
    told = told or {}
    written = _labels(world, columns, draws, told)
    if world.missing:
        written = _with_gaps(world, written, draws, told)
    return written | {name: np.where(known, columns[name], np.nan) for name, known in told.items()}


def _labels(
    world: World, columns: Mapping[str, np.ndarray], draws: Draws, told: Mapping[str, np.ndarray]
) -> Columns:
    """Return the findings as the reader of the film calls them."""
    labels = dict(columns)
    if not world.underdiagnosis:
        return labels
    group = in_group(world, columns)
    for name in PATHOLOGIES:
        if name not in told:
            missed = draws.on(f"phantom missed {name}").uniform()[:, 0] < world.underdiagnosis
            labels[name] = np.where(group & missed, 0.0, columns[name])
    return labels | {"No Finding": none_of.predict(None, labels)}


def _with_gaps(
    world: World, labels: Columns, draws: Draws, told: Mapping[str, np.ndarray]
) -> Columns:
    """Return the labels with what nobody wrote down left out."""
    dataset = labels["Dataset"].astype(int)
    written = dict(labels)
    for name, chances in recording_chances(world).items():
        # One column of chances stands for all values, and for numbers.
        level = labels[name].astype(int) if chances.shape[1] > 1 else 0
        kept = told.get(name)
        if kept is None:
            kept = draws.on(f"phantom recorded {name}").uniform()[:, 0] < chances[dataset, level]
        written[name] = np.where(kept, labels[name], np.nan)
    denied = np.logical_or.reduce([written[name] == 1 for name in PATHOLOGIES])
    written["No Finding"][denied] = 0.0
    return written


def recording_chances(world: World) -> dict[str, np.ndarray]:
    """Return the chance that a value is recorded, (7 data sets, levels), or (7, 1) for any value.

    Example:
        >>> recording_chances(World())["Race"][:2, 0].tolist()
        [0.78, 0.0]
    """
    return _chances(population(world).healthy)


@lru_cache(maxsize=8)
def _chances(healthy: float) -> dict[str, np.ndarray]:
    """Solve the chances for the published counts; `healthy` is the share of No Finding."""
    writers = np.array(list(DATASETS.values())) @ WRITES_NEGATIVES
    chances = dict(RECORDED)
    for name, (prevalence, _) in FINDINGS.items():
        absent = NEGATIVES[name] / N_RECORDS / ((1 - prevalence) * writers)
        chances[name] = np.stack([absent * WRITES_NEGATIVES, LOOKED_FOR[name]], 1)
    share = min(1.0, NO_FINDING / N_RECORDS / healthy)
    chances["No Finding"] = np.stack([np.zeros(7), np.full(7, share)], 1)
    return chances
