"""A cohort as equations learn from it: its columns, which rows teach, and fingerprints of both."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.splits import draw_splits
from causalcxr.common.errors import ModelError
from causalcxr.common.random_numbers import record_keys
from causalcxr.graph.graph import Graph

__all__ = ["TrainingData"]

_PIXELS = 64  # the fingerprint covers every pixel of this many images


@dataclass(frozen=True)
class TrainingData:
    """A cohort's columns, and its training and validation rows in an order of their own.

    Args:
        cohort: The records.
        columns: Their values, (n,) each.
        train: The positions of the training rows, in the order of their records' keys.
        val: The positions of the validation rows, likewise.
    """

    cohort: Cohort
    columns: dict[str, np.ndarray]
    train: np.ndarray
    val: np.ndarray

    @classmethod
    def from_cohort(cls, cohort: Cohort, graph: Graph) -> "TrainingData":
        """Sort the rows by record; split them by patient, unless the cohort has splits.

        Raises:
            CohortError: If the graph does not declare a value.
            ModelError: If there is no training row.
        """
        splits = cohort.splits
        drawn = draw_splits(cohort.patients, (0.9, 0.1, 0.0)) if splits is None else splits
        # By key of the record, so that the order of the rows does not change the result.
        order = np.lexsort((cohort.draws, record_keys(cohort.records)))
        train, val = (order[np.asarray(drawn)[order] == name] for name in ("train", "val"))
        if not len(train):
            raise ModelError(
                f"fit: none of {len(cohort):,} records is in the train split; give more records, "
                "or draw splits with assign_splits()"
            )
        return cls(cohort, cohort.columns(graph), train, val)

    def rows(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return every column of some rows."""
        return {name: column[rows] for name, column in self.columns.items()}

    def pick(self, names: Sequence[str], rows: np.ndarray) -> dict[str, Tensor]:
        """Return some columns of some rows, as tensors."""
        return {name: torch.from_numpy(self.columns[name][rows]) for name in names}

    def fingerprint(self, names: Sequence[str]) -> str:
        """Return a hash of the training and validation rows of some columns."""
        digest = hashlib.sha256()
        for rows in (self.train, self.val):
            digest.update(len(rows).to_bytes(8, "big"))
            for name in names:
                digest.update(np.ascontiguousarray(self.columns[name][rows]).tobytes())
        return digest.hexdigest()

    def record_fingerprint(self) -> str:
        """Return a hash of the ids of the training and the validation records."""
        digest = hashlib.sha256()
        for rows in (self.train, self.val):
            keys = record_keys(self.cohort.records[rows])
            digest.update(len(rows).to_bytes(8, "big") + keys.tobytes())
            digest.update(self.cohort.draws[rows].tobytes())
        return digest.hexdigest()

    def rows_with_image(self) -> np.ndarray:
        """Return the training rows that have an image."""
        if not self.cohort.has_images:
            return self.train[:0]
        return self.train[self.cohort.images.available[self.train]]

    def image_fingerprint(self) -> str:
        """Return a hash of the images' records and size, and of every pixel of the first 64."""
        rows, images = self.rows_with_image(), self.cohort.images
        digest = hashlib.sha256(record_keys(self.cohort.records[rows]).tobytes())
        digest.update(str(images.size).encode() + images[rows[:_PIXELS]].tobytes())
        return digest.hexdigest()
