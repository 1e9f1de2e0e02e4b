"""The evaluation of every image model: the same interventions and the same measures."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Row
from benchmarks._distances import feature_vectors
from benchmarks._image_twins import ACTIONS, GRAPH, affected, radiographs, record_draws
from benchmarks._phantom_images import phantom_images
from benchmarks.peers.editing import Edit, edits
from benchmarks.peers.models import Model, parents_of
from causalcxr import Cohort
from causalcxr.audit.attribute_reader import AttributeReader
from causalcxr.common.digests import file_digest
from causalcxr.common.files import atomic_write
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.metrics import frechet, identity_kept, kernel, l1, truth_errors
from causalcxr.metrics.axioms import composition_errors, output_change, reversibility_errors
from causalcxr.radit.features import load_features
from causalcxr.sources.phantom import possible_twins, truth

__all__ = ["Evaluation", "Question", "draw_sheet"]

_READ = ("Sex", "View", "Cardiomegaly", "Pleural Effusion", "Edema")  # with AUROC above .9
_N_CYCLED = 8  # records in cycles of null interventions
_N_REVERSED = 8  # records of each intervention in the round trip


@dataclass(frozen=True, eq=False)
class Question:
    """An intervention, the records it is applied to, and their true twins.

    Args:
        name: Of the intervention.
        records: The records.
        twins: The true twins.
        assigned: The variables that are set.
        affected: These and their descendants.
    """

    name: str
    records: Cohort
    twins: Cohort
    assigned: frozenset[str]
    affected: frozenset[str]

    @cached_property
    def factual(self) -> np.ndarray:
        """The images of the records, (n, 1, H, W)."""
        return radiographs(self.records).numpy()

    @cached_property
    def true(self) -> np.ndarray:
        """The images of the true twins, (n, 1, H, W)."""
        return radiographs(self.twins).numpy()

    def edits(self, model: Model, rows: slice = slice(None)) -> tuple[Edit, Edit, Edit]:
        """Return functions for the twins, for the way back, and for the null intervention."""
        records, twins = (
            each.at(np.arange(len(each))[rows]) for each in (self.records, self.twins)
        )
        before, after = (
            model(parents_of(each)).reaching(self.affected) for each in (records, twins)
        )
        return edits(before, after, record_draws(records))


class Evaluation:
    """Measure every model on the same questions.

    Args:
        questions: Interventions on held-out phantoms.
        reader: Predicts attributes from images.
        cycles: Numbers of null interventions, for composition.
    """

    def __init__(
        self,
        questions: Iterable[Question],
        reader: AttributeReader,
        cycles: Sequence[int] = (1, 10),
    ) -> None:
        self.questions, self.reader, self.cycles = tuple(questions), reader, tuple(cycles)
        self.features = load_features()

    @classmethod
    def on_phantoms(
        cls,
        n: int,
        *,
        n_training: int,
        names: Iterable[str] = tuple(ACTIONS),
        cycles: Sequence[int] = (1, 10),
        seed: int = 102,
    ) -> "Evaluation":
        """Return the evaluation of some interventions on held-out phantoms.

        Args:
            n: Records for each intervention.
            n_training: Enriched phantoms that train the reader.
            names: Of the interventions, see `ACTIONS`.
            cycles: Numbers of null interventions, for composition.
            seed: Of the held-out phantoms.
        """
        cohort, questions = Cohort.load("phantom", n=40 * n + 200, seed=seed), []
        for name in names:
            where, action = ACTIONS[name]
            records = cohort.select(where).head(n)
            bound_action, names = action.bind(GRAPH), frozenset(affected(action))
            questions.append(
                Question(
                    name, records, truth(records, action), frozenset(bound_action.names), names
                )
            )
        training, pixels = phantom_images(n=n_training, seed=105, size=64, enriched=1)
        training = training.with_images(training.images.with_pixels(pixels))
        return cls(questions, AttributeReader.fit(training, GRAPH, _READ), cycles)

    def measure(self, model: Model) -> pd.DataFrame:
        """Return one row per measure, question and record.

        The columns are `measure`, `question`, `row` and `value`.
        """
        parts = [self._measure_model(question, model) for question in self.questions]
        first = self.questions[0]
        null = first.edits(model, slice(_N_CYCLED))[2]
        errors = composition_errors(first.factual[:_N_CYCLED], null, cycles=self.cycles)
        parts += [_long(f"composition, {k}", "null", e) for k, e in errors.items()]
        return pd.concat(parts, ignore_index=True)

    def cached(
        self, name: str, model: Callable[[], Model], weights: Path, folder: Path
    ) -> pd.DataFrame:
        """Return the measurements of a model, from a folder if they are there.

        Args:
            name: Of the model.
            model: Loads the model; called only if there are no saved measurements.
            weights: The file of its weights.
            folder: Of the measurements, whose names have a hash of weights and questions.
        """
        identity_parts = "|".join(
            [file_digest(weights), *(f"{q.name} {len(q.records)}" for q in self.questions)]
        )
        place = folder / f"{name}-{hashlib.sha256(identity_parts.encode()).hexdigest()[:8]}.json"
        if not place.exists():
            results = self.measure(model())
            atomic_write(place, json.dumps(results.to_dict("list")))
        return pd.DataFrame(json.loads(place.read_text()))

    def reference(self, true: bool) -> pd.DataFrame:
        """Return the measurements of copies of the records, or of the true twins."""
        parts = []
        for question in self.questions:
            images = question.true if true else question.factual
            parts.append(self._measure_images(question, images))
        return pd.concat(parts, ignore_index=True)

    def ceiling(self) -> pd.DataFrame:
        """Return the measurements of twins by a model that knows all that the images show."""
        parts = []
        for question in self.questions:
            others = possible_twins(question.records, question.twins)
            parts.append(self._measure_images(question, radiographs(others).numpy()))
        return pd.concat(parts, ignore_index=True)

    def summary(self, name: str, results: pd.DataFrame) -> Row:
        """Return a row of the table: means over questions, for the truth with an interval."""
        error, copy = (results[results.measure == m] for m in ("error", "copy"))
        ratios = _by_question(error) / _by_question(copy)
        low, high = _interval(error, copy)
        row: Row = {"model": name, **{q.name: float(ratios[q.name]) for q in self.questions}}
        row |= {"truth": float(ratios.mean()), "95 %": f"{low:.3f} to {high:.3f}"}
        for measure in sorted(set(results.measure) - {"error", "copy"}):
            row[measure] = float(_by_question(results[results.measure == measure]).mean())
        return row

    def _measure_model(self, question: Question, model: Model) -> pd.DataFrame:
        edit, _, _ = question.edits(model)
        results = self._measure_images(question, edit(question.factual))
        edit, undo, _ = question.edits(model, slice(_N_REVERSED))
        error = reversibility_errors(question.factual[:_N_REVERSED], edit, undo)
        return pd.concat([results, _long("reversibility", question.name, error)])

    def _measure_images(self, question: Question, images: np.ndarray) -> pd.DataFrame:
        name, people = question.name, question.records.patients.to_numpy()
        mask = np.abs(question.true - question.factual) > 0
        errors = truth_errors(images, question.true, question.factual, mask=mask, patients=people)
        whole_image = errors[errors.region == "whole"]
        parts = [_long("error", name, whole_image.error), _long("copy", name, whole_image["copy"])]
        for region in ("inside", "outside"):
            part = errors[errors.region == region]
            parts.append(_long(region, name, part.part / part.change))
        before, after = (
            self.reader.read(question.records.with_images(question.records.images.with_pixels(x)))
            for x in (question.factual, images)
        )
        changes = []
        for attribute in self.reader.models:
            if attribute in question.assigned:
                target = self._target_positions(question, attribute)
                score = after[attribute].to_numpy()[np.arange(len(target)), target]
                parts.append(_long("effectiveness", name, score > 0.5))
            elif attribute not in question.affected:
                changes.append(output_change(before[attribute].values, after[attribute].values))
        if changes:
            parts.append(_long("amplification", name, np.mean(changes, 0)))
        distance = l1(images, question.factual)
        parts.append(_long("change", name, distance / l1(question.true, question.factual)))
        features, true, factual_features = (
            feature_vectors(self.features, x) for x in (images, question.true, question.factual)
        )
        parts.append(_long("identity", name, identity_kept(factual_features, features, people)))
        parts.append(_long("Frechet", name, [frechet(true, features)]))
        parts.append(_long("kernel", name, [kernel(true, features)]))
        return pd.concat(parts)

    def _target_positions(self, question: Question, attribute: str) -> np.ndarray:
        """Return the positions of the true twins' levels among the levels of the reader."""
        levels = self.reader.levels[attribute]
        column = question.twins.columns(GRAPH)[attribute].astype(int)
        return np.array([levels.index(GRAPH[attribute].levels[k]) for k in column])


