"""Fitting: which equations are stale, which rows they learn from, what is remembered of it."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalcxr.cohort import Cohort
from causalcxr.errors import ModelError
from causalcxr.graph import Graph
from causalcxr.mechanisms import History, Mechanism, build
from causalcxr.noise import record_keys
from causalcxr.splits import draw_splits

__all__ = ["REVISION", "Fitted", "TrainingData", "adapted", "fit_one"]

# Raised whenever the same specification would learn something else than before.
REVISION = 1

_PIXELS = 64  # so many images enter the fingerprint with every pixel
_Learn = Callable[..., History]


@dataclass(frozen=True)
class Fitted:
    """A learned equation and where it comes from.

    Args:
        mechanism: The equation with its parameters.
        equation: The graph's hash of what it depends on.
        hash: The hash of all that it was learned from: equation, seed, revision, data, starting
            weights.
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
    """A cohort as the equations read it, in an order that does not depend on the cohort's.

    Args:
        cohort: The records.
        columns: Their values, (n,) each.
        train: The positions of the rows that teach, in the order of their records' keys.
        val: The positions of the rows that tell when to stop, likewise.
    """

    cohort: Cohort
    columns: dict[str, np.ndarray]
    train: np.ndarray
    val: np.ndarray

    @classmethod
    def of(cls, cohort: Cohort, graph: Graph) -> "TrainingData":
        """Sort the rows by record and split them by patient, unless the cohort says how.

        Raises:
            CohortError: If a value is none that the graph declares.
            ModelError: If no row is there to learn from.
        """
        splits = cohort.splits
        drawn = draw_splits(cohort.patients, (0.9, 0.1, 0.0)) if splits is None else splits
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

    def imaged(self) -> np.ndarray:
        """Return the training rows that have an image."""
        if not self.cohort.has_images:
            return self.train[:0]
        return self.train[self.cohort.images.available[self.train]]

    def image_fingerprint(self) -> str:
        """Return a hash of which images there are, their size, and every pixel of the first 64."""
        rows, images = self.imaged(), self.cohort.images
        digest = hashlib.sha256(record_keys(self.cohort.records[rows]).tobytes())
        digest.update(str(images.size).encode() + images[rows[:_PIXELS]].tobytes())
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

    Args:
        graph: The graph.
        name: The variable.
        data: What to learn from.
        known: What was learned before, if anything.
        seed: Of weights and batches.
        folder: Where a long fit keeps checkpoints.
        progress: Called with (step, steps, loss).

    Returns:
        None where the variable is never observed, so that there is nothing to learn.

    Raises:
        ModelError: If the images are of another size than the graph asks for.
        MechanismError: If the loss stops being finite.
    """
    mechanism = _built(graph, name)
    job = _image_job if graph[name].is_image else _column_job
    prints, learn = job(mechanism, data)
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


def adapted(known: Fitted, graph: Graph, name: str) -> Fitted:
    """Return a learned equation with the options that a graph now asks for.

    Some options say what an equation does when it is asked, not what it learns, such as the steps
    of a solver. An equation that the graph makes stale is returned as it is.
    """
    if known.equation != graph.equation_hash(name):
        return known
    mechanism = _built(graph, name)
    if mechanism.options == known.mechanism.options:
        return known
    mechanism.load_state_dict(known.mechanism.state_dict())
    return replace(known, mechanism=mechanism.eval().requires_grad_(False))


def _built(graph: Graph, name: str) -> Mechanism:
    return build(graph[name], [graph[parent] for parent in graph[name].parents])


def _names(mechanism: Mechanism) -> list[str]:
    return [parent.name for parent in mechanism.parents]


def _column_job(mechanism: Mechanism, data: TrainingData) -> tuple[list[str], _Learn | None]:
    """Return the fingerprint of what a column is learned from, and how to learn it."""
    name, parents = mechanism.variable.name, _names(mechanism)
    if np.isnan(data.columns[name][data.train]).all():
        return [], None
    x, held = (torch.from_numpy(data.columns[name][rows]) for rows in (data.train, data.val))
    validation = (held, data.pick(parents, data.val)) if len(held) else None
    learn = partial(mechanism.fit, x, data.pick(parents, data.train), validation=validation)
    return [data.fingerprint([name, *parents])], learn


def _image_job(mechanism: Mechanism, data: TrainingData) -> tuple[list[str], _Learn | None]:
    """Return the fingerprint of what an image is learned from, and how to learn it."""
    if not mechanism.options["steps"]:  # weights are taken as they are, whatever the data
        return [], partial(mechanism.fit, None, {})
    rows, parents = data.imaged(), _names(mechanism)
    if not len(rows):
        return [], None
    side, size = mechanism.options["resolution"], data.cohort.images.size
    if size != (side, side):
        raise ModelError(
            f"fit: the cohort's images are {size[0]} x {size[1]} pixels, the graph's "
            f"{mechanism.variable.name!r} is {side} x {side}; load the cohort with size={side}"
        )

    def learn(**options: Any) -> History:
        films = data.cohort.images.select(rows).in_memory()
        return mechanism.fit(films, data.pick(parents, rows), **options)

    return [data.fingerprint(parents), data.image_fingerprint()], learn
