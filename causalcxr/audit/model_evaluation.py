"""Evaluation: how sound are a model's counterfactual images, beside floor, ceiling and truth?

Every figure stands beside what changing nothing reaches (the copy) and, on phantoms, what the true
twins reach (the oracle): a proxy says little without them.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from causalcxr.audit.attribute_reader import AttributeReader, image_features
from causalcxr.audit.model_evaluation_result import Evaluation
from causalcxr.audit.quality_checks import changed_by
from causalcxr.cohort.cohort import Cohort
from causalcxr.cohort.cohort_input import Records, as_cohort
from causalcxr.cohort.columns import decode
from causalcxr.common.errors import AuditError, CohortError
from causalcxr.common.progress import progress
from causalcxr.common.versions import versions
from causalcxr.graph.arguments import actions_of
from causalcxr.graph.interventions import BoundIntervention, Intervention, do
from causalcxr.images.images import ArrayImages
from causalcxr.metrics.axioms import (
    composition_errors,
    output_change,
    reversibility_errors,
    target_errors,
)
from causalcxr.metrics.bootstrap import mean_interval
from causalcxr.metrics.fidelity import fidelity
from causalcxr.metrics.minimality import identity_kept
from causalcxr.metrics.similarity import SIMILARITIES
from causalcxr.metrics.truth import truth_errors, truth_table
from causalcxr.scm.scm import SCM
from causalcxr.sources.phantom import truth

__all__ = ["evaluate"]

_ABOUT = ("question", "axiom", "measure")
_FEW = 12  # records below which distances of distributions say nothing


@dataclass(frozen=True, eq=False)
class _QuestionImages:
    """The images of one question: factual, twin, null and, where known, true (n, 1, H, W)."""

    action: BoundIntervention
    cohort: Cohort
    twin: Cohort
    images: Mapping[str, np.ndarray]
    reached: frozenset[str]

    @property
    def patients(self) -> np.ndarray:
        return self.cohort.patients.to_numpy()

    def shown(self, name: str) -> Cohort:
        """Return the records with the images of one world."""
        made = self.cohort.images.synthetic | (name != "factual")
        return self.cohort.with_images(ArrayImages(self.images[name], synthetic=made))


def evaluate(
    model: SCM,
    cohort: Records,
    actions: Intervention | Mapping[str, Any] | Iterable[Intervention | Mapping[str, Any]],
    *,
    reader: AttributeReader | None = None,
    cycles: Sequence[int] = (1, 10),
    cycled: int = 16,
    draws: int = 2000,
    seed: int = 0,
) -> Evaluation:
    """Return how sound a model's counterfactual images are.

    Args:
        model: A fitted model with an image.
        cohort: Records with images that it was not trained on.
        actions: The questions, or one; each is asked of the records that it changes.
        reader: Who reads attributes off images, for effectiveness and amplification; taught by
            other records.
        cycles: Null interventions on each other, for composition.
        cycled: So many records go through these.
        draws: Of the bootstrap over patients.
        seed: Of all random numbers.

    Returns:
        A table with a row a question and measure: `axiom`, `measure`, `value` with `low` and
        `high`, `copy` (changing nothing), `oracle` (the true twins), `n`, `patients`.

    Raises:
        AuditError: If there are no images, or a question changes no record.
        CausalCXRError: As `SCM.counterfactual` does.
    """
    cohort = as_cohort(cohort)
    if model.graph.image is None or not cohort.has_images:
        raise AuditError("evaluate: neither model nor cohort may be without images")
    cohort, rows, worlds = cohort.with_images_only(), [], []
    options = {"draws": draws, "seed": seed}
    for action in progress(actions_of(actions), "Evaluating", "questions"):
        world = _asked(model, cohort, action, seed)
        worlds.append(world)
        rows += _axioms(model, world, cycles, cycled, options)
        rows += _similarity(world, options)
        if reader is not None:
            rows += _read(model, world, reader, options)
        rows += _realism(world, options)
        if "true" in world.images:
            rows += _true(world, options)
    if not worlds:
        raise AuditError("evaluate: no question; give an action, such as do(sex='M')")
    names = [*_ABOUT, "value", "low", "high", "copy", "oracle", "n", "patients"]
    about = {
        "model": model.graph.name,
        "graph_hash": model.graph.hash,
        "source": cohort.source,
        "questions": [world.action.describe() for world in worlds],
        "reader": None if reader is None else reader.quality.round(4).to_dict(),
        "cycles": list(cycles),
        "seed": seed,
        "versions": versions(),
    }
    pictures = {w.action.describe(): (w.cohort, w.twin, w.images.get("true")) for w in worlds}
    return Evaluation(pd.DataFrame(rows).reindex(columns=names), pictures, about)


def _asked(model: SCM, cohort: Cohort, action: Intervention, seed: int) -> _QuestionImages:
    """Return the worlds of the records that a question changes."""
    action = action.among(cohort.index)
    graph, bound = model.graph, action.bind(model.graph)
    before = cohort.columns(graph)
    twin = model.counterfactual(cohort.with_images(None), action, seed=seed)
    after = twin.columns(graph, beyond_range=True)
    changed = changed_by(bound.names, before, after)
    if not changed.any():
        raise AuditError(f"evaluate: {bound.describe()} changes no record; ask others")
    some = cohort.select(changed)
    action = action.among(some.index)
    twin = model.counterfactual(some, action, seed=seed)
    images = {
        "factual": some.images[:],
        "twin": twin.images[:],
        "null": model.predict(model.abduct(some, seed=seed), recompute=True).images[:],
    }
    with suppress(CohortError):  # those who are no phantoms have a truth that nobody knows
        images["true"] = truth(some, action).images[:]
    reached = frozenset(bound.names) | graph.descendants(*bound.names)
    return _QuestionImages(bound, some, twin, images, reached)


def _row(
    world: _QuestionImages,
    axiom: str,
    measure: str,
    values: np.ndarray,
    options: Mapping[str, int],
    *,
    copy: np.ndarray | float = np.nan,
    oracle: np.ndarray | float = np.nan,
    patients: np.ndarray | None = None,
) -> dict[str, object]:
    """Return a row: a mean with its interval over patients, beside the means of both bounds."""
    people = world.patients if patients is None else patients
    found = asdict(mean_interval(values, people, **options))
    bounds = {"copy": _mean(copy), "oracle": _mean(oracle)}
    about = {"question": world.action.describe(), "axiom": axiom, "measure": measure}
    return about | found | bounds


def _mean(values: np.ndarray | float) -> float:
    known = np.asarray(values, dtype=np.float64)
    known = known[~np.isnan(known)]
    return float(known.mean()) if known.size else float("nan")


def _axioms(
    model: SCM,
    world: _QuestionImages,
    cycles: Sequence[int],
    cycled: int,
    options: Mapping[str, int],
) -> list[dict[str, object]]:
    """Return composition and reversibility."""
    few = world.cohort.head(cycled)
    people, seed = few.patients.to_numpy(), options["seed"]

    def null(images: np.ndarray) -> np.ndarray:
        noise = model.abduct(few.with_images(few.images.with_pixels(images)), seed=seed)
        return model.predict(noise, recompute=True).images[:]

    columns = few.columns(model.graph)  # as levels: a table may spell them as 1 or True
    acted = [model.graph.find(name) for name in world.action.names]
    facts = {name: decode(columns[name], model.graph[name]).tolist() for name in acted}
    there = world.twin.head(cycled)

    def forth(images: np.ndarray) -> np.ndarray:
        action = Intervention(world.action.settings, world.action.beyond_range).among(few.index)
        start = few.with_images(few.images.with_pixels(images))
        return model.counterfactual(start, action, seed=seed).images[:]

    def back(images: np.ndarray) -> np.ndarray:
        start = there.with_images(there.images.with_pixels(images))
        return model.counterfactual(start, do(facts), seed=seed).images[:]

    x = few.images[:]
    rows = [
        _row(
            world,
            "composition",
            f"L1 after {k}",
            e,
            options,
            copy=0.0,
            oracle=0.0,
            patients=people,
        )
        for k, e in composition_errors(x, null, cycles=cycles).items()
    ]
    error = reversibility_errors(x, forth, back)
    kept = {"copy": 0.0, "oracle": 0.0, "patients": people}
    return [*rows, _row(world, "reversibility", "L1 there and back", error, options, **kept)]


def _similarity(world: _QuestionImages, options: Mapping[str, int]) -> list[dict[str, object]]:
    """Return how near twins are to their records."""
    images, rows = world.images, []
    for name, of in SIMILARITIES.items():
        if name == "SSIM" and min(images["twin"].shape[-2:]) < 11:
            continue
        oracle = of(images["true"], images["factual"]) if "true" in images else np.nan
        values = of(images["twin"], images["factual"])
        finite = np.where(np.isinf(values), np.nan, values)
        oracle = np.where(np.isinf(oracle), np.nan, oracle)
        if np.isfinite(finite).any():
            rows.append(_row(world, "minimality", name, finite, options, oracle=_some(oracle)))
    return rows


def _some(values: np.ndarray | float) -> np.ndarray | float:
    return values if np.isfinite(values).any() else np.nan


def _read(
    model: SCM, world: _QuestionImages, reader: AttributeReader, options: Mapping[str, int]
) -> list[dict[str, object]]:
    """Return effectiveness on what was set, and amplification of what is out of reach."""
    graph, rows = model.graph, []
    read = {name: reader.read(world.shown(name)) for name in world.images}
    target = world.twin.columns(graph, beyond_range=True)
    for name in reader.models:
        answers = {
            world_name: table[name].to_numpy()
            if name in reader.levels
            else table[name, ""].to_numpy()
            for world_name, table in read.items()
        }
        if name in world.action.names:
            wanted = target[name]
            if name in reader.levels:
                order = [graph[name].levels.index(level) for level in reader.levels[name]]
                wanted = np.array([order.index(v) if v in order else np.nan for v in wanted])
            errors = {w: target_errors(a, wanted) for w, a in answers.items()}
            word, turn = ("hit rate", 1) if name in reader.levels else ("absolute error", 0)
            score = {w: turn - e if turn else e for w, e in errors.items()}
            rows.append(
                _row(
                    world,
                    "effectiveness",
                    f"{word}, {name}",
                    score["twin"],
                    options,
                    copy=score["factual"],
                    oracle=score.get("true", np.nan),
                )
            )
        elif name not in world.reached:
            moved = {
                w: output_change(answers["factual"], a)
                for w, a in answers.items()
                if w != "factual"
            }
            rows.append(
                _row(
                    world,
                    "amplification",
                    f"change, {name}",
                    moved["twin"],
                    options,
                    copy=moved["null"],
                    oracle=moved.get("true", np.nan),
                )
            )
    return rows


def _realism(world: _QuestionImages, options: Mapping[str, int]) -> list[dict[str, object]]:
    """Return identity by features, and distances to the records' and the true twins' images."""
    vectors = {name: image_features(world.shown(name)) for name in world.images}
    people = world.patients
    rows = []
    if len(people) > 1:
        kept = identity_kept(vectors["factual"], vectors["twin"], people).astype(float)
        oracle = np.nan
        if "true" in vectors:
            oracle = identity_kept(vectors["factual"], vectors["true"], people).astype(float)
        rows.append(
            _row(world, "identity", "nearest is the patient", kept, options, oracle=oracle)
        )
    if len(people) < _FEW:
        return rows
    against = "true" if "true" in vectors else "factual"
    found = fidelity(vectors[against], vectors["twin"]).table.iloc[0]
    floor = (
        fidelity(vectors[against], vectors["factual"]).table.iloc[0] if against == "true" else None
    )
    for measure in found.index.intersection(["frechet", "kernel", "precision", "coverage"]):
        rows.append(
            {
                "question": world.action.describe(),
                "axiom": f"realism, beside {against}",
                "measure": measure,
                "value": found[measure],
                "copy": np.nan if floor is None else floor[measure],
                "n": len(people),
                "patients": len(set(people)),
            }
        )
    return rows


def _true(world: _QuestionImages, options: Mapping[str, int]) -> list[dict[str, object]]:
    """Return the error to the true twin, inside and outside of what truly changes."""
    images = world.images
    mask = np.abs(images["true"] - images["factual"]) > 0
    errors = truth_errors(
        images["twin"], images["true"], images["factual"], mask=mask, patients=world.patients
    )
    rows = []
    for part in truth_table(errors, **options).itertuples():
        about = {"question": world.action.describe(), "axiom": "truth"}
        counts = {"n": part.n, "patients": part.patients}
        if part.region == "whole":
            told = {"value": part.normalised, "low": part.low, "high": part.high, "copy": 1.0}
            rows.append(about | {"measure": "error over copy's", "oracle": 0.0} | told | counts)
        else:
            told = {
                "value": part.of_change,
                "low": part.of_change_low,
                "high": part.of_change_high,
            }
            rows.append(about | {"measure": f"of it {part.region}", "oracle": 0.0} | told | counts)
    return rows
