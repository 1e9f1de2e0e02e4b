"""What is to be stored, and what tells one job from another."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.cohort.cohort import Cohort
from causalcxr.sources.store.films import Films
from causalcxr.sources.store.layout import KIND, SCHEMA

__all__ = ["Plan", "job_of"]


@dataclass(frozen=True)
class Plan:
    """What is to be stored.

    Args:
        cohort: The records, without images.
        films: Images of some of the rows, each with their positions.
        size: Height and width of every image.
        made_from: What tells this job from others, in a few words, as JSON: an interrupted one is
            taken up again by one that is made from the same. None if it cannot be told.
        about: What else the manifest records: sources, policy, rules.
        report: Writes a report into the folder it is given, with the number of images set aside
            by reason.
    """

    cohort: Cohort
    films: tuple[tuple[np.ndarray, Films], ...]
    size: tuple[int, int]
    made_from: Mapping[str, Any] | None
    about: Mapping[str, Any] = field(default_factory=dict)
    report: Callable[[Path, Mapping[str, int]], Any] | None = None


def job_of(plan: Plan, table: pd.DataFrame, each: int) -> dict[str, Any]:
    """Return all that a store's bytes follow from, but for the content of the images."""
    job = {
        "kind": KIND,
        "schema": SCHEMA,
        "version": version("causalcxr"),
        "made_from": plan.made_from,
        "about": plan.about,
        "table": _digest(table),
        "films": [films.digest for _, films in plan.films],
        "size": plan.size,
        "images_a_shard": each,
    }
    return json.loads(json.dumps(job))  # as it is when read again


def _digest(table: pd.DataFrame) -> str:
    """Return what tells a table from others: its columns and all of its values."""
    digest = hashlib.sha256(json.dumps([[n, str(c.dtype)] for n, c in table.items()]).encode())
    digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()
