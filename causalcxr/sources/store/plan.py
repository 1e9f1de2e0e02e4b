"""The plan of a store, and the identity of the job that writes it."""

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
from causalcxr.sources.store.image_inputs import ImageInput
from causalcxr.sources.store.layout import KIND, SCHEMA

__all__ = ["Plan", "job_identity"]


@dataclass(frozen=True)
class Plan:
    """The content of a store.

    Args:
        cohort: The records, without images.
        images: Images of some of the rows, with the positions of the rows.
        size: Height and width of every image.
        made_from: The origin of the records, as JSON: a job resumes an interrupted one with the
            same origin. None if it is unknown.
        about: Further entries of the manifest: sources, policy, rules.
        report: A function that writes a report into a folder, from the number of unreadable
            images by reason.
    """

    cohort: Cohort
    images: tuple[tuple[np.ndarray, ImageInput], ...]
    size: tuple[int, int]
    made_from: Mapping[str, Any] | None
    about: Mapping[str, Any] = field(default_factory=dict)
    report: Callable[[Path, Mapping[str, int]], Any] | None = None


def job_identity(plan: Plan, table: pd.DataFrame, images_per_shard: int) -> dict[str, Any]:
    """Return everything that determines the bytes of a store, except the image content."""
    job = {
        "kind": KIND,
        "schema": SCHEMA,
        "version": version("causalcxr"),
        "made_from": plan.made_from,
        "about": plan.about,
        "table": _digest(table),
        # The name is part of the identities of saved stores.
        "films": [images.digest for _, images in plan.images],
        "size": plan.size,
        "images_a_shard": images_per_shard,
    }
    return json.loads(json.dumps(job))  # as it is after saving and loading


def _digest(table: pd.DataFrame) -> str:
    """Return the SHA-256 of a table: its columns and all of its values."""
    digest = hashlib.sha256(json.dumps([[n, str(c.dtype)] for n, c in table.items()]).encode())
    digest.update(pd.util.hash_pandas_object(table, index=False).to_numpy().tobytes())
    return digest.hexdigest()
