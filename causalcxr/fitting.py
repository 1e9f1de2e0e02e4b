"""Fitting: which equations are stale, which rows they learn from, and what is remembered of it."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalcxr.cohort import Cohort, draw_splits
from causalcxr.errors import ModelError
from causalcxr.graph import Graph
from causalcxr.mechanisms import Mechanism, build
from causalcxr.noise import record_keys

__all__ = ["REVISION", "Fitted", "TrainingData", "fit_one"]

# Raised whenever the same specification would learn something else than before.
REVISION = 1


@dataclass(frozen=True)
class Fitted:
    """A learned equation and where it comes from.

    Args:
        mechanism: The equation with its parameters.
        equation: The graph's hash of what it depends on.
        hash: The hash of all that it was learned from: equation, seed, revision, data, starting weights.
        seed: The seed of the fit.
        rows: Number of rows it learned from.
        losses: Training and validation losses.
    """

    mechanism: Mechanism
    equation: str
    hash: str
    seed: int
    rows: int
    losses: dict[str, list[float]] = field(default_factory=dict)


@dataclass(frozen=True)
class TrainingData:
    """A cohort as the equations read it, in an order that does not depend on the cohort's."""

    cohort: Cohort
    columns: dict[str, np.ndarray]
    train: np.ndarray
    val: np.ndarray

    @classmethod
    def of(cls, cohort: Cohort, graph: Graph) -> "TrainingData":
        """Sort the rows by record and split them by patient, unless the cohort says how."""
        splits = cohort.splits
        drawn = draw_splits(cohort.patients, (0.9, 0.1, 0.0)) if splits is None else splits
        keys = record_keys(cohort.records)
        rows = {
            name: (at := np.flatnonzero(np.asarray(drawn) == name))[np.argsort(keys[at])]
            for name in ("train", "val")
        }
        if not len(rows["train"]):
            raise ModelError("fit: the cohort has no record in its train split; use assign_splits()")
        return cls(cohort, cohort.columns(graph), rows["train"], rows["val"])

    def pick(self, names: list[str], rows: np.ndarray) -> dict[str, Tensor]:
        """Return some columns of some rows."""
        return {name: torch.from_numpy(self.columns[name][rows]) for name in names}

    def fingerprint(self, names: list[str]) -> str:
        """Return a hash of the training and validation rows of some columns."""
        digest = hashlib.sha256()
        for rows in (self.train, self.val):
            digest.update(len(rows).to_bytes(8, "big"))
            for name in names:
                digest.update(np.ascontiguousarray(self.columns[name][rows]).tobytes())
        return digest.hexdigest()

    def imaged(self) -> np.ndarray:
        """Return the training rows that have an image."""
        if not self.cohort.has_images:
            return self.train[:0]
        return self.train[self.cohort.images.available[self.train]]

    def image_fingerprint(self) -> str:
        """Return a hash of which images there are, their size, and every pixel of the first 64."""
        rows, images = self.imaged(), self.cohort.images
        digest = hashlib.sha256(record_keys(self.cohort.records[rows]).tobytes())
        if len(rows):
            digest.update(str(images.size).encode() + images[rows[:64]].tobytes())
        return digest.hexdigest()


def fit_one(
    graph: Graph,
    name: str,
    data: TrainingData,
    known: Fitted | None,
    *,
    seed: int,
    folder: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Fitted | None:
    """Fit one equation, or return the known one if nothing that it depends on has changed.

    Returns:
        None where the variable is never observed, so that there is nothing to learn.
    """
    variable = graph[name]
    parents = [graph[p] for p in variable.parents]
    mechanism = build(variable, parents)
    job = _image_job if variable.is_image else _column_job
    prints, learn = job(mechanism, name, list(variable.parents), data)
    if learn is None:
        return None
    equation = graph.equation_hash(name)
    content = [equation, seed, REVISION, mechanism.provenance(), *prints]
    hashed = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    if known is not None and known.hash == hashed:
        return known
    checkpoints = folder / f"{name.replace(' ', '_')}-{hashed[:8]}" if folder else None
    history = learn(seed=seed, progress=progress, folder=checkpoints)
    losses = {"train": history.train, "validation": history.validation}
    return Fitted(mechanism, equation, hashed, seed, history.rows, losses)


def _column_job(mechanism: Mechanism, name: str, parents: list[str], data: TrainingData) -> Any:
    if np.isnan(data.columns[name][data.train]).all():
        return [], None
    x, held = (torch.from_numpy(data.columns[name][rows]) for rows in (data.train, data.val))

    def learn(**options: Any) -> Any:
        validation = (held, data.pick(parents, data.val)) if len(held) else None
        return mechanism.fit(x, data.pick(parents, data.train), validation=validation, **options)

    return [data.fingerprint([name, *parents])], learn


def _image_job(mechanism: Mechanism, name: str, parents: list[str], data: TrainingData) -> Any:
    if not mechanism.options["steps"]:
        return [], lambda **options: mechanism.fit(None, {}, **options)
    rows = data.imaged()
    if not len(rows):
        return [], None

    class Rows:
        """The images of the training rows, by their position among them."""

        def __getitem__(self, some: np.ndarray) -> np.ndarray:
            return data.cohort.images[rows[some]]

    def learn(**options: Any) -> Any:
        return mechanism.fit(Rows(), data.pick(parents, rows), **options)

    return [data.fingerprint(parents), data.image_fingerprint()], learn
