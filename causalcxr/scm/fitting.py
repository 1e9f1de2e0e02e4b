"""Fitting one equation: whether it is stale and why, how it is learned, and what is recorded."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from causalcxr.graph.diff import NEW, declaration, declaration_changes, not_learned
from causalcxr.graph.graph import Graph
from causalcxr.images.shrunk_images import shrunk
from causalcxr.mechanisms import History, Mechanism, build
from causalcxr.scm.recipe import recipe_changes
from causalcxr.scm.training_data import TrainingData

__all__ = [
    "REVISION",
    "Fitted",
    "adapted",
    "fit_one",
    "learned_again",
    "stale_reason",
]

# Increased whenever the same specification would learn something else than before.
REVISION = 2

_UNRECORDED = "its declaration or its parents changed since it was fitted"
_PIXELS = 64  # so many images enter the fingerprint with every pixel
_Learn = Callable[..., History]


@dataclass(frozen=True)
class Fitted:
    """A learned equation and what it was learned from.

    Args:
        mechanism: The equation with its parameters.
        equation: The graph's hash of what it depends on.
        hash: The hash of all that it was learned from: equation, seed, revision, data, starting
            weights.
        seed: The seed of the fit.
        rows: Number of rows it learned from.
        losses: Training and validation losses.
        reason: Why it was learned: it is new, or what changed since the previous fit.
        recipe: Everything it was learned from, to report later changes; see
            `causalcxr.scm.recipe`. Empty in models saved before recipes were recorded.
    """

    mechanism: Mechanism
    equation: str
    hash: str
    seed: int
    rows: int
    losses: dict[str, list[float]] = field(default_factory=dict)
    reason: str = ""
    recipe: dict[str, Any] = field(default_factory=dict)


def fit_one(
    graph: Graph,
    name: str,
    data: TrainingData,
    previous: Fitted | None,
    *,
    seed: int,
    folder: Path | None = None,
    progress: Callable[[int, int, float], None] | None = None,
) -> Fitted | None:
    """Fit one equation, or return the previous one if nothing that it depends on has changed.

    Args:
        graph: The graph.
        name: The variable.
        data: The training data.
        previous: The equation of the previous fit, if any.
        seed: Of weights and batches.
        folder: For the checkpoints of a long fit.
        progress: Called with (step, steps, loss).

    Returns:
        None if the variable is never observed.

    Raises:
        CohortError: If the images are smaller than the graph declares.
        MechanismError: If the loss stops being finite.
    """
    # The training data and the function that learns from them; without data, no equation.
    mechanism = _built(graph, name)
    job = _image_job if graph[name].is_image else _column_job
    fingerprints, learn = job(mechanism, data)
    if learn is None:
        return None
    # Is the previous equation still the same?
    equation = graph.equation_hash(name)
    content = [equation, seed, REVISION, mechanism.provenance(), *fingerprints.values()]
    # Options that do not affect the weights do not make an equation stale.
    ignored = not_learned(graph[name].mechanism.kind)
    options = {k: v for k, v in mechanism.options.items() if k not in ignored}
    if previous is not None and previous.hash == _hash(content, _shared(options, previous)):
        return previous
    # Record why it is learned, and from what.
    recipe = _recipe(graph, mechanism, data, fingerprints, seed, options)
    reason = _reason(previous, equation, recipe)
    hashed = _hash(content, options)
    # Learn.
    checkpoints = folder / f"{name.replace(' ', '_')}-{hashed[:8]}" if folder else None
    history = learn(seed=seed, progress=progress, folder=checkpoints)
    losses = {"train": history.train, "validation": history.validation}
    return Fitted(
        mechanism, equation, hashed, seed, history.rows, losses, reason=reason, recipe=recipe
    )


def stale_reason(fitted: Fitted, graph: Graph, name: str) -> str:
    """Return what a graph changes in a learned equation; "" if it can still be used."""
    if fitted.equation == graph.equation_hash(name):
        return ""
    if not fitted.recipe:
        return _UNRECORDED
    return "; ".join(declaration_changes(fitted.recipe, declaration(graph, name))) or _UNRECORDED


def learned_again(before: Mapping[str, Fitted], after: Mapping[str, Fitted]) -> dict[str, str]:
    """Return the equations that a fit learned, and why.

    Args:
        before: The equations before the fit.
        after: The equations after it.
    """
    return {name: each.reason for name, each in after.items() if each is not before.get(name)}


def adapted(fitted: Fitted, graph: Graph, name: str) -> Fitted:
    """Return a learned equation with the options that a graph declares.

    Some options affect how an equation is evaluated, not what it learns, such as the steps of a
    solver. An equation that the graph makes stale is returned as it is.
    """
    if fitted.equation != graph.equation_hash(name):
        return fitted
    mechanism = _built(graph, name)
    if mechanism.options == fitted.mechanism.options:
        return fitted
    mechanism.load_state_dict(fitted.mechanism.state_dict())
    return replace(fitted, mechanism=mechanism.eval().requires_grad_(False))


def _built(graph: Graph, name: str) -> Mechanism:
    return build(graph[name], [graph[parent] for parent in graph[name].parents])


def _hash(content: list[Any], options: Mapping[str, Any]) -> str:
    """Return the hash of everything that an equation is learned from.

    Without options it is the hash in models that were saved before it included options.
    """
    text = json.dumps([*content, dict(sorted(options.items()))] if options else content)
    return hashlib.sha256(text.encode()).hexdigest()


def _shared(options: Mapping[str, Any], previous: Fitted) -> dict[str, Any]:
    """Return the options that the previous fit recorded, too.

    A later option changes nothing at its default; a changed default does. So equations stay in use
    when a version of the package adds an option.
    """
    recorded = previous.recipe.get("options", {})
    return {key: value for key, value in options.items() if key in recorded}


def _recipe(
    graph: Graph,
    mechanism: Mechanism,
    data: TrainingData,
    fingerprints: Mapping[str, str],
    seed: int,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    """Return everything that an equation is learned from, as a manifest records it."""
    name = mechanism.variable.name
    # Columns are listed only if they are learned from.
    names = [] if "columns" not in fingerprints else _names(mechanism)
    names += [] if mechanism.variable.is_image else [name]
    recipe = {
        **declaration(graph, name),
        "options": options,
        "seed": seed,
        "revision": REVISION,
        "weights": mechanism.provenance(),
        "records": data.record_fingerprint() if fingerprints else "",
        "columns": {each: data.fingerprint([each]) for each in sorted(names)},
        "images": fingerprints.get("images", ""),
    }
    return json.loads(json.dumps(recipe))  # the same before and after it is saved


def _reason(previous: Fitted | None, equation: str, recipe: Mapping[str, Any]) -> str:
    """Return why an equation is learned."""
    if previous is None:
        return NEW
    if previous.recipe:
        return "; ".join(recipe_changes(previous.recipe, recipe)) or "its content changed"
    # Models of earlier versions have no recipe: less is known about the cause.
    changes = [_UNRECORDED] if previous.equation != equation else []
    if previous.seed != recipe["seed"]:
        changes.append(f"seed {previous.seed} -> {recipe['seed']}")
    return "; ".join(changes) or "its data or the package changed since it was fitted"


def _names(mechanism: Mechanism) -> list[str]:
    return [parent.name for parent in mechanism.parents]


def _column_job(mechanism: Mechanism, data: TrainingData) -> tuple[dict[str, str], _Learn | None]:
    """Return the fingerprints of a column's training data, and the function that fits it."""
    name, parents = mechanism.variable.name, _names(mechanism)
    if np.isnan(data.columns[name][data.train]).all():
        return {}, None
    x, held = (torch.from_numpy(data.columns[name][rows]) for rows in (data.train, data.val))
    validation = (held, data.pick(parents, data.val)) if len(held) else None
    learn = partial(mechanism.fit, x, data.pick(parents, data.train), validation=validation)
    return {"columns": data.fingerprint([name, *parents])}, learn


def _image_job(mechanism: Mechanism, data: TrainingData) -> tuple[dict[str, str], _Learn | None]:
    """Return the fingerprints of an image's training data, and the function that fits it."""
    if not mechanism.options["steps"]:  # the weights are used as they are
        return {}, partial(mechanism.fit, None, {})
    # Only rows with an image teach the image's equation.
    rows, parents = data.rows_with_image(), _names(mechanism)
    if not len(rows):
        return {}, None
    # Larger images are shrunk; smaller ones are refused before anything is read.
    images = shrunk(data.cohort.images.select(rows), mechanism.image_size)

    def learn(**options: Any) -> History:
        # Images are read here, once it is certain that training is needed.
        return mechanism.fit(images.in_memory(), data.pick(parents, rows), **options)

    return {"columns": data.fingerprint(parents), "images": data.image_fingerprint()}, learn
