"""Fitting: which equations are stale and why, which rows teach them, what is remembered of it."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.splits import draw_splits
from causalcxr.common.errors import ModelError
from causalcxr.common.random_numbers import record_keys
from causalcxr.graph.diff import NEW, declaration, declaration_changes, not_learned
from causalcxr.graph.graph import Graph
from causalcxr.mechanisms import History, Mechanism, build
from causalcxr.scm.recipe import recipe_changes

__all__ = [
    "REVISION",
    "Fitted",
    "TrainingData",
    "adapted",
    "fit_one",
    "learned_again",
    "stale_reason",
]

# Raised whenever the same specification would learn something else than before.
REVISION = 2

_UNTOLD = "its declaration or its parents changed since it was fitted"
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
        reason: Why it was learned: it is new, or what changed since it was learned before.
        recipe: What it was learned from, piece by piece, to tell a later change; see
            `causalcxr.scm.recipe`. Empty in models saved before recipes were kept.
    """

    mechanism: Mechanism
    equation: str
    hash: str
    seed: int
    rows: int
    losses: dict[str, list[float]] = field(default_factory=dict)
    reason: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)


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

    def record_fingerprint(self) -> str:
        """Return a hash of which records teach and which validate."""
        digest = hashlib.sha256()
        for rows in (self.train, self.val):
            keys = record_keys(self.cohort.records[rows])
            digest.update(len(rows).to_bytes(8, "big") + keys.tobytes())
            digest.update(self.cohort.draws[rows].tobytes())
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
    content = [equation, seed, REVISION, mechanism.provenance(), *prints.values()]
    asked = not_learned(graph[name].mechanism.kind)
    options = {k: v for k, v in mechanism.options.items() if k not in asked}
    if known is not None and known.hash == _hash(content, _shared(options, known)):
        return known
    recipe = _recipe(graph, mechanism, data, prints, seed, options)
    reason = _reason(known, equation, recipe)
    hashed = _hash(content, options)
    checkpoints = folder / f"{name.replace(' ', '_')}-{hashed[:8]}" if folder else None
    history = learn(seed=seed, progress=progress, folder=checkpoints)
    losses = {"train": history.train, "validation": history.validation}
    return Fitted(
        mechanism, equation, hashed, seed, history.rows, losses, reason=reason, recipe=recipe
    )


def stale_reason(known: Fitted, graph: Graph, name: str) -> str:
    """Return what a graph changed for a learned equation; nothing where it can be used."""
    if known.equation == graph.equation_hash(name):
        return ""
    if not known.recipe:
        return _UNTOLD
    return "; ".join(declaration_changes(known.recipe, declaration(graph, name))) or _UNTOLD


def learned_again(before: Mapping[str, Fitted], after: Mapping[str, Fitted]) -> dict[str, str]:
    """Return the equations that a fit learned, and why.

    Args:
        before: The equations before the fit.
        after: The equations after it.
    """
    return {name: each.reason for name, each in after.items() if each is not before.get(name)}


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


def _hash(content: list[Any], options: Mapping[str, Any]) -> str:
    """Return the hash of all that an equation is learned from.

    Without options it is the hash of models that were saved before options entered it.
    """
    text = json.dumps([*content, dict(sorted(options.items()))] if options else content)
    return hashlib.sha256(text.encode()).hexdigest()


def _shared(options: Mapping[str, Any], known: Fitted) -> dict[str, Any]:
    """Return the options that an earlier fit knew too.

    An option that came later changes nothing at its default; a default that changed does. So what
    was learned stays in use when the package learns a new option.
    """
    recorded = known.recipe.get("options", {})
    return {key: value for key, value in options.items() if key in recorded}


def _recipe(
    graph: Graph,
    mechanism: Mechanism,
    data: TrainingData,
    prints: Mapping[str, str],
    seed: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return what an equation is learned from, as it stands in a manifest."""
    name = mechanism.variable.name
    names = [] if "columns" not in prints else _names(mechanism)
    names += [] if mechanism.variable.is_image else [name]
    recipe = {
        **declaration(graph, name),
        "options": options,
        "seed": seed,
        "revision": REVISION,
        "weights": mechanism.provenance(),
        "records": data.record_fingerprint() if prints else "",
        "columns": {each: data.fingerprint([each]) for each in sorted(names)},
        "images": prints.get("images", ""),
    }
    return json.loads(json.dumps(recipe))  # the same whether read from a manifest or not


def _reason(known: Fitted | None, equation: str, recipe: Mapping[str, Any]) -> str:
    """Return why an equation is learned."""
    if known is None:
        return NEW
    if known.recipe:
        return "; ".join(recipe_changes(known.recipe, recipe)) or "its content changed"
    told = [_UNTOLD] if known.equation != equation else []
    told += [f"seed {known.seed} -> {recipe['seed']}"] if known.seed != recipe["seed"] else []
    return "; ".join(told) or "its data or the package changed since it was fitted"


def _names(mechanism: Mechanism) -> list[str]:
    return [parent.name for parent in mechanism.parents]


def _column_job(mechanism: Mechanism, data: TrainingData) -> tuple[dict[str, str], _Learn | None]:
    """Return the fingerprints of what a column is learned from, and how to learn it."""
    name, parents = mechanism.variable.name, _names(mechanism)
    if np.isnan(data.columns[name][data.train]).all():
        return {}, None
    x, held = (torch.from_numpy(data.columns[name][rows]) for rows in (data.train, data.val))
    validation = (held, data.pick(parents, data.val)) if len(held) else None
    learn = partial(mechanism.fit, x, data.pick(parents, data.train), validation=validation)
    return {"columns": data.fingerprint([name, *parents])}, learn


def _image_job(mechanism: Mechanism, data: TrainingData) -> tuple[dict[str, str], _Learn | None]:
    """Return the fingerprints of what an image is learned from, and how to learn it."""
    if not mechanism.options["steps"]:  # weights are taken as they are, whatever the data
        return {}, partial(mechanism.fit, None, {})
    rows, parents = data.imaged(), _names(mechanism)
    if not len(rows):
        return {}, None
    wanted, size = mechanism.image_size, data.cohort.images.size
    if size != wanted:
        raise ModelError(
            f"fit: the cohort's images are {size[0]} x {size[1]} pixels, the graph's "
            f"{mechanism.variable.name!r} is {wanted[0]} x {wanted[1]}; load the cohort with "
            f"size={wanted[1]}"
        )

    def learn(**options: Any) -> History:
        films = data.cohort.images.select(rows).in_memory()
        return mechanism.fit(films, data.pick(parents, rows), **options)

    return {"columns": data.fingerprint(parents), "images": data.image_fingerprint()}, learn