def _long(measure: str, question: str, values: Iterable[float]) -> pd.DataFrame:
    values = np.asarray(values, dtype=np.float64)
    return pd.DataFrame(
        {"measure": measure, "question": question, "row": range(len(values)), "value": values}
    )


def _by_question(results: pd.DataFrame) -> pd.Series:
    return results.groupby("question").value.mean()


def _interval(error: pd.DataFrame, copy: pd.DataFrame, draws: int = 2000) -> tuple[float, float]:
    """Return a 95 % bootstrap interval, over records, of the mean ratio over questions."""
    generator, ratios = np.random.default_rng(0), []
    for name, part in error.groupby("question"):
        e, c = part.value.to_numpy(), copy[copy.question == name].value.to_numpy()
        rows = generator.integers(len(e), size=(draws, len(e)))
        ratios.append(e[rows].mean(1) / c[rows].mean(1))
    low, high = np.quantile(np.mean(ratios, 0), [0.025, 0.975])
    return float(low), float(high)


def draw_sheet(
    evaluation: Evaluation, models: Mapping[str, Model], path: Path, n_shown: int = 1
) -> None:
    """Draw factual images, true twins and the twins of models, some patients per question."""
    sheet, captions = [], []
    for question in evaluation.questions:
        twins = {
            name: question.edits(model, slice(n_shown))[0](question.factual[:n_shown])
            for name, model in models.items()
        }
        columns = {question.name: question.factual, "true twin": question.true, **twins}
        for row in range(min(n_shown, len(question.records))):
            sheet += [np.asarray(images[row], dtype=np.float32) for images in columns.values()]
            captions += list(columns)
    contact_sheet(np.stack(sheet), captions, columns=2 + len(models), path=path)
