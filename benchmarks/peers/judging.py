"""What is asked of every image model, and how its answers are judged."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Row
from benchmarks._distances import vectors
from benchmarks._films import filmed
from benchmarks._twins import ACTIONS, GRAPH, chance, films, reached
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
from causalcxr.sources.phantom import truth

__all__ = ["Judge", "Question", "pictured"]

_READ = ("Sex", "View", "Cardiomegaly", "Pleural Effusion", "Edema")  # with AUROC above .9
_CYCLED = 8  # records that go through ten null interventions
_REVERSED = 8  # records an intervention that go there and back


@dataclass(frozen=True, eq=False)
class Question:
    """An intervention, the records it is asked of, and their true twins.

    Args:
        name: What is done.
        few: The records.
        twins: The true twins.
        asked: The variables that are set.
        reached: These and their descendants.
    """

    name: str
    few: Cohort
    twins: Cohort
    asked: frozenset[str]
    reached: frozenset[str]

    @cached_property
    def factual(self) -> np.ndarray:
        """The records' films, (n, 1, H, W)."""
        return films(self.few).numpy()

    @cached_property
    def true(self) -> np.ndarray:
        """The true twins' films, (n, 1, H, W)."""
        return films(self.twins).numpy()

    def edits(self, model: Model, rows: slice = slice(None)) -> tuple[Edit, Edit, Edit]:
        """Return what makes twins of images, what undoes it, and the null intervention."""
        few, twins = (each.at(np.arange(len(each))[rows]) for each in (self.few, self.twins))
        before, after = (model(parents_of(each)).reaching(self.reached) for each in (few, twins))
        return edits(before, after, chance(few))


class Judge:
    """Ask every model the same questions.

    Args:
        questions: What is asked.
        reader: Who reads attributes off images.
        cycles: Of null interventions, for composition.
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
    def of(
        cls,
        n: int,
        *,
        taught: int,
        names: Iterable[str] = tuple(ACTIONS),
        cycles: Sequence[int] = (1, 10),
        seed: int = 102,
    ) -> "Judge":
        """Return the judge of some interventions on held-out phantoms.

        Args:
            n: Records an intervention.
            taught: Enriched phantoms that teach the reader.
            names: Which interventions.
            cycles: Of null interventions, for composition.
            seed: Of the held-out phantoms.
        """
        cohort, questions = Cohort.load("phantom", n=40 * n + 200, seed=seed), []
        for name in names:
            where, action = ACTIONS[name]
            few = cohort.select(where).head(n)
            bound, names = action.bind(GRAPH), frozenset(reached(action))
            questions.append(
                Question(name, few, truth(few, action), frozenset(bound.names), names)
            )
        known, grey = filmed(n=taught, seed=105, size=64, enriched=1)
        known = known.with_images(known.images.with_pixels(grey))
        return cls(questions, AttributeReader.fit(known, GRAPH, _READ), cycles)

    def ask(self, model: Model) -> pd.DataFrame:
        """Return a row a measure, question and record: `measure`, `question`, `row`, `value`."""
        parts = [self._judged(question, model) for question in self.questions]
        first = self.questions[0]
        null = first.edits(model, slice(_CYCLED))[2]
        errors = composition_errors(first.factual[:_CYCLED], null, cycles=self.cycles)
        parts += [_long(f"composition, {k}", "null", e) for k, e in errors.items()]
        return pd.concat(parts, ignore_index=True)

    def kept(
        self, name: str, model: Callable[[], Model], weights: Path, folder: Path
    ) -> pd.DataFrame:
        """Return the answers about a model, from a folder where they are there.

        Args:
            name: The model's.
            model: Makes it; called only where answers are not there.
            weights: The file that it is made of.
            folder: Where answers are kept, under a hash of weights and questions.
        """
        told = "|".join(
            [file_digest(weights), *(f"{q.name} {len(q.few)}" for q in self.questions)]
        )
        place = folder / f"{name}-{hashlib.sha256(told.encode()).hexdigest()[:8]}.json"
        if not place.exists():
            found = self.ask(model())
            atomic_write(place, json.dumps(found.to_dict("list")))
        return pd.DataFrame(json.loads(place.read_text()))

    def bounds(self, true: bool) -> pd.DataFrame:
        """Return what copies of the records, or the true twins, would be told."""
        parts = []
        for question in self.questions:
            images = question.true if true else question.factual
            parts.append(self._measured(question, images))
        return pd.concat(parts, ignore_index=True)

    def summary(self, name: str, found: pd.DataFrame) -> Row:
        """Return a row of the table: means over questions, the truth's with its interval."""
        error, copy = (found[found.measure == m] for m in ("error", "copy"))
        ratios = _by_question(error) / _by_question(copy)
        low, high = _interval(error, copy)
        row: Row = {"model": name, **{q.name: float(ratios[q.name]) for q in self.questions}}
        row |= {"truth": float(ratios.mean()), "95 %": f"{low:.3f} to {high:.3f}"}
        for measure in sorted(set(found.measure) - {"error", "copy"}):
            row[measure] = float(_by_question(found[found.measure == measure]).mean())
        return row

    def _judged(self, question: Question, model: Model) -> pd.DataFrame:
        forth, _, _ = question.edits(model)
        found = self._measured(question, forth(question.factual))
        there, back, _ = question.edits(model, slice(_REVERSED))
        error = reversibility_errors(question.factual[:_REVERSED], there, back)
        return pd.concat([found, _long("reversibility", question.name, error)])

    def _measured(self, question: Question, images: np.ndarray) -> pd.DataFrame:
        name, people = question.name, question.few.patients.to_numpy()
        mask = np.abs(question.true - question.factual) > 0
        errors = truth_errors(images, question.true, question.factual, mask=mask, patients=people)
        whole = errors[errors.region == "whole"]
        parts = [_long("error", name, whole.error), _long("copy", name, whole["copy"])]
        for region in ("inside", "outside"):
            part = errors[errors.region == region]
            parts.append(_long(region, name, part.part / part.change))
        before, after = (
            self.reader.read(question.few.with_images(question.few.images.with_pixels(x)))
            for x in (question.factual, images)
        )
        moved = []
        for attribute in self.reader.models:
            if attribute in question.asked:
                wanted = self._wanted(question, attribute)
                score = after[attribute].to_numpy()[np.arange(len(wanted)), wanted]
                parts.append(_long("effectiveness", name, score > 0.5))
            elif attribute not in question.reached:
                moved.append(output_change(before[attribute].values, after[attribute].values))
        if moved:
            parts.append(_long("amplification", name, np.mean(moved, 0)))
        changed = l1(images, question.factual)
        parts.append(_long("change", name, changed / l1(question.true, question.factual)))
        ours, true, own = (
            vectors(self.features, x) for x in (images, question.true, question.factual)
        )
        parts.append(_long("identity", name, identity_kept(own, ours, people)))
        parts.append(_long("Frechet", name, [frechet(true, ours)]))
        parts.append(_long("kernel", name, [kernel(true, ours)]))
        return pd.concat(parts)

    def _wanted(self, question: Question, attribute: str) -> np.ndarray:
        """Return the position, among what the reader tells apart, of what was asked for."""
        levels = self.reader.levels[attribute]
        column = question.twins.columns(GRAPH)[attribute].astype(int)
        return np.array([levels.index(GRAPH[attribute].levels[k]) for k in column])


