"""The table of the digits: measures of counterfactuals, published ones and errors to the truth.

References:
    Measuring axiomatic soundness of counterfactual image models (Monteiro et al.),
    arXiv:2303.01274: composition, effectiveness, reversibility.
    High Fidelity Image Counterfactuals with Probabilistic Causal Models (De Sousa Ribeiro et al.),
    arXiv:2306.15764: these measures on digits whose intensity depends on their thickness.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks import Row
from benchmarks.morpho.measure import Ruler
from benchmarks.morpho.models import Model, image_model, table_model
from benchmarks.morpho.questions import Question, questions
from benchmarks.morpho.world import load
from benchmarks.peers.editing import Edit
from causalcxr.common.files import atomic_write
from causalcxr.images.contact_sheet import contact_sheet
from causalcxr.metrics import l1, mean_interval, truth_errors
from causalcxr.metrics.axioms import composition_errors

__all__ = ["FULL", "QUICK", "Evaluation", "Sizes", "draw_sheet", "make_table", "summarise"]

_TRUTH, _COPY = "error", "copy"


@dataclass(frozen=True)
class Sizes:
    """The sizes of a run.

    Args:
        minutes: Of processor time, for each image model.
        n_training: Training digits of image models and equations.
        ruler: Digits that calibrate the measurements.
        n_questions: Digits for each intervention.
        n_cycled: Digits for the cycles.
        cycles: Numbers of cycles after which they are measured.
    """

    minutes: float
    n_training: int
    ruler: int
    n_questions: int
    n_cycled: int
    cycles: tuple[int, ...] = (1, 10)


FULL, QUICK = Sizes(9.0, 20_000, 2000, 96, 8), Sizes(0.1, 1000, 300, 6, 2, (1, 2))


class Evaluation:
    """Measure every image model on the same questions.

    Args:
        questions: The interventions and their digits.
        ruler: Measures their images.
        n_cycled: Digits for the cycles.
        cycles: Numbers of cycles after which they are measured.
    """

    def __init__(
        self,
        questions: Iterable[Question],
        ruler: Ruler,
        *,
        n_cycled: int,
        cycles: Sequence[int] = (1, 10),
    ) -> None:
        self.questions, self.ruler = tuple(questions), ruler
        self.n_cycled, self.cycles = n_cycled, tuple(cycles)

    def measure(self, model: Model) -> pd.DataFrame:
        """Return one row per question, measure and digit: `question`, `measure`, `value`."""
        parts = []
        for question in self.questions:
            parts.append(self.measure_images(question, question.edits(model)[0](question.factual)))
            sample = question.first(self.n_cycled)
            there, back, null = sample.edits(model)
            # An intervention and its inverse are a null intervention too.
            parts += self._measure_cycles(
                question.name, sample, lambda x, f=there, b=back: b(f(x))
            )
        parts += self._measure_cycles("null", sample, null)
        return pd.concat(parts, ignore_index=True)

    def _measure_cycles(self, name: str, sample: Question, null: Edit) -> list[pd.DataFrame]:
        """Return the distance of digits from themselves after each number of cycles."""
        errors = composition_errors(sample.factual, null, cycles=self.cycles, distance=_grey)
        return [_long(name, f"L1, {k}", each) for k, each in errors.items()]

    def measure_images(self, question: Question, images: np.ndarray) -> pd.DataFrame:
        """Return the measurements of twins from any model."""
        results = truth_errors(images, question.true, question.factual)
        measured = self.ruler.errors(images, question.target)
        values = {_TRUTH: results["error"], _COPY: results["copy"], **measured}
        return pd.concat([_long(question.name, name, each) for name, each in values.items()])

    def cached(self, name: str, model: Model, weights: str, folder: Path) -> pd.DataFrame:
        """Return the measurements of a model, from a folder if they are there.

        Args:
            name: Of the model.
            model: The model.
            weights: A hash of its weights.
            folder: Of the files, whose names have a hash of weights, questions and measurements.
        """
        place = folder / f"{name.lower().replace(' ', '-')}-{self._key(weights)}.json"
        if not place.exists():
            atomic_write(place, json.dumps(self.measure(model).to_dict("list")))
        return pd.DataFrame(json.loads(place.read_text()))

    def _key(self, weights: str) -> str:
        digest = hashlib.sha256(f"{weights} {self.n_cycled} {self.cycles}".encode())
        for question in self.questions:
            measured = self.ruler.errors(question.factual, question.target).values()
            learned = question.learned.table.to_csv().encode()
            for part in (question.factual, question.true, *measured):
                digest.update(part.tobytes())
            digest.update(learned)
        return digest.hexdigest()[:8]


def summarise(images: str, results: pd.DataFrame) -> list[Row]:
    """Return one row per question: means with 95 % intervals over digits.

    Args:
        images: The name of the model.
        results: Its measurements by `Evaluation`.
    """
    rows: list[Row] = []
    for name, part in results.groupby("question", sort=False):
        by = {measure: each["value"].to_numpy() for measure, each in part.groupby("measure")}
        row: Row = {"intervention": name, "images": images}
        if _TRUTH in by:
            row |= {
                "truth": _with_interval(by[_TRUTH], over=by[_COPY]),
                "thickness, px": _with_interval(by["Thickness"]),
                "intensity": _with_interval(by["Intensity"]),
                "correct digits": _with_interval(1 - by["Digit"]),
            }
        row |= {
            key: _with_interval(by[key]) for key in sorted(by, key=len) if key.startswith("L1, ")
        }
        rows.append(row)
    return rows


def make_table(names: Iterable[str], sizes: Sizes, folder: Path) -> tuple[list[Row], Evaluation]:
    """Train the models, measure them, and return the rows and the evaluation.

    Args:
        names: Image models, see `benchmarks.peers.families.FAMILIES`.
        sizes: Of the run.
        folder: Weights and results are saved here; existing ones are used.
    """
    evaluation = make_evaluation(sizes, folder)
    results = {"copy": _references(evaluation, true=False)}
    figures: list[Row] = []
    for name in names:
        model, weights, training = trained_model(name, sizes, folder)
        results[name] = evaluation.cached(name, model, weights, folder / "results")
        size = f"{training['parameters']:,} parameters, {training['steps']:,} steps"
        figures.append({"intervention": "training", "images": f"{name}: {size}"})
    results["true twins"] = _references(evaluation, true=True)
    rows = [row for name, result in results.items() for row in summarise(name, result)]
    order = {q.name: k for k, q in enumerate(evaluation.questions)}
    rows = sorted(rows, key=lambda row: order.get(str(row["intervention"]), len(order)))
    return [*rows, *_intensities(evaluation), *figures], evaluation


def make_evaluation(sizes: Sizes, folder: Path) -> Evaluation:
    """Return the evaluation: questions on held-out digits, and a ruler calibrated on others."""
    interventions = questions(sizes.n_questions, table_model(sizes.n_training, folder))
    ruler = Ruler.calibrate(load(sizes.ruler, seed=302))
    return Evaluation(interventions, ruler, n_cycled=sizes.n_cycled, cycles=sizes.cycles)


def trained_model(name: str, sizes: Sizes, folder: Path) -> tuple[Model, str, dict[str, float]]:
    """Return an image model of the table; see `image_model`."""
    return image_model(name, records=sizes.n_training, minutes=sizes.minutes, folder=folder)


def _references(evaluation: Evaluation, *, true: bool) -> pd.DataFrame:
    """Return the measurements of copies of the digits, or of their true twins."""
    parts = (
        evaluation.measure_images(q, q.true if true else q.factual) for q in evaluation.questions
    )
    return pd.concat(list(parts), ignore_index=True)


def _intensities(evaluation: Evaluation) -> list[Row]:
    """Return the errors of the fitted equation's counterfactual intensities."""
    rows: list[Row] = []
    for question in evaluation.questions:
        before, after, true = (
            each.table["Intensity"].to_numpy()
            for each in (question.digits, question.learned, question.twins)
        )
        if question.name == "do(thickness)":
            for source, value in (("copy", before), ("learned equation", after)):
                row = {"intervention": question.name, "images": f"no image, {source}"}
                rows.append({**row, "intensity": _with_interval(np.abs(value - true))})
    return rows