def _long(measure: str, question: str, values: Iterable[float]) -> pd.DataFrame:
    values = np.asarray(values, dtype=np.float64)
    return pd.DataFrame(
        {"measure": measure, "question": question, "row": range(len(values)), "value": values}
    )


def _by_question(found: pd.DataFrame) -> pd.Series:
    return found.groupby("question").value.mean()


def _interval(error: pd.DataFrame, copy: pd.DataFrame, draws: int = 2000) -> tuple[float, float]:
    """Return a 95 % bootstrap interval, over records, of the mean of the questions' ratios."""
    generator, ratios = np.random.default_rng(0), []
    for name, part in error.groupby("question"):
        e, c = part.value.to_numpy(), copy[copy.question == name].value.to_numpy()
        rows = generator.integers(len(e), size=(draws, len(e)))
        ratios.append(e[rows].mean(1) / c[rows].mean(1))
    low, high = np.quantile(np.mean(ratios, 0), [0.025, 0.975])
    return float(low), float(high)


def pictured(judge: Judge, models: Mapping[str, Model], path: Path, shown: int = 1) -> None:
    """Draw factual films, true twins, and those of models, some patients a question."""
    sheet, captions = [], []
    for question in judge.questions:
        made = {
            name: question.edits(model, slice(shown))[0](question.factual[:shown])
            for name, model in models.items()
        }
        columns = {question.name: question.factual, "true twin": question.true, **made}
        for row in range(min(shown, len(question.few))):
            sheet += [np.asarray(images[row], dtype=np.float32) for images in columns.values()]
            captions += list(columns)
    contact_sheet(np.stack(sheet), captions, columns=2 + len(models), path=path)