def _grey(images: np.ndarray, others: np.ndarray) -> np.ndarray:
    return 255 * l1(images, others)


def _long(question: str, measure: str, values: Iterable[float]) -> pd.DataFrame:
    values = np.asarray(values, dtype=np.float64)
    return pd.DataFrame({"question": question, "measure": measure, "value": values})


def _with_interval(values: np.ndarray, over: np.ndarray | None = None) -> str:
    """Return a mean, or a ratio of sums, and its 95 % bootstrap interval, as text."""
    interval = mean_interval(values, over=over)
    digits = 3 if interval.value < 10 else 1
    return f"{interval.value:.{digits}f} ({interval.low:.{digits}f}-{interval.high:.{digits}f})"


def draw_sheet(
    evaluation: Evaluation, models: dict[str, Model], path: Path, n_shown: int = 4
) -> None:
    """Draw digits, true twins, the twins of models, and their differences from the true ones."""
    sheet, captions = [], []
    for question in (each.first(n_shown) for each in evaluation.questions):
        panels = {question.name: question.factual, "true twin": question.true}
        for name, model in models.items():
            twins = question.edits(model)[0](question.factual)
            panels |= {name: twins, f"|{name} - true|": np.abs(twins - question.true)}
        for row in range(n_shown):
            sheet += [np.asarray(each[row], dtype=np.float32) for each in panels.values()]
            captions += list(panels)
    contact_sheet(np.stack(sheet), captions, columns=2 + 2 * len(models), path=path)
